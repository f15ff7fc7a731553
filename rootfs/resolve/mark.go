package resolve

import "slices"

// maxDepth bounds how deep marking follows dependencies, in packages.
const maxDepth = 3000

// mayChange tells whether node n may be marked or, with install false, unmarked.
func (s *state) mayChange(n int32, install bool, depth int, byUser bool) bool {
	switch {
	case depth > maxDepth || s.u.nodes[n].versions == none:
		return false
	case byUser || s.mode[n] == install:
		return true
	case s.has(n, protected) || install && s.has(n, held):
		return false
	default:
		return true
	}
}

// markKeep takes node n out of what is to be installed.
func (s *state) markKeep(n int32, depth int) bool {
	if !s.mayChange(n, false, depth, false) {
		return false
	}
	if s.mode[n] {
		s.drop(n)
	}
	return true
}

// markDelete is markKeep for the cases in which apt spares essential packages and
// what was asked for by name.
func (s *state) markDelete(n int32, depth int) bool {
	if depth > maxDepth || s.u.nodes[n].versions == none || s.has(n, protected|held) || s.u.nodes[n].essential || s.u.nodes[n].important {
		return false
	}
	if s.install[n] == none {
		return true
	}
	if !s.has(n, automatic) {
		return false
	}
	s.drop(n)
	return true
}

func (s *state) drop(n int32) {
	s.mode[n] = false
	s.install[n] = none
	s.update(n)
}

// discard drops node n and strikes out its candidate.
func (s *state) discard(n int32) {
	if s.mode[n] || s.install[n] != s.candidate[n] || s.candidate[n] != none {
		s.drop(n)
	}
	s.candidate[n] = none
}

// markInstall marks node n for installation and, with follow, what it needs. It
// reports whether all of that was possible; for a package nobody asked for by
// name it undoes the marking when not.
func (s *state) markInstall(n int32, follow bool, depth int, byUser bool) bool {
	if !s.mayChange(n, true, depth, byUser) || s.candidate[n] == none {
		return false
	}
	already := s.has(n, protected)
	if !already && s.mode[n] && !s.policyBroken(n) && !s.broken(n) {
		return true
	}
	if follow && !s.possible(n) {
		return false
	}
	if byUser {
		s.choose(n, true)
	}
	failEarly := !already && !byUser
	failed := false
	var wanted [][]relation
	v := s.candidate[n]
	if follow {
		var unwanted []relation
		wanted, unwanted = s.collect(v, already)
		if !s.evict(v, unwanted, depth, already, byUser) {
			if failEarly {
				return false
			}
			failed = true
		}
	}
	if !byUser {
		s.choose(n, false)
	}
	if !follow {
		return !failed
	}
	if !already {
		s.set(n, protected)
		defer s.unset(n, protected)
	}
	if !s.installWanted(v, wanted, depth, already, byUser) {
		if failEarly {
			s.discard(n)
			return false
		}
		failed = true
	}
	return !failed
}

// choose marks node n to be installed as its candidate.
func (s *state) choose(n int32, byUser bool) {
	if s.has(n, protected) && s.install[n] == s.candidate[n] {
		return
	}
	s.mode[n] = true
	s.install[n] = s.candidate[n]
	if byUser {
		s.unset(n, automatic)
	} else {
		s.set(n, automatic)
	}
	s.update(n)
}

// possible tells whether everything node n needs has a candidate; a package that
// lacks one is struck out, so that nothing is tried with it again.
func (s *state) possible(n int32) bool {
	v := s.candidate[n]
	rels := s.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		group := rels[i:end]
		i = end
		if !group[0].critical() || group[0].negative() || s.anyCandidate(v, group) {
			continue
		}
		if !s.has(n, protected) {
			s.candidate[n] = none
			s.mode[n] = false
		}
		return false
	}
	return true
}

func (s *state) anyCandidate(v int32, group []relation) bool {
	for i := range group {
		if in, cand := s.met(v, &group[i]); in || cand {
			return true
		}
	}
	return false
}

// collect returns what version v needs and is not there, and what it refuses and
// is there. With all it returns the rest too, so that it can be protected.
func (s *state) collect(v int32, all bool) (wanted [][]relation, unwanted []relation) {
	rels := s.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		group := rels[i:end:end]
		i = end
		if !all && s.groupFine(v, group) || !s.important(&group[0]) {
			continue
		}
		if group[0].negative() {
			unwanted = append(unwanted, group[0])
		} else {
			wanted = append(wanted, group)
		}
	}
	return wanted, unwanted
}

// evict sees to it that nothing is installed that version v conflicts with.
func (s *state) evict(v int32, unwanted []relation, depth int, already, byUser bool) bool {
	fine := true
	for i := range unwanted {
		for _, other := range s.solutions(v, unwanted[i:i+1], true) {
			n := s.u.versions[other].node
			if s.candidate[n] != other {
				continue
			}
			if s.mode[n] && !s.markKeep(n, depth) {
				fine = false
				if !already && !byUser {
					return false
				}
			} else if already {
				s.candidate[n] = s.install[n]
				s.set(n, protected)
			}
		}
	}
	return fine
}

// installWanted marks one alternative of each group.
func (s *state) installWanted(v int32, wanted [][]relation, depth int, already, byUser bool) bool {
	fine := true
	for _, group := range wanted {
		critical := group[0].critical()
		if s.groupMet(v, group) {
			if already && critical && !s.protectOnly(v, group, depth) {
				fine = false
			}
			continue
		}
		if !s.installOne(v, group, depth, already) && critical {
			fine = false
			if !already && !byUser {
				return false
			}
		}
	}
	return fine
}

// protectOnly passes protection on to what satisfies a group, when only one
// package can.
func (s *state) protectOnly(v int32, group []relation, depth int) bool {
	possible := s.solutions(v, group, false)
	if len(possible) != 1 {
		return true
	}
	n := s.u.versions[possible[0]].node
	if s.has(n, protected) {
		return true
	}
	s.set(n, protected)
	return s.markInstall(n, true, depth+1, false)
}

// installOne marks the first alternative that can be installed.
func (s *state) installOne(v int32, group []relation, depth int, already bool) bool {
	possible := s.solutions(v, group, true)
	for _, choice := range possible {
		n := s.u.versions[choice].node
		if s.candidate[n] != choice {
			continue
		}
		if already && group[0].critical() && len(possible) == 1 {
			if !s.markInstall(n, false, depth+1, false) {
				continue
			}
			s.set(n, protected)
		}
		if s.markInstall(n, true, depth+1, false) {
			return true
		}
	}
	return false
}

// solutions returns the candidates that satisfy one of the alternatives: sorted
// those apt prefers first, alternative by alternative, else by number.
func (s *state) solutions(v int32, group []relation, sorted bool) []int32 {
	var all []int32
	for i := range group {
		list := s.targets(v, &group[i])
		if sorted {
			slices.SortStableFunc(list, func(a, b int32) int { return s.preferCompare(a, b, group[i].target) })
		}
		all = append(all, list...)
	}
	if !sorted {
		slices.Sort(all)
	}
	all = slices.Compact(all)
	if !group[0].negative() {
		all = slices.DeleteFunc(all, func(c int32) bool {
			n := s.u.versions[c].node
			return s.has(n, protected) && !s.mode[n]
		})
	}
	return all
}

// targets returns the candidates that one relation allows.
func (s *state) targets(v int32, r *relation) []int32 {
	if _, cand := s.met(v, r); !cand {
		return nil
	}
	u := s.u
	var list []int32
	if c := s.candidate[r.target]; c != none && !s.ignorable(v, r, r.target) && r.op.allows(u.versions[c].pkg.Version, r.version) {
		list = append(list, c)
	}
	for p := u.nodes[r.target].provides; p != none; p = u.provides[p].next {
		prv := &u.provides[p]
		if s.candidate[u.versions[prv.version].node] == prv.version && !s.ignorableProvider(v, r, prv) && r.op.allows(prv.as, r.version) {
			list = append(list, prv.version)
		}
	}
	return list
}

// preferCompare is negative when apt prefers version a to b for a relation that
// targets the node.
func (s *state) preferCompare(a, b, target int32) int {
	u := s.u
	va, vb := &u.versions[a], &u.versions[b]
	if va.node == vb.node {
		return 0
	}
	na, nb := &u.nodes[va.node], &u.nodes[vb.node]
	first := func(x, y bool) (int, bool) {
		switch {
		case x == y:
			return 0, false
		case x:
			return -1, true
		default:
			return 1, true
		}
	}
	if c, ok := first(s.has(va.node, protected), s.has(vb.node, protected)); ok {
		return c
	}
	own := u.nodes[target].group
	if c, ok := first(na.group == own, nb.group == own); ok {
		return c
	}
	if c, ok := first(na.essential, nb.essential); ok {
		return c
	}
	if c, ok := first(na.important, nb.important); ok {
		return c
	}
	if na.arch != nb.arch {
		return int(na.arch) - int(nb.arch)
	}
	if va.priority != vb.priority {
		return int(va.priority) - int(vb.priority)
	}
	return int(vb.node) - int(va.node)
}
