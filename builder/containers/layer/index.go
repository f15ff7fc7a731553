package layer

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"strings"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// Index reads the headers of an uncompressed layer of size bytes and returns
// the tree that overlayfs is to mount: a file that is removed is a character
// device 0:0, a folder that hides those below it has trusted.overlay.opaque
// and user.overlay.opaque. Contents stay in r, which has to be there as long as
// the tree is in use.
//
// Entries count in their order. Symbolic links on the way to an entry are
// followed within the layer; folders that the archive does not have are made,
// root's with mode 0755. Errors match ErrFormat, ErrPath or ErrTooLarge and
// name the entry.
func Index(r io.ReaderAt, size int64) (*tree.Tree, error) {
	x := &indexer{tree: tree.New()}
	if err := x.tree.Change(".", func(e *tree.Entry) { e.Mode = RootMode }); err != nil {
		return nil, err
	}
	in := newArchive(r, size)
	for n := 0; ; n++ {
		if n > maxEntries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrTooLarge, maxEntries)
		}
		h, content, err := in.next()
		if err == io.EOF {
			return x.tree, nil
		}
		if err != nil {
			return nil, err
		}
		if err := x.entry(h, content); err != nil {
			if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {
				// A path that is too long only where a link led.
				err = fmt.Errorf("%w: %w", ErrPath, wrong.Err)
			}
			return nil, fmt.Errorf("entry %q: %w", shorten(h.Name), err)
		}
	}
}

// shorten keeps an error to one line.
func shorten(name string) string {
	const most = 200
	if len(name) <= most {
		return name
	}
	return name[:most] + "…"
}

type indexer struct {
	tree  *tree.Tree
	names int64 // bytes of all names, targets and attributes
}

// keep notes that so many bytes are kept in memory.
func (x *indexer) keep(n int) error {
	if x.names += int64(n); x.names > maxNames {
		return fmt.Errorf("%w: more than %d bytes of names and attributes", ErrTooLarge, maxNames)
	}
	if x.tree.Len() > maxEntries {
		return fmt.Errorf("%w: more than %d files", ErrTooLarge, maxEntries)
	}
	return nil
}

// entry puts one entry of the archive into the tree.
func (x *indexer) entry(h *tar.Header, content io.ReaderAt) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanPath(h.Name)
	if err != nil {
		return err
	}
	if err := x.keep(len(name) + len(h.Linkname)); err != nil {
		return err
	}
	if name == "." {
		return x.root(h)
	}
	if base := path.Base(name); inMeta(path.Dir(name)) || strings.HasPrefix(base, metaPrefix) && base != opaqueName {
		return nil
	}
	dir, err := x.folder(path.Dir(name))
	if errors.Is(err, errWhiteout) {
		// "a" is removed, and "a/b" is told to be removed too.
		if strings.HasPrefix(path.Base(name), whiteoutPrefix) {
			return nil
		}
		return fmt.Errorf("%w: its folder is removed by the layer itself", ErrPath)
	}
	if err != nil {
		return err
	}
	base := path.Base(name)
	switch {
	case base == opaqueName:
		return x.opaque(dir)
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(dir, strings.TrimPrefix(base, whiteoutPrefix), h)
	}
	return x.file(join(dir, base), h, content)
}

// inMeta says whether a folder is one of AUFS, such as .wh..wh.plnk, or is in
// one.
func inMeta(dir string) bool {
	return strings.Contains("/"+dir, "/"+metaPrefix)
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

// cleanPath is the path of a name in an archive. A leading slash is the root
// of the layer.
func cleanPath(name string) (string, error) {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return "", fmt.Errorf("%w: it leads out of the layer", ErrPath)
		case len(part) > maxName:
			return "", fmt.Errorf("%w: a name of %d bytes, %d are allowed", ErrPath, len(part), maxName)
		default:
			parts = append(parts, part)
		}
	}
	cleaned := strings.Join(parts, "/")
	switch {
	case name == "":
		return "", fmt.Errorf("%w: an empty name", ErrPath)
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("%w: a NUL byte in its name", ErrPath)
	case len(cleaned) > maxPath:
		return "", fmt.Errorf("%w: a path of %d bytes, %d are allowed", ErrPath, len(cleaned), maxPath)
	case len(parts) > maxDepth:
		return "", fmt.Errorf("%w: in %d folders, %d are allowed", ErrPath, len(parts), maxDepth)
	case cleaned == "":
		return ".", nil
	}
	return cleaned, nil
}

// root gives the root folder its attributes, if the archive calls it "/".
// containers/storage does not heed "./".
func (x *indexer) root(h *tar.Header) error {
	if !strings.HasPrefix(h.Name, "/") {
		return nil
	}
	e, err := x.attributes(h)
	if err != nil {
		return err
	}
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is no folder", ErrPath)
	}
	return x.change(".", e)
}

// errWhiteout says that a path leads through a file that the layer removes.
var errWhiteout = errors.New("removed")

// folder finds a folder, following symbolic links, and makes what is missing.
func (x *indexer) folder(dir string) (string, error) {
	e, err := x.tree.Resolve(dir)
	switch {
	case err == nil && e.IsDir():
		return e.Path, nil
	case err == nil && IsWhiteout(e):
		return "", errWhiteout
	case err == nil:
		return "", fmt.Errorf("%w: %q is no folder", ErrPath, shorten(dir))
	case errors.Is(err, tree.ErrNotDir), errors.Is(err, fs.ErrNotExist):
	default:
		return "", fmt.Errorf("%w: %q: %w", ErrPath, shorten(dir), err)
	}
	parent, err := x.folder(path.Dir(dir))
	if err != nil {
		return "", err
	}
	made := join(parent, path.Base(dir))
	if _, there := x.tree.Lookup(made); there {
		return "", fmt.Errorf("%w: %q is a symbolic link to nowhere in the layer", ErrPath, shorten(dir))
	}
	// A short entry may ask for thousands of folders with long paths.
	if err := x.keep(len(made)); err != nil {
		return "", err
	}
	return made, x.tree.Mkdir(made, 0o755, 0, 0)
}

func (x *indexer) opaque(dir string) error {
	return x.tree.Change(dir, func(e *tree.Entry) {
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[opaqueXattr], e.Xattrs[userOpaqueXattr] = opaqueValue, opaqueValue
	})
}

// whiteout notes that a name of the layers below is removed. What the layer
// itself has of that name is not meant; a folder of its own hides the one below.
func (x *indexer) whiteout(dir, base string, h *tar.Header) error {
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("%w: it removes no name", ErrPath)
	}
	where := join(dir, base)
	if e, there := x.tree.Lookup(where); there {
		if e.IsDir() {
			return x.opaque(where)
		}
		return nil
	}
	return x.tree.Put(&tree.Entry{
		Path: where, Typeflag: tree.TypeChar, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime,
	})
}

// file puts a file or a folder at its place.
func (x *indexer) file(where string, h *tar.Header, content io.ReaderAt) error {
	e, err := x.attributes(h)
	if err != nil {
		return err
	}
	e.Path = where
	old, there := x.tree.Lookup(where)
	if there && old.IsDir() && h.Typeflag == tar.TypeDir {
		return x.change(where, e)
	}
	if h.Typeflag == tar.TypeLink {
		return x.link(where, h, e)
	}
	if h.Typeflag == tar.TypeReg {
		e = tree.NewFile(*e, content, h.Size)
	}
	return x.tree.Put(e)
}

// change gives what is there other attributes.
func (x *indexer) change(where string, to *tree.Entry) error {
	return x.tree.Change(where, func(e *tree.Entry) {
		e.Mode, e.UID, e.GID, e.ModTime = to.Mode, to.UID, to.GID, to.ModTime
		if len(to.Xattrs) > 0 && e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		maps.Copy(e.Xattrs, to.Xattrs)
	})
}

// link gives a file a further name. The attributes of the entry become those
// of the file.
func (x *indexer) link(where string, h *tar.Header, e *tree.Entry) error {
	target, err := cleanPath(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", shorten(h.Linkname), err)
	}
	if err := x.tree.Remove(where); err != nil {
		return err
	}
	dir, err := x.tree.Resolve(path.Dir(target))
	if err != nil {
		return fmt.Errorf("%w: hard link to %q, which is not in the layer", ErrPath, shorten(target))
	}
	file, there := x.tree.Lookup(join(dir.Path, path.Base(target)))
	switch {
	case !there:
		return fmt.Errorf("%w: hard link to %q, which is not in the layer", ErrPath, shorten(target))
	case file.IsDir():
		return fmt.Errorf("%w: hard link to %q, which is a folder", ErrPath, shorten(target))
	case file.Typeflag == tree.TypeReg || file.Typeflag == tree.TypeLink:
		if err := x.tree.Put(&tree.Entry{Path: where, Typeflag: tree.TypeLink, Linkname: file.Path}); err != nil {
			return err
		}
	default:
		// Links, devices and pipes are the same by their attributes.
		twin := *file
		twin.Path, twin.Xattrs = where, maps.Clone(file.Xattrs)
		if err := x.tree.Put(&twin); err != nil {
			return err
		}
	}
	return x.change(where, e)
}

// attributes makes an entry of a header, without a path.
func (x *indexer) attributes(h *tar.Header) (*tree.Entry, error) {
	e := &tree.Entry{
		Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime,
	}
	const maxID = 1<<32 - 2 // the last one stands for none
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return nil, fmt.Errorf("%w: owner %d:%d", ErrFormat, h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		e.Linkname = h.Linkname
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return nil, fmt.Errorf("%w: target of the symbolic link", ErrPath)
		}
	case tar.TypeChar, tar.TypeBlock:
		e.Devmajor, e.Devminor = h.Devmajor, h.Devminor
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return nil, fmt.Errorf("%w: device %d:%d", ErrFormat, h.Devmajor, h.Devminor)
		}
	default:
		return nil, fmt.Errorf("%w: entries of the type %q are not understood", ErrFormat, h.Typeflag)
	}
	return e, x.xattrs(e, h.PAXRecords)
}

// xattrs takes extended attributes out of an extended header.
func (x *indexer) xattrs(e *tree.Entry, records map[string]string) error {
	for key, value := range records {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			if name, value, ok = libarchiveXattr(key, value); !ok {
				continue
			}
			if _, plain := records["SCHILY.xattr."+name]; plain {
				continue
			}
		}
		if !kept(name) {
			continue
		}
		if len(name) > maxName || strings.ContainsRune(name, 0) || len(value) > maxXattr {
			return fmt.Errorf("%w: extended attribute %q of %d bytes", ErrFormat, shorten(name), len(value))
		}
		if err := x.keep(len(name) + len(value)); err != nil {
			return err
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[name] = value
	}
	return nil
}

// libarchiveXattr reads libarchive's form: name percent-encoded, value base64
// without padding.
func libarchiveXattr(key, value string) (name, decoded string, ok bool) {
	encoded, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr.")
	if !ok {
		return "", "", false
	}
	name, err := url.PathUnescape(encoded)
	if err != nil {
		return "", "", false
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	return name, string(data), err == nil
}

// kept says which extended attributes of an archive count. Labels of SELinux
// belong to the machine on which the layer was made. Those of overlayfs would
// steer how the layers are mounted, which is not the archive's to say.
func kept(name string) bool {
	return name != "" && name != "security.selinux" &&
		!strings.HasPrefix(name, "trusted.overlay.") && !strings.HasPrefix(name, "user.overlay.")
}
