package resolve

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/distro"
)

// trixieIndexes fetches Debian 13's indexes through the mirror of the host: all
// pockets, and backports, which are pinned low.
func trixieIndexes(t testing.TB) []aptIndex {
	t.Helper()
	release, err := distro.Lookup("debian", "trixie")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := release.Sources(distro.SourceOptions{
		Arch: "amd64", Components: []string{"main"},
		HostApt: os.DirFS("/etc/apt"), HostKeyrings: os.DirFS("/usr/share/keyrings"),
	})
	if err != nil {
		t.Fatal(err)
	}
	backports := sources[0]
	backports.Suite = "trixie-backports"
	client := archive.Client{Dir: filepath.Join(os.TempDir(), "applbuild-test-indexes"), Now: time.Now()}
	found, err := client.Update(context.Background(), append(sources, backports))
	if err != nil {
		t.Skipf("Debian's archive cannot be reached, so the resolver's answers are not compared with apt's: %v", err)
	}
	var indexes []aptIndex
	for _, x := range found {
		r, err := x.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, aptIndex{
			suite: x.Source.Suite, codename: x.Release.Codename, archive: x.Release.Suite,
			component: x.Component, arch: x.Arch, packages: text,
			notAutomatic: x.Release.NotAutomatic, upgrades: x.Release.ButAutomaticUpgrades,
		})
	}
	return indexes
}

// TestAptAgreesOnTrixie draws package sets from Debian 13 and asks apt-get for
// its answer: most as a recipe has them, some with recommendations, with all
// essential packages, with versions and suites, with packages left out.
func TestAptAgreesOnTrixie(t *testing.T) {
	if testing.Short() {
		t.Skip("the archive's indexes and two hundred runs of apt-get take minutes")
	}
	sets, seed := fromEnv(t, "APPLBUILD_RESOLVE_SETS", 200), fromEnv(t, "APPLBUILD_RESOLVE_SEED", 1)
	indexes := trixieIndexes(t)
	u := universe(t, "amd64", indexes)
	a := newApt(t, indexes, "amd64")
	d := newDraw(u)
	var wg sync.WaitGroup
	var mu sync.Mutex
	satisfiable := 0
	slots := make(chan struct{}, 2)
	for i := range sets {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		names := d.set(rng)
		recommends := i%10 == 9
		switch i % 20 {
		case 3:
			names = append(names, d.vary(u, rng)...)
		case 7:
			names = slices.Concat(u.essentials(t), names)
		}
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			if compare(t, u, a, fmt.Sprintf("seed %d set %d", seed, i), names, recommends) {
				mu.Lock()
				satisfiable++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("%d of %d sets can be installed", satisfiable, sets)
}

// essentials are the names that Essential and the priorities required and
// important add to a request.
func (u *Universe) essentials(t testing.TB) []string {
	wanted, err := u.newState(false).parse(Request{Essential: true, Priorities: []string{"required", "important"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range wanted {
		names = append(names, u.full(u.versions[w.version].node))
	}
	return names
}

// vary makes a request with a version or a suite, or that leaves something out.
func (d *draw) vary(u *Universe, rng *rand.Rand) []string {
	switch rng.IntN(3) {
	case 0:
		name := d.several[rng.IntN(len(d.several))]
		v := u.nodes[u.preferred(name, true)].versions
		for rng.IntN(2) == 0 && u.versions[v].next != none {
			v = u.versions[v].next
		}
		return []string{name + "=" + u.versions[v].pkg.Version}
	case 1:
		return []string{d.several[rng.IntN(len(d.several))] + "/trixie-backports"}
	default:
		set := d.set(rng)
		return []string{strings.TrimSuffix(set[0], "-") + "-"}
	}
}
