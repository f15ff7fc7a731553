package resolve

import (
	"cmp"
	"slices"
	"strings"
)

// A Request says which packages are wanted.
type Request struct {
	// Names are requests as on apt-get's command line: name, name=version,
	// name/suite, name:arch, and name- to leave a package out. A version may
	// end in * for any that begins so.
	Names []string
	// Essential adds all packages with Essential: yes, as if they were named
	// before Names.
	Essential bool
	// Recommends installs recommended packages too.
	Recommends bool
	// Priorities adds all packages of these priorities (required, important,
	// standard), as if they were named before Names.
	Priorities []string
}

// Resolve returns the packages an empty system gets for the request, sorted by
// name and architecture. An error is an *UnknownPackageError or an
// *UnsatisfiableError.
func (u *Universe) Resolve(req Request) ([]*Package, error) {
	s := u.newState(req.Recommends)
	wanted, err := s.parse(req)
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		if !w.remove {
			s.setCandidate(w.version)
			s.set(u.versions[w.version].node, protected|fixProtected)
			s.markInstall(u.versions[w.version].node, false, 0, true)
		}
	}
	s.switchSuites(wanted)
	for _, w := range wanted {
		if !w.remove {
			s.markInstall(u.versions[w.version].node, true, 0, true)
		}
	}
	if !s.fix() {
		return nil, u.explain(s, wanted)
	}
	s.sweep()
	if broken, _ := s.countBroken(); broken > 0 {
		return nil, u.explain(s, wanted)
	}
	return s.result(), nil
}

func (s *state) result() []*Package {
	var pkgs []*Package
	for _, n := range s.touched {
		if s.mode[n] && s.install[n] != none {
			pkgs = append(pkgs, s.u.versions[s.install[n]].pkg)
		}
	}
	slices.SortFunc(pkgs, func(a, b *Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	return pkgs
}

// A want is one request after its name was looked up.
type want struct {
	version int32 // none when there is nothing to leave out
	remove  bool
	suite   string // of name/suite, or the pattern of a version
	why     string // it is wanted
}

// parse looks up what is asked for. Removals take effect at once.
func (s *state) parse(req Request) ([]want, error) {
	u := s.u
	wanted := s.implied(req)
	var unknown *UnknownPackageError
	for _, text := range req.Names {
		w, err := s.lookUp(text)
		switch {
		case err == nil:
			w.why = "asked for by name"
			wanted = append(wanted, w)
		case unknown == nil:
			unknown = err
		default:
			unknown.Others = append(unknown.Others, text)
		}
	}
	if unknown != nil {
		return nil, unknown
	}
	taken := make(map[want]bool)
	wanted = slices.DeleteFunc(wanted, func(w want) bool {
		w = want{version: w.version, remove: w.remove}
		again := taken[w]
		taken[w] = true
		return again
	})
	for _, w := range wanted {
		if w.remove && w.version != none {
			s.set(u.versions[w.version].node, protected|fixProtected|held)
		}
	}
	return wanted, nil
}

// implied returns the essential packages and those of the priorities asked for,
// in the order of the indexes.
func (s *state) implied(req Request) []want {
	u := s.u
	if !req.Essential && len(req.Priorities) == 0 {
		return nil
	}
	left := make(map[int32]bool)
	for _, text := range req.Names {
		if w, err := s.lookUp(text); err == nil && w.remove && w.version != none {
			left[u.versions[w.version].node] = true
		}
	}
	var wanted []want
	add := func(why string, chosen func(v *version) bool) {
		for n, v := range u.candidates {
			if v != none && u.nodes[n].arch == native && !left[int32(n)] && chosen(&u.versions[v]) {
				wanted = append(wanted, want{version: v, why: why})
			}
		}
	}
	if req.Essential {
		add("essential", func(v *version) bool { return v.pkg.Essential })
	}
	for _, p := range req.Priorities {
		add("of priority "+p, func(v *version) bool { return v.pkg.Priority == p })
	}
	return wanted
}

// lookUp finds what one request names. A trailing + or - asks to install or to
// leave out, unless it is part of a package's name.
func (s *state) lookUp(text string) (want, *UnknownPackageError) {
	last := ""
	if len(text) > 1 {
		last = text[len(text)-1:]
	}
	if last != "+" && last != "-" {
		return s.lookUpName(text, false)
	}
	if w, err := s.lookUpName(text, false); err == nil {
		return w, nil
	}
	w, err := s.lookUpName(text[:len(text)-1], last == "-")
	w.remove = last == "-"
	return w, err
}

// lookUpName finds the version for name, name=version or name/suite; newest asks
// for the highest instead of the candidate.
func (s *state) lookUpName(text string, newest bool) (want, *UnknownPackageError) {
	u := s.u
	name, wish, sign := text, "", byte(0)
	if i := strings.LastIndexAny(text, "/="); i >= 0 {
		name, wish, sign = text[:i], text[i+1:], text[i]
	}
	n := u.named(name)
	if n == none {
		return want{}, u.unknown(text, name)
	}
	switch {
	case sign != 0:
		return s.lookUpVersion(text, n, wish, sign)
	case newest:
		if v := u.nodes[n].versions; v != none {
			return want{version: v}, nil
		}
	case s.candidate[n] != none:
		return want{version: s.candidate[n]}, nil
	}
	if v := s.onlyProvider(n, func(p *provide) bool {
		return s.candidate[u.versions[p.version].node] == p.version
	}); v != none {
		return want{version: v}, nil
	}
	if newest {
		return want{version: none}, nil // a name without a package: nothing to leave out
	}
	return want{}, u.noCandidate(text, n)
}

// named returns the node for name or name:arch.
func (u *Universe) named(name string) int32 {
	base, arch, ok := strings.Cut(name, ":")
	if !ok || arch == "any" {
		return u.preferred(base, true)
	}
	if arch == "native" {
		return u.find(base, native)
	}
	for i, a := range u.archs {
		if a == arch || arch == "all" && i == 0 {
			return u.find(base, archID(i))
		}
	}
	return none
}

// lookUpVersion finds the version of node n that matches after = or /.
func (s *state) lookUpVersion(text string, n int32, wish string, sign byte) (want, *UnknownPackageError) {
	u := s.u
	for v := u.nodes[n].versions; v != none; v = u.versions[v].next {
		have := u.versions[v].pkg.Version
		switch {
		case sign == '/' && u.versions[v].inSuite(wish):
			return want{version: v, suite: wish}, nil
		case sign == '=' && strings.EqualFold(have, wish):
			return want{version: v}, nil
		case sign == '=' && strings.HasSuffix(wish, "*") && strings.HasPrefix(have, wish[:len(wish)-1]):
			return want{version: v, suite: wish}, nil
		}
	}
	v := s.onlyProvider(n, func(p *provide) bool {
		if sign == '/' {
			return u.versions[p.version].inSuite(wish)
		}
		return p.as == wish
	})
	if v != none {
		s.setCandidate(v)
		if sign == '/' {
			return want{version: v, suite: wish}, nil
		}
		return want{version: v}, nil
	}
	return want{}, u.noVersion(text, n, wish, sign)
}

// inSuite tells whether an index of the suite has the version.
func (v *version) inSuite(suite string) bool {
	return suite != "" && (slices.Contains(v.pkg.Origin.names(), suite) || slices.Contains(v.others, suite))
}

// onlyProvider returns the version that provides node n, when all that count are
// of one name; of several architectures the preferred.
func (s *state) onlyProvider(n int32, counts func(*provide) bool) int32 {
	u := s.u
	chosen := int32(none)
	for p := u.nodes[n].provides; p != none; p = u.provides[p].next {
		prv := &u.provides[p]
		if !counts(prv) {
			continue
		}
		if chosen == none {
			chosen = prv.version
			continue
		}
		a, b := &u.nodes[u.versions[chosen].node], &u.nodes[u.versions[prv.version].node]
		if a.group != b.group {
			return none
		}
		if a.arch != u.nodes[n].arch && b.arch < a.arch {
			chosen = prv.version
		}
	}
	return chosen
}

// setCandidate makes a version the candidate of its package.
func (s *state) setCandidate(v int32) {
	n := s.u.versions[v].node
	if s.candidate[n] == v {
		return
	}
	if s.candidate[n] == s.install[n] && s.mode[n] {
		s.install[n] = v
	}
	s.candidate[n] = v
	s.update(n)
}
