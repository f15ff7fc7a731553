package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/resolve"
)

// A verdict says what is to happen with a path that other packages own.
type verdict int

const (
	takeOver       verdict = iota // this entry is put in place
	keepOther                     // the other's stays, this entry leaves the list
	shareWithOther                // both have the same file, for two architectures
)

// conflict settles what happens with a path that another package owns, as
// dpkg does.
func (p *unpacking) conflict(h *tar.Header, existing existence) (v verdict, err error) {
	d := p.u.Database
	if d == nil || existing == existsSameDir {
		return takeOver, nil
	}
	file := listPath(h.Name)
	others := d.owners[file]
	if existing == existsDir {
		others = d.dirOwners(file)
	}
	diversion, diverted := d.diversions.byPath[file]
	for _, other := range others {
		switch {
		case other.Control.Name() == p.pkg.Control.Name() && other.Control.MultiArchSame() && p.pkg.Control.MultiArchSame():
			if existing != absent && v != keepOther {
				v = shareWithOther
			}
		case diverted && (diversion.Package == other.Control.Name() || diversion.Package == p.pkg.Control.Name()):
			continue
		case existing == absent && h.Typeflag == tar.TypeDir:
			continue
		case p.pkg.Control.replaces(other.Control):
		case other.Control.replaces(p.pkg.Control):
			v = keepOther
		case existing == existsDir:
			return takeOver, fmt.Errorf("%w the directory, which is in package %s (%s), with something else",
				ErrConflict, other.Control.Name(), other.Control.Version())
		default:
			return takeOver, fmt.Errorf("%w it, which is also in package %s (%s)",
				ErrConflict, other.Control.Name(), other.Control.Version())
		}
	}
	return v, nil
}

// compareShared makes sure that the file which another architecture's
// instance of the package brought is the same.
func (p *unpacking) compareShared(h *tar.Header, r io.Reader, name string) error {
	same := true
	switch h.Typeflag {
	case tar.TypeReg:
		there, err := p.u.root.ReadFile(name, h.Size)
		if err != nil && !errors.Is(err, unix.EFBIG) {
			return err
		}
		ours, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		same = bytes.Equal(there, ours)
	case tar.TypeSymlink:
		target, err := p.u.root.Readlink(name)
		same = err == nil && target == h.Linkname
	}
	if !same {
		return fmt.Errorf("%w it: it is shared and differs from that of other instances of package %s", ErrConflict, p.pkg.Control.Name())
	}
	return nil
}

// dirOwners looks through all lists, which happens only for the odd file
// that stands where others have a directory.
func (d *Database) dirOwners(file string) []*Package {
	var owners []*Package
	for _, p := range d.packages {
		if slices.Contains(p.Files, file) {
			owners = append(owners, p)
		}
	}
	return owners
}

// replaces says that the field Replaces names the other package in a version
// that fits.
func (c *Control) replaces(other *Control) bool {
	for group := range strings.SplitSeq(c.Paragraph.Get("Replaces"), ",") {
		m := relation.FindStringSubmatch(strings.TrimSpace(group))
		if m == nil {
			continue
		}
		name, arch, qualified := strings.Cut(m[1], ":")
		if name != other.Name() || qualified && arch != "any" && arch != other.Arch() {
			continue
		}
		if m[3] == "" || satisfies(other.Version(), m[2], m[3]) {
			return true
		}
	}
	return false
}

// satisfies compares two versions by an operator of a dependency field.
func satisfies(version, op, bound string) bool {
	c := resolve.CompareVersions(version, bound)
	switch op {
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return c == 0
}

// markObsolete notes that a conffile is another package's now.
func (p *unpacking) markObsolete(file string) {
	for i := range p.pkg.conffiles {
		if p.pkg.conffiles[i].path == file {
			p.pkg.conffiles[i].obsolete = true
		}
	}
}
