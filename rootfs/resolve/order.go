package resolve

import (
	"cmp"
	"slices"
	"strings"
)

// Order returns the packages in an order in which each follows those it
// pre-depends and depends on, as far as pkgs has them. Where they go round in
// circles, pre-dependencies are kept before dependencies, and what is left is
// decided by name. The order depends on the set alone, not on the order given.
func Order(pkgs []*Package) []*Package {
	sorted := slices.Clone(pkgs)
	slices.SortFunc(sorted, func(a, b *Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), CompareVersions(a.Version, b.Version))
	})
	o := newOrderer(sorted)
	for i := range sorted {
		if o.index[i] == 0 {
			o.connect(i)
		}
	}
	return o.out
}

// An orderer puts out the strongly connected components of the dependencies,
// innermost first (Tarjan's algorithm).
type orderer struct {
	pkgs   []*Package
	pre    [][]int // edges to what is needed for unpacking
	needs  [][]int // edges to all that is needed
	index  []int   // from 1, in the order of the visit
	low    []int
	onPath []bool
	path   []int
	visits int
	out    []*Package
}

func newOrderer(pkgs []*Package) *orderer {
	n := len(pkgs)
	o := &orderer{pkgs: pkgs, pre: make([][]int, n), needs: make([][]int, n),
		index: make([]int, n), low: make([]int, n), onPath: make([]bool, n)}
	named := make(map[string][]int)
	for i, p := range pkgs {
		named[p.Name] = append(named[p.Name], i)
	}
	for i, p := range pkgs {
		sc := scanner{text: string(p.Provides)}
		for sc.next() {
			name, _, _ := strings.Cut(sc.name, ":")
			if !slices.Contains(named[name], i) {
				named[name] = append(named[name], i)
			}
		}
	}
	for i, p := range pkgs {
		edges := func(r Relations) (to []int) {
			sc := scanner{text: string(r)}
			for sc.next() {
				name, _, _ := strings.Cut(sc.name, ":")
				for _, j := range named[name] {
					if j != i && !slices.Contains(to, j) {
						to = append(to, j)
					}
				}
			}
			return to
		}
		o.pre[i] = edges(p.PreDepends)
		o.needs[i] = slices.Concat(o.pre[i], edges(p.Depends))
	}
	return o
}

func (o *orderer) connect(i int) {
	o.visits++
	o.index[i], o.low[i] = o.visits, o.visits
	o.path = append(o.path, i)
	o.onPath[i] = true
	for _, j := range o.needs[i] {
		if o.index[j] == 0 {
			o.connect(j)
			o.low[i] = min(o.low[i], o.low[j])
		} else if o.onPath[j] {
			o.low[i] = min(o.low[i], o.index[j])
		}
	}
	if o.low[i] != o.index[i] {
		return
	}
	at := slices.Index(o.path, i)
	circle := slices.Clone(o.path[at:])
	o.path = o.path[:at]
	for _, j := range circle {
		o.onPath[j] = false
	}
	o.unwind(circle)
}

// unwind puts out a circle: each time the package that lacks the fewest
// pre-dependencies, of these the one that lacks the fewest dependencies, of these
// the first by name.
func (o *orderer) unwind(circle []int) {
	slices.Sort(circle)
	left := make(map[int]bool, len(circle))
	for _, i := range circle {
		left[i] = true
	}
	lacking := func(edges []int) (n int) {
		for _, j := range edges {
			if left[j] {
				n++
			}
		}
		return n
	}
	for len(left) > 0 {
		best, bestPre, bestNeeds := -1, 0, 0
		for _, i := range circle {
			if !left[i] {
				continue
			}
			pre, needs := lacking(o.pre[i]), lacking(o.needs[i])
			if best < 0 || pre < bestPre || pre == bestPre && needs < bestNeeds {
				best, bestPre, bestNeeds = i, pre, needs
			}
		}
		delete(left, best)
		o.out = append(o.out, o.pkgs[best])
	}
}
