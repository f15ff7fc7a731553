package resolve

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// packages makes an index of one line a package: name version, then fields after
// semicolons, as in "a 1; Depends: b | c; Priority: required". The architecture is
// amd64 unless it stands after the version.
func packages(t testing.TB, origin *Origin, text string) []*Package {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ";")
		head := strings.Fields(fields[0])
		if len(head) < 2 {
			continue
		}
		arch := "amd64"
		if len(head) > 2 {
			arch = head[2]
		}
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\nArchitecture: %s\n", head[0], head[1], arch)
		for _, f := range fields[1:] {
			fmt.Fprintln(&b, strings.TrimSpace(f))
		}
		fmt.Fprintln(&b)
	}
	pkgs, err := ReadPackages(strings.NewReader(b.String()), origin)
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// short is an answer as "name=version", with the architecture when it is not the
// native one.
func short(pkgs []*Package) string {
	var s []string
	for _, p := range pkgs {
		name := p.Name
		if p.Arch != "amd64" && p.Arch != "all" {
			name += ":" + p.Arch
		}
		s = append(s, name+"="+p.Version)
	}
	return strings.Join(s, " ")
}

var trixie = &Origin{Suite: "trixie", Codename: "trixie", Archive: "stable", Component: "main"}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name, index, request, want string
		recommends                 bool
	}{
		{"dependencies come along, recommendations do not",
			"a 1; Depends: b; Recommends: c\nb 1\nc 1", "a", "a=1 b=1", false},
		{"unless they are asked for",
			"a 1; Depends: b; Recommends: c, missing\nb 1\nc 1", "a", "a=1 b=1 c=1", true},
		{"the highest version is taken", "a 1\na 1.10\na 1.9", "a", "a=1.10", false},
		{"another one on request", "a 1\na 1.10\na 1.9", "a=1.9", "a=1.9", false},
		{"or by its beginning", "a 1\na 1.10\na 1.9", "a=1.1*", "a=1.10", false},
		{"the first alternative is preferred", "a 1; Depends: b | c\nb 1\nc 1", "a", "a=1 b=1", false},
		{"an alternative that was asked for is enough", "a 1; Depends: b | c\nb 1\nc 1", "a c", "a=1 c=1", false},
		{"an alternative another package brought is enough",
			"a 1; Depends: d, b | c\nb 1\nc 1\nd 1; Depends: c", "a", "a=1 c=1 d=1", false},
		{"an alternative that cannot be installed is passed over",
			"a 1; Depends: b | c\nb 1; Depends: missing\nc 1", "a", "a=1 c=1", false},
		{"so is one that conflicts with what was asked for",
			"a 1; Depends: b | c\nb 1; Conflicts: d\nc 1\nd 1", "a d", "a=1 c=1 d=1", false},
		{"the real package is preferred to those that provide it",
			"a 1; Depends: mta\nexim 1; Provides: mta; Priority: important\nmta 1; Priority: optional", "a", "a=1 mta=1", false},
		{"of providers the one of higher priority is preferred",
			"a 1; Depends: mta\nexim 1; Provides: mta; Priority: optional\npostfix 1; Provides: mta; Priority: standard\nzmail 1; Provides: mta; Priority: optional", "a", "a=1 postfix=1", false},
		{"then the one named last",
			"a 1; Depends: mta\nexim 1; Provides: mta\npostfix 1; Provides: mta", "a", "a=1 postfix=1", false},
		{"a provide without a version satisfies no versioned relation",
			"a 1; Depends: x (>= 1) | c\nb 1; Provides: x\nc 1", "a", "a=1 c=1", false},
		{"one with a version does", "a 1; Depends: x (>= 1) | c\nb 1; Provides: x (= 1.5)\nc 1", "a", "a=1 b=1", false},
		{"a stale provide does not", "a 1; Depends: x (>= 2) | c\nb 1; Provides: x (= 1.5)\nc 1", "a", "a=1 c=1", false},
		{"a package has no conflict with itself", "a 1; Provides: x; Conflicts: x\nb 1; Provides: x", "a", "a=1", false},
		{"pre-dependencies count too", "a 1; Pre-Depends: b (= 1)\nb 1\nb 2 ", "a b=1", "a=1 b=1", false},
		{"a package left out is passed over", "a 1; Depends: b | c\nb 1\nc 1", "a b-", "a=1 c=1", false},
		{"a name may end in a plus", "g++ 1\ng 1", "g++", "g++=1", false},
		{"one that provides a name is found by it", "a 1; Provides: x\nb 1", "x", "a=1", false},
		{"what is asked for twice comes once", "a 1", "a a a=1", "a=1", false},
		{"what nothing needs after all is not installed",
			"a 1; Depends: b | c\nb 1; Depends: d, e\nc 1\nd 1\ne 1; Conflicts: f\nf 1", "a f", "a=1 c=1 f=1", false},
		{"a foreign package satisfies another architecture's relation",
			"a 1 arm64; Depends: tool\ntool 1; Multi-Arch: foreign\ntool 1 arm64; Multi-Arch: foreign", "a:arm64", "a:arm64=1 tool=1", false},
		{"one that is not foreign does not",
			"a 1 arm64; Depends: tool\ntool 1\ntool 1 arm64", "a:arm64", "a:arm64=1 tool:arm64=1", false},
		{":any is satisfied by an allowed package of any architecture",
			"a 1 arm64; Depends: python:any\npython 1; Multi-Arch: allowed\npython 1 arm64; Multi-Arch: allowed", "a:arm64", "a:arm64=1 python=1", false},
		{"packages of one version that are the same stand side by side",
			"lib 1; Multi-Arch: same\nlib 1 arm64; Multi-Arch: same", "lib lib:arm64", "lib=1 lib:arm64=1", false},
		{"name:arch is that architecture's", "a 1; Depends: b:arm64\nb 1\nb 1 arm64", "a", "a=1 b:arm64=1", false},
		{"name:native too", "a 1 arm64; Depends: b:native\nb 1\nb 1 arm64", "a:arm64", "a:arm64=1 b=1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := NewUniverse("amd64", packages(t, trixie, test.index))
			got, err := u.Resolve(Request{Names: strings.Fields(test.request), Recommends: test.recommends})
			if err != nil {
				t.Fatal(err)
			}
			if short(got) != test.want {
				t.Errorf("got %s, want %s", short(got), test.want)
			}
		})
	}
}

func TestPinsDecideBetweenPockets(t *testing.T) {
	backports := &Origin{Suite: "trixie-backports", Codename: "trixie-backports", Archive: "stable-backports", Component: "main", Pin: 100, Order: 1}
	experimental := &Origin{Suite: "experimental", Archive: "experimental", Codename: "rc-buggy", Component: "main", Pin: 1, Order: 2}
	preferred := &Origin{Suite: "local", Component: "main", Pin: 1001, Order: 3}
	never := &Origin{Suite: "never", Component: "main", Pin: -1, Order: 4}
	u := NewUniverse("amd64", slices.Concat(
		packages(t, never, "n 1\na 9"),
		packages(t, preferred, "c 0.1"),
		packages(t, experimental, "a 3\nonly 1\nboth 1"),
		packages(t, backports, "a 2; Depends: b (>= 2)\nb 2\nboth 1\nboth 0.5"),
		packages(t, trixie, "a 1; Depends: b\nb 1\nc 1"),
	))
	for request, want := range map[string]string{
		"a":                   "a=1 b=1",
		"only":                "only=1",
		"both":                "both=1",
		"c":                   "c=0.1",
		"c/trixie":            "c=1",
		"c/stable":            "c=1",
		"a/trixie-backports":  "a=2 b=2",
		"a=2 b=2":             "a=2 b=2",
		"both/rc-buggy":       "both=1",
		"b/stable-backports+": "b=2",
	} {
		got, err := u.Resolve(Request{Names: strings.Fields(request)})
		if err != nil || short(got) != want {
			t.Errorf("%s: got %s (%v), want %s", request, short(got), err, want)
		}
	}
	for _, request := range []string{"a=2", "n", "a/never-heard-of", "a=7"} {
		if got, err := u.Resolve(Request{Names: []string{request}}); err == nil {
			t.Errorf("%s: got %s, want an error", request, short(got))
		}
	}
}

func TestEssentialAndPriorities(t *testing.T) {
	u := NewUniverse("amd64", packages(t, trixie, `
		base 1; Essential: yes; Pre-Depends: awk
		mawk 1; Provides: awk; Priority: required
		gawk 1; Provides: awk; Priority: optional
		vital 1; Priority: required
		useful 1; Priority: important
		nice 1; Priority: standard
		vital 1 arm64; Priority: required
		x 1`))
	for _, test := range []struct {
		request Request
		want    string
	}{
		{Request{Names: []string{"x"}}, "x=1"},
		{Request{Names: []string{"x"}, Essential: true}, "base=1 mawk=1 x=1"},
		{Request{Names: []string{"x"}, Priorities: []string{"required", "important"}}, "mawk=1 useful=1 vital=1 x=1"},
		{Request{Names: []string{"x", "vital-"}, Essential: true, Priorities: []string{"required"}}, "base=1 mawk=1 x=1"},
		{Request{Essential: true}, "base=1 mawk=1"},
	} {
		got, err := u.Resolve(test.request)
		if err != nil || short(got) != test.want {
			t.Errorf("%+v: got %s (%v), want %s", test.request, short(got), err, test.want)
		}
	}
}

func TestUnsatisfiableIsExplained(t *testing.T) {
	for _, test := range []struct {
		index, request string
		chain          []string
	}{
		{"webapp 1.0; Depends: php8.4-fpm (>= 8.4.20)\nphp8.4-fpm 8.4.11-1", "webapp", []string{
			"webapp (1.0) needs php8.4-fpm (>= 8.4.20) but only 8.4.11-1 is in trixie/main"}},
		{"a 1; Depends: b\nb 2; Pre-Depends: c | d\nd 3; Depends: gone (>= 1)", "a", []string{
			"a (1) needs b",
			"b (2) needs c | d",
			"d (3) needs gone (>= 1) but no package gone is in the indexes"}},
		{"a 1; Depends: b\nb 1; Conflicts: c\nc 1", "a c", []string{
			"a (1) needs b",
			"b (1) conflicts with c; c is asked for by name"}},
		{"a 1; Depends: b\nb 1; Breaks: c (<< 2)\nc 1\nd 1; Depends: c", "a d", []string{
			"d (1) needs c",
			"a (1) needs b (1)",
			"b (1) breaks c (<< 2), and c (1) is that"}},
		{"a 1; Depends: b | c\nb 1; Conflicts: x\nc 1; Conflicts: x\nd 1; Provides: x", "a d", []string{
			"a (1) needs b | c",
			"b (1) conflicts with x, which d (1) provides; d is asked for by name",
			"c (1) conflicts with x, which d (1) provides; d is asked for by name"}},
		{"a 1; Depends: b\nb 1", "a b-", []string{"a (1) needs b but b is to be left out"}},
		{"a 1; Depends: x (>= 2)\nb 1; Provides: x\nc 1; Provides: x (= 1)", "a", []string{
			"a (1) needs x (>= 2) but x is only provided by b (1) without a version, c (1) as 1"}},
		{"a 1; Depends: b (= 1)\nb 1\nb 2", "a", []string{
			"a (1) needs b (= 1) but the version to install is 2 from trixie/main: ask for b=1"}},
	} {
		u := NewUniverse("amd64", packages(t, trixie, test.index))
		got, err := u.Resolve(Request{Names: strings.Fields(test.request)})
		var e *UnsatisfiableError
		if !errors.As(err, &e) {
			t.Errorf("%s: got %s, %v, want an UnsatisfiableError", test.request, short(got), err)
			continue
		}
		if !reflect.DeepEqual(e.Chain, test.chain) {
			t.Errorf("%s:\ngot  %s\nwant %s", test.request, strings.Join(e.Chain, "\n     "), strings.Join(test.chain, "\n     "))
		}
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), e.Chain[len(e.Chain)-1]) || e.Explain() != strings.Join(e.Chain, "\n") {
			t.Errorf("%s: the error is not the chain's end in one line: %v", test.request, err)
		}
	}
}

func TestUnknownNamesAreExplained(t *testing.T) {
	u := NewUniverse("amd64", packages(t, trixie, `
		openssh-server 1
		openssh-client 1; Depends: nowhere
		openssl 1
		exim4 4; Provides: mail-transport-agent
		postfix 3; Provides: mail-transport-agent (= 2)
		vim 9`))
	for _, test := range []struct{ request, want string }{
		{"opnessh-server", "no package opnessh-server in the indexes: did you mean openssh-server"},
		{"nowhere", "no package nowhere in the indexes"},
		{"mail-transport-agent", "package mail-transport-agent is virtual: name one of the packages that provide it: exim4, postfix"},
		{"vim=8", "package vim has no version 8: there is 9 in trixie/main"},
		{"vim/bookworm", "package vim is not in bookworm: there is 9 in trixie/main"},
		{"vim:arm64", "no package vim:arm64 in the indexes: did you mean vim:amd64?"},
		{"emasc vim xemasc", "no package emasc in the indexes: check the name and the release it is in; nor is there xemasc"},
		{"", "no package  in the indexes"},
	} {
		names := strings.Fields(test.request)
		if len(names) == 0 {
			names = []string{""}
		}
		_, err := u.Resolve(Request{Names: names})
		var e *UnknownPackageError
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.request, err, test.want)
		}
	}
}

func TestOrder(t *testing.T) {
	for _, test := range []struct{ index, want string }{
		{"a 1; Depends: b\nb 1; Depends: c\nc 1", "c b a"},
		{"a 1; Depends: x\nb 1; Provides: x\nc 1", "b a c"},
		// a circle: the pre-dependency decides
		{"a 1; Pre-Depends: b\nb 1; Depends: a", "b a"},
		{"a 1; Depends: b\nb 1; Pre-Depends: a", "a b"},
		{"a 1; Depends: b\nb 1; Depends: c\nc 1; Depends: a\nd 1; Depends: c", "a c b d"},
		{"a 1; Depends: a, missing", "a"},
	} {
		pkgs := packages(t, trixie, test.index)
		for range 2 {
			slices.Reverse(pkgs)
			var names []string
			for _, p := range Order(pkgs) {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("%s: got %s, want %s", test.index, got, test.want)
			}
		}
	}
}
