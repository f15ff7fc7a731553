package tree

import (
	"archive/tar"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	blockSize   = 512
	maxEntries  = 4 << 20
	xattrRecord = "SCHILY.xattr."
)

// Index reads the headers of an uncompressed tar archive of size bytes and
// returns the tree in it. The contents stay in r, which has to be there as
// long as the tree is in use. Names may begin with "./"; the folder of every
// entry has to be in the archive. Errors match ErrFormat.
func Index(r io.ReaderAt, size int64) (*Tree, error) {
	t := New()
	in := &blockReader{r: r, size: size}
	tr := tar.NewReader(in)
	var entries []*Entry
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e, err := fromHeader(h)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrFormat, h.Name, err)
		}
		if e.Typeflag == TypeReg {
			if e.Size > size-in.offset {
				return nil, fmt.Errorf("%w: %q: truncated, %d bytes of %d are there", ErrFormat, h.Name, size-in.offset, e.Size)
			}
			e.content, e.offset = r, in.offset
		}
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrFormat, maxEntries)
		}
		entries = append(entries, e)
	}
	if err := t.fill(entries); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return t, nil
}

// fill puts entries of an archive into the empty tree.
func (t *Tree) fill(entries []*Entry) error {
	// Folders first, a folder before those in it, so that the order in the
	// archive does not matter.
	slices.SortStableFunc(entries, func(a, b *Entry) int { return comparePaths(a.Path, b.Path) })
	for _, e := range entries {
		if e.Path == "." {
			if !e.IsDir() {
				return fmt.Errorf("the root is no folder")
			}
			t.root = e
			continue
		}
		dir, base := split(e.Path)
		in, ok := t.dirs[dir]
		if !ok {
			return fmt.Errorf("%q: its folder is not in the archive", e.Path)
		}
		if in[base] != nil {
			return fmt.Errorf("%q: it is in the archive twice", e.Path)
		}
		t.insert(e)
	}
	for _, e := range entries {
		if e.Typeflag != TypeLink {
			continue
		}
		if file := t.get(e.Linkname); file == nil || file.Typeflag != TypeReg {
			return fmt.Errorf("%q: hard link to %q, which is no regular file of the archive", e.Path, e.Linkname)
		}
	}
	return nil
}

// fromHeader makes an entry of a header.
func fromHeader(h *tar.Header) (*Entry, error) {
	path, err := entryPath(h.Name)
	if err != nil {
		return nil, err
	}
	e := &Entry{
		Path: path, Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid,
		ModTime: h.ModTime, Linkname: h.Linkname, Devmajor: h.Devmajor, Devminor: h.Devminor,
	}
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return nil, fmt.Errorf("sparse files are not understood")
		}
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = value
		}
	}
	if e.UID < 0 || e.GID < 0 || h.Size < 0 {
		return nil, fmt.Errorf("a negative number in the header")
	}
	switch h.Typeflag {
	case TypeReg:
		e.Size = h.Size
	case TypeLink:
		if e.Linkname, err = entryPath(h.Linkname); err != nil {
			return nil, err
		}
	case TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return nil, fmt.Errorf("target of the symbolic link")
		}
	case TypeDir, TypeChar, TypeBlock, TypeFifo:
	default:
		return nil, fmt.Errorf("entries of type %q are not understood", h.Typeflag)
	}
	return e, nil
}

// entryPath is the Path of a name in an archive.
func entryPath(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", fmt.Errorf("name %q is absolute", name)
	}
	if name == "" {
		return "", fmt.Errorf("an empty name")
	}
	return clean(name)
}

// A blockReader reads an archive's headers through a window, so that each
// does not cost a system call, and skips contents.
type blockReader struct {
	r      io.ReaderAt
	size   int64
	offset int64
	window []byte
	start  int64 // of the window
}

const indexWindow = 64 << 10 // bytes

func (b *blockReader) Read(p []byte) (int, error) {
	if b.offset >= b.size {
		return 0, io.EOF
	}
	if b.offset < b.start || b.offset >= b.start+int64(len(b.window)) {
		if cap(b.window) == 0 {
			b.window = make([]byte, indexWindow)
		}
		n, err := b.r.ReadAt(b.window[:min(indexWindow, b.size-b.offset)], b.offset)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		b.start, b.window = b.offset, b.window[:n]
	}
	n := copy(p, b.window[b.offset-b.start:])
	b.offset += int64(n)
	return n, nil
}

// Seek lets archive/tar skip contents.
func (b *blockReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 || offset > b.size {
		return 0, fmt.Errorf("offset %d in an archive of %d bytes", offset, b.size)
	}
	b.offset = offset
	return offset, nil
}
