package document

import (
	"slices"
	"strconv"
)

// A Kind says what a [Node] is.
type Kind int

// The kinds of nodes.
const (
	Scalar Kind = iota
	Sequence
	Mapping
)

// String names the kind for an error: "a list".
func (k Kind) String() string { return [...]string{"a single value", "a list", "a mapping"}[k] }

// A Node is a YAML value that knows where it was written. Unlike yaml.Node it is free of aliases and of keys written
// twice.
type Node struct {
	Kind    Kind
	Pos     Position
	Tag     string  // of a scalar, in its short form: !!str, !!int, …
	Value   string  // of a scalar, as written
	Quoted  bool    // of a scalar: it was in quotes or is a block
	Items   []*Node // of a sequence
	Entries []Entry // of a mapping, in its order
}

// An Entry is one key of a mapping.
type Entry struct {
	Key    string
	Pos    Position // of the key
	Value  *Node
	KeyTag string // as [Node.Tag]
}

// Get returns the value of a key, nil where there is none or n is no mapping; n may be nil.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, e := range n.Entries {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// Set appends a key, or replaces its value.
func (n *Node) Set(key string, value *Node) {
	for i, e := range n.Entries {
		if e.Key == key {
			n.Entries[i].Value = value
			return
		}
	}
	n.Entries = append(n.Entries, entry(key, value))
}

// Prepend puts a key before all others.
func (n *Node) Prepend(key string, value *Node) {
	n.Entries = slices.Insert(n.Entries, 0, entry(key, value))
}

func entry(key string, value *Node) Entry {
	return Entry{Key: key, Pos: value.Pos, Value: value, KeyTag: "!!str"}
}

// Remove takes a key out, where it is there.
func (n *Node) Remove(key string) {
	n.Entries = slices.DeleteFunc(n.Entries, func(e Entry) bool { return e.Key == key })
}

// Text returns a string as a node.
func Text(value string, pos Position) *Node {
	return &Node{Tag: "!!str", Value: value, Quoted: true, Pos: pos}
}

// Int returns digits as a node.
func Int(digits string, pos Position) *Node { return &Node{Tag: "!!int", Value: digits, Pos: pos} }

// Bool returns a truth value as a node.
func Bool(value bool, pos Position) *Node {
	return &Node{Tag: "!!bool", Value: strconv.FormatBool(value), Pos: pos}
}

// Map returns an empty mapping.
func Map(pos Position) *Node { return &Node{Kind: Mapping, Pos: pos} }

// List returns a sequence.
func List(pos Position, items ...*Node) *Node {
	return &Node{Kind: Sequence, Pos: pos, Items: items}
}
