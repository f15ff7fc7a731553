package initrd

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

// A tree is what goes into the archive.
type tree struct {
	pool    *pool
	arch    arch
	entries map[string]*entry
	// pending are paths whose libraries were not looked at yet.
	pending []string
}

func newTree(p *pool, a arch) *tree {
	return &tree{pool: p, arch: a, entries: make(map[string]*entry)}
}

// put places an entry, over another of the same path.
func (t *tree) put(e *entry) { t.entries[e.path] = e }

// take brings a file of the packages with the links that lead to it. It
// returns false when there is none.
func (t *tree) take(name string) bool {
	way := t.pool.lookup(name)
	for _, e := range way {
		if t.entries[e.path] != nil {
			continue
		}
		t.put(e)
		if isELF(e.content) {
			t.pending = append(t.pending, e.path)
		}
	}
	return way != nil
}

// pick takes the first of the paths that is there.
func (t *tree) pick(p pick) error {
	for _, name := range p.paths {
		if t.take(name) {
			return nil
		}
	}
	if p.optional {
		return nil
	}
	return fmt.Errorf("%s: %w: add the package that has it", strings.Join(p.paths, " or "), ErrMissing)
}

// units takes systemd's units and the links that want them.
func (t *tree) units(names []string) {
	const dir = "usr/lib/systemd/system"
	for _, name := range names {
		t.take(path.Join(dir, name))
	}
	for _, name := range t.pool.match(dir + "/*.wants/*") {
		if slices.Contains(names, path.Base(name)) {
			t.take(name)
		}
	}
}

// libraries takes all that the programs taken so far load, and what that
// loads in turn.
func (t *tree) libraries() error {
	for len(t.pending) > 0 {
		name := t.pending[len(t.pending)-1]
		t.pending = t.pending[:len(t.pending)-1]
		e := t.entries[name]
		x, err := readExecutable(e.content)
		if err != nil {
			return fmt.Errorf("package %s: %s: %w", e.from, name, err)
		}
		if x.interpreter != "" {
			loader, err := cleanPath(x.interpreter)
			if err != nil {
				return fmt.Errorf("package %s: %s: %w", e.from, name, err)
			}
			if !t.take(loader) {
				return fmt.Errorf("%s, which runs %s of package %s: %w: add libc6", loader, name, e.from, ErrMissing)
			}
		}
		dirs := t.searchDirs(name, x.runpath)
		for _, soname := range x.needed {
			if !t.library(dirs, soname) {
				return fmt.Errorf("library %s, which %s of package %s loads: %w: add the package that has it", soname, name, e.from, ErrMissing)
			}
		}
		for _, d := range x.dlopens {
			if slices.Contains(dlopenFeatures, d.Feature) {
				t.anyLibrary(dirs, d.Sonames)
			}
		}
	}
	return nil
}

// searchDirs returns where the program loader looks for the libraries of name.
func (t *tree) searchDirs(name string, runpath []string) []string {
	var dirs []string
	for _, dir := range runpath {
		for _, origin := range []string{"$ORIGIN", "${ORIGIN}"} {
			dir = strings.ReplaceAll(dir, origin, "/"+path.Dir(name))
		}
		if p, err := cleanPath(path.Clean(dir)); err == nil {
			dirs = append(dirs, p)
		}
	}
	dirs = append(dirs, t.arch.libraryDirs()...)
	// A private library may leave it to the program that loads it to say where
	// its neighbours are.
	return append(dirs, path.Dir(name))
}

// anyLibrary takes the first of the libraries that is there, if one is.
func (t *tree) anyLibrary(dirs, sonames []string) {
	for _, soname := range sonames {
		if t.library(dirs, soname) {
			return
		}
	}
}

func (t *tree) library(dirs []string, soname string) bool {
	if soname == "" || strings.Contains(soname, "/") {
		return false
	}
	return slices.ContainsFunc(dirs, func(dir string) bool { return t.take(path.Join(dir, soname)) })
}

// sorted returns all entries by path, with every directory above them. A link
// in place of a directory of a merged /usr is kept; a file there is an error.
func (t *tree) sorted() ([]*entry, error) {
	for _, e := range t.entries {
		for dir := path.Dir(e.path); dir != "."; dir = path.Dir(dir) {
			above := t.entries[dir]
			if above == nil {
				t.put(&entry{path: dir, mode: fs.ModeDir | 0o755})
				continue
			}
			if !above.mode.IsDir() {
				return nil, fmt.Errorf("%s of package %s: %s is not a directory", e.path, e.from, dir)
			}
		}
	}
	list := make([]*entry, 0, len(t.entries))
	for _, e := range t.entries {
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].path < list[j].path })
	return list, nil
}
