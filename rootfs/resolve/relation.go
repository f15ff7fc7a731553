package resolve

import (
	"fmt"
	"strings"
)

// Relations is the text of a relation field (Depends, Conflicts, Provides …) as
// it stands in the index. It is taken apart when it is needed: of the 70,000
// packages of a release a build looks at a few hundred.
type Relations string

// A Relation names a package and, with Op, versions of it.
type Relation struct {
	Name    string // without the architecture
	Arch    string // "any", "native" or an architecture where the field has name:arch
	Op      Op     // Any when the relation is not versioned
	Version string
}

// Op is how a relation restricts versions.
type Op uint8

// The operators of Debian Policy, section 7.1. The deprecated < and > stand for
// <= and >=.
const (
	Any Op = iota
	LessEqual
	GreaterEqual
	Less
	Greater
	Equal
	notEqual // only in relations between architectures of one package, which no field can state
)

var operators = [...]string{"", "<=", ">=", "<<", ">>", "=", "!="}

func (o Op) String() string {
	if int(o) < len(operators) {
		return operators[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// allows reports whether a version is one the operator and want let through. An
// unversioned relation allows all; an unversioned provide ("" as have) satisfies
// no versioned relation.
func (o Op) allows(have, want string) bool {
	if want == "" {
		return true
	}
	if have == "" {
		return false
	}
	c := CompareVersions(have, want)
	switch o {
	case LessEqual:
		return c <= 0
	case GreaterEqual:
		return c >= 0
	case Less:
		return c < 0
	case Greater:
		return c > 0
	case Equal:
		return c == 0
	case notEqual:
		return c != 0
	}
	return false
}

// String is the relation as a field has it: name:arch (>= 1.2).
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != Any {
		s += " (" + r.Op.String() + " " + r.Version + ")"
	}
	return s
}

// Parse takes the field apart: all of the outer list are to be satisfied, by any
// of the alternatives in the inner. The error says where the field is malformed.
func (r Relations) Parse() ([][]Relation, error) {
	var groups [][]Relation
	sc := scanner{text: string(r)}
	join := false
	for sc.next() {
		rel := Relation{Name: sc.name, Op: sc.op, Version: sc.version}
		if i := strings.LastIndexByte(rel.Name, ':'); i >= 0 {
			rel.Name, rel.Arch = rel.Name[:i], rel.Name[i+1:]
		}
		if join {
			groups[len(groups)-1] = append(groups[len(groups)-1], rel)
		} else {
			groups = append(groups, []Relation{rel})
		}
		join = sc.or
	}
	return groups, sc.err
}

// A scanner walks over the relations of a field without allocating.
type scanner struct {
	text string
	pos  int

	name    string // with :arch
	op      Op
	version string
	or      bool // the next relation is an alternative to this one
	err     error
}

// next moves to the next relation; false at the end and at an error.
func (s *scanner) next() bool {
	t, i := s.text, s.pos
	for i < len(t) && blank(t[i]) {
		i++
	}
	if i == len(t) || s.err != nil {
		if s.err == nil && s.or {
			return s.fail(i, "an alternative is missing after |")
		}
		return false
	}
	start := i
	for i < len(t) && !delimiter[t[i]] {
		i++
	}
	if i == start {
		return s.fail(i, "a package name is missing")
	}
	s.name, s.op, s.version, s.or = t[start:i], Any, "", false
	if c := strings.IndexByte(s.name, ':'); c >= 0 && (c == 0 || c == len(s.name)-1 || c != strings.LastIndexByte(s.name, ':')) {
		return s.fail(start, "a name is to be NAME or NAME:ARCHITECTURE")
	}
	for i < len(t) && blank(t[i]) {
		i++
	}
	if i < len(t) && t[i] == '(' {
		if i = s.versioned(i + 1); s.err != nil {
			return false
		}
		for i < len(t) && blank(t[i]) {
			i++
		}
	}
	if i < len(t) {
		switch t[i] {
		case '|':
			s.or = true
		case ',':
		default:
			return s.fail(i, "a comma or | is missing")
		}
		i++
	}
	s.pos = i
	return true
}

// versioned reads what follows an opening parenthesis at i and returns the
// position after the closing one.
func (s *scanner) versioned(i int) int {
	t := s.text
	for i < len(t) && blank(t[i]) {
		i++
	}
	double := i+1 < len(t) && (t[i+1] == '=' || t[i+1] == t[i])
	switch {
	case i == len(t):
	case t[i] == '=':
		s.op, i = Equal, i+1
	case t[i] == '<' && double && t[i+1] == '<':
		s.op, i = Less, i+2
	case t[i] == '>' && double && t[i+1] == '>':
		s.op, i = Greater, i+2
	case t[i] == '<' && double:
		s.op, i = LessEqual, i+2
	case t[i] == '>' && double:
		s.op, i = GreaterEqual, i+2
	case t[i] == '<':
		s.op, i = LessEqual, i+1
	case t[i] == '>':
		s.op, i = GreaterEqual, i+1
	default:
		s.op = Equal // (1.0) is read as (= 1.0), as apt and dpkg read it
	}
	end := strings.IndexByte(t[i:], ')')
	if end < 0 {
		s.fail(i, "a closing parenthesis is missing")
		return i
	}
	s.version = trimBlanks(t[i : i+end])
	if s.version == "" {
		s.fail(i, "a version is missing")
	}
	return i + end + 1
}

func (s *scanner) fail(i int, what string) bool {
	s.err = fmt.Errorf("at %q: %s", clip(s.text[i:]), what)
	return false
}

// delimiter marks what ends a package name in a relation.
var delimiter = [256]bool{
	' ': true, '\t': true, '\n': true, '\v': true, '\f': true, '\r': true,
	'(': true, ')': true, '[': true, ']': true, '<': true, '>': true, ',': true, '|': true,
}

func blank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func trimBlanks(s string) string {
	for s != "" && blank(s[0]) {
		s = s[1:]
	}
	for s != "" && blank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// clip shortens what an error quotes, in bytes.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
