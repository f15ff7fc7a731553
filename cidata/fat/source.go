package fat

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf16"
)

// source is a file or folder to write.
type source struct {
	name     string
	dir      bool
	data     []byte
	parent   *source   // of the root: itself
	children []*source // sorted by name
	short    shortName
	first    uint32 // its first cluster, 0 for none
	clusters uint32
}

// fold is the key under which names are the same: FAT keeps their case, and
// finds them by any.
func fold(name string) string { return strings.ToUpper(name) }

// gather sorts files into a tree of folders, and sums them up.
func gather(files []File) (root *source, sum uint32, err error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	root = &source{dir: true}
	root.parent = root
	nodes := map[string]*source{"": root}
	total := 0
	for _, f := range files {
		if err := checkPath(f.Path); err != nil {
			return nil, 0, err
		}
		if total += len(f.Data); total > MaxBytes {
			return nil, 0, fmt.Errorf("fat: %w: the files have more than %d MiB with %q", ErrLimit, MaxBytes>>20, f.Path)
		}
		parent, name, err := folder(nodes, f.Path)
		if err != nil {
			return nil, 0, err
		}
		if nodes[fold(f.Path)] != nil {
			return nil, 0, fmt.Errorf("fat: %w: %q is there twice (upper and lower case are the same)", ErrName, f.Path)
		}
		node := &source{name: name, data: f.Data, parent: parent}
		nodes[fold(f.Path)] = node
		parent.children = append(parent.children, node)
		if len(nodes)-1 > MaxEntries {
			return nil, 0, fmt.Errorf("fat: %w: more than %d files and folders", ErrLimit, MaxEntries)
		}
		sum = crc32.Update(sum, crc32.IEEETable, fmt.Appendf(nil, "%s\x00%d\x00", f.Path, len(f.Data)))
		sum = crc32.Update(sum, crc32.IEEETable, f.Data)
	}
	root.sort()
	return root, sum, nil
}

// folder returns the folder of a path, made if need be, and the name in it.
func folder(nodes map[string]*source, path string) (*source, string, error) {
	at := nodes[""]
	for i, c := range path {
		if c != '/' {
			continue
		}
		name := path[strings.LastIndex(path[:i], "/")+1 : i]
		next := nodes[fold(path[:i])]
		if next == nil {
			next = &source{name: name, dir: true, parent: at}
			nodes[fold(path[:i])] = next
			at.children = append(at.children, next)
		}
		if !next.dir || next.name != name {
			return nil, "", fmt.Errorf("fat: %w: %q and %q are in one folder (upper and lower case are the same)", ErrName, next.name, path[:i])
		}
		at = next
	}
	return at, path[strings.LastIndex(path, "/")+1:], nil
}

func checkPath(path string) error {
	if !fs.ValidPath(path) || path == "." {
		return fmt.Errorf("fat: %w: %q: a path is relative, in UTF-8, without \".\", \"..\" and empty parts", ErrName, path)
	}
	parts := strings.Split(path, "/")
	if len(parts) > MaxDepth {
		return fmt.Errorf("fat: %w: %q is more than %d folders deep", ErrLimit, path, MaxDepth-1)
	}
	for _, part := range parts {
		if len(utf16.Encode([]rune(part))) > MaxName {
			return fmt.Errorf("fat: %w: %q has a name of more than %d characters", ErrName, path, MaxName)
		}
		if i := strings.IndexFunc(part, func(c rune) bool { return c < 0x20 || strings.ContainsRune(`"*:<>?\|`, c) }); i >= 0 {
			return fmt.Errorf("fat: %w: %q: FAT has no %q in names", ErrName, path, part[i])
		}
		if strings.TrimRight(part, ". ") != part {
			return fmt.Errorf("fat: %w: %q: FAT has no dot or space at the end of a name", ErrName, path)
		}
	}
	return nil
}

// sort puts all folders in order, and finds short names.
func (s *source) sort() {
	slices.SortFunc(s.children, func(a, b *source) int { return cmp.Compare(a.name, b.name) })
	nameShort(s.children)
	for _, c := range s.children {
		c.sort()
	}
}

// walk calls use with all nodes, folders before what is in them.
func (s *source) walk(use func(*source)) {
	use(s)
	for _, c := range s.children {
		c.walk(use)
	}
}
