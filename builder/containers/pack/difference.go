package pack

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// A Base is what a tree was before it was edited. It holds entries, no
// contents.
type Base struct {
	entries map[string]*tree.Entry
	names   map[string][]string // of a folder, sorted
}

// Remember notes what a tree is now.
func Remember(t *tree.Tree) *Base {
	b := &Base{entries: make(map[string]*tree.Entry, t.Len()), names: map[string][]string{}}
	// The walk has no errors of its own.
	_ = t.Walk(func(e *tree.Entry) error {
		b.entries[e.Path] = e
		if e.Path != "." {
			dir := path.Dir(e.Path)
			b.names[dir] = append(b.names[dir], path.Base(e.Path))
		}
		return nil
	})
	return b
}

// isDir says whether a path was a folder.
func (b *Base) isDir(name string) bool {
	e := b.entries[name]
	return e != nil && e.IsDir()
}

// Difference is the layer that makes the tree t of the base: a tree of its
// own, with whiteouts, which reads the contents of t's files. It is nil when
// nothing differs. The clock is the one that both layers are written with.
func (b *Base) Difference(t *tree.Tree, clock time.Time) (*tree.Tree, error) {
	if err := Check(t); err != nil {
		return nil, err
	}
	d := &difference{base: b, tree: t, layer: tree.New(), clock: clock, taken: map[string]bool{}}
	steps := []func() error{d.others, d.files, d.gone}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("difference to the base: %w", err)
		}
	}
	if !d.differs {
		return nil, nil
	}
	return d.layer, nil
}

type difference struct {
	base    *Base
	tree    *tree.Tree
	layer   *tree.Tree
	clock   time.Time
	taken   map[string]bool // files of the base that a file of the tree is
	differs bool
}

// add puts an entry into the layer, with the folders that it lies in: in a
// layer these have attributes of their own, which count.
func (d *difference) add(e *tree.Entry) error {
	d.differs = true
	if e.Path != "." {
		if err := d.addFolder(path.Dir(e.Path)); err != nil {
			return err
		}
	}
	copied := *e
	return d.layer.Put(&copied)
}

func (d *difference) addFolder(name string) error {
	if _, there := d.layer.Lookup(name); there && name != "." {
		return nil
	}
	if name != "." {
		if err := d.addFolder(path.Dir(name)); err != nil {
			return err
		}
	}
	e, there := d.tree.Lookup(name)
	if !there {
		return fmt.Errorf("/%s is no folder of the tree", name)
	}
	copied := *e
	return d.layer.Put(&copied)
}

// others adds what is new or different and no regular file.
func (d *difference) others() error {
	return d.tree.Walk(func(e *tree.Entry) error {
		if e.Typeflag == tree.TypeReg || e.Typeflag == tree.TypeLink {
			return nil
		}
		if old := d.base.entries[e.Path]; old != nil {
			if same, err := d.same(old, e); same || err != nil {
				return err
			}
		}
		return d.add(e)
	})
}

// files adds the regular files that are new or different, each with all its
// names: a hard link must not lead to another layer.
func (d *difference) files() error {
	links := map[string][]*tree.Entry{}
	var files []*tree.Entry
	err := d.tree.Walk(func(e *tree.Entry) error {
		switch e.Typeflag {
		case tree.TypeReg:
			files = append(files, e)
		case tree.TypeLink:
			links[e.Linkname] = append(links[e.Linkname], e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, file := range files {
		there, err := d.inBase(file, links[file.Path])
		if err != nil {
			return err
		}
		if there {
			continue
		}
		for _, e := range append([]*tree.Entry{file}, links[file.Path]...) {
			if err := d.add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// inBase says whether all names of a file are names of one and the same file
// of the base, and it is what it was. The base's file may have had more names.
func (d *difference) inBase(file *tree.Entry, links []*tree.Entry) (bool, error) {
	name, known := d.base.file(file.Path)
	if !known || d.taken[name] {
		return false, nil
	}
	for _, link := range links {
		if other, known := d.base.file(link.Path); !known || other != name {
			return false, nil
		}
	}
	same, err := d.same(d.base.entries[name], file)
	if same {
		d.taken[name] = true
	}
	return same, err
}

// file is the path under which the base has the file of a name, or of a hard
// link to it.
func (b *Base) file(name string) (string, bool) {
	e := b.entries[name]
	switch {
	case e == nil:
		return "", false
	case e.Typeflag == tree.TypeLink:
		return e.Linkname, true
	}
	return name, e.Typeflag == tree.TypeReg
}

// gone adds whiteouts for what the tree no longer has.
func (d *difference) gone() error {
	for _, dir := range slices.Sorted(maps.Keys(d.base.names)) {
		if e, there := d.tree.Lookup(dir); !there || !e.IsDir() || !d.base.isDir(dir) {
			continue // what is above is gone, or hides it
		}
		var missing []string
		for _, name := range d.base.names[dir] {
			if _, there := d.tree.Lookup(path.Join(dir, name)); !there {
				missing = append(missing, whiteout+name)
			}
		}
		if len(missing) > 1 && len(missing) == len(d.base.names[dir]) {
			missing = []string{opaque}
		}
		for _, name := range missing {
			if err := d.add(&tree.Entry{Path: path.Join(dir, name), Typeflag: tree.TypeReg}); err != nil {
				return err
			}
		}
	}
	return nil
}

// same says whether two entries are written as the same, but for their names.
func (d *difference) same(x, y *tree.Entry) (bool, error) {
	if x == y {
		return true, nil
	}
	if x.Typeflag != y.Typeflag || x.Mode != y.Mode || x.UID != y.UID || x.GID != y.GID || x.Size != y.Size ||
		x.Devmajor != y.Devmajor || x.Devminor != y.Devminor || x.Linkname != y.Linkname ||
		d.seconds(x) != d.seconds(y) || !maps.Equal(x.Xattrs, y.Xattrs) {
		return false, nil
	}
	if x.Typeflag != tree.TypeReg {
		return true, nil
	}
	return sameContent(x.Content(), y.Content())
}

// seconds is the time that is written for an entry.
func (d *difference) seconds(e *tree.Entry) int64 {
	if e.ModTime.IsZero() {
		return d.clock.Unix()
	}
	return min(e.ModTime.Unix(), d.clock.Unix())
}

// sameContent compares two contents of the same length.
func sameContent(x, y *io.SectionReader) (bool, error) {
	const chunk = 64 << 10 // bytes
	a, b := make([]byte, chunk), make([]byte, chunk)
	for left := x.Size(); left > 0; {
		n := min(left, chunk)
		if _, err := io.ReadFull(x, a[:n]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(y, b[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		left -= n
	}
	return true, nil
}
