package recipes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ownUnits are units that containers need or that start before them, without .service.
var ownUnits = []string{"docker", "containerd", "podman", "nftables", "dbus", "netavark", "ssh"}

// containerNames refuses names that several containers have, or a unit of the system.
func (c *checker) containerNames(run []Container) {
	first := map[string]int{}
	for i, r := range run {
		at := fmt.Sprintf("containers.run[%d].name", i)
		if j, twice := first[r.Name]; twice {
			c.add(at, r.Name+" is there already, at "+c.recipe.Position(fmt.Sprintf("containers.run[%d].name", j)).String(), "use another name")
			continue
		}
		first[r.Name] = i
		if slices.Contains(ownUnits, r.Name) || strings.HasPrefix(r.Name, "systemd-") || strings.HasPrefix(r.Name, "applbuild-") {
			c.add(at, r.Name+".service is a unit of the system's own", "use another name")
		}
		if r.Name == cmp.Or(r.Network, sharedNetwork)+"-network" {
			c.add(at, r.Name+".service is the unit of a network", "use another name")
		}
	}
}

// containerPorts refuses ports of the machine that lead to two places.
func (c *checker) containerPorts(run []Container) {
	type used struct {
		port Port
		at   string
	}
	var taken []used
	for i, r := range run {
		for j, p := range r.Ports {
			at := fmt.Sprintf("containers.run[%d].ports[%d]", i, j)
			for _, t := range taken {
				if !p.clashes(t.port) {
					continue
				}
				c.add(at, fmt.Sprintf("port %d/%s of the machine is taken already, at %s", p.Host, p.Protocol, c.recipe.Position(t.at)), "use another port, or another address")
				break
			}
			taken = append(taken, used{p, at})
		}
	}
}

// clashes reports whether the machine cannot listen on both.
func (p Port) clashes(q Port) bool {
	every := func(address string) bool { return address == "" || address == "::" }
	return p.Host == q.Host && p.Protocol == q.Protocol && (p.Address == q.Address || every(p.Address) || every(q.Address))
}

// containerOrder refuses containers that start after ones that are not there, after themselves, or after ones that
// the machine cannot wait for.
func (c *checker) containerOrder(run []Container) {
	index := map[string]int{}
	for i, r := range run {
		index[r.Name] = i
	}
	for i, r := range run {
		at := fmt.Sprintf("containers.run[%d].after", i)
		c.repeated(at, r.After, func(s string) string { return s })
		for j, name := range r.After {
			before, known := index[name]
			switch {
			case !known:
				c.add(fmt.Sprintf("%s[%d]", at, j), name+" is not in run", "name a container of run")
			case run[before].Rootless != r.Rootless:
				c.add(fmt.Sprintf("%s[%d]", at, j), name+" is run by another user, whose containers are not waited for", "write the same rootless in both, or remove it")
			}
		}
	}
	c.containerCircle(run, index)
}

// containerCircle refuses the first container of each circle of after.
func (c *checker) containerCircle(run []Container, index map[string]int) {
	const (
		open = iota + 1
		done
	)
	state := make([]int, len(run))
	var visit func(i int, chain []string)
	visit = func(i int, chain []string) {
		state[i] = open
		chain = append(chain, run[i].Name)
		for j, name := range run[i].After {
			switch next, known := index[name]; {
			case !known || state[next] == done:
			case state[next] == open:
				circle := chain
				for k := range chain {
					if chain[k] == name {
						circle = chain[k:]
					}
				}
				c.add(fmt.Sprintf("containers.run[%d].after[%d]", i, j), "goes round in a circle: "+strings.Join(circle, " → ")+" → "+name, "remove one of these")
			default:
				visit(next, chain)
			}
		}
		state[i] = done
	}
	for i := range run {
		if state[i] == 0 {
			visit(i, nil)
		}
	}
}
