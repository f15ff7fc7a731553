package resolve

import (
	"slices"
	"strings"
	"sync"
)

// A Universe is all packages there are to choose from. It is safe for concurrent
// use.
//
// Its parts are those of apt's cache: a group for each name, in it a node for
// each architecture, for each node the versions from the highest down. Nodes are
// numbered in the order in which apt would make them, since apt takes the one
// numbered last of providers that are otherwise equal.
type Universe struct {
	archs    []string // by archID; the native one first
	groups   []group
	byName   map[string]int32 // of groups
	nodes    []node
	versions []version // numbered in the order they came
	provides []provide

	// specific holds the names that some relation mentions as name:arch.
	specific map[string]bool

	// candidates holds the version of each node that the pins favour, or none.
	candidates []int32

	walkOnce sync.Once
	walkList []int32
}

// none stands for the absence of a node, version or provide.
const none = -1

type archID int16

const (
	native  archID = 0
	anyArch archID = -1 // of the nodes that stand for name:any and name:arch
)

type group struct {
	name        string
	first, last int32 // nodes
}

type node struct {
	group     int32
	next      int32 // of the group
	versions  int32 // the highest; the others follow by next
	provides  int32 // the last made; the others follow by next
	arch      archID
	essential bool
	important bool // Protected, or Important as it was called
}

type version struct {
	pkg       *Package
	node      int32
	next      int32 // the next lower of the node
	provides  int32 // the last made; the others follow by ofVersion
	pin       int
	priority  priority
	multiArch multiArch
	all       bool     // architecture all
	others    []string // indexes that have the version besides pkg.Origin, with what NAME/SUITE matches
}

// A provide says that a version can stand for another node.
type provide struct {
	version   int32
	target    int32  // node
	as        string // version provided, "" for none
	next      int32  // of the target's
	ofVersion int32  // of the version's
	implicit  bool   // follows from Multi-Arch, no field says so
	specific  bool   // stands for one architecture
}

type multiArch uint8

const (
	multiArchNo multiArch = iota
	multiArchSame
	multiArchForeign
	multiArchAllowed
)

type priority uint8

const (
	priorityUnset priority = iota
	required
	important
	standard
	optional
	extra
)

func parsePriority(s string) priority {
	switch strings.ToLower(s) {
	case "":
		return priorityUnset
	case "required":
		return required
	case "important":
		return important
	case "standard":
		return standard
	case "optional":
		return optional
	}
	return extra
}

func parseMultiArch(p *Package) multiArch {
	switch p.MultiArch {
	case "same":
		if p.Arch != "all" {
			return multiArchSame
		}
	case "foreign":
		return multiArchForeign
	case "allowed":
		return multiArchAllowed
	}
	return multiArchNo
}

// NewUniverse returns the universe of the packages for a system of architecture
// arch. Packages stand in the order of their indexes (Origin.Order, where it is
// set, else the order of pkgs) and within an index in the index's order. Packages
// of further architectures make those the system's foreign ones. A package whose
// relations are malformed, which ReadPackages refuses, is left out.
func NewUniverse(arch string, pkgs []*Package) *Universe {
	u := &Universe{
		archs:    []string{arch},
		byName:   make(map[string]int32, 2*len(pkgs)),
		groups:   make([]group, 0, 2*len(pkgs)),
		nodes:    make([]node, 0, 2*len(pkgs)),
		versions: make([]version, 0, len(pkgs)),
		provides: make([]provide, 0, 2*len(pkgs)),
		specific: make(map[string]bool),
	}
	byOrder := func(a, b *Package) int { return a.order() - b.order() }
	if !slices.IsSortedFunc(pkgs, byOrder) {
		pkgs = slices.Clone(pkgs)
		slices.SortStableFunc(pkgs, byOrder)
	}
	for _, p := range pkgs {
		if p.Arch != "all" {
			u.arch(p.Arch)
		}
	}
	for _, p := range pkgs {
		u.add(p)
	}
	u.choose()
	return u
}

func (p *Package) order() int {
	if p.Origin == nil {
		return 0
	}
	return p.Origin.Order
}

// arch returns the number of an architecture, all being the native one.
func (u *Universe) arch(name string) archID {
	if name == "all" {
		return native
	}
	for i, a := range u.archs {
		if a == name {
			return archID(i)
		}
	}
	u.archs = append(u.archs, name)
	return archID(len(u.archs) - 1)
}

// choose sets each node's candidate: of the versions with the highest pin the
// highest. Versions with a negative pin are no candidates.
func (u *Universe) choose() {
	u.candidates = make([]int32, len(u.nodes))
	for i := range u.nodes {
		best, pin := int32(none), -1
		for v := u.nodes[i].versions; v != none; v = u.versions[v].next {
			if u.versions[v].pin > pin {
				best, pin = v, u.versions[v].pin
			}
		}
		u.candidates[i] = best
	}
}

// find returns the node of a name and architecture.
func (u *Universe) find(name string, arch archID) int32 {
	g, ok := u.byName[name]
	if !ok {
		return none
	}
	return u.inGroup(g, arch)
}

func (u *Universe) inGroup(g int32, arch archID) int32 {
	if arch == anyArch {
		return u.groups[g].first
	}
	for n := u.groups[g].first; n != none; n = u.nodes[n].next {
		if u.nodes[n].arch == arch {
			return n
		}
	}
	return none
}

// preferred returns the node a name without architecture means: that of the
// first of the system's architectures. With real, one that has versions is
// preferred to one that has none.
func (u *Universe) preferred(name string, real bool) int32 {
	g, ok := u.byName[name]
	if !ok {
		return none
	}
	for a := range u.archs {
		if n := u.inGroup(g, archID(a)); n != none && (!real || u.nodes[n].versions != none) {
			return n
		}
	}
	if real {
		return u.preferred(name, false)
	}
	return none
}

func (u *Universe) name(n int32) string { return u.groups[u.nodes[n].group].name }

// full is a node's name, with the architecture when it is not the native one.
func (u *Universe) full(n int32) string {
	if a := u.nodes[n].arch; a > 0 {
		return u.name(n) + ":" + u.archs[a]
	}
	return u.name(n)
}

// walk returns all nodes in the order in which apt's loops over all packages
// meet them: that of a hash table of names.
func (u *Universe) walk() []int32 {
	u.walkOnce.Do(func() {
		const buckets = 196613 // APT::Cache-HashTableSize
		type entry struct {
			bucket uint32
			group  int32
		}
		entries := make([]entry, 0, len(u.groups))
		for i := range u.groups {
			h := uint32(5381)
			for _, c := range []byte(u.groups[i].name) {
				h = 33*h + uint32(c|0x20)
			}
			entries = append(entries, entry{h % buckets, int32(i)})
		}
		slices.SortFunc(entries, func(a, b entry) int {
			if a.bucket != b.bucket {
				return int(a.bucket) - int(b.bucket)
			}
			x, y := u.groups[a.group].name, u.groups[b.group].name
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return strings.Compare(x, y)
		})
		u.walkList = make([]int32, 0, len(u.nodes))
		for _, e := range entries {
			for n := u.groups[e.group].first; n != none; n = u.nodes[n].next {
				u.walkList = append(u.walkList, n)
			}
		}
	})
	return u.walkList
}
