// Package tree holds a whole file system as an index over an uncompressed
// tar archive: contents stay in the archive, edits are made in memory, and
// the result is written as one canonical tar stream, which is what the
// makers of file systems read.
//
// The archive's form is POSIX.1-2001 pax interchange: ustar headers, extended
// headers only for what does not fit them, extended attributes as
// SCHILY.xattr records. Entries come in the order of a sorted walk, names do
// not begin with "./", the root comes first as "./", a hard link comes after
// the file, user and group names are empty, times are whole seconds. The same
// tree is the same bytes.
//
// The package does not compress, knows no sparse files and no access control
// lists. Index and WriteTar keep all extended attributes, among them those of
// overlayfs in the layers of a container; FromDir keeps security.capability
// and those of the namespace user.
package tree

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// Types of entries, as in archive/tar.
const (
	TypeReg     = '0'
	TypeLink    = '1' // hard link
	TypeSymlink = '2'
	TypeChar    = '3'
	TypeBlock   = '4'
	TypeDir     = '5'
	TypeFifo    = '6'
)

// Errors that can be matched; fs.ErrNotExist is a further one.
var (
	// ErrFormat matches complaints about an archive.
	ErrFormat = errors.New("malformed tar archive")
	// ErrLoop says that symbolic links lead in a circle, or over too many.
	ErrLoop = errors.New("too many levels of symbolic links")
	// ErrNotDir says that a path leads through something else than a folder.
	ErrNotDir = errors.New("not a directory")
)

// maxPath bounds a path in bytes, as Linux does.
const maxPath = 4095

// maxLinks is how many symbolic links Resolve follows, as Linux does.
const maxLinks = 40

// An Entry is one file of a tree. Entries in a tree are not to be changed:
// copy, change, and Put the copy.
type Entry struct {
	Path     string    // "etc/passwd"; "." is the root
	Typeflag byte      // TypeReg, TypeDir…
	Mode     int64     // permission bits, 07777
	UID, GID int       //
	Size     int64     // bytes of content, for TypeReg
	ModTime  time.Time // zero stands for the clock that WriteTar is given
	Linkname string    // of a symbolic link as it is; of a hard link a Path
	Devmajor int64
	Devminor int64
	Xattrs   map[string]string // "security.capability"

	content io.ReaderAt // of Size bytes from offset on
	offset  int64
}

// NewFile makes the entry of a regular file with content from r, of which
// size bytes are read, whenever the tree is written. e gives the rest.
func NewFile(e Entry, r io.ReaderAt, size int64) *Entry {
	e.Typeflag = TypeReg
	e.Size, e.content, e.offset = size, r, 0
	return &e
}

// Content returns the bytes of a regular file.
func (e *Entry) Content() *io.SectionReader {
	if e.content == nil {
		return io.NewSectionReader(strings.NewReader(""), 0, 0)
	}
	return io.NewSectionReader(e.content, e.offset, e.Size)
}

// IsDir says that the entry is a folder.
func (e *Entry) IsDir() bool { return e.Typeflag == TypeDir }

// A Tree is a file system in memory, its contents elsewhere. It is not safe
// for changes by several goroutines.
type Tree struct {
	root  *Entry
	dirs  map[string]map[string]*Entry // entries by folder and name
	links map[string][]string          // hard links by the file; some may be gone
	size  int                          // number of entries without the root
}

// New returns a tree with an empty root folder.
func New() *Tree {
	return &Tree{
		root:  &Entry{Path: ".", Typeflag: TypeDir, Mode: 0o755},
		dirs:  map[string]map[string]*Entry{".": {}},
		links: map[string][]string{},
	}
}

// Clone returns a tree that is the same and changes by itself. The contents of
// both are the same readers'.
func (t *Tree) Clone() *Tree {
	c := &Tree{root: t.root, dirs: make(map[string]map[string]*Entry, len(t.dirs)), links: make(map[string][]string, len(t.links)), size: t.size}
	for dir, entries := range t.dirs {
		c.dirs[dir] = maps.Clone(entries)
	}
	for file, links := range t.links {
		c.links[file] = slices.Clone(links)
	}
	return c
}

// Len is the number of entries, the root included.
func (t *Tree) Len() int { return t.size + 1 }

// split takes the last element off a clean path.
func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// clean brings a path into the form of Entry.Path; ".." is not allowed.
func clean(path string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("path %q: .. is not allowed", path)
		default:
			parts = append(parts, part)
		}
	}
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("path %q: a NUL byte is not allowed", path)
	}
	if len(path) > maxPath {
		return "", fmt.Errorf("a path of %d bytes: %d are allowed", len(path), maxPath)
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// comparePaths orders paths as a sorted walk meets them: "a/b" before "a-b".
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		default:
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

func (t *Tree) get(path string) *Entry {
	if path == "." {
		return t.root
	}
	dir, base := split(path)
	return t.dirs[dir][base]
}

// Lookup finds an entry by its path as it is, without following links.
func (t *Tree) Lookup(path string) (*Entry, bool) {
	path, err := clean(path)
	if err != nil {
		return nil, false
	}
	e := t.get(path)
	return e, e != nil
}

// Resolve finds what a program in the tree would open under that path:
// symbolic links are followed within the tree, ".." at its root stays there.
// Errors match fs.ErrNotExist, ErrLoop or ErrNotDir.
func (t *Tree) Resolve(path string) (*Entry, error) {
	e, rest, err := t.resolve(path)
	if err == nil && rest != "" {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return e, nil
}

// resolve follows path as far as there are entries; rest is what is missing.
func (t *Tree) resolve(path string) (e *Entry, rest string, err error) {
	e = t.root
	pending := path
	links := 0
	for pending != "" {
		var part string
		part, pending, _ = strings.Cut(pending, "/")
		if part == "" || part == "." {
			continue
		}
		if !e.IsDir() {
			return nil, "", ErrNotDir
		}
		if part == ".." {
			dir, _ := split(e.Path)
			e = t.get(dir)
			continue
		}
		next := t.dirs[e.Path][part]
		if next == nil {
			if pending != "" {
				part += "/" + pending
			}
			return e, part, nil
		}
		if next.Typeflag != TypeSymlink {
			e = next
			continue
		}
		if links++; links > maxLinks || len(next.Linkname)+len(pending) > 1<<16 {
			return nil, "", ErrLoop
		}
		if strings.HasPrefix(next.Linkname, "/") {
			e = t.root
		}
		pending = next.Linkname + "/" + pending
	}
	if e.Typeflag == TypeLink {
		if target := t.get(e.Linkname); target != nil {
			e = target
		}
	}
	return e, "", nil
}

// ReadFile returns the content of a regular file, following links.
func (t *Tree) ReadFile(path string) ([]byte, error) {
	e, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	if e.Typeflag != TypeReg {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	data := make([]byte, e.Size)
	if _, err := io.ReadFull(e.Content(), data); err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, nil
}

// Children lists the entries of a folder, sorted by name. Links in the path
// are followed; what is no folder has none.
func (t *Tree) Children(dir string) []*Entry {
	e, err := t.Resolve(dir)
	if err != nil {
		return nil
	}
	return t.children(e.Path)
}

func (t *Tree) children(dir string) []*Entry {
	in := t.dirs[dir]
	list := make([]*Entry, 0, len(in))
	for _, e := range in {
		list = append(list, e)
	}
	// All have the same folder, so paths compare as names do.
	slices.SortFunc(list, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// Walk calls fn for every entry, the root first, a folder before what is in
// it, names sorted. It stops at the first error and returns it; with
// fs.SkipDir for a folder it goes on after that folder.
func (t *Tree) Walk(fn func(e *Entry) error) error {
	err := t.walk(t.root, fn)
	if err == fs.SkipDir || err == fs.SkipAll {
		return nil
	}
	return err
}

func (t *Tree) walk(e *Entry, fn func(e *Entry) error) error {
	if err := fn(e); err != nil {
		if err == fs.SkipDir && e.IsDir() {
			return nil
		}
		return err
	}
	if !e.IsDir() {
		return nil
	}
	for _, child := range t.children(e.Path) {
		if err := t.walk(child, fn); err != nil {
			return err
		}
	}
	return nil
}
