package resolve

import (
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// unknown is the error for a name that no index has.
func (u *Universe) unknown(text, name string) *UnknownPackageError {
	e := &UnknownPackageError{Request: text, Name: name}
	base, arch, _ := strings.Cut(name, ":")
	if g, ok := u.byName[base]; ok && arch != "" {
		for n := u.groups[g].first; n != none; n = u.nodes[n].next {
			if u.nodes[n].versions != none {
				e.Nearest = append(e.Nearest, base+":"+u.archs[u.nodes[n].arch])
			}
		}
		return e
	}
	e.Nearest = u.nearest(base)
	return e
}

// noCandidate is the error for a name that cannot be installed under it.
func (u *Universe) noCandidate(text string, n int32) *UnknownPackageError {
	e := &UnknownPackageError{Request: text, Name: u.full(n), Versions: u.versionList(n)}
	for p := u.nodes[n].provides; p != none; p = u.provides[p].next {
		v := u.provides[p].version
		if owner := u.versions[v].node; u.candidates[owner] == v {
			e.Providers = append(e.Providers, u.full(owner))
		}
	}
	slices.Sort(e.Providers)
	e.Providers = slices.Compact(e.Providers)
	if len(e.Versions) == 0 && len(e.Providers) == 0 {
		e.Nearest = u.nearest(u.name(n))
	}
	return e
}

// noVersion is the error for a package that is there, but not as asked for.
func (u *Universe) noVersion(text string, n int32, wish string, sign byte) *UnknownPackageError {
	e := u.noCandidate(text, n)
	if len(e.Versions) == 0 {
		return e
	}
	if sign == '/' {
		e.Suite = wish
	} else {
		e.Version = wish
	}
	return e
}

// versionList says which versions of node n there are and where.
func (u *Universe) versionList(n int32) []string {
	var list []string
	for v := u.nodes[n].versions; v != none; v = u.versions[v].next {
		p := u.versions[v].pkg
		list = append(list, p.Version+" in "+p.Origin.String())
	}
	return list
}

// nearest returns the three installable names closest to one that is not there.
func (u *Universe) nearest(name string) []string {
	name = strings.ToLower(name)
	var letters [256]int
	for i := range len(name) {
		letters[name[i]]++
	}
	most := max(2, len(name)/3)
	var close []string
	for g := range u.groups {
		c := u.groups[g].name
		if diff := len(c) - len(name); diff > most || -diff > most || !sharesLetters(letters, c, len(name), most) {
			continue
		}
		for n := u.groups[g].first; n != none; n = u.nodes[n].next {
			if u.nodes[n].versions != none {
				close = append(close, c)
				break
			}
		}
	}
	return nearest.Names(name, close, 3)
}

// sharesLetters tells whether so many of c's letters are among those given (of a
// name of length letters) that the two can be at most that many edits apart. It
// spares most of an index's names the comparison.
func sharesLetters(letters [256]int, c string, length, most int) bool {
	shared := 0
	for i := range len(c) {
		if letters[c[i]] > 0 {
			letters[c[i]]--
			shared++
		}
	}
	return max(len(c), length)-shared <= most
}
