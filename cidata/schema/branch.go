package schema

import (
	"cmp"
	"slices"
	"strings"
)

// any judges anyOf: the first branch that accepts counts, with its notices.
func (j *judgement) any(branches []*rule, at *place) []failure {
	var all []refusal
	for _, branch := range branches {
		found := j.check(branch, at)
		if accepted(found) {
			return found
		}
		all = append(all, refusal{branch, found})
	}
	return best(all, at)
}

// one judges oneOf. Where no branch accepts a mapping that has a key type, and
// nothing that cloud-init found has to do with the type, cloud-init loses all it
// found and accepts the mapping: so do we.
func (j *judgement) one(branches []*rule, at *place) []failure {
	var all []refusal
	for i, branch := range branches {
		found := j.check(branch, at)
		if !accepted(found) {
			all = append(all, refusal{branch, found})
			continue
		}
		for _, later := range branches[i+1:] {
			if accepted(j.check(later, at)) {
				return []failure{{at: at, rule: branch, keyword: twoForms}}
			}
		}
		return found
	}
	if kind := at.value.get("type"); at.value.kind == mapping && kind != nil && !aboutType(all, at, kind) {
		return nil
	}
	return best(all, at)
}

func aboutType(all []refusal, at *place, kind *value) bool {
	for _, branch := range all {
		for _, f := range branch.failures {
			if f.keyword == notice {
				continue
			}
			if p := f.rule.property("type"); p != nil && slices.ContainsFunc(p.enum, kind.equals) {
				return true
			}
			if f.at.depth > at.depth && f.at.named && strings.HasSuffix(f.at.name, "type") {
				return true
			}
		}
	}
	return false
}

// A refusal is what a branch found.
type refusal struct {
	rule     *rule
	failures []failure
}

// outer counts the failures of the value itself rather than of what is in it.
func (r refusal) outer(at *place) int {
	n := 0
	for _, f := range r.failures {
		if f.keyword != notice && f.at.depth == at.depth {
			n++
		}
	}
	return n
}

// isType says that the branch is for another type of value.
func (r refusal) isType(at *place) bool {
	return slices.ContainsFunc(r.failures, func(f failure) bool { return f.keyword == wrongType && f.at.depth == at.depth })
}

// isOther says that the branch is for another value of the key type or version.
func (r refusal) isOther(at *place) bool {
	return slices.ContainsFunc(r.failures, func(f failure) bool {
		return f.keyword == wrongEnum && f.at.depth == at.depth+1 && (f.at.name == "type" || f.at.name == "version")
	})
}

// best chooses what to tell of branches that all refuse: the failures of the
// branch that was probably meant, or, where none is for this type of value, the
// types that would do.
func best(all []refusal, at *place) []failure {
	fitting := slices.DeleteFunc(slices.Clone(all), func(r refusal) bool { return r.isType(at) })
	if len(fitting) == 0 {
		merged := failure{at: at, rule: all[0].rule, keyword: wrongType}
		for _, r := range all {
			for _, f := range r.failures {
				if f.keyword == wrongType && f.at.depth == at.depth {
					merged.types = append(merged.types, f.types...)
				}
			}
		}
		return []failure{merged}
	}
	chosen := slices.MinFunc(fitting, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(truth(a.isOther(at)), truth(b.isOther(at))),
			cmp.Compare(a.outer(at), b.outer(at)), cmp.Compare(len(a.failures), len(b.failures)))
	})
	if allOther(fitting, at) {
		return enumOf(fitting, at)
	}
	return slices.DeleteFunc(slices.Clone(chosen.failures), func(f failure) bool { return f.keyword == notice })
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func allOther(all []refusal, at *place) bool {
	return !slices.ContainsFunc(all, func(r refusal) bool { return !r.isOther(at) })
}

// enumOf joins the values of the key type or version that the branches are for.
func enumOf(all []refusal, at *place) []failure {
	var merged *failure
	for _, r := range all {
		for _, f := range r.failures {
			if f.keyword != wrongEnum || f.at.depth != at.depth+1 || f.at.name != "type" && f.at.name != "version" {
				continue
			}
			if merged == nil {
				merged = &failure{at: f.at, rule: &rule{maxItems: -1, maxLength: -1}, keyword: wrongEnum}
			}
			merged.rule.enum = append(merged.rule.enum, f.rule.enum...)
		}
	}
	return []failure{*merged}
}
