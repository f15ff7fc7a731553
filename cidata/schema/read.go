package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds on what a file may ask of memory, stack and time. Aliases count as what
// they stand for.
const (
	maxSize  = 16 << 20 // bytes of a file
	maxText  = 64 << 20 // bytes of all texts
	maxNodes = 500_000
	maxDepth = 100
)

// A reader turns the nodes of yaml.v3, which reads YAML 1.2 and 1.1 mixed, into
// values as SafeLoader of PyYAML makes them.
type reader struct {
	patterns patterns
	anchors  map[string]bool
	done     map[*yaml.Node]*value // values with an anchor
	open     map[*yaml.Node]bool   // values with an anchor that are being read
	problems []Problem             // keys written twice
}

// fault ends the reading.
type fault struct{ Problem }

func (f *fault) Error() string { return f.String() }

func faultAt(n *yaml.Node, format string, args ...any) error {
	return &fault{Problem{Line: max(n.Line, 1), Column: max(n.Column, 1), Message: fmt.Sprintf(format, args...)}}
}

// read returns the single document in data, or nil and the reason why there is
// none. What it reports with a document are keys written twice.
func read(data []byte, p patterns) (*value, []Problem) {
	if len(data) > maxSize {
		return nil, []Problem{{Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes, more than %d", len(data), maxSize)}}
	}
	if found := unprintable(data); found != nil {
		return nil, []Problem{*found}
	}
	r := &reader{patterns: p, anchors: map[string]bool{}, done: map[*yaml.Node]*value{}, open: map[*yaml.Node]bool{}}
	document, err := r.document(data)
	if err != nil {
		if f := (*fault)(nil); errors.As(err, &f) {
			return nil, []Problem{f.Problem}
		}
		return nil, []Problem{syntax(err)}
	}
	return document, r.problems
}

func (r *reader) document(data []byte) (*value, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(respell(data, r.patterns)))
	var first, second yaml.Node
	switch err := decoder.Decode(&first); {
	case err == io.EOF:
		return &value{kind: null, line: 1, column: 1}, nil
	case err != nil:
		return nil, err
	}
	if len(first.Content) != 1 {
		return &value{kind: null, line: 1, column: 1}, nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, faultAt(&second, "a second document begins, write one in a file")
	case err != io.EOF:
		return nil, err
	}
	if found := strayTab(data, &first); found != nil {
		return nil, &fault{*found}
	}
	return r.value(first.Content[0], 0)
}

// unprintable finds what YAML allows nowhere.
func unprintable(data []byte) *Problem {
	line, column := 1, 1
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		what := ""
		switch {
		case c == utf8.RuneError && size == 1:
			what = fmt.Sprintf("the byte %#02x is no UTF-8", data[i])
		case c == '\t', c == '\n', c == '\r', c >= 0x20 && c <= 0x7e, c == 0x85, c >= 0xa0 && c <= 0xd7ff, c >= 0xe000 && c <= 0xfffd, c >= 0x10000:
		default:
			what = fmt.Sprintf("the character %U is not allowed in YAML", c)
		}
		if what != "" {
			return &Problem{Line: line, Column: column, Message: what}
		}
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return nil
}

// syntax turns an error of yaml.v3 into a problem. The module tells no column, and
// of what its parser finds, unlike its scanner, the line before.
func syntax(err error) Problem {
	p := Problem{Line: 1, Column: 1}
	message := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(message); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		message = m[2]
	}
	if p.Line > 0 && regexp.MustCompile(`^did not find expected ('-' indicator|key|',' or|node content|<)`).MatchString(message) {
		p.Line++
		message += " around here"
	}
	p.Message = "this is no YAML: " + message
	return p
}

func (r *reader) value(n *yaml.Node, depth int) (*value, error) {
	if n.Kind == yaml.AliasNode {
		return r.alias(n)
	}
	v := &value{line: max(n.Line, 1), column: max(n.Column, 1), text: n.Value, size: 1, length: len(n.Value)}
	if depth > maxDepth {
		return nil, faultAt(n, "lists and mappings are nested more than %d deep", maxDepth)
	}
	if n.Anchor != "" {
		if r.anchors[n.Anchor] {
			return nil, faultAt(n, "the anchor &%s is written a second time", n.Anchor)
		}
		r.anchors[n.Anchor] = true
		r.open[n] = true
	}
	var err error
	switch n.Kind {
	case yaml.ScalarNode:
		err = r.patterns.scalar(v, r.tag(n))
		if err != nil {
			err = faultAt(n, "%v", err)
		}
	case yaml.SequenceNode:
		err = r.sequence(v, n, depth)
	case yaml.MappingNode:
		err = r.mapping(v, n, depth)
	default:
		err = faultAt(n, "this is no YAML value")
	}
	if err == nil && (v.size > maxNodes || v.length > maxText) {
		err = faultAt(n, "this holds more than %d values or %d bytes of text, an alias counted as all that it stands for", maxNodes, maxText)
	}
	if n.Anchor != "" {
		delete(r.open, n)
		r.done[n] = v
	}
	return v, err
}

func (r *reader) alias(n *yaml.Node) (*value, error) {
	if r.open[n.Alias] {
		return nil, faultAt(n, "the alias *%s stands for something that it is part of", n.Value)
	}
	if v := r.done[n.Alias]; v != nil {
		return v, nil
	}
	return nil, faultAt(n, "the alias *%s stands for nothing", n.Value)
}

// tag returns the tag of a scalar in its short form.
func (r *reader) tag(n *yaml.Node) string {
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		return n.ShortTag()
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return "!!str"
	}
	return r.patterns.tag(n.Value)
}

func (r *reader) add(v, part *value) {
	v.size += part.size
	v.length += part.length
}

func (r *reader) sequence(v *value, n *yaml.Node, depth int) error {
	v.kind = sequence
	tag := n.ShortTag()
	pairs := tag == "!!omap" || tag == "!!pairs"
	if tag != "!!seq" && !pairs {
		return faultAt(n, "the tag %s does not fit a list", quote(tag))
	}
	for _, child := range n.Content {
		item, err := r.value(flowKey(n, child), depth+1)
		if err != nil {
			return err
		}
		if pairs {
			if item.kind != mapping || len(item.entries) != 1 {
				return faultAt(child, "the list is tagged %s: write one key: value here", tag)
			}
			item = &value{kind: other, line: item.line, column: item.column, size: item.size, length: item.length}
		}
		v.items = append(v.items, item)
		if r.add(v, item); v.size > maxNodes {
			return nil
		}
	}
	return nil
}

// flowKey returns child, or, where it is a text such as the a: in [a:], the mapping
// that PyYAML reads there.
func flowKey(n, child *yaml.Node) *yaml.Node {
	name, ok := strings.CutSuffix(child.Value, ":")
	if !ok || name == "" || child.Kind != yaml.ScalarNode || child.Style != 0 || n.Style&yaml.FlowStyle == 0 {
		return child
	}
	pair := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: child.Line, Column: child.Column}
	for _, text := range []string{name, ""} {
		part := *child
		part.Value, part.Anchor = text, ""
		pair.Content = append(pair.Content, &part)
	}
	return pair
}
