package resolve

import "slices"

// sweep drops what nothing that was asked for needs any more: left over where a
// package was marked for one that was then given up.
func (s *state) sweep() {
	s.markNeeded()
	var dropped []int32
	for _, n := range s.touched {
		if s.mode[n] && s.has(n, garbage) {
			dropped = append(dropped, n)
			s.markDelete(n, 0)
		}
	}
	if _, policy := s.countBroken(); policy == 0 {
		return
	}
	slices.Sort(dropped)
	for {
		i := slices.IndexFunc(dropped, s.missed)
		if i < 0 {
			return
		}
		s.markInstall(dropped[i], false, 0, false)
		dropped = slices.Delete(dropped, i, i+1)
	}
}

// missed tells whether a package to be installed has an important relation to
// node n or to what it provides.
func (s *state) missed(n int32) bool {
	u := s.u
	names := []int32{n}
	if c := s.candidate[n]; c != none {
		for p := u.versions[c].provides; p != none; p = u.provides[p].ofVersion {
			names = append(names, u.provides[p].target)
		}
	}
	for _, m := range s.touched {
		if !s.mode[m] || s.candidate[m] == none {
			continue
		}
		rels := s.relations(s.candidate[m])
		for i := range rels {
			if r := &rels[i]; !r.negative() && s.important(r) && slices.Contains(names, r.target) {
				return true
			}
		}
	}
	return false
}

// markNeeded sets garbage on what is to be installed but cannot be reached from
// what was asked for, following recommendations and suggestions too, as apt does
// in its default configuration.
func (s *state) markNeeded() {
	u := s.u
	needed := make([]bool, len(u.nodes))
	var follow func(n int32)
	follow = func(n int32) {
		if needed[n] || !s.mode[n] || s.install[n] == none {
			return
		}
		needed[n] = true
		v := s.install[n]
		rels := s.relations(v)
		for i := range rels {
			if r := &rels[i]; r.target != none && !r.negative() {
				for _, p := range s.satisfiers(r) {
					follow(p)
				}
			}
		}
	}
	for _, n := range s.touched {
		if !s.has(n, automatic) || u.nodes[n].essential || u.nodes[n].important {
			follow(n)
		}
	}
	for _, n := range s.touched {
		s.unset(n, garbage)
		if s.mode[n] && !needed[n] {
			s.set(n, garbage)
		}
	}
}

// satisfiers returns the nodes to be installed that satisfy a relation. Of those
// of one source package only the ones of its highest version count.
func (s *state) satisfiers(r *relation) []int32 {
	u := s.u
	var nodes []int32
	if in := s.install[r.target]; in != none && s.mode[r.target] && r.op.allows(u.versions[in].pkg.Version, r.version) {
		nodes = append(nodes, r.target)
	}
	for p := u.nodes[r.target].provides; p != none; p = u.provides[p].next {
		prv := &u.provides[p]
		owner := u.versions[prv.version].node
		if s.mode[owner] && s.install[owner] == prv.version && r.op.allows(prv.as, r.version) {
			nodes = append(nodes, owner)
		}
	}
	if len(nodes) < 2 {
		return nodes
	}
	source := func(n int32) *Package { return u.versions[s.install[n]].pkg }
	highest := make(map[string]string)
	for _, n := range nodes {
		p := source(n)
		if h, ok := highest[p.Source]; !ok || CompareVersions(p.SourceVersion, h) > 0 {
			highest[p.Source] = p.SourceVersion
		}
	}
	return slices.DeleteFunc(nodes, func(n int32) bool {
		p := source(n)
		return p.SourceVersion != highest[p.Source]
	})
}
