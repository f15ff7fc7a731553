package recipes

import (
	"reflect"
	"slices"
	"strings"
)

// shape expands the short forms in n, so that two values of one field have one kind: a scalar in place of a mapping
// becomes the mapping with its short field, a scalar in place of a list the list of it. What fits no form is left for
// the decoder to refuse.
func shape(n *node, t reflect.Type, f field) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isParser(t) || n.kind == scalar && n.tag == "!!null" {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		known := fields(t)
		if i := slices.IndexFunc(known, func(f field) bool { return f.is("short") }); i >= 0 && n.kind == scalar {
			value := *n
			*n = node{kind: mapping, pos: n.pos, entries: []entry{{known[i].name, n.pos, &value}}, whole: true}
		}
		for _, f := range known {
			if child := n.get(f.name); child != nil {
				shape(child, t.Field(f.index).Type, f)
			}
		}
	case reflect.Slice:
		if n.kind == scalar && f.is("scalar") {
			item := *n
			*n = node{kind: sequence, pos: n.pos, items: []*node{&item}}
		}
		if n.kind == scalar && f.is("words") {
			splitNode(n)
		}
		for _, item := range n.items {
			shape(item, t.Elem(), field{})
		}
	}
}

// splitNode makes a list of words out of a text, unless a quote in it has no end.
func splitNode(n *node) {
	words, ok := splitWords(n.value)
	if !ok || len(words) == 0 {
		return
	}
	list := node{kind: sequence, pos: n.pos}
	for _, word := range words {
		list.items = append(list.items, &node{pos: n.pos, tag: "!!str", value: word})
	}
	*n = list
}

// merge lays over on top of base, both shaped, and returns the result; neither is changed. The position of a value is
// that of the file it came from.
func merge(base, over *node, t reflect.Type, f field) *node {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case base == nil:
		return over
	case base.kind != over.kind || over.whole:
		return over
	case over.kind == mapping && t.Kind() == reflect.Struct && !isParser(t):
		return mergeMapping(base, over, t)
	case over.kind == mapping && t.Kind() == reflect.Map:
		return mergeWords(base, over)
	case over.kind == sequence && t.Kind() == reflect.Slice:
		return mergeList(base, over, t, f)
	}
	return over
}

func mergeMapping(base, over *node, t reflect.Type) *node {
	merged := &node{kind: mapping, pos: over.pos}
	if t == reflect.TypeFor[Units]() {
		base = withoutUnits(base, over)
	}
	for _, e := range base.entries {
		if over.get(e.key) == nil {
			merged.entries = append(merged.entries, e)
		}
	}
	known := fields(t)
	for _, e := range over.entries {
		if i := slices.IndexFunc(known, func(f field) bool { return f.name == e.key }); i >= 0 {
			e.value = merge(base.get(e.key), e.value, t.Field(known[i].index).Type, known[i])
		}
		merged.entries = append(merged.entries, e)
	}
	return merged
}

// mergeWords lays one mapping over another key by key.
func mergeWords(base, over *node) *node {
	merged := &node{kind: mapping, pos: over.pos}
	for _, e := range base.entries {
		if over.get(e.key) == nil {
			merged.entries = append(merged.entries, e)
		}
	}
	merged.entries = append(merged.entries, over.entries...)
	return merged
}

// mergeList combines two lists as the merge tag of their field says.
func mergeList(base, over *node, t reflect.Type, f field) *node {
	rule := f.tag.Get("merge")
	if rule == "replace" || f.is("words") {
		return over
	}
	merged := &node{kind: sequence, pos: over.pos, items: slices.Clone(base.items)}
	for _, item := range over.items {
		id := identity(item, rule)
		i := slices.IndexFunc(base.items, func(b *node) bool { return id != "" && identity(b, rule) == id })
		switch {
		case i < 0:
			merged.items = append(merged.items, item)
		case rule == "name" || rule == "image":
			merged.items[i] = merge(base.items[i], item, t.Elem(), field{})
		default:
			merged.items[i] = item
		}
	}
	return merged
}

// identity is what makes two items of a list one; empty for an item that is like no other.
func identity(n *node, rule string) string {
	switch {
	case n.kind == mapping && (rule == "name" || rule == "path"):
		if key := n.get(rule); key != nil && key.kind == scalar {
			return key.value
		}
	case n.kind == mapping && rule == "image":
		return imageIdentity(n)
	case n.kind == scalar && rule == "package":
		return packageName(n.value)
	case n.kind == scalar && rule == "append":
		return n.value
	}
	return ""
}

// imageIdentity is the canonical reference that an image is known by.
func imageIdentity(n *node) string {
	for _, key := range []string{"ref", "name"} {
		if value := n.get(key); value != nil && value.kind == scalar {
			ref, err := ParseReference(value.value)
			if err != nil {
				return value.value
			}
			return ref.String()
		}
	}
	if layout := n.get("layout"); layout != nil && layout.kind == scalar {
		return layoutName(layout.value).String()
	}
	return ""
}

// packageName cuts a version, a suite or the final hyphen off a package as a recipe names it; an architecture stays.
func packageName(text string) string {
	if i := strings.IndexAny(text, "=/"); i >= 0 {
		return text[:i]
	}
	return strings.TrimSuffix(text, "-")
}

// withoutUnits returns the lists of units in base without the units that over names in any list.
func withoutUnits(base, over *node) *node {
	named := map[string]bool{}
	for _, e := range over.entries {
		for _, item := range e.value.items {
			named[item.value] = item.kind == scalar
		}
	}
	kept := &node{kind: mapping, pos: base.pos}
	for _, e := range base.entries {
		list := *e.value
		list.items = slices.DeleteFunc(slices.Clone(list.items), func(item *node) bool { return item.kind == scalar && named[item.value] })
		kept.entries = append(kept.entries, entry{e.key, e.pos, &list})
	}
	return kept
}
