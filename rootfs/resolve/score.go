package resolve

import "slices"

// What a package is worth to the fixer (pkgProblemResolver::Scores).
var (
	priorityScores = [...]int{priorityUnset: 0, required: 3, important: 2, standard: 1, optional: -1, extra: -2}
	kindScores     = [...]int{preDepends: 1, depends: 1, conflicts: -1, breaks: -1, recommends: 1, suggests: 0}
)

const (
	scoreEssential    = 100
	scoreAddEssential = 5000
	scoreAddProtected = 10000
)

// score computes how much each package matters: by its priority, by what depends
// on it, and by whether it was asked for.
func (f *fixer) score() {
	for _, n := range f.touched {
		if f.install[n] != none {
			f.scoreOwn(n)
		}
	}
	own := slices.Clone(f.scores)
	for _, n := range f.touched {
		if f.install[n] == none || own[n] <= 0 {
			continue
		}
		// what this package depends on inherits its score
		rels := f.relations(f.install[n])
		for i := range rels {
			r := &rels[i]
			if (r.kind == preDepends || r.kind == depends || r.kind == recommends) && r.target != none && f.install[r.target] != none {
				f.scores[r.target] += own[n]
			}
		}
	}
	for _, n := range f.u.walk() {
		gain := f.scores[n] - own[n]
		if gain < 0 {
			gain = -gain
		}
		if gain != 0 {
			for _, p := range f.installedProviders(n, func(p *provide) bool { return !p.implicit }) {
				f.scores[p] += gain
			}
		}
	}
	for n := range f.scores {
		if f.has(int32(n), fixProtected) {
			f.scores[n] += scoreAddProtected
		}
		if f.u.nodes[n].essential || f.u.nodes[n].important {
			f.scores[n] += scoreAddEssential
		}
	}
}

// scoreOwn gives node n its own points and those it hands to what it relates to.
func (f *fixer) scoreOwn(n int32) {
	v := f.install[n]
	if f.u.nodes[n].essential || f.u.nodes[n].important {
		f.scores[n] += scoreEssential
	}
	f.scores[n] += priorityScores[f.u.versions[v].priority]
	rels := f.relations(v)
	for i := range rels {
		r := &rels[i]
		points := kindScores[r.kind]
		if points == 0 || r.target == none {
			continue
		}
		if !f.ignorable(v, r, r.target) {
			if r.version != "" {
				in := f.install[r.target]
				if in == none || !r.op.allows(f.u.versions[in].pkg.Version, r.version) {
					continue
				}
			}
			f.scores[r.target] += points
		}
		for _, p := range f.installedProviders(r.target, func(p *provide) bool {
			return !f.ignorableProvider(v, r, p) && r.op.allows(p.as, r.version)
		}) {
			f.scores[p] += points
		}
	}
}

// installedProviders returns, each once and in order, the nodes to be installed
// that provide node n in a way that counts.
func (f *fixer) installedProviders(n int32, counts func(*provide) bool) []int32 {
	u := f.u
	var providers []int32
	for p := u.nodes[n].provides; p != none; p = u.provides[p].next {
		prv := &u.provides[p]
		if owner := u.versions[prv.version].node; f.install[owner] == prv.version && counts(prv) {
			providers = append(providers, owner)
		}
	}
	slices.Sort(providers)
	return slices.Compact(providers)
}

// sortUnstable returns a copy of list sorted by less. Elements that are equal end
// up where the sort of the C++ library that apt is built with leaves them (an
// introsort: quicksort around the median of three for runs longer than 16, then
// one insertion sort), because the fixer's result depends on it.
func sortUnstable(list []int32, less func(a, b int32) bool) []int32 {
	const short = 16
	a := slices.Clone(list)
	var part func(lo, hi, depth int)
	part = func(lo, hi, depth int) {
		for hi-lo > short {
			if depth == 0 {
				slices.SortStableFunc(a[lo:hi], func(x, y int32) int {
					switch {
					case less(x, y):
						return -1
					case less(y, x):
						return 1
					}
					return 0
				})
				return
			}
			depth--
			cut := partition(a, lo, hi, less)
			part(cut, hi, depth)
			hi = cut
		}
	}
	depth := 0
	for n := len(a); n > 1; n >>= 1 {
		depth += 2
	}
	part(0, len(a), depth)
	for i := 1; i < len(a); i++ {
		x := a[i]
		j := i
		for ; j > 0 && less(x, a[j-1]); j-- {
			a[j] = a[j-1]
		}
		a[j] = x
	}
	return a
}

// partition splits a[lo:hi] around the median of its second, middle and last
// element and returns where the second part begins.
func partition(a []int32, lo, hi int, less func(a, b int32) bool) int {
	x, y, z := lo+1, lo+(hi-lo)/2, hi-1
	median := x
	switch {
	case less(a[x], a[y]) && less(a[y], a[z]):
		median = y
	case less(a[x], a[y]) && less(a[x], a[z]):
		median = z
	case less(a[x], a[y]):
	case less(a[x], a[z]):
	case less(a[y], a[z]):
		median = z
	default:
		median = y
	}
	a[lo], a[median] = a[median], a[lo]
	pivot := a[lo]
	i, j := lo+1, hi
	for {
		for less(a[i], pivot) {
			i++
		}
		j--
		for less(pivot, a[j]) {
			j--
		}
		if i >= j {
			return i
		}
		a[i], a[j] = a[j], a[i]
		i++
	}
}
