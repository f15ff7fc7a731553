package deb

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds on what a package may hold. The largest packages of the
// distributions stay far below them.
const (
	maxControlArchive = 64 << 20 // bytes of control.tar, decompressed
	maxControlMember  = 32 << 20 // bytes of one control member
	maxControlMembers = 256
	maxDataEntries    = 2 << 20 // members of data.tar
	maxDataArchive    = 1 << 40 // bytes of data.tar, decompressed
	maxPath           = 4096 - 16
)

// A File is an open package. It may be used by several goroutines at once.
type File struct {
	r       io.ReaderAt
	control member
	data    member
}

// Open reads the ar headers of a package of size bytes. The caller closes r,
// after the last use of the File. Errors match ErrFormat.
func Open(r io.ReaderAt, size int64) (*File, error) {
	members, err := readMembers(r, size)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, formatError("the first member is not debian-binary")
	}
	if err := checkVersion(r, members[0]); err != nil {
		return nil, err
	}
	f := &File{r: r}
	for _, m := range members[1:] {
		switch {
		case strings.HasPrefix(m.name, "_"): // deb(5): to be ignored
		case f.control.name == "":
			if !strings.HasPrefix(m.name, "control.tar") {
				return nil, formatError("member %s where control.tar belongs", m.name)
			}
			f.control = m
		case f.data.name == "":
			if !strings.HasPrefix(m.name, "data.tar") {
				return nil, formatError("member %s where data.tar belongs", m.name)
			}
			f.data = m
		default: // deb(5): further members are to be ignored
		}
	}
	if f.data.name == "" {
		return nil, formatError("no data.tar")
	}
	return f, nil
}

func checkVersion(r io.ReaderAt, m member) error {
	if m.size > 64 {
		return formatError("debian-binary of %d bytes", m.size)
	}
	text := make([]byte, m.size)
	if err := readFullAt(r, text, m.offset); err != nil {
		return fmt.Errorf("%w: debian-binary: %w", ErrFormat, err)
	}
	if !strings.HasPrefix(string(text), "2.") || !strings.Contains(string(text), "\n") {
		return formatError("format version %q, only 2.x is known", text)
	}
	return nil
}

// Data returns the decompressed data.tar. The caller closes it.
func (f *File) Data() (io.ReadCloser, error) {
	d := &decoders{}
	r, err := d.openMember(f, f.data, "data.tar")
	if err != nil {
		d.close()
		return nil, err
	}
	return &dataReader{r, d}, nil
}

type dataReader struct {
	io.Reader
	decoders *decoders
}

func (d *dataReader) Close() error {
	d.decoders.close()
	return nil
}

// Walk calls fn for each member of data.tar in order. Names are cleaned:
// relative to the root, without a leading "./" and without a trailing
// slash; the root itself is ".". A name that is absolute or has ".." in it
// is an error that matches ErrFormat, as is a damaged archive. The reader
// is good until fn returns. Walk stops at fn's first error.
func (f *File) Walk(ctx context.Context, fn func(h *tar.Header, r io.Reader) error) error {
	data, err := f.Data()
	if err != nil {
		return err
	}
	defer data.Close()
	if err := walkTar(ctx, data, fn); err != nil {
		return fmt.Errorf("%s: %w", f.data.name, err)
	}
	return nil
}

func walkTar(ctx context.Context, r io.Reader, fn func(h *tar.Header, r io.Reader) error) error {
	bounded := &boundedReader{r: r, left: maxDataArchive}
	tr := tar.NewReader(bounded)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return drain(bounded)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if n >= maxDataEntries {
			return formatError("more than %d members", maxDataEntries)
		}
		if h.Name, err = cleanName(h.Name); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, err = cleanName(h.Linkname); err != nil {
				return err
			}
		}
		if err := fn(h, tr); err != nil {
			return err
		}
	}
}

// drain reads what follows the end of the archive, so that the checksums of
// the compressed stream are looked at; only zeros may be there.
func drain(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return formatError("data after the end of the archive")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
}

// cleanName brings a name of data.tar into the form "usr/bin/env".
func cleanName(name string) (string, error) {
	if name == "" {
		return "", formatError("an empty name")
	}
	if strings.HasPrefix(name, "/") {
		return "", formatError("absolute name %q", name)
	}
	if len(name) > maxPath {
		return "", formatError("a name of %d bytes", len(name))
	}
	if strings.ContainsAny(name, "\x00\n") {
		return "", formatError("name %q", name)
	}
	if isClean(name) {
		return name, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", formatError("name %q leaves the tree", name)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// isClean is the quick way for names that cleanName need not change. A name
// of the usual form "./usr/bin/env" is not among them.
func isClean(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

var errTooLarge = errors.New("larger than any package may be")

// A boundedReader fails once more than left bytes were read.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
