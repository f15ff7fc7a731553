package document

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
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

// A reader turns YAML into nodes and counts what it has made.
type reader struct {
	nodes, text int
	at          Place
	merges      bool // take merge keys (<<), instead of refusing them
	problems    Errors
}

// Parse returns the single document in data, nil where it is empty, and what is wrong with it: at
// gives the places. A merge key (<<) is a problem. Where a bound is met, the error matches [ErrTooLarge].
func Parse(data []byte, at Place) (*Node, Errors) {
	r := &reader{at: at}
	return r.parse(data)
}

// ParseMerged is [Parse] with merge keys (YAML 1.1's type "merge") taken, as cloud-init takes them.
func ParseMerged(data []byte, at Place) (*Node, Errors) {
	r := &reader{at: at, merges: true}
	return r.parse(data)
}

func (r *reader) parse(data []byte) (*Node, Errors) {
	if len(data) > maxYAML {
		return nil, Errors{{Position: r.at(1, 1), What: fmt.Sprintf("%d bytes are too large for YAML", len(data)), Do: fmt.Sprintf("stay below %d", maxYAML), Err: ErrTooLarge}}
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
		r.problem(r.at(max(second.Line, 1), max(second.Column, 1)), "a second document begins", "write one document in a file, without --- in it")
	} else if err != io.EOF {
		r.problems = append(r.problems, r.syntax(err)...)
	}
	return root, r.problems
}

func (r *reader) problem(pos Position, what, do string) {
	r.problems = append(r.problems, &Error{Position: pos, What: what, Do: do})
}

// convert copies n, following aliases; open holds the anchors that are being followed.
func (r *reader) convert(n *yaml.Node, depth int, open map[*yaml.Node]bool) (*Node, *Error) {
	pos := r.at(max(n.Line, 1), max(n.Column, 1))
	r.nodes++
	r.text += len(n.Value)
	if depth > maxDepth || r.nodes > maxNodes || r.text > maxText || len(r.problems) > 50 {
		return nil, &Error{Position: pos, What: "the document is too deep or too large", Do: fmt.Sprintf("stay below %d levels and %d values; an alias counts as all that it stands for", maxDepth, maxNodes), Err: ErrTooLarge}
	}
	c := &Node{Pos: pos, Tag: n.ShortTag(), Value: n.Value, Quoted: n.Style&^yaml.TaggedStyle != 0 || n.Style != 0 && n.ShortTag() == "!!str"}
	switch n.Kind {
	case yaml.AliasNode:
		if open[n.Alias] {
			return nil, &Error{Position: pos, What: "alias *" + n.Value + " stands for something it is part of", Do: "write the value out"}
		}
		open[n.Alias] = true
		target, err := r.convert(n.Alias, depth+1, open)
		delete(open, n.Alias)
		if err == nil {
			target.Pos = pos
		}
		return target, err
	case yaml.SequenceNode:
		c.Kind = Sequence
		for _, item := range n.Content {
			child, err := r.convert(item, depth+1, open)
			if err != nil {
				return nil, err
			}
			c.Items = append(c.Items, child)
		}
	case yaml.MappingNode:
		c.Kind = Mapping
		return c, r.entries(c, n, depth, open)
	}
	if tag := n.Tag; tag != "" && !strings.HasPrefix(c.Tag, "!!") {
		r.problem(pos, "tag "+strconv.Quote(Shorten(tag))+" has no meaning here", "remove it")
	}
	return c, nil
}

func (r *reader) entries(c *Node, n *yaml.Node, depth int, open map[*yaml.Node]bool) *Error {
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
			r.problem(pos, fmt.Sprintf("key %q is written twice, first in line %d", Shorten(key.Value), line), "remove one of the two")
		}
		lines[key.Value] = key.Line
		child, err := r.convert(n.Content[i+1], depth+1, open)
		if err != nil {
			return err
		}
		// What stands here is taken before what a merge key brought. Of a key written twice both are kept: where that is
		// not the end, a secret may be in either.
		if c.Get(key.Value) != nil && !twice {
			c.Set(key.Value, child)
			continue
		}
		c.Entries = append(c.Entries, Entry{key.Value, pos, child, key.ShortTag()})
	}
	return nil
}

// merge lays the mappings of a merge key under c.
func (r *reader) merge(c *Node, n *yaml.Node, pos Position, depth int, open map[*yaml.Node]bool) *Error {
	if !r.merges {
		r.problem(pos, "the merge key << is not read", "write the values out")
		return nil
	}
	from, err := r.convert(n, depth+1, open)
	if err != nil {
		return err
	}
	list := []*Node{from}
	if from.Kind == Sequence {
		list = from.Items
	}
	for _, m := range list {
		for _, e := range m.Entries {
			if c.Get(e.Key) == nil {
				c.Entries = append(c.Entries, e)
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
