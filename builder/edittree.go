package builder

import (
	"io/fs"
	"path"

	"github.com/applbuild/applbuild/rootfs/accounts"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// editTree is a tree as rootfs/units edits it.
type editTree struct{ *tree.Tree }

// lookup follows links of the folders, not of the last element.
func (t editTree) lookup(op, name string) (*tree.Entry, error) {
	dir, err := t.Resolve(path.Dir(name))
	if err != nil {
		return nil, err
	}
	entry, there := t.Lookup(path.Join(dir.Path, path.Base(name)))
	if !there {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return entry, nil
}

// ReadLink returns the target of the link that name itself is.
func (t editTree) ReadLink(name string) (string, error) {
	entry, err := t.lookup("readlink", name)
	if err != nil {
		return "", err
	}
	if entry.Typeflag != tree.TypeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return entry.Linkname, nil
}

// List returns the names in a folder, sorted.
func (t editTree) List(dir string) ([]string, error) {
	var names []string
	for _, entry := range t.Children(dir) {
		names = append(names, path.Base(entry.Path))
	}
	return names, nil
}

// accountTree is a tree as rootfs/accounts edits it: with owners.
type accountTree struct{ editTree }

// Stat describes name itself.
func (t accountTree) Stat(name string) (accounts.Attributes, error) {
	entry, err := t.lookup("stat", name)
	if err != nil {
		return accounts.Attributes{}, err
	}
	mode := fs.FileMode(entry.Mode & 0o777)
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if entry.Mode&bit != 0 {
			mode |= flag
		}
	}
	switch entry.Typeflag {
	case tree.TypeDir:
		mode |= fs.ModeDir
	case tree.TypeSymlink:
		mode |= fs.ModeSymlink
	case tree.TypeReg, tree.TypeLink:
	default:
		mode |= fs.ModeIrregular
	}
	return accounts.Attributes{Mode: mode, UID: entry.UID, GID: entry.GID}, nil
}

// WriteFile makes or replaces a file.
func (t accountTree) WriteFile(name string, data []byte, a accounts.Attributes) error {
	return t.Tree.WriteFile(name, data, permissions(a.Mode), a.UID, a.GID)
}

// Mkdir makes a folder.
func (t accountTree) Mkdir(name string, a accounts.Attributes) error {
	return t.Tree.Mkdir(name, permissions(a.Mode), a.UID, a.GID)
}

// Symlink makes a link.
func (t accountTree) Symlink(target, name string, uid, gid int) error {
	return t.Put(&tree.Entry{Path: name, Typeflag: tree.TypeSymlink, Mode: 0o777, UID: uid, GID: gid, Linkname: target})
}
