package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// problem puts a failure in words.
func (f failure) problem() Problem {
	v := f.at.value
	p := Problem{Line: v.line, Column: v.column, Path: f.at.path(), Message: f.message(),
		Accepted: f.keyword == notice, Deprecated: f.keyword == notice, Unknown: f.keyword == unknownKey}
	switch {
	case f.key != nil:
		p.Line, p.Column = f.key.line, f.key.column
		p.Path = strings.TrimPrefix(p.Path+"."+f.key.text, ".")
	case f.at.key != nil && (f.keyword == notice || v.kind == null):
		p.Line, p.Column = f.at.key.line, f.at.key.column
	}
	return p
}

func (f failure) message() string {
	v := f.at.value
	switch f.keyword {
	case wrongType:
		return v.show() + " is not of type " + list(f.types, "'") + f.quoting()
	case wrongEnum:
		return v.show() + " is not one of " + list(texts(f.rule.enum), "") + f.suggest(v.text, texts(f.rule.enum))
	case missingKey:
		return fmt.Sprintf("the key %q is missing", f.name)
	case unknownKey:
		return "unknown key" + f.unknown()
	case badKey:
		return "the key is " + f.key.kind.noun() + ", write it in quotes"
	case tooFew:
		return fmt.Sprintf("the list has %d items, write at least %d", len(v.items), f.rule.minItems)
	case tooMany:
		return fmt.Sprintf("the list has %d items, write at most %d", len(v.items), f.rule.maxItems)
	case tooFewKeys:
		return fmt.Sprintf("the mapping has %d keys, write at least %d", len(v.entries), f.rule.minKeys)
	case tooLong:
		return fmt.Sprintf("%s is longer than %d characters", v.show(), f.rule.maxLength)
	case twoForms:
		return v.show() + " fits two of the forms that exclude each other here"
	case notUnique:
		return v.show() + " is in the list a second time"
	case wrongPattern:
		return v.show() + " does not match " + f.rule.wanted
	case wrongDate:
		return v.show() + " is no date, write YYYY-MM-DD"
	case tooSmall:
		return fmt.Sprintf("%s is less than %v", v.show(), *f.rule.minimum)
	case tooLarge:
		return fmt.Sprintf("%s is more than %v", v.show(), *f.rule.maximum)
	}
	return f.notice
}

// quoting says how a value becomes the text that would do.
func (f failure) quoting() string {
	switch f.at.value.kind {
	case boolean, integer, float, date:
		if slices.Contains(f.types, "string") {
			return ", write it in quotes"
		}
	}
	return ""
}

// unknown says what else could be written for an unknown key.
func (f failure) unknown() string {
	var names []string
	for _, p := range f.rule.properties {
		names = append(names, p.name)
	}
	if s := f.suggest(f.key.text, names); s != "" || len(f.rule.patterns) == 0 {
		if s == "" && len(names) > 0 && len(names) <= listed {
			return ", known are " + list(names, "")
		}
		return s
	}
	return ", it does not match " + f.rule.patterns[0].wanted
}

func (f failure) suggest(name string, names []string) string {
	close := nearest.Names(name, names, 1)
	if len(close) == 0 {
		return ""
	}
	return ", did you mean " + close[0] + "?"
}

func texts(values []any) []string {
	s := make([]string, len(values))
	for i, v := range values {
		if s[i] = fmt.Sprint(v); v == nil {
			s[i] = "null"
		}
	}
	return s
}

const listed = 12 // names in a message

// list joins words, each once.
func list(words []string, mark string) string {
	var once []string
	for _, w := range words {
		if w = mark + w + mark; !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	if len(once) > listed {
		once = append(once[:listed], "…")
	}
	return strings.Join(once, ", ")
}
