package resolve

import "slices"

// A state is one run of the solver: for each node which version would be
// installed, and what has been decided about it.
//
// apt keeps for every relation whether it is satisfied by what is to be
// installed and by the candidates. It brings that up to date when a package is
// marked, but not when a candidate is found impossible and struck out, and later
// decisions see the old answer. The answer is therefore not computed from the
// present, but from a snapshot of the relation's target at the last update.
type state struct {
	u          *Universe
	recommends bool

	install   []int32 // version to install of each node, or none
	candidate []int32
	mode      []bool  // to be installed; apt's ModeInstall against ModeKeep
	flag      []flags // of each node
	snapshots []*snapshot

	compiled map[int32][]relation // by version
	touched  []int32              // nodes that were ever to be installed
}

type flags uint8

const (
	protected flags = 1 << iota // no automatic decision changes it
	automatic                   // nobody asked for it by name
	held                        // left out by request
	garbage                     // nothing needs it
	seen                        // in touched

	// the problem resolver's own
	fixProtected
	fixUpgradable
	fixPreInstalled
)

// A snapshot is what a target looked like at its last update.
type snapshot struct {
	install, candidate int32
	provides           []uint8 // in the order of the node's list: bits below
}

const (
	providerInstalled uint8 = 1 << iota
	providerCandidate
)

type relationKind uint8

const (
	preDepends relationKind = iota
	depends
	conflicts
	breaks
	recommends
	suggests
)

// A relation is one alternative of one of a version's relations.
type relation struct {
	target   int32 // node, or none when no index mentions the name
	name     string
	version  string
	op       Op
	kind     relationKind
	or       bool // the next one is an alternative
	implicit bool // follows from Multi-Arch
}

func (r *relation) negative() bool { return r.kind == conflicts || r.kind == breaks }
func (r *relation) critical() bool { return r.kind <= breaks }

func (r *relation) String() string {
	return Relation{Name: r.name, Op: r.op, Version: r.version}.String()
}

func (u *Universe) newState(withRecommends bool) *state {
	s := &state{
		u:          u,
		recommends: withRecommends,
		install:    make([]int32, len(u.nodes)),
		candidate:  slices.Clone(u.candidates),
		mode:       make([]bool, len(u.nodes)),
		flag:       make([]flags, len(u.nodes)),
		snapshots:  make([]*snapshot, len(u.nodes)),
		compiled:   make(map[int32][]relation),
	}
	for i := range s.install {
		s.install[i] = none
	}
	return s
}

func (s *state) has(n int32, f flags) bool { return s.flag[n]&f != 0 }
func (s *state) set(n int32, f flags)      { s.flag[n] |= f }
func (s *state) unset(n int32, f flags)    { s.flag[n] &^= f }

// relations returns what a version needs and refuses, in apt's order.
func (s *state) relations(v int32) []relation {
	if r, ok := s.compiled[v]; ok {
		return r
	}
	r := s.u.compile(v)
	s.compiled[v] = r
	return r
}

// important tells whether the solver heeds a relation.
func (s *state) important(r *relation) bool {
	return r.critical() || r.kind == recommends && s.recommends
}

// ignorable tells whether a negative relation of version v does not apply to node
// n, which it targets: a package has no conflict with itself, nor, where several
// architectures can be installed together, with its siblings.
func (s *state) ignorable(v int32, r *relation, n int32) bool {
	if !r.negative() {
		return false
	}
	u := s.u
	own := u.versions[v].node
	switch {
	case u.nodes[own].group != u.nodes[n].group:
		return false
	case own == n:
		return true
	default:
		return u.versions[v].multiArch == multiArchSame && !r.implicit
	}
}

// ignorableProvider is ignorable for those who provide the target.
func (s *state) ignorableProvider(v int32, r *relation, p *provide) bool {
	if !r.negative() {
		return false
	}
	u := s.u
	return r.implicit || u.nodes[u.versions[p.version].node].group == u.nodes[u.versions[v].node].group
}

// met tells whether the relation's target is to be installed and whether it is a
// candidate, in an allowed version and as of the last update. For negative
// relations that means they are violated.
func (s *state) met(v int32, r *relation) (installed, candidate bool) {
	if r.target == none {
		return false, false
	}
	u := s.u
	snap := s.snapshots[r.target]
	in, cand := int32(none), u.candidates[r.target]
	if snap != nil {
		in, cand = snap.install, snap.candidate
	}
	if (in != none || cand != none) && !s.ignorable(v, r, r.target) {
		installed = in != none && r.op.allows(u.versions[in].pkg.Version, r.version)
		candidate = cand != none && (in == cand && installed || r.op.allows(u.versions[cand].pkg.Version, r.version))
	}
	i := 0
	for p := u.nodes[r.target].provides; p != none && !(installed && candidate); p = u.provides[p].next {
		prv := &u.provides[p]
		var bits uint8
		switch {
		case snap != nil && i < len(snap.provides):
			bits = snap.provides[i]
		case u.candidates[u.versions[prv.version].node] == prv.version:
			bits = providerCandidate
		}
		i++
		if bits == 0 || s.ignorableProvider(v, r, prv) || !r.op.allows(prv.as, r.version) {
			continue
		}
		installed = installed || bits&providerInstalled != 0
		candidate = candidate || bits&providerCandidate != 0
	}
	return installed, candidate
}

// update records a change of node n for the relations that target it or what its
// candidate provides.
func (s *state) update(n int32) {
	if s.install[n] != none && !s.has(n, seen) {
		s.set(n, seen)
		s.touched = append(s.touched, n)
	}
	s.snap(n)
	if c := s.candidate[n]; c != none {
		for p := s.u.versions[c].provides; p != none; p = s.u.provides[p].ofVersion {
			s.snap(s.u.provides[p].target)
		}
	}
}

func (s *state) snap(n int32) {
	u := s.u
	snap := s.snapshots[n]
	if snap == nil {
		snap = &snapshot{}
		s.snapshots[n] = snap
	}
	snap.install, snap.candidate = s.install[n], s.candidate[n]
	snap.provides = snap.provides[:0]
	for p := u.nodes[n].provides; p != none; p = u.provides[p].next {
		owner := u.provides[p].version
		var bits uint8
		if s.install[u.versions[owner].node] == owner {
			bits |= providerInstalled
		}
		if s.candidate[u.versions[owner].node] == owner {
			bits |= providerCandidate
		}
		snap.provides = append(snap.provides, bits)
	}
}

// groupEnd returns the end of the or-group that starts at i.
func groupEnd(r []relation, i int) int {
	for i < len(r)-1 && r[i].or {
		i++
	}
	return i + 1
}

// groupMet tells whether one of an or-group's alternatives is to be installed.
func (s *state) groupMet(v int32, group []relation) bool {
	for i := range group {
		if in, _ := s.met(v, &group[i]); in {
			return true
		}
	}
	return false
}

// groupFine tells whether an or-group is in order: met, or of a negative relation
// not.
func (s *state) groupFine(v int32, group []relation) bool {
	for i := range group {
		if in, _ := s.met(v, &group[i]); in != group[i].negative() {
			return true
		}
	}
	return false
}

// broken tells whether what node n is to be installed as lacks something or
// conflicts.
func (s *state) broken(n int32) bool { return s.lacks(n, (*relation).critical) }

// policyBroken is broken with recommendations, where they are wanted.
func (s *state) policyBroken(n int32) bool { return s.lacks(n, s.important) }

func (s *state) lacks(n int32, heeded func(*relation) bool) bool {
	v := s.install[n]
	if v == none {
		return false
	}
	rels := s.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		if heeded(&rels[i]) && !s.groupFine(v, rels[i:end]) {
			return true
		}
		i = end
	}
	return false
}

// countBroken returns how many packages are broken, and how many lack only
// recommendations besides.
func (s *state) countBroken() (broken, policy int) {
	for _, n := range s.touched {
		switch {
		case s.broken(n):
			broken++
			policy++
		case s.policyBroken(n):
			policy++
		}
	}
	return broken, policy
}
