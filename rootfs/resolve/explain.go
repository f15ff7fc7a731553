package resolve

import (
	"fmt"
	"slices"
	"strings"
)

// An explainer finds out why a request has no solution. It knows nothing of
// what the solver tried: first it looks for something that is needed and not
// there, then it follows what is forced until two packages exclude each other,
// and only when both find nothing it says where the solver ended.
type explainer struct {
	*state
	checked map[int32]bool // versions whose needs were looked into, true when they can be met
	forced  map[int32]cause
	order   []int32 // nodes in the order they were forced
}

// A cause is why a node must be installed.
type cause struct {
	version int32
	parent  int32  // the node that needs it, or none
	why     string // without a parent: how it was asked for
}

// explain is the error for a request without a solution.
func (u *Universe) explain(s *state, wanted []want) error {
	e := &explainer{
		state:   u.newState(s.recommends),
		checked: make(map[int32]bool),
		forced:  make(map[int32]cause),
	}
	for _, w := range wanted {
		switch {
		case !w.remove:
			e.candidate[u.versions[w.version].node] = w.version
		case w.version != none:
			e.set(u.versions[w.version].node, held)
		}
	}
	chain := e.contradiction(wanted)
	if chain == nil {
		chain = e.deadEnd(s)
	}
	return &UnsatisfiableError{Reason: chain[len(chain)-1], Chain: chain}
}

func (e *explainer) contradiction(wanted []want) []string {
	for _, w := range wanted {
		if w.remove {
			continue
		}
		if chain := e.missing(w.version); chain != nil {
			return chain
		}
	}
	for _, w := range wanted {
		if w.remove {
			continue
		}
		if chain := e.force(w.version, none, w.why); chain != nil {
			return chain
		}
	}
	return e.propagate()
}

// title is a package with its version.
func (e *explainer) title(v int32) string {
	return fmt.Sprintf("%s (%s)", e.u.full(e.u.versions[v].node), e.u.versions[v].pkg.Version)
}

// groupText is an or-group as a field has it.
func groupText(group []relation) string {
	var alternatives []string
	for i := range group {
		alternatives = append(alternatives, group[i].String())
	}
	return strings.Join(alternatives, " | ")
}

// possible returns the candidates for an or-group that were not asked to be left
// out.
func (e *explainer) possible(v int32, group []relation) []int32 {
	var all []int32
	for i := range group {
		if group[i].target == none {
			continue
		}
		for _, t := range e.targets(v, &group[i]) {
			if !slices.Contains(all, t) && !e.has(e.u.versions[t].node, held) {
				all = append(all, t)
			}
		}
	}
	return all
}

// needs calls f with each or-group version v must have satisfied until f returns
// false.
func (e *explainer) needs(v int32, f func(group []relation) bool) {
	rels := e.relations(v)
	for i := 0; i < len(rels); {
		end := groupEnd(rels, i)
		if rels[i].critical() && !rels[i].negative() && !f(rels[i:end]) {
			return
		}
		i = end
	}
}

// missing returns the way from version v to something that is needed and not
// there, or nil. Packages that need each other are taken to be possible.
func (e *explainer) missing(v int32) []string {
	if fine, ok := e.checked[v]; ok && fine {
		return nil
	}
	e.checked[v] = true
	var chain []string
	e.needs(v, func(group []relation) bool {
		possible := e.possible(v, group)
		if len(possible) == 0 {
			chain = []string{fmt.Sprintf("%s needs %s but %s", e.title(v), groupText(group), e.absence(group))}
			return false
		}
		var first []string
		for _, p := range possible {
			further := e.missing(p)
			if further == nil {
				return true
			}
			if first == nil {
				first = further
			}
		}
		chain = append([]string{fmt.Sprintf("%s needs %s", e.title(v), groupText(group))}, first...)
		return false
	})
	e.checked[v] = chain == nil
	return chain
}

// absence says why nothing satisfies an or-group.
func (e *explainer) absence(group []relation) string {
	var reasons []string
	for i := range group {
		if r := e.absent(&group[i]); !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	return strings.Join(reasons, ", and ")
}

func (e *explainer) absent(r *relation) string {
	u := e.u
	if r.target == none || u.nodes[r.target].versions == none && u.nodes[r.target].provides == none {
		return fmt.Sprintf("no package %s is in the indexes", r.name)
	}
	if e.has(r.target, held) {
		return fmt.Sprintf("%s is to be left out", r.name)
	}
	if c := e.candidate[r.target]; c != none {
		for v := u.nodes[r.target].versions; v != none; v = u.versions[v].next {
			if v != c && r.op.allows(u.versions[v].pkg.Version, r.version) {
				return fmt.Sprintf("the version to install is %s from %s: ask for %s=%s", u.versions[c].pkg.Version,
					u.versions[c].pkg.Origin, u.full(r.target), u.versions[v].pkg.Version)
			}
		}
		return fmt.Sprintf("only %s is in %s", u.versions[c].pkg.Version, u.versions[c].pkg.Origin)
	}
	var provided []string
	for p := u.nodes[r.target].provides; p != none; p = u.provides[p].next {
		prv := &u.provides[p]
		s := e.title(prv.version)
		switch {
		case e.has(u.versions[prv.version].node, held):
			s += ", which is to be left out"
		case prv.as == "":
			s += " without a version"
		default:
			s += " as " + prv.as
		}
		provided = append(provided, s)
	}
	if len(provided) > 0 {
		slices.Sort(provided)
		return fmt.Sprintf("%s is only provided by %s", r.name, enumerate(slices.Compact(provided), 4))
	}
	return "the pins forbid " + strings.Join(u.versionList(r.target), ", ")
}

// force notes that version v must be installed. It returns the way to a conflict
// with what is forced already, or nil.
func (e *explainer) force(v, parent int32, why string) []string {
	n := e.u.versions[v].node
	if _, ok := e.forced[n]; ok {
		return nil
	}
	e.forced[n] = cause{v, parent, why}
	e.order = append(e.order, n)
	other, text := e.conflict(v)
	if other == none {
		return nil
	}
	chain := append(e.way(e.u.versions[other].node), e.way(n)...)
	return append(chain, text)
}

// conflict finds what is forced and excludes version v.
func (e *explainer) conflict(v int32) (other int32, text string) {
	n := e.u.versions[v].node
	for _, m := range e.order {
		if m == n {
			continue
		}
		w := e.forced[m].version
		if r := e.excludes(v, w); r != nil {
			return w, e.conflictText(v, r, w)
		}
		if r := e.excludes(w, v); r != nil {
			return w, e.conflictText(w, r, v)
		}
	}
	return none, ""
}

func (e *explainer) conflictText(v int32, r *relation, w int32) string {
	verb := "conflicts with"
	if r.kind == breaks {
		verb = "breaks"
	}
	s := fmt.Sprintf("%s %s %s", e.title(v), verb, r)
	if t := e.title(w); r.name != e.u.full(e.u.versions[w].node) {
		s += ", which " + t + " provides"
	} else if r.op != Any {
		s += ", and " + t + " is that"
	}
	for _, x := range []int32{v, w} {
		if c, ok := e.forced[e.u.versions[x].node]; ok && c.parent == none {
			s += fmt.Sprintf("; %s is %s", e.u.full(e.u.versions[x].node), c.why)
		}
	}
	return s
}

// excludes returns the relation by which version v refuses version w.
func (e *explainer) excludes(v, w int32) *relation {
	u := e.u
	rels := e.relations(v)
	for i := range rels {
		r := &rels[i]
		if !r.negative() || r.target == none {
			continue
		}
		if r.target == u.versions[w].node && !e.ignorable(v, r, r.target) && r.op.allows(u.versions[w].pkg.Version, r.version) {
			return r
		}
		for p := u.versions[w].provides; p != none; p = u.provides[p].ofVersion {
			if prv := &u.provides[p]; prv.target == r.target && !e.ignorableProvider(v, r, prv) && r.op.allows(prv.as, r.version) {
				return r
			}
		}
	}
	return nil
}

// way says, a step a line, how a forced node came to be needed.
func (e *explainer) way(n int32) []string {
	var steps []string
	for c := e.forced[n]; c.parent != none; c = e.forced[c.parent] {
		steps = append(steps, fmt.Sprintf("%s needs %s", e.title(e.forced[c.parent].version), e.title(c.version)))
	}
	slices.Reverse(steps)
	return steps
}

// propagate forces what is the only choice left until nothing changes or
// something has no choice.
func (e *explainer) propagate() []string {
	for changed := true; changed; {
		changed = false
		for i := 0; i < len(e.order); i++ {
			n := e.order[i]
			v := e.forced[n].version
			var chain []string
			e.needs(v, func(group []relation) bool {
				choice, blocked := e.choices(v, group)
				switch len(choice) {
				case 0:
					chain = append(e.way(n), fmt.Sprintf("%s needs %s", e.title(v), groupText(group)))
					chain = append(chain, blocked...)
				case 1:
					if _, ok := e.forced[e.u.versions[choice[0]].node]; !ok {
						changed = true
						chain = e.force(choice[0], n, "")
					}
				}
				return chain == nil
			})
			if chain != nil {
				return chain
			}
		}
	}
	return nil
}

// choices returns the candidates for an or-group that are not excluded, or the
// forced one, and why the others are.
func (e *explainer) choices(v int32, group []relation) (choice []int32, blocked []string) {
	for _, p := range e.possible(v, group) {
		if c, ok := e.forced[e.u.versions[p].node]; ok && c.version == p {
			return []int32{p}, nil
		}
		if other, text := e.conflict(p); other != none {
			blocked = append(blocked, append(e.way(e.u.versions[other].node), text)...)
			continue
		}
		if chain := e.missing(p); chain != nil {
			blocked = append(blocked, chain...)
			continue
		}
		choice = append(choice, p)
	}
	return choice, blocked
}

// deadEnd says where the solver ended when no contradiction was found: another
// choice among alternatives may lead further.
func (e *explainer) deadEnd(s *state) []string {
	for _, n := range s.touched {
		if v := s.install[n]; v != none {
			if _, ok := e.forced[n]; !ok {
				e.forced[n] = cause{v, none, "chosen"}
				e.order = append(e.order, n)
			}
		}
	}
	for _, n := range s.touched {
		if !s.broken(n) {
			continue
		}
		v := s.install[n]
		rels := s.relations(v)
		for i := 0; i < len(rels); {
			end := groupEnd(rels, i)
			group := rels[i:end]
			i = end
			if group[0].critical() && !s.groupFine(v, group) {
				return e.deadEndAt(v, group)
			}
		}
	}
	return []string{"apt's solver ends without a solution; naming one of the alternatives that are needed can help"}
}

func (e *explainer) deadEndAt(v int32, group []relation) []string {
	if group[0].negative() {
		if _, text := e.conflict(v); text != "" {
			return []string{text}
		}
		return []string{fmt.Sprintf("%s excludes %s", e.title(v), groupText(group))}
	}
	var chain []string
	for _, p := range e.possible(v, group) {
		if other, text := e.conflict(p); other != none {
			chain = append(chain, text)
		}
	}
	return append(chain, fmt.Sprintf("%s needs %s, for which the solver finds no place; naming one of the alternatives can help", e.title(v), groupText(group)))
}
