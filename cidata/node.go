package cidata

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds on what a YAML document may ask of memory and stack. Aliases count as what they stand for.
const (
	maxYAML  = 16 << 20 // bytes of one document
	maxNodes = 500_000
	maxText  = 64 << 20
	maxDepth = 64
)

type kind int

const (
	scalar kind = iota
	sequence
	mapping
)

func (k kind) String() string { return [...]string{"a single value", "a list", "a mapping"}[k] }

// A node is a YAML value that knows where it was written. Unlike yaml.Node it is free of aliases and of keys written
// twice.
type node struct {
	kind    kind
	pos     Position
	tag     string // of a scalar, in its short form: !!str, !!int, …
	value   string // of a scalar, as written
	quoted  bool   // of a scalar: it was in quotes or is a block
	items   []*node
	entries []entry
}

type entry struct {
	key    string
	pos    Position
	value  *node
	keyTag string
}

func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// set appends a key, or replaces its value.
func (n *node) set(key string, value *node) {
	for i, e := range n.entries {
		if e.key == key {
			n.entries[i].value = value
			return
		}
	}
	n.entries = append(n.entries, entry{key, value.pos, value, "!!str"})
}

func (n *node) remove(key string) {
	n.entries = slices.DeleteFunc(n.entries, func(e entry) bool { return e.key == key })
}

// textNode returns a string as a node.
func textNode(value string, pos Position) *node {
	return &node{tag: "!!str", value: value, quoted: true, pos: pos}
}

func boolNode(value bool, pos Position) *node {
	return &node{tag: "!!bool", value: strconv.FormatBool(value), pos: pos}
}

func mapNode(pos Position) *node { return &node{kind: mapping, pos: pos} }

func listNode(pos Position, items ...*node) *node {
	return &node{kind: sequence, pos: pos, items: items}
}

// A place turns lines and columns of a text into positions.
type place func(line, column int) Position

// inFile is the place of a file's own lines.
func inFile(name string) place {
	return func(line, column int) Position { return Position{name, line, column} }
}

// A reader turns YAML into nodes and counts what it has made.
type reader struct {
	nodes, text int
	at          place
	merges      bool // take merge keys (<<), which cloud-init does and a seed file does not
	problems    Errors
}

// parseYAML returns the single document in data, nil where it is empty.
func parseYAML(data []byte, at place, merges bool) (*node, Errors) {
	r := &reader{at: at, merges: merges}
	if len(data) > maxYAML {
		r.problem(at(1, 1), fmt.Sprintf("%d bytes are too large for YAML", len(data)), fmt.Sprintf("stay below %d", maxYAML))
		return nil, r.problems
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, r.syntax(err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, nil
	}
	root, err := r.convert(document.Content[0], 0, map[*yaml.Node]bool{})
	if err != nil {
		return nil, append(r.problems, err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		r.problem(at(max(second.Line, 1), max(second.Column, 1)), "a second document begins", "write one document in a file, without --- in it")
	} else if err != io.EOF {
		r.problems = append(r.problems, r.syntax(err)...)
	}
	return root, r.problems
}

func (r *reader) problem(pos Position, what, do string) {
	r.problems = append(r.problems, &Error{Position: pos, What: what, Do: do})
}

// convert copies n, following aliases; open holds the anchors that are being followed.
func (r *reader) convert(n *yaml.Node, depth int, open map[*yaml.Node]bool) (*node, *Error) {
	pos := r.at(max(n.Line, 1), max(n.Column, 1))
	r.nodes++
	r.text += len(n.Value)
	if depth > maxDepth || r.nodes > maxNodes || r.text > maxText || len(r.problems) > 50 {
		return nil, &Error{Position: pos, What: "the document is too deep or too large", Do: fmt.Sprintf("stay below %d levels and %d values; an alias counts as all that it stands for", maxDepth, maxNodes), Err: ErrTooLarge}
	}
	c := &node{pos: pos, tag: n.ShortTag(), value: n.Value, quoted: n.Style&^yaml.TaggedStyle != 0 || n.Style != 0 && n.ShortTag() == "!!str"}
	switch n.Kind {
	case yaml.AliasNode:
		if open[n.Alias] {
			return nil, &Error{Position: pos, What: "alias *" + n.Value + " stands for something it is part of", Do: "write the value out"}
		}
		open[n.Alias] = true
		target, err := r.convert(n.Alias, depth+1, open)
		delete(open, n.Alias)
		if err == nil {
			target.pos = pos
		}
		return target, err
	case yaml.SequenceNode:
		c.kind = sequence
		for _, item := range n.Content {
			child, err := r.convert(item, depth+1, open)
			if err != nil {
				return nil, err
			}
			c.items = append(c.items, child)
		}
	case yaml.MappingNode:
		c.kind = mapping
		return c, r.entries(c, n, depth, open)
	}
	if tag := n.Tag; tag != "" && !strings.HasPrefix(c.tag, "!!") {
		r.problem(pos, "tag "+strconv.Quote(shorten(tag))+" has no meaning here", "remove it")
	}
	return c, nil
}

func (r *reader) entries(c *node, n *yaml.Node, depth int, open map[*yaml.Node]bool) *Error {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		pos := r.at(max(key.Line, 1), max(key.Column, 1))
		if key.ShortTag() == "!!merge" {
			if err := r.merge(c, n.Content[i+1], pos, depth, open); err != nil {
				return err
			}
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.problem(pos, "a key is not a word", "write KEY: VALUE")
			continue
		}
		line, twice := lines[key.Value]
		if twice {
			r.problem(pos, fmt.Sprintf("key %q is written twice, first in line %d", shorten(key.Value), line), "remove one of the two")
		}
		lines[key.Value] = key.Line
		child, err := r.convert(n.Content[i+1], depth+1, open)
		if err != nil {
			return err
		}
		// What stands here is taken before what a merge key brought. Of a key written twice both are kept: where that is
		// not the end, a secret may be in either.
		if c.get(key.Value) != nil && !twice {
			c.set(key.Value, child)
			continue
		}
		c.entries = append(c.entries, entry{key.Value, pos, child, key.ShortTag()})
	}
	return nil
}

// merge lays the mappings of a merge key under c.
func (r *reader) merge(c *node, n *yaml.Node, pos Position, depth int, open map[*yaml.Node]bool) *Error {
	if !r.merges {
		r.problem(pos, "the merge key << is not read", "write the values out")
		return nil
	}
	from, err := r.convert(n, depth+1, open)
	if err != nil {
		return err
	}
	list := []*node{from}
	if from.kind == sequence {
		list = from.items
	}
	for _, m := range list {
		for _, e := range m.entries {
			if c.get(e.key) == nil {
				c.entries = append(c.entries, e)
			}
		}
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)$`)

// syntax gives a position to an error of the YAML reader, which knows the line only, and not always that.
func (r *reader) syntax(err error) Errors {
	line, what := 1, err.Error()
	if m := yamlLine.FindStringSubmatch(strings.ReplaceAll(what, "\n", " ")); m != nil {
		what = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	return Errors{{Position: r.at(line, 1), What: "not YAML: " + what, Do: "look at the indentation, colons and quotes in and above this line", Err: err}}
}
