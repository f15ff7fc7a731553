package fat

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"
)

// node is a file or folder of an image; it is its own fs.FileInfo and
// fs.DirEntry.
type node struct {
	name     string
	mode     fs.FileMode
	size     int64
	modified time.Time
	children []*node           // sorted by name
	byName   map[string]*node  // the same, by fold of their names
	contents *io.SectionReader // of a file
}

func (n *node) Name() string               { return n.name }
func (n *node) Size() int64                { return n.size }
func (n *node) Mode() fs.FileMode          { return n.mode }
func (n *node) Type() fs.FileMode          { return n.mode.Type() }
func (n *node) ModTime() time.Time         { return n.modified }
func (n *node) IsDir() bool                { return n.mode.IsDir() }
func (n *node) Sys() any                   { return nil }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }
func (n *node) String() string             { return fs.FormatFileInfo(n) }

var errIsDir = errors.New("it is a folder")

// find walks to a name, which is as fs.ValidPath wants it.
func (m *Image) find(op, name string) (*node, error) {
	fail := func(err error) (*node, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at := m.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "." {
			continue
		}
		if at = at.byName[fold(part)]; at == nil {
			return fail(fs.ErrNotExist)
		}
	}
	return at, nil
}

// Open opens a file or folder.
func (m *Image) Open(name string) (fs.File, error) {
	n, err := m.find("open", name)
	switch {
	case err != nil:
		return nil, err
	case n.IsDir():
		return &openDir{node: n}, nil
	}
	return &openFile{node: n, SectionReader: io.NewSectionReader(n.contents, 0, n.size)}, nil
}

// Stat describes a file or folder without opening it.
func (m *Image) Stat(name string) (fs.FileInfo, error) {
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ReadDir lists a folder, sorted by name.
func (m *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := m.Open(name)
	if err != nil {
		return nil, err
	}
	d, ok := f.(*openDir)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("it is not a folder")}
	}
	return d.ReadDir(-1)
}

// ReadFile returns a file, which has at most MaxBytes bytes.
func (m *Image) ReadFile(name string) ([]byte, error) {
	f, err := m.Open(name)
	if err != nil {
		return nil, err
	}
	o, ok := f.(*openFile)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsDir}
	}
	b := make([]byte, o.size)
	if _, err := io.ReadFull(o, b); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

type openFile struct {
	*node
	*io.SectionReader
}

func (f *openFile) Size() int64                { return f.node.size }
func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	*node
	at int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errIsDir}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.children[d.at:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 && n < len(rest) {
		rest = rest[:n]
	}
	d.at += len(rest)
	entries := make([]fs.DirEntry, len(rest))
	for i, c := range rest {
		entries[i] = c
	}
	return entries, nil
}
