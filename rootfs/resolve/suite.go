package resolve

// A suiteSwitch follows the requests name/suite: what such a package needs in a
// version its candidates do not have is taken from the suite too.
type suiteSwitch struct {
	*state
	suite   string
	changed []int32 // versions made candidates, in that order
}

// switchSuites makes candidates of the versions that requests with a suite or a
// version pattern need.
func (s *state) switchSuites(wanted []want) {
	for _, w := range wanted {
		if w.suite != "" && !w.remove {
			s.setCandidate(w.version)
		}
	}
	var sw suiteSwitch
	sw.state = s
	for _, w := range wanted {
		if w.suite != "" && !w.remove {
			sw.suite = w.suite
			sw.changed = append(sw.changed, w.version)
			sw.take(w.version, 0)
		}
	}
}

// take makes version v the candidate and sees to what it needs. It reports
// whether candidates for all of that were found.
func (sw *suiteSwitch) take(v int32, depth int) bool {
	sw.setCandidate(v)
	if depth > maxDepth {
		return false
	}
	start := len(sw.changed)
	rels := sw.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		group := rels[i:end]
		i = end
		if group[0].negative() || !sw.important(&group[0]) || sw.fine(group) {
			continue
		}
		if !sw.switchOne(group, depth) && group[0].critical() {
			// apt sets the candidates again that it meant to undo
			for _, c := range sw.changed[start:] {
				sw.setCandidate(c)
			}
			sw.changed = sw.changed[:start]
			return false
		}
	}
	return true
}

// fine tells whether an alternative can be installed with the candidates there
// are.
func (sw *suiteSwitch) fine(group []relation) bool {
	u := sw.u
	for i := range group {
		r := &group[i]
		if r.target == none {
			continue
		}
		c := sw.candidate[r.target]
		if r.version == "" && u.nodes[r.target].provides != none {
			for p := u.nodes[r.target].provides; p != none; p = u.provides[p].next {
				owner := u.provides[p].version
				if sw.candidate[u.versions[owner].node] == owner && sw.installable(owner) {
					return true
				}
			}
			continue
		}
		if c != none && r.op.allows(u.versions[c].pkg.Version, r.version) && sw.installable(c) {
			return true
		}
	}
	return false
}

// installable tells whether all that a version needs is to be installed already:
// apt asks no more than that here.
func (sw *suiteSwitch) installable(v int32) bool {
	rels := sw.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		if rels[i].critical() && !sw.groupFine(v, rels[i:end]) {
			return false
		}
		i = end
	}
	return true
}

// switchOne takes the suite's version of the first alternative it helps with.
func (sw *suiteSwitch) switchOne(group []relation, depth int) bool {
	u := sw.u
	for i := range group {
		r := &group[i]
		last := i == len(group)-1
		if r.version == "" || r.target == none {
			continue
		}
		v := u.match(r.target, sw.suite)
		if v == none || !r.op.allows(u.versions[v].pkg.Version, r.version) {
			continue
		}
		old := sw.candidate[r.target]
		if v == old && sw.switched(r.target) {
			return true
		}
		sw.changed = append(sw.changed, v)
		if sw.take(v, depth+1) {
			return true
		}
		if last {
			return false
		}
		if old != none {
			sw.setCandidate(old)
		}
		sw.changed = sw.changed[:len(sw.changed)-1]
	}
	return false
}

// switched tells whether a version of node n is among those made candidates.
func (sw *suiteSwitch) switched(n int32) bool {
	for _, v := range sw.changed {
		if sw.u.versions[v].node == n {
			return true
		}
	}
	return false
}

// match returns the highest version of node n in the suite.
func (u *Universe) match(n int32, suite string) int32 {
	for v := u.nodes[n].versions; v != none; v = u.versions[v].next {
		if u.versions[v].inSuite(suite) {
			return v
		}
	}
	return none
}
