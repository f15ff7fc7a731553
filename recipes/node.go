package recipes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds on what a recipe may ask of memory and stack. Aliases count as what they stand for.
const (
	maxFileSize = 4 << 20 // bytes of one recipe
	maxNodes    = 200_000 // values of one recipe with all that it includes
	maxText     = 32 << 20
	maxDepth    = 32
	maxIncludes = 100 // files of one recipe
)

type kind int

const (
	scalar kind = iota
	sequence
	mapping
)

func (k kind) String() string { return [...]string{"a single value", "a list", "a mapping"}[k] }

// A node is a YAML value that knows its file. Unlike yaml.Node it is free of aliases and of keys written twice.
type node struct {
	kind    kind
	pos     Position
	tag     string // of a scalar, in its short form: !!str, !!int, …
	value   string // of a scalar, as written
	items   []*node
	entries []entry
	whole   bool // a mapping's short form: it is laid over another as a whole
}

type entry struct {
	key   string
	pos   Position
	value *node
}

func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// A reader turns YAML into nodes and counts what it has made, over all files of one recipe.
type reader struct {
	nodes, text int
	at          func(line, column int) Position
	problems    Errors
}

// errTooLarge ends the reading of a file at once.
var errTooLarge = errors.New("too large")

func (r *reader) problem(pos Position, what, do string) {
	r.problems = append(r.problems, &Error{Position: pos, What: what, Do: do})
}

// read returns the single document in data. An empty one is an empty mapping.
func (r *reader) read(data []byte, at func(line, column int) Position) (*node, error) {
	r.at, r.problems = at, nil
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case err == io.EOF:
		return &node{kind: mapping, pos: at(1, 1)}, nil
	case err != nil:
		return nil, r.syntax(err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return &node{kind: mapping, pos: at(1, 1)}, nil
	}
	root, err := r.convert(document.Content[0], 0, map[*yaml.Node]bool{})
	if err != nil {
		return nil, append(r.problems, err.(*Error))
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		r.problem(at(max(second.Line, 1), max(second.Column, 1)), "a second document begins", "write one recipe in a file, without --- in it")
	} else if err != io.EOF {
		return nil, append(r.problems, r.syntax(err)...)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return root, nil
}

// convert copies n, following aliases; open holds the anchors that are being followed.
func (r *reader) convert(n *yaml.Node, depth int, open map[*yaml.Node]bool) (*node, error) {
	pos := r.at(max(n.Line, 1), max(n.Column, 1))
	r.nodes++
	r.text += len(n.Value)
	if depth > maxDepth || r.nodes > maxNodes || r.text > maxText || len(r.problems) > 50 {
		return nil, &Error{Position: pos, What: "the recipe is too deep or too large", Do: fmt.Sprintf("stay below %d levels and %d values; an alias counts as all that it stands for", maxDepth, maxNodes), Err: errTooLarge}
	}
	c := &node{pos: pos, tag: n.ShortTag(), value: n.Value}
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
		r.problem(pos, "tag "+strconv.Quote(tag)+" has no meaning here", "remove it")
	}
	return c, nil
}

func (r *reader) entries(c *node, n *yaml.Node, depth int, open map[*yaml.Node]bool) error {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		pos := r.at(max(key.Line, 1), max(key.Column, 1))
		if key.ShortTag() == "!!merge" {
			r.problem(pos, "the merge key << is not read", "write the values out, or put them into a file and include it")
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.problem(pos, "a key is not a word", "write KEY: VALUE")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			r.problem(pos, fmt.Sprintf("key %q is written twice, first in line %d", key.Value, line), "remove one of the two")
			continue
		}
		lines[key.Value] = key.Line
		child, err := r.convert(n.Content[i+1], depth+1, open)
		if err != nil {
			return err
		}
		c.entries = append(c.entries, entry{key.Value, pos, child})
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
