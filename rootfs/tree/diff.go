package tree

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// What differs between two entries of one path.
const (
	DiffMissing = "missing" // it is only in one of the trees
	DiffType    = "type"
	DiffMode    = "mode"
	DiffOwner   = "owner"
	DiffTime    = "time"
	DiffLink    = "link" // target of a symbolic link, or the name of a hard link's file
	DiffDevice  = "device"
	DiffXattr   = "xattr"
	DiffSize    = "size"
	DiffContent = "content"
)

// A Difference is one thing in which two trees differ.
type Difference struct {
	Path string
	What string // DiffMode…
	A, B string // the two values, for people; "" where there is none
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s %s -> %s", d.Path, d.What, d.A, d.B)
}

// Diff lists in what two trees differ, sorted by path, times excepted: those
// are compared by DiffTimes. Contents are read only where the sizes agree.
func Diff(a, b *Tree) ([]Difference, error) {
	var all []Difference
	for _, path := range union(a, b) {
		x, y := a.get(path), b.get(path)
		switch {
		case y == nil:
			all = append(all, Difference{path, DiffMissing, describe(x), ""})
		case x == nil:
			all = append(all, Difference{path, DiffMissing, "", describe(y)})
		default:
			found, err := diffEntries(x, y)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

// DiffTimes lists the paths of both trees whose times differ, in seconds.
func DiffTimes(a, b *Tree) []Difference {
	var all []Difference
	for _, path := range union(a, b) {
		x, y := a.get(path), b.get(path)
		if x != nil && y != nil && x.ModTime.Unix() != y.ModTime.Unix() {
			all = append(all, Difference{path, DiffTime,
				x.ModTime.UTC().Format(time.RFC3339), y.ModTime.UTC().Format(time.RFC3339)})
		}
	}
	return all
}

func union(a, b *Tree) []string {
	var paths []string
	for _, t := range []*Tree{a, b} {
		_ = t.Walk(func(e *Entry) error {
			paths = append(paths, e.Path)
			return nil
		})
	}
	slices.SortFunc(paths, comparePaths)
	return slices.Compact(paths)
}

func describe(e *Entry) string {
	return fmt.Sprintf("%s %04o %d:%d", typeName(e.Typeflag), e.Mode, e.UID, e.GID)
}

func typeName(t byte) string {
	switch t {
	case TypeReg:
		return "file"
	case TypeLink:
		return "hard link"
	case TypeSymlink:
		return "symlink"
	case TypeChar:
		return "character device"
	case TypeBlock:
		return "block device"
	case TypeDir:
		return "directory"
	case TypeFifo:
		return "fifo"
	}
	return fmt.Sprintf("type %q", t)
}

func diffEntries(x, y *Entry) ([]Difference, error) {
	var all []Difference
	add := func(what, a, b string) {
		if a != b {
			all = append(all, Difference{x.Path, what, a, b})
		}
	}
	add(DiffType, typeName(x.Typeflag), typeName(y.Typeflag))
	if x.Typeflag != y.Typeflag {
		return all, nil
	}
	if x.Typeflag != TypeSymlink { // whose mode means nothing
		add(DiffMode, fmt.Sprintf("%04o", x.Mode), fmt.Sprintf("%04o", y.Mode))
	}
	add(DiffOwner, fmt.Sprintf("%d:%d", x.UID, x.GID), fmt.Sprintf("%d:%d", y.UID, y.GID))
	add(DiffLink, x.Linkname, y.Linkname)
	add(DiffDevice, fmt.Sprintf("%d:%d", x.Devmajor, x.Devminor), fmt.Sprintf("%d:%d", y.Devmajor, y.Devminor))
	add(DiffXattr, xattrText(x), xattrText(y))
	add(DiffSize, fmt.Sprint(x.Size), fmt.Sprint(y.Size))
	if x.Typeflag != TypeReg || x.Size != y.Size {
		return all, nil
	}
	same, err := sameContent(x, y)
	if err != nil {
		return nil, err
	}
	if !same {
		all = append(all, Difference{x.Path, DiffContent, "", ""})
	}
	return all, nil
}

func xattrText(e *Entry) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		text += fmt.Sprintf("%s=%x ", name, e.Xattrs[name])
	}
	return text
}

func sameContent(x, y *Entry) (bool, error) {
	const chunk = 64 << 10
	a, b := make([]byte, chunk), make([]byte, chunk)
	rx, ry := x.Content(), y.Content()
	for left := x.Size; left > 0; {
		n := min(left, chunk)
		if _, err := io.ReadFull(rx, a[:n]); err != nil {
			return false, fmt.Errorf("/%s: %w", x.Path, err)
		}
		if _, err := io.ReadFull(ry, b[:n]); err != nil {
			return false, fmt.Errorf("/%s: %w", y.Path, err)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		left -= n
	}
	return true, nil
}
