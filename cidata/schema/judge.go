package schema

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A place is where in a document a value stands, as a path back to the root.
type place struct {
	parent *place
	depth  int
	name   string
	named  bool   // by a key that is a text, rather than by an index or another key
	key    *value // nil for the root and in a list
	value  *value
}

func (at *place) child(e entry) *place {
	name := e.key.text
	return &place{parent: at, depth: at.depth + 1, name: name, named: e.key.kind == text, key: e.key, value: e.value}
}

func (at *place) item(i int) *place {
	return &place{parent: at, depth: at.depth + 1, name: strconv.Itoa(i), value: at.value.items[i]}
}

func (at *place) path() string {
	var names []string
	for ; at.parent != nil; at = at.parent {
		names = append(names, at.name)
	}
	slices.Reverse(names)
	return strings.Join(names, ".")
}

// A failure is a keyword of a rule that a value does not fulfil, or a notice.
type failure struct {
	at      *place
	rule    *rule
	keyword keyword
	name    string   // of the key that is missing
	key     *value   // that is unknown or no text
	types   []string // that would do
	notice  string   // what to warn of
}

type keyword int

const (
	wrongType keyword = iota
	wrongEnum
	missingKey
	unknownKey
	badKey
	tooFew
	tooMany
	tooFewKeys
	tooLong
	notUnique
	wrongPattern
	wrongDate
	tooSmall
	tooLarge
	twoForms
	notice // accepted, with a warning
)

// A judgement holds what ends cloud-init at once, whatever branch it is found in.
type judgement struct {
	patterns patterns
	fatal    []failure
}

// judge returns how a document differs from the schema of a file.
func (c *Judge) judge(file string, document *value) []Problem {
	r, err := c.rule(file)
	if err != nil {
		// The file is part of the program and read by its tests.
		return []Problem{{Line: 1, Column: 1, Message: err.Error()}}
	}
	j := &judgement{patterns: c.patterns}
	found := j.check(r, &place{value: document})
	var problems []Problem
	for _, f := range append(found, j.fatal...) {
		problems = append(problems, f.problem())
	}
	return problems
}

// accepted says that there are no failures but notices.
func accepted(failures []failure) bool {
	return !slices.ContainsFunc(failures, func(f failure) bool { return f.keyword != notice })
}

func (j *judgement) check(r *rule, at *place) []failure {
	found := j.scalarKeywords(r, at)
	switch at.value.kind {
	case mapping:
		found = append(found, j.mapping(r, at)...)
	case sequence:
		found = append(found, j.sequence(r, at)...)
	}
	if r.ref != nil {
		found = append(found, j.check(r.ref, at)...)
	}
	for _, branch := range r.allOf {
		found = append(found, j.check(branch, at)...)
	}
	if len(r.anyOf) > 0 {
		found = append(found, j.any(r.anyOf, at)...)
	}
	if len(r.oneOf) > 0 {
		found = append(found, j.one(r.oneOf, at)...)
	}
	for _, text := range r.notices {
		found = append(found, failure{at: at, rule: r, keyword: notice, notice: text})
	}
	return found
}

func (j *judgement) scalarKeywords(r *rule, at *place) (found []failure) {
	v := at.value
	fail := func(k keyword) { found = append(found, failure{at: at, rule: r, keyword: k, types: r.types}) }
	if len(r.types) > 0 && !slices.ContainsFunc(r.types, v.is) {
		fail(wrongType)
	}
	if r.enum != nil && !slices.ContainsFunc(r.enum, v.equals) {
		fail(wrongEnum)
	}
	if v.is("number") && r.minimum != nil && v.number < *r.minimum {
		fail(tooSmall)
	}
	if v.is("number") && r.maximum != nil && v.number > *r.maximum {
		fail(tooLarge)
	}
	if v.is("string") && r.maxLength >= 0 && v.runes() > r.maxLength {
		fail(tooLong)
	}
	if r.pattern != nil && v.is("string") && (v.kind == binary || !r.pattern.MatchString(v.text)) {
		fail(wrongPattern) // binary data ends cloud-init here
	}
	if r.isDate && v.kind == text && !(j.patterns.date.MatchString(v.text) && j.patterns.isTime(v.text)) {
		fail(wrongDate)
	}
	return found
}

func (v *value) runes() int {
	if v.kind == binary {
		return len(v.text) * 3 / 4
	}
	return utf8.RuneCountInString(v.text)
}

// equals compares with a value of a schema's enum.
func (v *value) equals(want any) bool {
	switch want := want.(type) {
	case nil:
		return v.kind == null
	case string:
		return v.kind == text && v.text == want
	case bool:
		return v.kind == boolean && v.flag == want
	case float64:
		return (v.kind == integer || v.kind == float) && v.number == want
	}
	return false
}

func (j *judgement) sequence(r *rule, at *place) (found []failure) {
	n := len(at.value.items)
	if n < r.minItems {
		found = append(found, failure{at: at, rule: r, keyword: tooFew})
	}
	if r.maxItems >= 0 && n > r.maxItems {
		found = append(found, failure{at: at, rule: r, keyword: tooMany})
	}
	if r.unique {
		seen := map[string]bool{}
		for i, item := range at.value.items {
			id := string(item.appendIdentity(nil, false))
			if seen[id] {
				found = append(found, failure{at: at.item(i), rule: r, keyword: notUnique})
				break
			}
			seen[id] = true
		}
	}
	if r.items == nil {
		return found
	}
	for i := range at.value.items {
		found = append(found, j.check(r.items, at.item(i))...)
	}
	return found
}

func (j *judgement) mapping(r *rule, at *place) (found []failure) {
	if len(at.value.entries) < r.minKeys {
		found = append(found, failure{at: at, rule: r, keyword: tooFewKeys})
	}
	for _, name := range r.required {
		if at.value.get(name) == nil {
			found = append(found, failure{at: at, rule: r, keyword: missingKey, name: name})
		}
	}
	for _, e := range at.value.entries {
		found = append(found, j.entry(r, at, e)...)
	}
	return found
}

func (j *judgement) entry(r *rule, at *place, e entry) (found []failure) {
	known := false
	if e.key.kind == text {
		if p := r.property(e.key.text); p != nil {
			known = true
			found = j.check(p, at.child(e))
		}
	}
	for _, p := range r.patterns {
		if e.key.kind != text {
			j.fatal = append(j.fatal, failure{at: at, rule: r, keyword: badKey, key: e.key})
			return found
		}
		if p.pattern.MatchString(e.key.text) {
			known = true
			found = append(found, j.check(p.rule, at.child(e))...)
		}
	}
	switch {
	case known:
	case r.closed:
		found = append(found, failure{at: at, rule: r, keyword: unknownKey, key: e.key})
	case r.additional != nil:
		found = append(found, j.check(r.additional, at.child(e))...)
	}
	return found
}
