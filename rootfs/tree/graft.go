package tree

// Graft hangs the tree sub below the folder prefix: the folder gets the
// attributes of sub's root, files of sub replace those of the same path, other
// files below prefix stay. prefix is made where it is missing, links in it
// are followed. sub stays as it is; contents stay where they are.
func (t *Tree) Graft(prefix string, sub *Tree) error {
	at, err := t.place("graft", prefix)
	if err != nil {
		return err
	}
	if e, err := t.Resolve(at); err == nil && e.IsDir() {
		at = e.Path
	}
	var links []*Entry
	err = sub.Walk(func(e *Entry) error {
		moved := *e
		moved.Path = at
		if e.Path != "." {
			moved.Path = join(at, e.Path)
		}
		if e.Typeflag == TypeLink {
			moved.Linkname = join(at, e.Linkname)
			links = append(links, &moved)
			return nil
		}
		return t.Put(&moved)
	})
	if err != nil {
		return err
	}
	// A link may come before its file in the walk.
	for _, e := range links {
		if err := t.Put(e); err != nil {
			return err
		}
	}
	return nil
}
