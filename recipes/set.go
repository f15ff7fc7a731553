package recipes

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var setting = regexp.MustCompile(`(?s)^([a-z_]+(?:\[[^\]=]*\]|\.[a-z_]+)*)(\+?=)(.*)$`)

// set lays one PATH=VALUE or PATH+=VALUE over root and returns the result.
func (l *loader) set(root *node, text string) (*node, error) {
	parts := setting.FindStringSubmatch(text)
	if parts == nil {
		return nil, Errors{{Position: Position{File: "--set " + shorten(text)}, What: "is not a setting", Do: "write PATH=VALUE or PATH+=VALUE, such as root.filesystem=erofs or packages+=vim"}}
	}
	path, add, value := parts[1], parts[2] == "+=", parts[3]
	pos := Position{File: "--set " + path}
	n, err := l.yaml.read([]byte(value), func(int, int) Position { return pos })
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(value) == "" {
		n = &node{kind: scalar, pos: pos, tag: "!!str"}
	}
	if path == "include" {
		return nil, Errors{{Position: pos, What: "include cannot be set from the command line", Do: "write a recipe that includes both files"}}
	}
	s := setter{pos: pos, add: add, value: n}
	root = s.in(root, reflect.TypeFor[Recipe](), field{}, steps(path))
	if s.err != nil {
		return nil, Errors{s.err}
	}
	return root, nil
}

var step = regexp.MustCompile(`\[[^\]]*\]|[a-z_]+`)

// steps splits users[admin].groups into users, [admin], groups.
func steps(path string) []string { return step.FindAllString(path, -1) }

// A setter puts one value into a tree of nodes.
type setter struct {
	pos   Position
	add   bool
	value *node
	err   *Error
}

func (s *setter) fail(what, do string) *node {
	if s.err == nil {
		s.err = &Error{Position: s.pos, What: what, Do: do}
	}
	return nil
}

// in returns n, a value declared as t and f, with the value at the end of the path set. n may be nil.
func (s *setter) in(n *node, t reflect.Type, f field, path []string) *node {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(path) == 0 {
		return s.put(n, t, f)
	}
	key := path[0]
	if strings.HasPrefix(key, "[") {
		return s.item(n, t, f, strings.Trim(key, "[]"), path[1:])
	}
	if t.Kind() != reflect.Struct || isParser(t) {
		return s.fail(key+" is a key in something that has no keys", "end the path before it")
	}
	result := &node{kind: mapping, pos: s.pos}
	known := fields(t)
	i := slices.IndexFunc(known, func(f field) bool { return f.name == key })
	if n != nil && n.kind == mapping {
		result.pos = n.pos
		result.entries = slices.Clone(n.entries)
	}
	if i < 0 {
		// The decoder finds the unknown key and suggests another.
		result.entries = append(result.entries, entry{key, s.pos, s.value})
		return result
	}
	at := slices.IndexFunc(result.entries, func(e entry) bool { return e.key == key })
	if at < 0 {
		at = len(result.entries)
		result.entries = append(result.entries, entry{key: key, pos: s.pos})
	}
	value := s.in(result.entries[at].value, t.Field(known[i].index).Type, known[i], path[1:])
	if s.err != nil {
		return nil
	}
	result.entries[at].value = value
	if t == reflect.TypeFor[Units]() {
		others := *result
		others.entries = slices.Delete(slices.Clone(result.entries), at, at+1)
		others = *withoutUnits(&others, &node{entries: []entry{{value: value}}})
		result.entries = append(others.entries, result.entries[at])
	}
	return result
}

// put replaces n by the value, or adds the value to it.
func (s *setter) put(n *node, t reflect.Type, f field) *node {
	if s.add && t.Kind() != reflect.Slice {
		return s.fail("+= adds to a list, and this is none", "use = instead")
	}
	value := s.value
	if s.add && value.kind != sequence {
		value = &node{kind: sequence, pos: s.pos, items: []*node{value}}
	}
	shape(value, t, f)
	if !s.add {
		return value
	}
	if f.tag.Get("merge") == "replace" && n != nil && n.kind == sequence {
		return &node{kind: sequence, pos: s.pos, items: append(slices.Clone(n.items), value.items...)}
	}
	return merge(n, value, t, f)
}

// item goes on in the item of list n that key names by its number, name or path.
func (s *setter) item(n *node, t reflect.Type, f field, key string, path []string) *node {
	if t.Kind() != reflect.Slice {
		return s.fail("["+key+"] looks for an item in something that is no list", "leave it out")
	}
	if n == nil || n.kind != sequence || len(n.items) == 0 {
		return s.fail("["+key+"] looks for an item in a list that is empty", "add one with +=")
	}
	i, err := strconv.Atoi(key)
	if err != nil {
		i = slices.IndexFunc(n.items, func(item *node) bool {
			return key != "" && (identity(item, f.tag.Get("merge")) == key || item.kind == scalar && item.value == key)
		})
	}
	if i < 0 || i >= len(n.items) {
		return s.fail(fmt.Sprintf("the list has no item [%s]", key), fmt.Sprintf("use [0] to [%d], or the name of an item", len(n.items)-1))
	}
	result := *n
	result.items = slices.Clone(n.items)
	result.items[i] = s.in(n.items[i], t.Elem(), field{tag: f.tag}, path)
	return &result
}
