package resolve

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A source draws numbers for a random universe.
type source interface{ IntN(int) int }

// A world is a small archive drawn at random: crowded, so that alternatives,
// conflicts and providers get into each other's way.
type world struct {
	src   source
	archs []string
	names int
	busy  int // of ten relations that could be there, how many are
}

func drawWorld(src source) *world {
	w := &world{src: src, archs: []string{"amd64"}, names: 6 + src.IntN(25), busy: 1 + src.IntN(5)}
	if src.IntN(3) == 0 {
		w.archs = append(w.archs, "arm64")
	}
	return w
}

func (w *world) one(of ...string) string { return of[w.src.IntN(len(of))] }
func (w *world) chance(of int) bool      { return w.src.IntN(of) < w.busy }

func (w *world) name() string { return "p" + strconv.Itoa(w.src.IntN(w.names)) }

// target is a real name, a virtual one, or one nobody has.
func (w *world) target() string {
	switch w.src.IntN(12) {
	case 0, 1, 2:
		return "v" + strconv.Itoa(w.src.IntN(1+w.names/4))
	case 3:
		if w.src.IntN(4) == 0 {
			return "absent"
		}
	}
	name := w.name()
	if w.src.IntN(12) == 0 {
		name += ":" + w.one("any", "any", w.archs[len(w.archs)-1])
	}
	return name
}

func (w *world) versioned(name string) string {
	if w.src.IntN(5) > 0 {
		return name
	}
	return name + " (" + w.one("<<", "<=", "=", ">=", ">>", ">=", ">=") + " " + strconv.Itoa(1+w.src.IntN(3)) + ")"
}

func (w *world) groups(most, alternatives int) string {
	var groups []string
	for range 1 + w.src.IntN(most) {
		var g []string
		for range 1 + w.src.IntN(alternatives) {
			g = append(g, w.versioned(w.target()))
		}
		groups = append(groups, strings.Join(g, " | "))
	}
	return strings.Join(groups, ", ")
}

// index is a Packages file with the given share of the world's packages.
func (w *world) index(arch string, ofTen int, all map[string]string) []byte {
	var b bytes.Buffer
	for i := range w.names {
		if w.src.IntN(10) >= ofTen {
			continue
		}
		name := "p" + strconv.Itoa(i)
		if s, ok := all[name]; ok {
			b.WriteString(s)
			continue
		}
		for range 1 + w.src.IntN(5)/4 {
			s := w.stanza(name, arch)
			b.WriteString(s)
			if strings.Contains(s, "Architecture: all") {
				all[name] = s
				break
			}
		}
	}
	return b.Bytes()
}

func (w *world) stanza(name, arch string) string {
	if len(w.archs) > 1 && w.src.IntN(4) == 0 {
		arch = "all"
	}
	s := fmt.Sprintf("Package: %s\nVersion: %d\nArchitecture: %s\nSize: %d\nFilename: x\nPriority: %s\n", name, 1+w.src.IntN(3), arch, 1+w.src.IntN(2), w.one("required", "important", "standard", "optional", "optional", "optional", "extra"))
	if w.src.IntN(25) == 0 {
		s += "Essential: yes\n"
	}
	if w.src.IntN(40) == 0 {
		s += "Protected: yes\n"
	}
	if len(w.archs) > 1 || w.src.IntN(5) == 0 {
		s += "Multi-Arch: " + w.one("no", "same", "foreign", "foreign", "allowed") + "\n"
	}
	for _, f := range []struct {
		name               string
		ofTen              int
		most, alternatives int
	}{{"Pre-Depends", 30, 1, 2}, {"Depends", 6, 4, 3}, {"Recommends", 15, 2, 2}, {"Suggests", 20, 2, 2}, {"Conflicts", 15, 2, 1}, {"Breaks", 15, 2, 1}, {"Replaces", 20, 2, 1}, {"Enhances", 30, 1, 1}} {
		if w.chance(f.ofTen) {
			s += f.name + ": " + w.groups(f.most, f.alternatives) + "\n"
		}
	}
	if w.chance(12) {
		var provides []string
		for range 1 + w.src.IntN(2) {
			p := "v" + strconv.Itoa(w.src.IntN(1+w.names/4))
			if w.src.IntN(6) == 0 {
				p = w.name()
			}
			if w.src.IntN(3) == 0 {
				p += " (= " + strconv.Itoa(1+w.src.IntN(3)) + ")"
			}
			provides = append(provides, p)
		}
		s += "Provides: " + strings.Join(provides, ", ") + "\n"
	}
	return s + "\n"
}

// indexes are the world's, with a pocket for upgrades or for backports in some.
func (w *world) indexes() []aptIndex {
	var list []aptIndex
	for _, suite := range []aptIndex{
		{suite: "one", codename: "one", archive: "stable", component: "main"},
		{suite: "two", codename: "two", archive: "stable-updates", component: "main"},
		{suite: "three", codename: "three", archive: "stable-backports", component: "main", notAutomatic: true, upgrades: true},
	} {
		ofTen := 9
		if suite.suite != "one" {
			if w.src.IntN(3) > 0 {
				continue
			}
			ofTen = 3
		}
		all := make(map[string]string)
		for _, arch := range w.archs {
			suite.arch = arch
			suite.packages = w.index(arch, ofTen, all)
			list = append(list, suite)
		}
	}
	return list
}

func (w *world) request() []string {
	var names []string
	for range 1 + w.src.IntN(5) {
		name := w.name()
		switch w.src.IntN(16) {
		case 0:
			name = "v" + strconv.Itoa(w.src.IntN(1+w.names/4))
		case 1:
			name += "-"
		case 2:
			name += "=" + strconv.Itoa(1+w.src.IntN(3))
		case 3:
			name += "/" + w.one("one", "two", "three", "stable-backports")
		case 4:
			name += ":" + w.archs[len(w.archs)-1]
		}
		names = append(names, name)
	}
	return names
}

// universe reads indexes as the package's callers do.
func universe(t testing.TB, arch string, indexes []aptIndex) *Universe {
	t.Helper()
	var pkgs []*Package
	for i, x := range indexes {
		origin := &Origin{
			Suite: x.suite, Codename: x.codename, Archive: x.archive, Component: x.component,
			Pin: pinOf(x.notAutomatic, x.upgrades), Order: i,
		}
		p, err := ReadPackages(bytes.NewReader(x.packages), origin)
		if err != nil {
			t.Fatalf("%v\n%s", err, x.packages)
		}
		pkgs = append(pkgs, p...)
	}
	return NewUniverse(arch, pkgs)
}

// fromEnv is a number a longer run sets.
func fromEnv(t testing.TB, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s is no number", name, s)
	}
	return n
}

// TestAptAgreesOnRandomWorlds asks apt-get about archives in which what is rare
// in Debian's is common: conflicts, circles, providers, architectures.
func TestAptAgreesOnRandomWorlds(t *testing.T) {
	worlds, seed := fromEnv(t, "APPLBUILD_RESOLVE_WORLDS", 40), fromEnv(t, "APPLBUILD_RESOLVE_SEED", 1)
	if testing.Short() {
		worlds = min(worlds, 10)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i := range worlds {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			compareWorld(t, uint64(seed), uint64(i))
		}()
	}
	wg.Wait()
}

func compareWorld(t *testing.T, seed, i uint64) {
	w := drawWorld(rand.New(rand.NewPCG(seed, i)))
	indexes := w.indexes()
	u := universe(t, w.archs[0], indexes)
	a := newApt(t, indexes, w.archs...)
	defer os.RemoveAll(a.dir)
	for range 6 {
		names, recommends := w.request(), w.src.IntN(3) == 0
		compare(t, u, a, fmt.Sprintf("seed %d world %d", seed, i), names, recommends)
	}
}

// compare asks both sides.
func compare(t testing.TB, u *Universe, a *apt, where string, names []string, recommends bool) (satisfiable bool) {
	t.Helper()
	got, err := u.Resolve(Request{Names: names, Recommends: recommends})
	want, complaint := a.install(context.Background(), recommends, names...)
	switch {
	case err != nil && complaint == "":
		t.Errorf("%s: %s (recommends %v): apt has an answer of %d packages, here: %v", where, strings.Join(names, " "), recommends, len(want), err)
	case err == nil && complaint != "":
		t.Errorf("%s: %s (recommends %v): %d packages, but apt says:\n%s", where, strings.Join(names, " "), recommends, len(got), complaint)
	case !slices.Equal(u.lines(got), want):
		t.Errorf("%s: %s (recommends %v):\n%s", where, strings.Join(names, " "), recommends, differences(u.lines(got), want))
	}
	return err == nil
}

// pinOf is apt's priority of an index nothing is said about, by two fields of
// its Release file (apt_preferences(5)).
func pinOf(notAutomatic, butAutomaticUpgrades bool) int {
	switch {
	case notAutomatic && butAutomaticUpgrades:
		return 100
	case notAutomatic:
		return 1
	default:
		return defaultPin
	}
}
