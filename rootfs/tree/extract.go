package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/tree/inroot"
)

// Extract makes the files of an archive below dir, which has to be there:
// owners, modes, times and extended attributes are set, so the caller needs
// the right to do that (root, or root of a user namespace that has the ids).
// Paths are resolved below dir, whatever links are in it. What is there
// already is replaced, folders stay and get new attributes. Errors match
// ErrFormat where the archive is at fault.
func Extract(ctx context.Context, r io.Reader, dir string) error {
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extraction{root: root, buf: make([]byte, writeBuffer), times: map[string]time.Time{}}
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if n >= maxEntries {
			return fmt.Errorf("%w: more than %d entries", ErrFormat, maxEntries)
		}
		e, err := fromHeader(h)
		if err != nil {
			return fmt.Errorf("%w: %q: %w", ErrFormat, h.Name, err)
		}
		if err := x.entry(e, tr); err != nil {
			return err
		}
	}
	return x.setTimes()
}

type extraction struct {
	root  *inroot.Root
	buf   []byte
	times map[string]time.Time // of folders
}

func (x *extraction) entry(e *Entry, r io.Reader) error {
	a := inroot.Attr{Mode: uint32(e.Mode), UID: e.UID, GID: e.GID, ModTime: e.ModTime.Truncate(time.Second)}
	for name, value := range e.Xattrs {
		a.Xattrs = append(a.Xattrs, inroot.Xattr{Name: name, Value: []byte(value)})
	}
	slices.SortFunc(a.Xattrs, func(a, b inroot.Xattr) int { return strings.Compare(a.Name, b.Name) })
	if e.IsDir() {
		return x.dir(e.Path, a)
	}
	err := x.make(e, r, a)
	if errors.Is(err, fs.ErrExist) {
		if err := x.root.Remove(e.Path); err != nil {
			return err
		}
		err = x.make(e, r, a)
	}
	return err
}

func (x *extraction) dir(path string, a inroot.Attr) error {
	x.times[path] = a.ModTime
	if path == "." {
		return x.root.UpdateDir(path, a)
	}
	err := x.root.Mkdir(path, a)
	if errors.Is(err, fs.ErrExist) {
		err = x.root.UpdateDir(path, a)
	}
	return err
}

func (x *extraction) make(e *Entry, r io.Reader, a inroot.Attr) error {
	dev := unix.Mkdev(uint32(e.Devmajor), uint32(e.Devminor))
	switch e.Typeflag {
	case TypeSymlink:
		return x.root.Symlink(e.Linkname, e.Path, a)
	case TypeLink:
		return x.root.Link(e.Linkname, e.Path)
	case TypeFifo:
		return x.root.Mknod(e.Path, unix.S_IFIFO, 0, a)
	case TypeChar:
		return x.root.Mknod(e.Path, unix.S_IFCHR, dev, a)
	case TypeBlock:
		return x.root.Mknod(e.Path, unix.S_IFBLK, dev, a)
	}
	f, err := x.root.Create(e.Path)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(f, r, x.buf); err != nil {
		f.Abandon()
		return err
	}
	return f.Finish(a)
}

func (x *extraction) setTimes() error {
	for path, t := range x.times {
		if err := x.root.SetModTime(path, t); err != nil {
			return err
		}
	}
	return nil
}
