package resolve

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// check verifies an answer without the solver's code: every relation of every
// package is looked at, by name.
func check(t testing.TB, req Request, pkgs []*Package, nativeArch string) {
	t.Helper()
	for _, p := range pkgs {
		for _, f := range []struct {
			field    Relations
			positive bool
		}{{p.PreDepends, true}, {p.Depends, true}, {p.Conflicts, false}, {p.Breaks, false}} {
			groups, err := f.field.Parse()
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				met := slices.ContainsFunc(g, func(r Relation) bool {
					return slices.ContainsFunc(pkgs, func(q *Package) bool { return answers(p, r, q, nativeArch, f.positive) })
				})
				if met != f.positive {
					t.Errorf("%v: %s %s: %v met: %v, in %s", req.Names, p.Name, p.Version, g, met, short(pkgs))
				}
			}
		}
		for _, q := range pkgs {
			if p != q && p.Name == q.Name && (p.Arch == q.Arch || p.MultiArch != "same" || q.MultiArch != "same" || p.Version != q.Version) {
				t.Errorf("%v: two packages %s side by side: %s", req.Names, p.Name, short(pkgs))
			}
		}
	}
}

// answers reports whether package q is what relation r of package p means.
func answers(p *Package, r Relation, q *Package, nativeArch string, positive bool) bool {
	if !positive && p.Name == q.Name {
		return false
	}
	arch := func(x *Package) string {
		if x.Arch == "all" {
			return nativeArch
		}
		return x.Arch
	}
	fits := func() bool {
		switch r.Arch {
		case "":
			return !positive || q.MultiArch == "foreign" || arch(p) == arch(q)
		case "any":
			return q.MultiArch == "allowed"
		case "native":
			return arch(q) == nativeArch
		default:
			return arch(q) == r.Arch
		}
	}
	if q.Name == r.Name && fits() && r.Op.allows(q.Version, r.Version) {
		return true
	}
	provides, _ := q.Provides.Parse()
	for _, g := range provides {
		for _, prv := range g {
			if prv.Name == r.Name && prv.Arch == "" && fits() && r.Op.allows(prv.Version, r.Version) {
				return true
			}
		}
	}
	return false
}

func TestAnswersOfRandomWorldsHold(t *testing.T) {
	answered := 0
	for i := range 2000 {
		answered += holds(t, drawWorld(rand.New(rand.NewPCG(4711, uint64(i)))))
	}
	if answered < 500 {
		t.Errorf("only %d requests had an answer: the worlds are too crowded to prove anything", answered)
	}
}

// holds resolves some requests in a world and checks each answer; it returns how
// many there were.
func holds(t testing.TB, w *world) (answered int) {
	var pkgs []*Package
	for i, x := range w.indexes() {
		p, err := ReadPackages(bytes.NewReader(x.packages), &Origin{Suite: x.suite, Codename: x.codename, Archive: x.archive, Order: i})
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p...)
	}
	u := NewUniverse(w.archs[0], pkgs)
	for range 4 {
		req := Request{Names: w.request(), Recommends: w.src.IntN(2) == 0, Essential: w.src.IntN(4) == 0}
		got, err := u.Resolve(req)
		var unknown *UnknownPackageError
		var unsatisfiable *UnsatisfiableError
		switch {
		case err == nil:
			check(t, req, got, w.archs[0])
			if ordered := Order(got); len(ordered) != len(got) {
				t.Errorf("%v: Order returns %d of %d packages", req.Names, len(ordered), len(got))
			}
			answered++
		case errors.As(err, &unknown):
		case !errors.As(err, &unsatisfiable) || len(unsatisfiable.Chain) == 0 || unsatisfiable.Reason == "" || strings.Contains(err.Error(), "\n"):
			t.Errorf("%v: the error explains nothing: %#v", req.Names, err)
		}
	}
	return answered
}

// FuzzResolve draws worlds from the fuzzer's bytes.
func FuzzResolve(f *testing.F) {
	for i := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		holds(t, drawWorld(&byteSource{b}))
	})
}

// A byteSource takes its numbers from bytes, then zeros.
type byteSource struct{ left []byte }

func (s *byteSource) IntN(n int) int {
	if len(s.left) == 0 {
		return 0
	}
	x := int(s.left[0])
	s.left = s.left[1:]
	return x % n
}
