// Package volume shows a tree of named files over an image as an fs.FS that is read only: what package iso and package fat
// have found in an image, whoever made it.
//
// It reads no format and writes nothing. How names compare is the caller's to say; that the tree is finite and that its
// files lie inside of the image is the caller's to see to. [fs.FS] and its companions are the specification.
package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// A File is a file or folder of a tree, which it must not be changed in.
type File struct {
	Name     string
	Mode     fs.FileMode
	Size     int64 // bytes
	Modified time.Time
	Contents io.ReaderAt // of a file: Size bytes
	Unread   string      // of a file: what it is where it cannot be read, such as "a symbolic link"
	Children []*File     // of a folder

	byKey map[string]*File
}

// A Tree is an fs.FS with ReadDir, ReadFile and Stat. What is read is read from the image then, so the image must stay
// open.
type Tree struct {
	root *File
	key  func(name string) string
}

// New returns the tree below root and sorts its folders by name. Names with the same key are the same name; two of them
// in one folder are an error, because readers differ in which of them they take.
func New(root *File, key func(name string) string) (*Tree, error) {
	return &Tree{root: root, key: key}, root.sort(key)
}

func (f *File) sort(key func(string) string) error {
	f.byKey = make(map[string]*File, len(f.Children))
	slices.SortFunc(f.Children, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range f.Children {
		k := key(c.Name)
		if f.byKey[k] != nil {
			return fmt.Errorf("two files with the name %q in one folder", c.Name)
		}
		f.byKey[k] = c
		if err := c.sort(key); err != nil {
			return err
		}
	}
	return nil
}

var errIsDir = errors.New("it is a folder")

// find walks to a name, which is as fs.ValidPath wants it.
func (t *Tree) find(op, name string) (*File, error) {
	fail := func(err error) (*File, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at := t.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "." {
			continue
		}
		if at = at.byKey[t.key(part)]; at == nil {
			return fail(fs.ErrNotExist)
		}
	}
	return at, nil
}

// Open opens a file or folder. What is neither, as a symbolic link, cannot be opened; the error matches fs.ErrInvalid.
func (t *Tree) Open(name string) (fs.File, error) {
	f, err := t.find("open", name)
	switch {
	case err != nil:
		return nil, err
	case f.Mode.IsDir():
		return &openDir{info: info{f}}, nil
	case f.Unread != "":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("it is %s, which is not read: %w", f.Unread, fs.ErrInvalid)}
	}
	return &openFile{info{f}, io.NewSectionReader(f.Contents, 0, f.Size)}, nil
}

// Stat describes a file or folder without opening it.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	f, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{f}, nil
}

// ReadDir lists a folder, sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	d, ok := f.(*openDir)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("it is not a folder")}
	}
	return d.ReadDir(-1)
}

// ReadFile returns a file, of as many bytes as its Size says.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	o, ok := f.(*openFile)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsDir}
	}
	b := make([]byte, o.File.Size)
	if _, err := io.ReadFull(o, b); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// info is a file as fs.FileInfo and fs.DirEntry.
type info struct{ *File }

func (i info) Name() string               { return i.File.Name }
func (i info) Size() int64                { return i.File.Size }
func (i info) Mode() fs.FileMode          { return i.File.Mode }
func (i info) Type() fs.FileMode          { return i.File.Mode.Type() }
func (i info) ModTime() time.Time         { return i.Modified }
func (i info) IsDir() bool                { return i.File.Mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }

type openFile struct {
	info
	*io.SectionReader
}

func (f *openFile) Size() int64                { return f.info.Size() }
func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info
	at int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.Name(), Err: errIsDir}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.Children[d.at:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 && n < len(rest) {
		rest = rest[:n]
	}
	d.at += len(rest)
	entries := make([]fs.DirEntry, len(rest))
	for i, c := range rest {
		entries[i] = info{c}
	}
	return entries, nil
}
