package fs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
	"github.com/google/uuid"
)

// ErrXFS says that a release's mkfs.xfs cannot make the same bytes twice, or
// that it cannot be told of something in the tree.
var ErrXFS = errors.New("xfs cannot be filled in the image; use ext4 or btrfs")

// XFS writes xfs file systems with mkfs.xfs of xfsprogs 6.18 or later.
//
// Earlier versions take times and inodes' generations from the machine they
// run on. From directories all versions take the order of names, so the tree is given
// as a prototype (mkfs.xfs(8), -p), which knows no hard links, extended
// attributes, sticky bits and white space in symbolic links.
type XFS struct {
	tool  Tool
	clock time.Time
	uuid  uuid.UUID
	label string
	size  int64
}

// XFSOption changes how an XFS writes.
type XFSOption func(*XFS)

// XFSLabel sets the volume's label, at most 12 bytes.
func XFSLabel(label string) XFSOption { return func(x *XFS) { x.label = label } }

// NewXFS returns a writer of file systems of a size in bytes, a multiple of
// 4096. The clock is the file system's creation time and that of all files.
func NewXFS(tool Tool, clock time.Time, id uuid.UUID, size int64, opts ...XFSOption) *XFS {
	x := &XFS{tool: tool, clock: clock, uuid: id, size: size}
	for _, o := range opts {
		o(x)
	}
	return x
}

// Write makes a file system of the tree at path. While it does, the contents
// of all files lie beside it, in a folder of the same name with ".contents"
// behind it. Errors match ErrXFS.
func (x *XFS) Write(ctx context.Context, tree Tree, path string) error {
	if err := x.write(ctx, tree, path); err != nil {
		return fmt.Errorf("xfs: %w", err)
	}
	return nil
}

func (x *XFS) write(ctx context.Context, tree Tree, path string) error {
	if err := CheckVolume(KindXFS, x.label, x.size, ext4Block); err != nil {
		return err
	}
	if err := x.checkVersion(ctx, path); err != nil {
		return err
	}
	return imagefile.Create(path, func(dir, name string) (err error) {
		contents := name + ".contents"
		spool := filepath.Join(dir, contents)
		if err := os.Mkdir(spool, 0o700); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(spool)) }()
		l, err := unpack(ctx, tree, spool)
		if err != nil {
			return err
		}
		if err := l.prototype(filepath.Join(spool, "prototype"), contents); err != nil {
			return err
		}
		if err := truncate(filepath.Join(dir, name), x.size); err != nil {
			return err
		}
		// Sectors of 4096 bytes are right for disks with smaller ones too. The
		// number of allocation groups would go by the disk otherwise.
		argv := []string{"mkfs.xfs", "-q", "-f", "-K", "-s", "size=4096", "-d", "agcount=4", "-m", "uuid=" + x.uuid.String(),
			"-p", "file=" + contents + "/prototype,slashes_are_spaces=1"}
		if x.label != "" {
			argv = append(argv, "-L", x.label)
		}
		err = run(ctx, x.tool, Command{
			Argv: append(argv, name),
			Env:  environment("SOURCE_DATE_EPOCH="+strconv.FormatInt(x.clock.Unix(), 10), "DETERMINISTIC_SEED=1"),
			Dir:  dir,
		})
		if err != nil && strings.Contains(err.Error(), "No space left") {
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return err
	})
}

// checkVersion asks mkfs.xfs for its version.
func (x *XFS) checkVersion(ctx context.Context, image string) error {
	said, err := help(ctx, x.tool, image, "mkfs.xfs", "-V")
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(said, "mkfs.xfs version %d.%d", &major, &minor); err != nil {
		return fmt.Errorf("mkfs.xfs does not say its version: %q", said)
	}
	if major < 6 || major == 6 && minor < 18 {
		return fmt.Errorf("%w: version %d.%d of xfsprogs makes other bytes each time, 6.18 and later do not", ErrXFS, major, minor)
	}
	return nil
}

// prototype writes the tree as mkfs.xfs reads it: a first line that counts
// for nothing, two numbers that do neither, the root, and in each directory its
// names and a "$" at the end.
func (l *listing) prototype(file, contents string) error {
	if err := os.WriteFile(filepath.Join(l.spool, strconv.Itoa(l.empty())), nil, 0o600); err != nil {
		return err
	}
	p := prototype{contents: contents, children: map[string][]*entry{}}
	root := &tar.Header{Name: ".", Typeflag: tar.TypeDir, Mode: 0o755}
	for _, e := range l.entries {
		if e.header.Name == "." {
			root = e.header
			if len(e.xattrs) > 0 {
				return fmt.Errorf("%w: %q has extended attributes", ErrXFS, e.header.Name)
			}
			continue
		}
		dir := path.Dir(e.header.Name)
		p.children[dir] = append(p.children[dir], e)
	}
	p.text.WriteString("prototype\n0 0\n")
	if err := p.inode(root, ""); err != nil {
		return err
	}
	if err := p.directory("."); err != nil {
		return err
	}
	return os.WriteFile(file, p.text.Bytes(), 0o600)
}

type prototype struct {
	text     bytes.Buffer
	contents string
	children map[string][]*entry
}

// directory writes what is in a directory, and its end.
func (p *prototype) directory(dir string) error {
	for _, e := range p.children[dir] {
		if err := p.entry(e); err != nil {
			return err
		}
	}
	p.text.WriteString("$\n")
	return nil
}

func (p *prototype) entry(e *entry) error {
	h := e.header
	base := path.Base(h.Name)
	switch {
	case h.Typeflag == tar.TypeLink:
		return fmt.Errorf("%w: %q is a hard link", ErrXFS, h.Name)
	case len(e.xattrs) > 0:
		return fmt.Errorf("%w: %q has extended attributes", ErrXFS, h.Name)
	case base == "$" || strings.HasPrefix(base, ":") || strings.ContainsAny(base, "\t\v\f\r"):
		return fmt.Errorf("%w: %q is a name that a prototype cannot have", ErrXFS, h.Name)
	case h.Typeflag == tar.TypeSymlink && strings.ContainsAny(h.Linkname, " \t\v\f\r"):
		return fmt.Errorf("%w: %q has white space in its target", ErrXFS, h.Name)
	}
	p.text.WriteString(strings.ReplaceAll(base, " ", "/") + " ")
	var rest string
	switch h.Typeflag {
	case tar.TypeReg:
		rest = p.contents + "/" + strconv.Itoa(e.content)
	case tar.TypeSymlink:
		rest = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		rest = fmt.Sprintf("%d %d", h.Devmajor, h.Devminor)
	}
	if err := p.inode(h, rest); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return p.directory(h.Name)
	}
	return nil
}

// inode writes type, mode and owner, and what belongs to the type.
func (p *prototype) inode(h *tar.Header, rest string) error {
	if h.Mode&0o1000 != 0 {
		return fmt.Errorf("%w: %q has a sticky bit", ErrXFS, h.Name)
	}
	kind := map[byte]string{tar.TypeDir: "d", tar.TypeSymlink: "l", tar.TypeChar: "c", tar.TypeBlock: "b", tar.TypeFifo: "p"}[h.Typeflag]
	if kind == "" {
		kind = "-"
	}
	setuid, setgid := "-", "-"
	if h.Mode&0o4000 != 0 {
		setuid = "u"
	}
	if h.Mode&0o2000 != 0 {
		setgid = "g"
	}
	fmt.Fprintf(&p.text, "%s%s%s%03o %d %d %s\n", kind, setuid, setgid, h.Mode&0o777, h.Uid, h.Gid, rest)
	return nil
}
