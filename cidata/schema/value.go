package schema

import (
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A kind is a type of value as SafeLoader makes it. The last two have no
// counterpart in JSON: no type of a schema fits them.
type kind int

const (
	null kind = iota
	boolean
	integer
	float
	text
	binary // !!binary, which cloud-init counts among the strings
	sequence
	mapping
	date  // a date, or a date with a time
	other // !!set, and the pairs of !!omap and !!pairs
)

// noun is what a person calls a value of the kind.
func (k kind) noun() string {
	return [...]string{"nothing", "a boolean", "a whole number", "a number", "a text", "binary data", "a list", "a mapping", "a date", "a set"}[k]
}

// A value is a YAML value. Aliases of it share it, so its place is where it is
// written.
type value struct {
	kind         kind
	line, column int
	text         string   // of a text or binary its contents, else what is written
	flag         bool     // of a boolean
	whole        *big.Int // of an integer
	number       float64  // of a float or an integer
	items        []*value // of a sequence
	entries      []entry  // of a mapping: no key twice
	index        map[string]int
	size         int // values in it, itself counted; aliases count as what they stand for
	length       int // bytes of text in it
}

type entry struct{ key, value *value }

// get returns the value of a key that is a text.
func (v *value) get(name string) *value {
	if i, ok := v.index[name]; ok {
		return v.entries[i].value
	}
	return nil
}

// empty is Python's idea of a false value.
func (v *value) empty() bool {
	switch v.kind {
	case null:
		return true
	case boolean:
		return !v.flag
	case integer, float:
		return v.number == 0
	case text, binary:
		return v.text == ""
	case sequence, mapping:
		return len(v.items) == 0 && len(v.entries) == 0
	}
	return false
}

// equalsNumber compares as Python does: true is 1.
func (v *value) equalsNumber(n float64) bool {
	switch v.kind {
	case boolean:
		return v.flag == (n == 1) && (n == 0 || n == 1)
	case integer, float:
		return v.number == n
	}
	return false
}

// is says whether v has a type of JSON schema, draft 4: 1.0 is no integer.
func (v *value) is(name string) bool {
	switch name {
	case "null":
		return v.kind == null
	case "boolean":
		return v.kind == boolean
	case "integer":
		return v.kind == integer
	case "number":
		return v.kind == integer || v.kind == float
	case "string":
		return v.kind == text || v.kind == binary
	case "array":
		return v.kind == sequence
	case "object":
		return v.kind == mapping
	}
	return false
}

// appendIdentity appends a text that two values share where they are equal:
// 1 and 1.0 are, and as a key (hashed) true and 1 too.
func (v *value) appendIdentity(b []byte, hashed bool) []byte {
	switch v.kind {
	case null:
		return append(b, 'z')
	case boolean:
		switch {
		case !hashed:
			return strconv.AppendBool(b, v.flag)
		case v.flag:
			return append(b, "n1"...)
		}
		return append(b, "n0"...)
	case integer:
		return v.whole.Append(append(b, 'n'), 10)
	case float:
		if v.number == math.Trunc(v.number) && !math.IsInf(v.number, 0) {
			i, _ := big.NewFloat(v.number).Int(nil)
			return i.Append(append(b, 'n'), 10)
		}
		return strconv.AppendFloat(append(b, 'f'), v.number, 'g', -1, 64)
	case sequence:
		b = append(b, '[')
		for _, item := range v.items {
			b = append(item.appendIdentity(b, hashed), ',')
		}
		return append(b, ']')
	case mapping:
		members := make([]string, len(v.entries))
		for i, e := range v.entries {
			members[i] = string(e.value.appendIdentity(append(e.key.appendIdentity(nil, true), ':'), hashed))
		}
		sort.Strings(members)
		return append(append(append(b, '{'), strings.Join(members, ",")...), '}')
	}
	return strconv.AppendQuote(append(b, v.kind.noun()...), v.text)
}

// show returns v for a message: short, on one line.
func (v *value) show() string {
	switch v.kind {
	case null:
		return "empty"
	case text:
		return quote(v.text)
	case boolean:
		if written := strings.ToLower(v.text); written != "true" && written != "false" && written != "" {
			return v.text + " (" + strconv.FormatBool(v.flag) + ")"
		}
		return strconv.FormatBool(v.flag)
	case integer:
		if decimal := v.whole.String(); decimal != v.text && len(decimal) < shown && len(v.text) < shown {
			return v.text + " (" + decimal + ")"
		}
		return cut(v.text)
	case float:
		return cut(v.text)
	case date:
		return cut(v.text) + " (a date)"
	}
	return v.kind.noun()
}

const shown = 40 // characters of a value in a message

func quote(s string) string { return strconv.Quote(cut(s)) }

func cut(s string) string {
	if utf8.RuneCountInString(s) <= shown {
		return s
	}
	return string([]rune(s)[:shown-1]) + "…"
}
