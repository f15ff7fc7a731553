package layout

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers"
)

// Bounds of archives.
const (
	maxEntries  = 1 << 16
	maxUnpacked = 64 << 30 // bytes of a compressed archive when it is unpacked
	maxLayer    = 64 << 30 // bytes of a compressed layer when it is unpacked
	maxLinks    = 8        // links that lead from one to the next
	maxWindow   = 128 << 20
)

// Magic numbers of what archives and layers are compressed with.
var (
	magicGzip = []byte{0x1f, 0x8b}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// openFiles opens a folder or an archive.
func openFiles(ctx context.Context, name, scratch string) (files, error) {
	// A pipe must not hold the program up.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, bare(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		f.Close()
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, bare(err)
		}
		return folder{root}, nil
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: it is neither a folder nor a file", containers.ErrFormat)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	a, err := openArchive(ctx, f, info.Size(), scratch)
	if err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// bare is an error without the path, which the caller says.
func bare(err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		return cause.Err
	}
	return err
}

// A folder is a layout as a folder. Links in it may lead to where they like
// within it: os.Root lets none out.
type folder struct{ root *os.Root }

func (d folder) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no regular file", containers.ErrFormat, name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d folder) Close() error { return d.root.Close() }

// An archive is a tar archive of which it is known where each file lies.
type archive struct {
	file    *os.File
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string // the name of another entry
}

// openArchive takes f over when it succeeds.
func openArchive(ctx context.Context, f *os.File, size int64, scratch string) (*archive, error) {
	plain, size, err := unpacked(ctx, f, size, scratch)
	if err != nil {
		return nil, err
	}
	entries, err := index(ctx, plain, size)
	if err != nil {
		if plain != f {
			plain.Close()
		}
		return nil, err
	}
	if plain != f {
		f.Close()
	}
	return &archive{file: plain, entries: entries}, nil
}

// unpacked is f itself, or a file without a name with what f unpacks to.
func unpacked(ctx context.Context, f *os.File, size int64, scratch string) (*os.File, int64, error) {
	r, compressed, err := decompress(f)
	if err != nil {
		return nil, 0, err
	}
	if !compressed {
		return f, size, nil
	}
	defer r.Close()
	plain, err := os.CreateTemp(scratch, "layout-")
	if err != nil {
		return nil, 0, err
	}
	err = os.Remove(plain.Name())
	var n int64
	if err == nil {
		n, err = io.Copy(plain, io.LimitReader(contextReader{ctx, r}, maxUnpacked+1))
	}
	if err == nil && n > maxUnpacked {
		err = fmt.Errorf("%w: it unpacks to more than %d bytes", containers.ErrFormat, int64(maxUnpacked))
	}
	if err != nil {
		plain.Close()
		return nil, 0, unpacking(ctx, err)
	}
	return plain, n, nil
}

// decompress returns what r unpacks to, or what r holds as it is.
func decompress(r io.Reader) (unpacking io.ReadCloser, compressed bool, err error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	magic, err := buffered.Peek(len(magicZstd))
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, magicGzip):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, false, fmt.Errorf("%w: gzip: %w", containers.ErrFormat, err)
		}
		return z, true, nil
	case bytes.HasPrefix(magic, magicZstd):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, false, fmt.Errorf("%w: zstd: %w", containers.ErrFormat, err)
		}
		return z.IOReadCloser(), true, nil
	}
	return io.NopCloser(buffered), false, nil
}

// index notes where the files of a tar archive lie.
func index(ctx context.Context, f *os.File, size int64) (map[string]entry, error) {
	section := io.NewSectionReader(f, 0, size)
	tr := tar.NewReader(section)
	entries := map[string]entry{}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: neither a folder nor a tar archive that can be read: %w", containers.ErrFormat, err)
		}
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("%w: more than %d files in the archive", containers.ErrFormat, maxEntries)
		}
		e, wanted, err := newEntry(h)
		if err != nil {
			return nil, fmt.Errorf("%w: %q in the archive: %w", containers.ErrFormat, h.Name, err)
		}
		if !wanted {
			continue
		}
		if e.offset, err = section.Seek(0, io.SeekCurrent); err != nil {
			return nil, err
		}
		if e.size > size-e.offset {
			return nil, fmt.Errorf("%w: %q in the archive is cut off: %d bytes of %d are there", containers.ErrFormat, h.Name, size-e.offset, e.size)
		}
		name := path.Clean(h.Name)
		if _, twice := entries[name]; twice {
			return nil, fmt.Errorf("%w: %q is in the archive twice", containers.ErrFormat, h.Name)
		}
		entries[name] = e
	}
}

// newEntry checks a header. Folders and the like are not wanted.
func newEntry(h *tar.Header) (e entry, wanted bool, err error) {
	if !fs.ValidPath(path.Clean(h.Name)) {
		return e, false, errors.New("the name leads out of the archive")
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return e, false, errors.New("sparse files are not understood")
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return entry{size: h.Size}, true, nil
	case tar.TypeSymlink:
		// docker saves a layer that comes twice as a link to the first.
		e.link = path.Join(path.Dir(h.Name), h.Linkname)
	case tar.TypeLink:
		e.link = path.Clean(h.Linkname)
	case tar.TypeGNUSparse:
		return e, false, errors.New("sparse files are not understood")
	default:
		return e, false, nil
	}
	if !fs.ValidPath(e.link) || path.IsAbs(h.Linkname) {
		return e, false, fmt.Errorf("the link to %q leads out of the archive", h.Linkname)
	}
	return e, true, nil
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	for range maxLinks {
		e, there := a.entries[name]
		if !there {
			return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(a.file, e.offset, e.size)), e.size, nil
		}
		name = e.link
	}
	return nil, 0, fmt.Errorf("%w: links in the archive lead in a circle", containers.ErrFormat)
}

func (a *archive) Close() error { return a.file.Close() }

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
