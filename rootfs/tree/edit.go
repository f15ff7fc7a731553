package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// place finds where a path lies with the links of its folders followed, and
// makes folders that are missing (root's, mode 0755). The last element is
// not followed.
func (t *Tree) place(op, path string) (string, error) {
	cleaned, err := clean(path)
	if err != nil {
		return "", &fs.PathError{Op: op, Path: path, Err: err}
	}
	if cleaned == "." {
		return ".", nil
	}
	dir, base := split(cleaned)
	parent, err := t.makeDirs(dir)
	if err != nil {
		return "", &fs.PathError{Op: op, Path: path, Err: err}
	}
	return join(parent.Path, base), nil
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

func (t *Tree) makeDirs(dir string) (*Entry, error) {
	for {
		e, rest, err := t.resolve(dir)
		if err != nil {
			return nil, err
		}
		if !e.IsDir() {
			return nil, ErrNotDir
		}
		if rest == "" {
			return e, nil
		}
		name, _, _ := strings.Cut(rest, "/")
		made := &Entry{Path: join(e.Path, name), Typeflag: TypeDir, Mode: 0o755}
		t.insert(made)
	}
}

// insert puts an entry at its path, whose folder is there and which is free.
func (t *Tree) insert(e *Entry) {
	dir, base := split(e.Path)
	t.dirs[dir][base] = e
	t.size++
	switch e.Typeflag {
	case TypeDir:
		t.dirs[e.Path] = map[string]*Entry{}
	case TypeLink:
		t.links[e.Linkname] = append(t.links[e.Linkname], e.Path)
	}
}

// Put places an entry, in place of what is there. Folders on the way are
// made where they are missing, links among them are followed. A folder put
// over a folder keeps what is in it. The tree keeps e, with the path where it
// came to lie.
func (t *Tree) Put(e *Entry) error {
	path, err := t.place("put", e.Path)
	if err != nil {
		return err
	}
	if e.Typeflag == TypeLink {
		target := t.get(e.Linkname)
		if target != nil && target.Typeflag == TypeLink {
			e.Linkname = target.Linkname
			target = t.get(e.Linkname)
		}
		if target == nil || target.Typeflag != TypeReg {
			return &fs.PathError{Op: "link", Path: e.Path, Err: fmt.Errorf("%s is no regular file of the tree", e.Linkname)}
		}
	}
	if e.Typeflag == TypeLink {
		if e.Linkname == path {
			return nil // the file itself
		}
		takeAttributes(e, t.get(e.Linkname))
	}
	if e.Typeflag == TypeReg && e.Size > 0 && e.content == nil {
		return &fs.PathError{Op: "put", Path: e.Path, Err: errors.New("a regular file without content: NewFile makes one")}
	}
	e.Path = path
	old := t.get(path)
	if old != nil && old.IsDir() && e.IsDir() {
		t.replace(e)
		return nil
	}
	if path == "." {
		return &fs.PathError{Op: "put", Path: ".", Err: ErrNotDir}
	}
	if old != nil {
		t.remove(old)
	}
	t.insert(e)
	return nil
}

// takeAttributes gives a hard link what belongs to the file.
func takeAttributes(link, file *Entry) {
	link.Mode, link.UID, link.GID, link.ModTime = file.Mode, file.UID, file.GID, file.ModTime
}

// Change changes mode, owner, time or xattrs of what is at path: fn is given
// a copy to change, of which nothing else is taken. Links of folders on the
// way are followed, path itself is not. All names of a file change with it.
func (t *Tree) Change(path string, fn func(e *Entry)) error {
	cleaned, err := clean(path)
	if err != nil {
		return &fs.PathError{Op: "change", Path: path, Err: err}
	}
	dir, base := split(cleaned)
	parent, rest, err := t.resolve(dir)
	if err == nil && rest != "" {
		err = fs.ErrNotExist
	}
	if err != nil {
		return &fs.PathError{Op: "change", Path: path, Err: err}
	}
	e := parent
	if cleaned != "." {
		e = t.dirs[parent.Path][base]
	}
	if e != nil && e.Typeflag == TypeLink {
		e = t.get(e.Linkname)
	}
	if e == nil {
		return &fs.PathError{Op: "change", Path: path, Err: fs.ErrNotExist}
	}
	changed, given := *e, *e
	given.Xattrs = maps.Clone(e.Xattrs)
	fn(&given)
	takeAttributes(&changed, &given)
	changed.Xattrs = given.Xattrs
	t.replace(&changed)
	for _, name := range t.linksTo(e.Path) {
		link := *t.get(name)
		takeAttributes(&link, &changed)
		t.replace(&link)
	}
	return nil
}

// replace exchanges the entry at e's path, whatever is below it stays.
func (t *Tree) replace(e *Entry) {
	if e.Path == "." {
		t.root = e
		return
	}
	dir, base := split(e.Path)
	t.dirs[dir][base] = e
}

// WriteFile makes or replaces a regular file. A symbolic link at path is
// replaced, not followed.
func (t *Tree) WriteFile(path string, data []byte, mode int64, uid, gid int) error {
	e := Entry{Path: path, Mode: mode, UID: uid, GID: gid}
	return t.Put(NewFile(e, bytes.NewReader(data), int64(len(data))))
}

// Mkdir makes a folder, or gives the one that is there this mode and owner.
// A symbolic link to a folder counts as the folder.
func (t *Tree) Mkdir(path string, mode int64, uid, gid int) error {
	if e, rest, err := t.resolve(path); err == nil && rest == "" && e.IsDir() {
		path = e.Path
	}
	return t.Put(&Entry{Path: path, Typeflag: TypeDir, Mode: mode, UID: uid, GID: gid})
}

// Symlink makes a symbolic link to target at path, root's.
func (t *Tree) Symlink(target, path string) error {
	return t.Put(&Entry{Path: path, Typeflag: TypeSymlink, Mode: 0o777, Linkname: target})
}

// Remove removes what is at path with all below it; that nothing is there is
// no error. Links of folders on the way are followed, path itself is not.
// The root cannot be removed.
func (t *Tree) Remove(path string) error {
	cleaned, err := clean(path)
	if err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	if cleaned == "." {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrInvalid}
	}
	dir, base := split(cleaned)
	parent, rest, err := t.resolve(dir)
	if err != nil || rest != "" {
		return nil
	}
	if e := t.dirs[parent.Path][base]; e != nil {
		t.remove(e)
	}
	return nil
}

// remove takes out an entry and what is below it. Hard links to a file that
// goes get the first of them as the file.
func (t *Tree) remove(e *Entry) {
	gone := t.detach(e, nil)
	for _, file := range gone {
		links := t.linksTo(file.Path)
		delete(t.links, file.Path)
		if len(links) == 0 {
			continue
		}
		heir := *file
		heir.Path = links[0]
		t.replace(&heir)
		for _, path := range links[1:] {
			link := *t.get(path)
			link.Linkname = heir.Path
			t.replace(&link)
			t.links[heir.Path] = append(t.links[heir.Path], path)
		}
	}
}

// linksTo lists the hard links to a file, sorted.
func (t *Tree) linksTo(path string) []string {
	links := slices.DeleteFunc(slices.Clone(t.links[path]), func(link string) bool {
		e := t.get(link)
		return e == nil || e.Typeflag != TypeLink || e.Linkname != path
	})
	slices.SortFunc(links, comparePaths)
	return slices.Compact(links)
}

// detach takes entries out and appends the regular files among them to gone.
func (t *Tree) detach(e *Entry, gone []*Entry) []*Entry {
	if e.Typeflag == TypeReg {
		gone = append(gone, e)
	}
	if e.IsDir() {
		for _, child := range t.children(e.Path) {
			gone = t.detach(child, gone)
		}
		delete(t.dirs, e.Path)
	}
	dir, base := split(e.Path)
	delete(t.dirs[dir], base)
	t.size--
	return gone
}
