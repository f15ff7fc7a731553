package resolve

// maxRounds is how often the fixer goes over all packages at most
// (pkgProblemResolver::MaxCounter).
const maxRounds = 20

// A fixer repairs a state in which something is broken, as apt's problem resolver
// does: from the package that matters most down, each broken one is repaired by
// changing those that matter less, or given up.
type fixer struct {
	*state
	scores []int // by node
}

// fix repairs the state and reports whether nothing is broken in the end.
func (s *state) fix() bool {
	if broken, _ := s.countBroken(); broken == 0 {
		return true
	}
	f := &fixer{state: s, scores: make([]int, len(s.u.nodes))}
	for n := range s.u.nodes {
		s.set(int32(n), fixUpgradable)
	}
	f.reinstate()
	f.score()
	order := sortUnstable(s.u.walk(), func(a, b int32) bool { return f.scores[a] > f.scores[b] })
	for round, changed := 0, true; round < maxRounds && changed; round++ {
		changed = false
		for _, n := range order {
			if s.install[n] != none && s.broken(n) && f.repair(n, round) {
				changed = true
			}
		}
	}
	for n := range s.u.nodes {
		if s.mode[n] && !s.has(int32(n), fixPreInstalled) {
			s.set(int32(n), automatic)
		}
	}
	broken, _ := s.countBroken()
	return broken == 0
}

// reinstate marks again what is broken and was dropped without a trace.
func (f *fixer) reinstate() {
	for again := true; again; {
		again = false
		for _, n := range f.u.walk() {
			if f.mode[n] {
				f.set(n, fixPreInstalled)
				continue
			}
			if f.broken(n) {
				f.markInstall(n, false, 0, false)
				again = again || f.mode[n]
			}
			f.unset(n, fixPreInstalled)
		}
	}
}

// A repair is the work on one broken package.
type repair struct {
	*fixer
	n       int32
	round   int
	kills   []int32 // nodes to drop, if the package is still there in the end
	changed bool

	// of the or-group at hand
	inOr   bool
	keep   bool // dropping the package is better than deleting it
	before int  // kills when the group began
}

// repair deals with one broken package and reports whether anything changed.
func (f *fixer) repair(n int32, round int) bool {
	r := &repair{fixer: f, n: n, round: round}
	v := f.install[n]
	rels := f.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		group := rels[i:end]
		i = end
		if !group[0].critical() {
			continue
		}
		if r.group(v, group) {
			break
		}
	}
	r.applyKills()
	return r.changed
}

// group works on one or-group; true ends the work on the package.
func (r *repair) group(v int32, group []relation) bool {
	r.inOr = len(group) > 1
	r.keep = false
	r.before = len(r.kills)
	for i := range group {
		// a later alternative can have been installed for an earlier one
		if r.groupFine(v, group) {
			return false
		}
		if r.alternative(v, group, i) {
			return true
		}
	}
	if r.inOr && len(r.kills) == r.before {
		r.giveUp()
	}
	return false
}

// giveUp drops the package when no alternative of an or-group led anywhere.
func (r *repair) giveUp() {
	if r.keep {
		r.markKeep(r.n, 0)
		r.changed = true
	} else if !r.has(r.n, protected) {
		r.markDelete(r.n, 0)
		r.changed = true
	}
}

// alternative tries to satisfy one relation; true ends the work on the package.
func (r *repair) alternative(v int32, group []relation, i int) bool {
	rel := &group[i]
	targets := r.allTargets(v, rel)
	if len(targets) == 0 && !rel.negative() && !r.has(r.n, protected) {
		// nothing can satisfy it: without the package there is no problem
		if r.inOr {
			return false
		}
		r.changed = true
		r.markKeep(r.n, 0)
		return true
	}
	done := false
	for _, t := range targets {
		p := r.u.versions[t].node
		if rel.negative() && r.install[p] != t {
			continue
		}
		if r.scores[r.n] <= r.scores[p] || !rel.negative() {
			if r.has(r.n, protected) {
				// it is to stay: what it needs is to come
				if r.upgrade(p) {
					r.scores[p] = min(r.scores[p], r.scores[r.n])
					break
				}
				continue
			}
			r.change(rel, p)
			r.changed = true
			done = true
			break
		}
		if rel.kind == breaks {
			if _, cand := r.met(v, rel); !cand {
				r.markInstall(p, false, 0, false)
				continue
			}
		}
		if !r.has(p, protected) {
			r.kills = append(r.kills, p)
		}
	}
	return done && !r.inOr
}

// change drops the broken package rather than touch p, which matters more.
func (r *repair) change(rel *relation, p int32) {
	wasMarked := r.mode[r.n]
	r.markKeep(r.n, 0)
	if !r.broken(r.n) {
		r.keep = true
		if r.inOr && wasMarked {
			r.markInstall(r.n, false, 0, false)
		}
		return
	}
	if r.upgrade(r.n) {
		return
	}
	if !r.inOr {
		r.markDelete(r.n, 0)
		if r.round > 1 {
			r.scores[r.n] = max(r.scores[r.n], r.scores[p])
		}
		return
	}
	if t := rel.target; r.candidate[t] != none {
		before, _ := r.countBroken()
		r.markInstall(t, true, 1, false)
		if after, _ := r.countBroken(); r.broken(t) || after > before {
			r.markDelete(t, 1)
		}
	}
}

// upgrade marks node n and sees whether what it needs can be marked too.
func (f *fixer) upgrade(n int32) bool {
	if !f.has(n, fixUpgradable) || f.candidate[n] == none || f.has(n, fixProtected) {
		return false
	}
	f.unset(n, fixUpgradable)
	wasMarked := f.mode[n]
	if !f.markInstall(n, false, 0, false) || f.install[n] == none {
		return false
	}
	v := f.install[n]
	rels := f.relations(v)
	fine := true
	for i := 0; i < len(rels) && fine; {
		end := groupEnd(rels, i)
		if rels[i].critical() {
			fine = f.upgradeGroup(v, rels[i:end])
		}
		i = end
	}
	if fine {
		return true
	}
	if !wasMarked {
		f.markKeep(n, 0)
	} else {
		f.markDelete(n, 0)
	}
	return false
}

// upgradeGroup marks what satisfies an or-group and reports whether that went
// well.
func (f *fixer) upgradeGroup(v int32, group []relation) bool {
	fine := true
	for i := range group {
		if f.groupFine(v, group) {
			break
		}
		rel := &group[i]
		_, cand := f.met(v, rel)
		switch p := f.smartTarget(v, rel); {
		case p == none || f.has(p, protected):
			fine = false
		case cand != rel.negative():
			if f.upgrade(p) {
				return true
			}
			fine = false
		case rel.negative():
			return fine // the next round deals with conflicts
		default:
			fine = false
		}
	}
	return fine
}

// smartTarget is the node a relation targets or, when that has no versions, the
// first that provides it.
func (f *fixer) smartTarget(v int32, rel *relation) int32 {
	u := f.u
	if rel.target == none || u.nodes[rel.target].versions != none {
		return rel.target
	}
	for p := u.nodes[rel.target].provides; p != none; p = u.provides[p].next {
		if owner := u.versions[u.provides[p].version].node; owner != u.versions[v].node {
			return owner
		}
	}
	return rel.target
}

// allTargets returns every version that satisfies a relation, candidate or not.
func (f *fixer) allTargets(v int32, rel *relation) []int32 {
	if rel.target == none {
		return nil
	}
	u := f.u
	var all []int32
	if !f.ignorable(v, rel, rel.target) {
		for t := u.nodes[rel.target].versions; t != none; t = u.versions[t].next {
			if rel.op.allows(u.versions[t].pkg.Version, rel.version) {
				all = append(all, t)
			}
		}
	}
	for p := u.nodes[rel.target].provides; p != none; p = u.provides[p].next {
		if prv := &u.provides[p]; !f.ignorableProvider(v, rel, prv) && rel.op.allows(prv.as, rel.version) {
			all = append(all, prv.version)
		}
	}
	return all
}

// applyKills drops what the package, if it is still there, was found to matter
// more than.
func (r *repair) applyKills() {
	if r.install[r.n] == none {
		return
	}
	for _, k := range r.kills {
		found := r.markKeep(k, 0)
		if (!found || r.round > 1) && r.scores[r.n] > r.scores[k] {
			r.scores[k] = r.scores[r.n]
			r.changed = true
		}
		r.changed = r.changed || found
	}
}
