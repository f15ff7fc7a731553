package layer

import (
	"maps"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// Flatten puts the trees of an image's layers, the lowest first, on top of
// each other, as overlayfs does when it mounts them. The layers stay as they
// are; contents stay where they are.
func Flatten(layers []*tree.Tree) (*tree.Tree, error) {
	merged := tree.New()
	for _, l := range layers {
		if err := apply(merged, l); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

func apply(merged, l *tree.Tree) error {
	var links []*tree.Entry
	err := l.Walk(func(e *tree.Entry) error {
		switch {
		case e.Typeflag == tree.TypeLink:
			// The file has to be there first, and may come later in the walk.
			links = append(links, e)
			return nil
		case IsWhiteout(e):
			return merged.Remove(e.Path)
		case IsOpaque(e):
			if err := empty(merged, e.Path); err != nil {
				return err
			}
		}
		return merged.Put(visible(e))
	})
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := merged.Put(visible(e)); err != nil {
			return err
		}
	}
	return nil
}

// visible is a copy of an entry without what only overlayfs sees.
func visible(e *tree.Entry) *tree.Entry {
	shown := *e
	if IsOpaque(e) {
		shown.Xattrs = maps.Clone(e.Xattrs)
		delete(shown.Xattrs, opaqueXattr)
		delete(shown.Xattrs, userOpaqueXattr)
	}
	return &shown
}

// empty removes what is in the folder of that very path.
func empty(t *tree.Tree, dir string) error {
	e, there := t.Lookup(dir)
	if !there || !e.IsDir() {
		return nil
	}
	for _, child := range t.Children(dir) {
		if err := t.Remove(child.Path); err != nil {
			return err
		}
	}
	return nil
}
