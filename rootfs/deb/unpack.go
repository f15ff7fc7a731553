package deb

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/tree/inroot"
)

// Endings of names of files that dpkg will put into place when it
// configures the package.
const newSuffix = ".dpkg-new"

const xattrRecord = "SCHILY.xattr."

// An unpacking is one package being unpacked.
type unpacking struct {
	u         *Unpacker
	pkg       *Package
	conffiles map[string]bool // paths that are conffiles of this package
	placed    map[string]bool // conffiles that wait with newSuffix
	taken     []takenPath     // what is this package's now
	digests   digests         // nil where the package brings its own
	buf       []byte
}

// copyBuffer is what a file is copied through, in bytes.
const copyBuffer = 256 << 10

func (u *Unpacker) unpackOne(ctx context.Context, from *opened) error {
	control := from.control
	if u.Database != nil && u.Database.lookup(control) != nil {
		return errors.New("it is in the tree already; a second package of one name cannot be unpacked over it")
	}
	p := &unpacking{
		u:         u,
		pkg:       &Package{Control: control},
		conffiles: map[string]bool{},
		placed:    map[string]bool{},
		buf:       u.buf,
	}
	if u.Database != nil {
		for _, c := range control.Conffiles {
			if !c.RemoveOnUpgrade {
				p.conffiles[c.Path] = true
			}
			p.pkg.conffiles = append(p.pkg.conffiles, statusConffile{path: c.Path, hash: "newconffile", remove: c.RemoveOnUpgrade})
		}
	}
	if _, ok := control.Member("md5sums"); !ok && u.Database != nil {
		p.digests = digests{}
	}
	err := walkTar(ctx, from.data, func(h *tar.Header, r io.Reader) error {
		if err := p.entry(h, r); err != nil {
			return fmt.Errorf("/%s: %w", h.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if u.Database == nil {
		return nil
	}
	if err := u.Database.add(p.pkg, p.taken); err != nil || p.digests == nil {
		return err
	}
	return u.Database.write(infoFile(control, "md5sums"), p.digests.text(p.pkg.Files), 0o644)
}

// listPath is the form of a name in dpkg's lists.
func listPath(name string) string { return "/" + name }

// entry does what dpkg's tarobject does for one member of data.tar.
func (p *unpacking) entry(h *tar.Header, r io.Reader) error {
	p.pkg.Files = append(p.pkg.Files, listPath(h.Name))
	if h.Name == "." {
		return p.rootEntry(h)
	}
	name, err := p.divert(h.Name)
	if err != nil {
		return err
	}
	conffile := p.conffiles[listPath(h.Name)]
	if conffile {
		if name, err = p.followConffile(name); err != nil {
			return err
		}
	}
	existing, err := p.existing(h, name)
	if err != nil {
		return err
	}
	verdict, err := p.conflict(h, existing)
	if err != nil {
		return err
	}
	switch {
	case verdict == keepOther:
		p.pkg.Files = p.pkg.Files[:len(p.pkg.Files)-1]
		if conffile {
			p.markObsolete(listPath(h.Name))
		}
		return nil
	case p.u.excluded(h) || existing == existsSameDir:
		return nil
	}
	p.taken = append(p.taken, takenPath{listPath(h.Name), h.Typeflag == tar.TypeDir})
	if verdict == shareWithOther {
		return p.compareShared(h, r, name)
	}
	if conffile {
		p.placed[name] = true
		return p.make(h, r, name+newSuffix, absent)
	}
	return p.make(h, r, name, existing)
}

// rootEntry takes the attributes of "./" for the root, as a tree of its own
// has no other source for them.
func (p *unpacking) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return formatError("the root is no directory")
	}
	if _, ok := p.u.dirTimes["."]; ok {
		return nil
	}
	p.u.dirTimes["."] = h.ModTime.Truncate(time.Second)
	return p.u.root.UpdateDir(".", p.u.attr(h, nil))
}

// divert says where an entry goes in the tree.
func (p *unpacking) divert(name string) (string, error) {
	if p.u.Database == nil {
		return name, nil
	}
	d := p.u.Database.diversions
	if v, ok := d.byTo[listPath(name)]; ok {
		return "", fmt.Errorf("%w it: it is the diverted version of %s (by %s)", ErrConflict, v.Path, owner(v.Package))
	}
	if v, ok := d.byPath[listPath(name)]; ok && v.Package != p.pkg.Control.Name() {
		return v.To[1:], nil
	}
	return name, nil
}

func owner(pkg string) string {
	if pkg == "" {
		return "the administrator"
	}
	return pkg
}

// followConffile follows a symbolic link that stands where a conffile goes:
// dpkg leaves the new version beside the file that the link leads to.
func (p *unpacking) followConffile(name string) (string, error) {
	at := name
	for range 25 {
		target, err := p.u.root.Readlink(at)
		if err != nil {
			if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
				return at, nil
			}
			return "", err
		}
		if !strings.HasPrefix(target, "/") {
			target = path.Join("/", path.Dir(at), target)
		}
		if at = path.Clean(target)[1:]; at == "" {
			break
		}
	}
	return "", errors.New("the link at the conffile's place leads to no file; remove it")
}

// What is in the tree where an entry goes.
type existence int

const (
	absent        existence = iota
	existsSameDir           // a directory that the entry leaves as it is
	existsDir               // a directory that the entry is to replace
	existsOther
)

func (p *unpacking) existing(h *tar.Header, name string) (existence, error) {
	st, err := p.u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return absent, nil
	}
	if err != nil {
		return absent, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch h.Typeflag {
	case tar.TypeDir:
		if isDir || p.isDir(name) {
			return existsSameDir, nil
		}
	case tar.TypeSymlink:
		if isDir {
			return existsSameDir, nil
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK && p.sameDir(name, h.Linkname) {
			return existsSameDir, nil
		}
	}
	if isDir {
		return existsDir, nil
	}
	return existsOther, nil
}

func (p *unpacking) isDir(name string) bool {
	st, err := p.u.root.Stat(name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// sameDir says that the link at name and one to target, in its place, lead
// to the same directory.
func (p *unpacking) sameDir(name, target string) bool {
	if !strings.HasPrefix(target, "/") {
		target = path.Dir(name) + "/" + target
	}
	a, err := p.u.root.Stat(name)
	if err != nil || a.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	b, err := p.u.root.Stat(target)
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// attr is what an entry's file gets.
func (u *Unpacker) attr(h *tar.Header, o *override) inroot.Attr {
	a := inroot.Attr{
		Mode:    uint32(h.Mode) & 0o7777,
		UID:     h.Uid,
		GID:     h.Gid,
		ModTime: h.ModTime.Truncate(time.Second),
	}
	if o != nil {
		a.Mode, a.UID, a.GID = o.mode, o.uid, o.gid
	}
	if u.IgnoreOwner {
		a.Mode &= 0o777
		a.UID, a.GID = -1, -1
		return a
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrRecord); ok {
			a.Xattrs = append(a.Xattrs, inroot.Xattr{Name: name, Value: []byte(value)})
		}
	}
	sort.Slice(a.Xattrs, func(i, j int) bool { return a.Xattrs[i].Name < a.Xattrs[j].Name })
	return a
}

// make makes an entry's file at name, in place of what is there.
func (p *unpacking) make(h *tar.Header, r io.Reader, name string, existing existence) error {
	var o *override
	if p.u.Database != nil {
		if found, ok := p.u.Database.overrides[listPath(h.Name)]; ok {
			o = &found
		}
	}
	a := p.u.attr(h, o)
	target := name
	if existing != absent {
		// As with dpkg the new file is made beside and renamed.
		name += newSuffix
	}
	if strings.HasSuffix(name, newSuffix) {
		if err := p.u.root.RemoveAll(name); err != nil {
			return err
		}
	}
	if err := p.makeNew(h, r, name, a); err != nil {
		return err
	}
	if existing == absent {
		return nil
	}
	if existing == existsDir || h.Typeflag == tar.TypeDir {
		if err := p.u.root.RemoveAll(target); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		p.u.dirTimes[target] = a.ModTime
		delete(p.u.dirTimes, name)
	}
	return p.u.root.Rename(name, target)
}

func (p *unpacking) makeNew(h *tar.Header, r io.Reader, name string, a inroot.Attr) error {
	root := p.u.root
	switch h.Typeflag {
	case tar.TypeReg:
		return p.file(h, r, name, a)
	case tar.TypeDir:
		p.u.dirTimes[name] = a.ModTime
		return root.Mkdir(name, a)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name, a)
	case tar.TypeLink:
		old, err := p.divert(h.Linkname)
		if err != nil {
			return err
		}
		if p.conffiles[listPath(h.Linkname)] {
			old += newSuffix
		}
		p.digests.link(listPath(h.Linkname), listPath(h.Name))
		return root.Link(old, name)
	case tar.TypeFifo:
		return root.Mknod(name, unix.S_IFIFO, 0, a)
	case tar.TypeChar, tar.TypeBlock:
		return p.device(h, name, a)
	}
	return formatError("member of type %q", h.Typeflag)
}

func (p *unpacking) file(h *tar.Header, r io.Reader, name string, a inroot.Attr) error {
	f, err := p.u.root.Create(name)
	if err != nil {
		return err
	}
	r, done := p.digests.reader(listPath(h.Name), r)
	n, err := io.CopyBuffer(f, r, p.buf)
	done()
	if err == nil && n != h.Size {
		err = formatError("%d bytes instead of %d", n, h.Size)
	}
	if err != nil {
		f.Abandon()
		return err
	}
	return f.Finish(a)
}

func (p *unpacking) device(h *tar.Header, name string, a inroot.Attr) error {
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	var err error = unix.EPERM
	if !p.u.IgnoreOwner {
		err = p.u.root.Mknod(name, kind, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)), a)
	}
	if errors.Is(err, unix.EPERM) {
		p.u.devices = append(p.u.devices, Device{
			Path: name, Block: kind == unix.S_IFBLK,
			Major: uint32(h.Devmajor), Minor: uint32(h.Devminor),
			Mode: a.Mode, UID: a.UID, GID: a.GID, ModTime: a.ModTime,
		})
		return nil
	}
	return err
}
