package initrd

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	maxFile = 256 << 20 // of one file of a package; a larger one is refused
	maxLink = 4096      // PATH_MAX of Linux
)

// An entry is a file as it goes into the archive.
type entry struct {
	path    string
	mode    fs.FileMode // type and permissions
	content []byte
	link    string
	from    string // the package, for errors
}

// A pool holds what the packages have that may be of use, by path with the
// directories of a merged /usr resolved.
type pool struct {
	files map[string]*entry
}

// collect reads all packages, several side by side, and keeps the files that
// keep asks for and all symbolic links. Of two packages with one path the
// later in the list wins, as dpkg's Replaces would have it.
func collect(ctx context.Context, pkgs []Package, keep func(path string) bool) (*pool, error) {
	found := make([][]*entry, len(pkgs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, pkg := range pkgs {
		group.Go(func() error {
			var err error
			found[i], err = readPackage(ctx, pkg, keep)
			if err != nil {
				return fmt.Errorf("package %s: %w", pkg.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	p := &pool{files: make(map[string]*entry)}
	for _, list := range found {
		for _, e := range list {
			p.files[e.path] = e
		}
	}
	return p, nil
}

// readPackage returns the entries of one package that are to be kept.
func readPackage(ctx context.Context, pkg Package, keep func(string) bool) ([]*entry, error) {
	var list []*entry
	mine := make(map[string]*entry)
	err := pkg.Files.Walk(ctx, func(h *tar.Header, r io.Reader) error {
		name, err := cleanPath(h.Name)
		if err != nil {
			return err
		}
		e := &entry{path: name, mode: fs.FileMode(h.Mode).Perm(), from: pkg.Name}
		switch h.Typeflag {
		case tar.TypeReg:
			if !keep(name) {
				return nil
			}
			if e.content, err = readContent(h, r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case tar.TypeSymlink:
			if len(h.Linkname) == 0 || len(h.Linkname) > maxLink {
				return fmt.Errorf("%s: a symbolic link of %d bytes", name, len(h.Linkname))
			}
			e.mode, e.link = fs.ModeSymlink|0o777, h.Linkname
		case tar.TypeLink:
			target, err := cleanPath(h.Linkname)
			if err != nil {
				return err
			}
			first := mine[target]
			if first == nil || !keep(name) {
				return nil
			}
			e.content, e.mode = first.content, first.mode
		default:
			return nil
		}
		mine[name] = e
		list = append(list, e)
		return nil
	})
	return list, err
}

// readContent reads a regular file whose size the header announces.
func readContent(h *tar.Header, r io.Reader) ([]byte, error) {
	if h.Size < 0 || h.Size > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d are taken", h.Size, int64(maxFile))
	}
	if h.Size == 0 {
		return nil, nil
	}
	if r == nil {
		return nil, errors.New("no contents")
	}
	// The announced size is only believed as far as bytes arrive.
	var b bytes.Buffer
	b.Grow(int(min(h.Size, 16<<20)))
	n, err := io.Copy(&b, io.LimitReader(r, h.Size))
	if err != nil {
		return nil, err
	}
	if n != h.Size {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, h.Size, io.ErrUnexpectedEOF)
	}
	return b.Bytes(), nil
}

// cleanPath makes a package's name of a file relative, refuses one that would
// leave the tree, and resolves the directories that a merged /usr links.
func cleanPath(name string) (string, error) {
	if len(name) > maxLink || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%.80q: not a path", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%q: leaves the tree", name)
		}
	}
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	if p == "" {
		return ".", nil
	}
	return mergedUsr(p), nil
}

// mergedUsr gives the place of a path where bin, sbin, lib and lib64 are links
// into usr.
func mergedUsr(p string) string {
	top, _, _ := strings.Cut(p, "/")
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return "usr/" + p
	}
	return p
}

// lookup follows symbolic links to a file and returns the entries on the way,
// the file last; nil when it leads nowhere.
func (p *pool) lookup(name string) []*entry {
	var way []*entry
	for range 16 {
		e := p.files[name]
		if e == nil {
			return nil
		}
		way = append(way, e)
		if e.mode&fs.ModeSymlink == 0 {
			return way
		}
		name = linkTarget(name, e.link)
	}
	return nil
}

// linkTarget resolves a link against the directory it stands in; ".." stops
// at the root.
func linkTarget(name, link string) string {
	if !strings.HasPrefix(link, "/") {
		link = "/" + path.Dir(name) + "/" + link
	}
	return mergedUsr(strings.TrimPrefix(path.Clean(link), "/"))
}

// match returns the paths that a pattern of path.Match fits, sorted.
func (p *pool) match(pattern string) []string {
	var names []string
	for name := range p.files {
		if ok, _ := path.Match(pattern, name); ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}
