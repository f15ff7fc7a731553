package deb

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/resolve"
)

// conflict settles what happens with a path that another package owns, as
// dpkg does: keep means that the other's file stays and this entry leaves
// the package's list.
func (p *unpacking) conflict(h *tar.Header, existing existence) (keep bool, err error) {
	d := p.u.Database
	if d == nil || existing == existsSameDir {
		return false, nil
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
			continue
		case diverted && (diversion.Package == other.Control.Name() || diversion.Package == p.pkg.Control.Name()):
			continue
		case existing == absent && h.Typeflag == tar.TypeDir:
			continue
		case p.pkg.Control.replaces(other.Control):
		case other.Control.replaces(p.pkg.Control):
			keep = true
		case existing == existsDir:
			return false, fmt.Errorf("%w the directory, which is in package %s (%s), with something else",
				ErrConflict, other.Control.Name(), other.Control.Version())
		default:
			return false, fmt.Errorf("%w it, which is also in package %s (%s)",
				ErrConflict, other.Control.Name(), other.Control.Version())
		}
	}
	return keep, nil
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
