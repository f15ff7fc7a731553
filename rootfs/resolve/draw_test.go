package resolve

import (
	"math/rand/v2"
	"strings"
)

// A draw picks package sets such as recipes ask for.
type draw struct {
	pools   [][]string
	several []string // names with several versions
}

func newDraw(u *Universe) *draw {
	pools := make([][]string, 8)
	var several []string
	for n := range u.nodes {
		name := u.name(int32(n))
		v := u.candidates[n]
		if v == none {
			if u.nodes[n].provides != none && u.nodes[n].arch == native {
				pools[0] = append(pools[0], name) // virtual
			}
			continue
		}
		p := u.versions[v].pkg
		add := func(i int) { pools[i] = append(pools[i], name) }
		add(1)
		if u.versions[u.nodes[n].versions].next != none {
			several = append(several, name)
		}
		switch {
		case strings.HasSuffix(name, "-server") || strings.HasSuffix(name, "-daemon") || p.Section == "httpd" || p.Section == "database" || p.Section == "net" || p.Section == "mail":
			add(2)
		case p.Section == "python":
			add(3)
		case p.Section == "perl":
			add(4)
		case p.Section == "gnome" || p.Section == "kde" || p.Section == "xfce" || p.Section == "x11" || p.Section == "metapackages":
			add(5)
		case strings.HasSuffix(name, "-dev"):
			add(6)
		}
		if strings.Contains(string(p.Depends), "|") {
			add(7)
		}
	}
	return &draw{pools, several}
}

// set returns one to twelve names of packages of all kinds, some of them virtual.
func (d *draw) set(rng *rand.Rand) []string {
	n := 1 + rng.IntN(12)
	var names []string
	for range n {
		pool := 1 + rng.IntN(len(d.pools)-1)
		if rng.IntN(12) == 0 {
			pool = 0
		}
		if len(d.pools[pool]) == 0 {
			pool = 1
		}
		names = append(names, d.pools[pool][rng.IntN(len(d.pools[pool]))])
	}
	return names
}
