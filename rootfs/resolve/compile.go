package resolve

import "strings"

// compile takes the relations of a version apart and finds their targets.
func (u *Universe) compile(v int32) []relation {
	p := u.versions[v].pkg
	var rels []relation
	for _, f := range [...]struct {
		relations Relations
		kind      relationKind
	}{
		{p.PreDepends, preDepends},
		{p.Depends, depends},
		{p.Conflicts, conflicts},
		{p.Breaks, breaks},
		{p.Recommends, recommends},
		{p.Suggests, suggests},
	} {
		sc := scanner{text: string(f.relations)}
		for sc.next() {
			rels = u.compileOne(rels, v, &sc, f.kind)
		}
	}
	return u.compileImplicit(rels, v)
}

// compileOne appends the relation the scanner is at. A negative one concerns all
// architectures of its target.
func (u *Universe) compileOne(rels []relation, v int32, sc *scanner, kind relationKind) []relation {
	r := relation{target: none, name: sc.name, version: sc.version, op: sc.op, kind: kind, or: sc.or}
	if strings.IndexByte(sc.name, ':') >= 0 {
		r.name = u.suffixed(sc.name)
		r.target = u.find(r.name, anyArch)
		return append(rels, r)
	}
	g, ok := u.byName[sc.name]
	if !ok {
		return append(rels, r)
	}
	if !r.negative() {
		r.target = u.inGroup(g, u.nodes[u.versions[v].node].arch)
		return append(rels, r)
	}
	for n := u.groups[g].first; n != none; n = u.nodes[n].next {
		r.target = n
		rels = append(rels, r)
	}
	return rels
}

// compileImplicit appends what Multi-Arch says about a package's siblings of
// other architectures: those of same are installed in one version only, all
// others exclude each other.
func (u *Universe) compileImplicit(rels []relation, v int32) []relation {
	own := u.versions[v].node
	for n := u.groups[u.nodes[own].group].first; n != none; n = u.nodes[n].next {
		if n == own || u.nodes[n].versions == none {
			continue
		}
		r := relation{target: n, name: u.full(n), kind: conflicts, implicit: true}
		if u.versions[v].multiArch == multiArchSame {
			r.kind, r.op, r.version = breaks, notEqual, u.versions[v].pkg.Version
		}
		rels = append(rels, r)
	}
	return rels
}
