package iso

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// source is a file or folder to write.
type source struct {
	name     string
	dir      bool
	data     []byte
	children []*source // sorted by name
	serial   uint32    // RRIP's file serial number
	extent   uint32    // of a file: its first sector
}

// gather sorts files into a tree of folders, and numbers its nodes.
func gather(files []File) (*source, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	root := &source{dir: true}
	nodes := map[string]*source{"": root}
	total := 0
	for _, f := range files {
		if err := checkPath(f.Path); err != nil {
			return nil, err
		}
		if total += len(f.Data); total > MaxBytes {
			return nil, fmt.Errorf("iso: %w: the files have more than %d MiB with %q", ErrLimit, MaxBytes>>20, f.Path)
		}
		if nodes[f.Path] != nil {
			return nil, fmt.Errorf("iso: %w: %q is there twice", ErrName, f.Path)
		}
		parent, name, err := folder(nodes, f.Path)
		if err != nil {
			return nil, err
		}
		nodes[f.Path] = &source{name: name, data: f.Data}
		parent.children = append(parent.children, nodes[f.Path])
		if len(nodes)-1 > MaxEntries {
			return nil, fmt.Errorf("iso: %w: more than %d files and folders", ErrLimit, MaxEntries)
		}
	}
	root.number(0)
	return root, nil
}

// folder returns the folder of a path, made if need be, and the name in it.
func folder(nodes map[string]*source, path string) (*source, string, error) {
	at := nodes[""]
	for i, c := range path {
		if c != '/' {
			continue
		}
		next := nodes[path[:i]]
		if next == nil {
			next = &source{name: path[strings.LastIndex(path[:i], "/")+1 : i], dir: true}
			nodes[path[:i]] = next
			at.children = append(at.children, next)
		}
		if !next.dir {
			return nil, "", fmt.Errorf("iso: %w: %q is a file and the folder of %q", ErrName, path[:i], path)
		}
		at = next
	}
	return at, path[strings.LastIndex(path, "/")+1:], nil
}

func checkPath(path string) error {
	if !fs.ValidPath(path) || path == "." || strings.Contains(path, "\x00") {
		return fmt.Errorf("iso: %w: %q: a path is relative, in UTF-8, without \".\", \"..\" and empty parts", ErrName, path)
	}
	parts := strings.Split(path, "/")
	if len(parts) > MaxDepth {
		return fmt.Errorf("iso: %w: %q is more than %d folders deep", ErrLimit, path, MaxDepth-1)
	}
	for _, part := range parts {
		if len(part) > MaxName {
			return fmt.Errorf("iso: %w: %q has a name of more than %d bytes", ErrName, path, MaxName)
		}
	}
	return nil
}

// number sorts the nodes and gives them serial numbers above last.
func (s *source) number(last uint32) uint32 {
	s.serial = last + 1
	slices.SortFunc(s.children, func(a, b *source) int { return cmp.Compare(a.name, b.name) })
	last = s.serial
	for _, c := range s.children {
		last = c.number(last)
	}
	return last
}

// files lists all files, in the order of their serial numbers.
func (s *source) files() []*source {
	if !s.dir {
		return []*source{s}
	}
	var all []*source
	for _, c := range s.children {
		all = append(all, c.files()...)
	}
	return all
}
