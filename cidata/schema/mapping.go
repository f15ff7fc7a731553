package schema

import "gopkg.in/yaml.v3"

// mapping reads a mapping. A key written twice has its last value, and what << lays
// beneath has those keys only that are not written.
func (r *reader) mapping(v *value, n *yaml.Node, depth int) error {
	v.kind = mapping
	tag := n.ShortTag()
	if tag != "!!map" && tag != "!!set" {
		return faultAt(n, "the tag %s does not fit a mapping", quote(tag))
	}
	m := members{of: v, at: map[string]int{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, content := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && r.tag(k) == "!!merge" {
			if err := r.merge(&m, content, depth); err != nil {
				return err
			}
			continue
		}
		key, err := r.key(k, depth)
		if err != nil {
			return err
		}
		inner, err := r.value(content, depth+1)
		if err != nil {
			return err
		}
		r.add(v, key)
		if r.add(v, inner); v.size > maxNodes {
			return nil
		}
		if m.put(key, inner, true) {
			r.problems = append(r.problems, Problem{Line: max(k.Line, 1), Column: max(k.Column, 1), Accepted: true, Duplicate: true,
				Message: "the key " + key.show() + " is written a second time, only this one counts"})
		}
	}
	m.close()
	if tag == "!!set" {
		*v = value{kind: other, line: v.line, column: v.column, size: v.size, length: v.length}
	}
	return nil
}

// key reads a key. Only a scalar can be one.
func (r *reader) key(n *yaml.Node, depth int) (*value, error) {
	if n.Kind == yaml.ScalarNode && r.tag(n) == "!!value" {
		return &value{kind: text, text: n.Value, line: n.Line, column: n.Column, size: 1, length: len(n.Value)}, nil
	}
	key, err := r.value(n, depth+1)
	if err == nil && (key.kind == sequence || key.kind == mapping || key.kind == other) {
		return nil, faultAt(n, "a key is %s, write a text", key.kind.noun())
	}
	if err == nil && n.Kind == yaml.AliasNode {
		// The key stands here, not where its text is.
		copied := *key
		copied.line, copied.column = n.Line, n.Column
		key = &copied
	}
	return key, err
}

// merge lays the mapping, or the list of mappings, that stands after << beneath
// what is there. In a list the first counts, of several << the last.
func (r *reader) merge(m *members, n *yaml.Node, depth int) error {
	target := n
	if n.Kind == yaml.AliasNode {
		target = n.Alias
	}
	inner, err := r.value(n, depth+1)
	if err != nil {
		return err
	}
	r.add(m.of, inner)
	layers := []*value{inner}
	if target.Kind == yaml.SequenceNode {
		layers = inner.items
	}
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i].kind != mapping {
			return faultAt(n, "<< stands before %s, write a mapping or a list of mappings", layers[i].kind.noun())
		}
		for _, e := range layers[i].entries {
			m.put(e.key, e.value, false)
		}
	}
	return nil
}

// members collects the entries of a mapping.
type members struct {
	of      *value
	at      map[string]int // by the identity of the key
	written []bool         // rather than merged
}

// put sets a key, unless a merged one would replace a written one. It says whether
// a written one was replaced.
func (m *members) put(key, inner *value, written bool) bool {
	id := string(key.appendIdentity(nil, true))
	i, ok := m.at[id]
	if !ok {
		m.at[id] = len(m.of.entries)
		m.of.entries = append(m.of.entries, entry{key, inner})
		m.written = append(m.written, written)
		return false
	}
	twice := m.written[i]
	if written || !twice {
		m.of.entries[i], m.written[i] = entry{key, inner}, written
	}
	return written && twice
}

// close makes the entries findable by the text of their key.
func (m *members) close() {
	m.of.index = make(map[string]int, len(m.of.entries))
	for i, e := range m.of.entries {
		if e.key.kind == text {
			m.of.index[e.key.text] = i
		}
	}
}
