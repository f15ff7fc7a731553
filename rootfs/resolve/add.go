package resolve

import "strings"

// add enters a package as apt's cache generator does.
func (u *Universe) add(p *Package) {
	if !p.numbered && !p.wellFormed() {
		return
	}
	arch := u.arch(p.Arch)
	n := u.node(p.Name, arch)
	v, known := u.addVersion(n, p)
	if !known {
		u.addMentions(p, arch)
		u.addProvides(v)
	}
	node := &u.nodes[n]
	// apt always counts itself among the essential packages
	node.essential = node.essential || p.Essential || p.Name == "apt"
	node.important = node.important || p.Protected || p.Name == "apt"
}

// wellFormed checks the relations of a package that no reader has checked.
func (p *Package) wellFormed() bool {
	ignore := func(string, mentionKind) {}
	return p.eachMention("", ignore) == nil && scan("Provides", p.Provides, namedByAll, ignore) == nil
}

// addVersion enters a package among the versions of its node. Where another
// index has the same one already, that index's is kept and known is true.
func (u *Universe) addVersion(n int32, p *Package) (v int32, known bool) {
	at := &u.nodes[n].versions
	for ; *at != none; at = &u.versions[*at].next {
		other := &u.versions[*at]
		c := CompareVersions(p.Version, other.pkg.Version)
		if c > 0 {
			break
		}
		if c == 0 && same(p, other.pkg) {
			other.pin = max(other.pin, p.Origin.pin())
			other.others = append(other.others, p.Origin.names()...)
			return *at, true
		}
	}
	v = int32(len(u.versions))
	// *at may lie in the slice that append moves
	next := *at
	*at = v
	u.versions = append(u.versions, version{
		pkg:       p,
		node:      n,
		next:      next,
		provides:  none,
		pin:       p.Origin.pin(),
		priority:  parsePriority(p.Priority),
		multiArch: parseMultiArch(p),
		all:       p.Arch == "all",
	})
	return v, false
}

// same reports whether two packages of equal version are the same, as far as apt
// looks: relations, sizes and Multi-Arch.
func same(a, b *Package) bool {
	return a.InstalledSize == b.InstalledSize && (a.Size == b.Size || a.Size == 0 || b.Size == 0) &&
		parseMultiArch(a) == parseMultiArch(b) && (a.Arch == "all") == (b.Arch == "all") &&
		alike(a.PreDepends, b.PreDepends) && alike(a.Depends, b.Depends) &&
		alike(a.Conflicts, b.Conflicts) && alike(a.Breaks, b.Breaks) && alike(a.Replaces, b.Replaces)
}

// alike compares relations as apt does, without blanks and equal signs.
func alike(a, b Relations) bool {
	if a == b {
		return true
	}
	strip := func(r rune) rune {
		if r == '=' || r < 0x80 && blank(byte(r)) {
			return -1
		}
		return r
	}
	return strings.EqualFold(strings.Map(strip, string(a)), strings.Map(strip, string(b)))
}

// names are those NAME/SUITE matches.
func (o *Origin) names() []string {
	if o == nil {
		return nil
	}
	return []string{o.Suite, o.Codename, o.Archive, o.Version}
}

// addMentions makes the nodes of the names that the package's relations mention.
func (u *Universe) addMentions(p *Package, arch archID) {
	if !p.numbered {
		// checked by wellFormed
		_ = p.eachMention("", func(name string, kind mentionKind) {
			if strings.IndexByte(name, ':') >= 0 {
				kind = namedWithSuffix
			}
			u.mention(name, kind, arch)
		})
		return
	}
	for _, m := range p.mentions {
		u.mention(m.name, m.kind, arch)
	}
}

func (u *Universe) mention(name string, kind mentionKind, arch archID) {
	switch kind {
	case namedByAll, namedByArch:
		u.node(name, arch)
	case opposedByAll, opposedByArch:
		if _, ok := u.byName[name]; !ok {
			u.node(name, arch)
		}
	case namedWithSuffix:
		u.node(u.suffixed(name), anyArch)
	}
}

// suffixed replaces :native by the architecture.
func (u *Universe) suffixed(name string) string {
	if base, ok := strings.CutSuffix(name, ":native"); ok {
		return base + ":" + u.archs[native]
	}
	return name
}

// node returns the node of a name and architecture and makes it if need be.
func (u *Universe) node(name string, arch archID) int32 {
	g, ok := u.byName[name]
	if !ok {
		g = int32(len(u.groups))
		u.byName[name] = g
		u.groups = append(u.groups, group{name: name, first: none, last: none})
	}
	if n := u.inGroup(g, arch); n != none {
		return n
	}
	n := int32(len(u.nodes))
	u.nodes = append(u.nodes, node{group: g, next: none, versions: none, provides: none, arch: arch})
	grp := &u.groups[g]
	if grp.first == none {
		grp.first = n
	} else {
		u.addSibling(g, n)
		u.nodes[grp.last].next = n
	}
	grp.last = n
	if arch == anyArch {
		u.addSpecific(name, n)
	}
	return n
}

// addSibling gives a new node what Multi-Arch: foreign packages provide to the
// other architectures of its group.
func (u *Universe) addSibling(g, n int32) {
	if m := u.preferred(u.groups[g].name, false); m != none {
		for p := u.nodes[m].provides; p != none; p = u.provides[p].next {
			if prv := u.provides[p]; !prv.specific && !prv.implicit && u.versions[prv.version].multiArch == multiArchForeign {
				u.provide(prv.version, n, prv.as, false, false)
			}
		}
	}
	for m := u.groups[g].first; m != none; m = u.nodes[m].next {
		for v := u.nodes[m].versions; v != none; v = u.versions[v].next {
			if u.versions[v].multiArch == multiArchForeign {
				u.provide(v, n, u.versions[v].pkg.Version, true, false)
			}
		}
	}
}

// addSpecific lets name of arch provide the node that stands for name:arch.
func (u *Universe) addSpecific(full string, n int32) {
	i := strings.LastIndexByte(full, ':')
	if i < 0 || full[i+1:] == "any" {
		return
	}
	u.specific[full[:i]] = true
	arch := u.arch(full[i+1:])
	m := u.node(full[:i], arch)
	for p := u.nodes[m].provides; p != none; p = u.provides[p].next {
		if prv := u.provides[p]; !prv.implicit && u.nodes[u.versions[prv.version].node].arch == arch {
			u.provide(prv.version, n, u.versions[prv.version].pkg.Version, true, true)
		}
	}
	for v := u.nodes[m].versions; v != none; v = u.versions[v].next {
		u.provide(v, n, u.versions[v].pkg.Version, true, true)
	}
}

// provide lets version v stand for node n.
func (u *Universe) provide(v, n int32, as string, implicit, specific bool) {
	p := int32(len(u.provides))
	u.provides = append(u.provides, provide{
		version: v, target: n, as: as,
		next: u.nodes[n].provides, ofVersion: u.versions[v].provides,
		implicit: implicit, specific: specific,
	})
	u.nodes[n].provides = p
	u.versions[v].provides = p
}

// provideNew is provide by name, without what says nothing new.
func (u *Universe) provideNew(v int32, name string, arch archID, as string, implicit, specific bool) {
	own := u.versions[v].node
	if name == u.name(own) && arch == u.nodes[own].arch && (as == "" || as == u.versions[v].pkg.Version) {
		return
	}
	u.provide(v, u.node(name, arch), as, implicit, specific)
}

// provideAll is provideNew to all architectures, which Multi-Arch: foreign means.
func (u *Universe) provideAll(v int32, name, as string, implicit bool) {
	g, ok := u.byName[name]
	if !ok {
		u.provideNew(v, name, native, as, implicit, false)
		return
	}
	for n := u.groups[g].first; n != none; n = u.nodes[n].next {
		if !implicit || n != u.versions[v].node {
			u.provide(v, n, as, implicit, false)
		}
	}
}

// addProvides enters what a new version provides: by its field, and by
// Multi-Arch.
func (u *Universe) addProvides(v int32) {
	ver := u.versions[v]
	p, arch := ver.pkg, u.nodes[ver.node].arch
	already := false // name:arch was made for a relation of this very package
	for prv := ver.provides; prv != none; prv = u.provides[prv].ofVersion {
		already = already || u.provides[prv].implicit && u.provides[prv].specific
	}
	sc := scanner{text: string(p.Provides)}
	for sc.next() {
		u.addProvide(v, &sc)
	}
	if uname(p.Name) {
		u.provideNew(v, "$kernel", anyArch, p.Version, true, false)
	}
	switch ver.multiArch {
	case multiArchAllowed:
		u.provideNew(v, p.Name+":any", anyArch, p.Version, true, false)
	case multiArchForeign:
		u.provideAll(v, p.Name, p.Version, true)
	}
	if !already && u.specific[p.Name] {
		if n := u.find(p.Name+":"+u.archs[arch], anyArch); n != none {
			u.provide(v, n, p.Version, true, true)
		}
	}
}

func (u *Universe) addProvide(v int32, sc *scanner) {
	ver := u.versions[v]
	arch := u.nodes[ver.node].arch
	if sc.op != Any && sc.op != Equal {
		return
	}
	i := strings.LastIndexByte(sc.name, ':')
	switch {
	case i >= 0:
		if a := sc.name[i+1:]; a != "any" {
			u.provideNew(v, sc.name[:i], u.arch(a), sc.version, true, true)
		}
		u.provideNew(v, sc.name, anyArch, sc.version, false, true)
		return
	case ver.multiArch == multiArchForeign:
		u.provideAll(v, sc.name, sc.version, false)
	default:
		if ver.multiArch == multiArchAllowed {
			u.provideNew(v, sc.name+":any", anyArch, sc.version, true, false)
		}
		u.provideNew(v, sc.name, arch, sc.version, false, false)
	}
	if u.specific[sc.name] {
		if n := u.find(sc.name+":"+u.archs[arch], anyArch); n != none {
			u.provide(v, n, sc.version, true, true)
		}
	}
}

// uname reports whether a package is a kernel named after its release.
func uname(name string) bool {
	for _, prefix := range []string{"linux-image-", "kfreebsd-image-", "gnumach-image-"} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		digits := strings.TrimLeft(rest, "0123456789")
		return digits != rest && strings.HasPrefix(digits, ".") &&
			!strings.HasSuffix(name, "-dbgsym") && !strings.HasSuffix(name, "-dbg")
	}
	return false
}
