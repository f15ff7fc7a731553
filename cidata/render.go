package cidata

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// render writes n as YAML below header. The place tells for each line and column of what was written where in the seed
// file it comes from.
func render(n *node, header string) ([]byte, place, error) {
	data, err := encode(n, header, true)
	if err != nil {
		return nil, nil, err
	}
	back, problems := parseYAML(data, inFile(""), false)
	if len(problems) > 0 || !same(n, back) {
		// A block scalar that YAML cannot hold as it is.
		if data, err = encode(n, header, false); err != nil {
			return nil, nil, err
		}
		back, problems = parseYAML(data, inFile(""), false)
		if len(problems) > 0 || !same(n, back) {
			return nil, nil, fmt.Errorf("%s: a value cannot be written as YAML: remove control characters and bytes that are not UTF-8", n.pos)
		}
	}
	var marks []mark
	marks = trace(n, back, marks)
	// Where a mapping and its first key begin in one place, the key is meant.
	slices.Reverse(marks)
	slices.SortStableFunc(marks, compareMarks)
	return data, func(line, column int) Position {
		i, found := slices.BinarySearchFunc(marks, mark{line: line, column: column}, compareMarks)
		if !found && i > 0 {
			i--
		}
		if i >= len(marks) {
			return n.pos
		}
		return marks[i].pos
	}, nil
}

// A mark says where the value at a line and column of a rendered text comes from.
type mark struct {
	line, column int
	pos          Position
}

func compareMarks(a, b mark) int {
	if a.line != b.line {
		return a.line - b.line
	}
	return a.column - b.column
}

// trace marks n's values with the places that they have in back, which is n written and read again.
func trace(n, back *node, marks []mark) []mark {
	marks = append(marks, mark{back.pos.Line, back.pos.Column, n.pos})
	for i := range n.items {
		marks = trace(n.items[i], back.items[i], marks)
	}
	for i, e := range n.entries {
		at := back.entries[i].pos
		marks = append(marks, mark{at.Line, at.Column, e.pos})
		marks = trace(e.value, back.entries[i].value, marks)
	}
	return marks
}

// same reports whether two nodes hold the same values.
func same(a, b *node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.entries) != len(b.entries) {
		return false
	}
	if a.kind == scalar {
		return a.tag == b.tag && (a.value == b.value || a.tag == "!!null")
	}
	for i := range a.items {
		if !same(a.items[i], b.items[i]) {
			return false
		}
	}
	for i, e := range a.entries {
		if e.key != b.entries[i].key || !same(e.value, b.entries[i].value) {
			return false
		}
	}
	return true
}

func encode(n *node, header string, blocks bool) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	if n.kind == mapping && len(n.entries) == 0 {
		out.WriteString("{}\n")
		return out.Bytes(), nil
	}
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(n.yaml(blocks)); err != nil {
		return nil, fmt.Errorf("%s: write YAML: %w", n.pos, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("%s: write YAML: %w", n.pos, err)
	}
	return out.Bytes(), nil
}

// yaml returns n for yaml.v3. Plain values stay as they were written, so that cloud-init, which reads YAML 1.1, sees
// what it would see in a file of its own.
func (n *node) yaml(blocks bool) *yaml.Node {
	switch n.kind {
	case sequence:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range n.items {
			y.Content = append(y.Content, item.yaml(blocks))
		}
		return y
	case mapping:
		y := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range n.entries {
			k := &node{tag: e.keyTag, value: e.key}
			y.Content = append(y.Content, k.yaml(false), e.value.yaml(blocks))
		}
		return y
	}
	y := &yaml.Node{Kind: yaml.ScalarNode, Value: n.value}
	switch {
	case n.tag == "!!null":
		y.Value = "null"
	case n.tag == "!!binary":
		y.Tag = n.tag
	case n.tag != "!!str":
	case strings.Contains(n.value, "\n") && blocks:
		y.Style = yaml.LiteralStyle
	case n.quoted && !plain(n.value), strings.Contains(n.value, "\n"), n.value == "":
		y.Style = yaml.DoubleQuotedStyle
	default:
		y.Tag = n.tag
	}
	return y
}

// What every reader of YAML, 1.1 or 1.2, takes as a string without quotes.
var (
	plainForm  = regexp.MustCompile(`^[A-Za-z/_][A-Za-z0-9/_.@+-]*( [A-Za-z0-9/_.@+=-]+)*$`)
	truthWords = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

func plain(value string) bool {
	return len(value) < 1000 && plainForm.MatchString(value) && !truthWords.MatchString(value)
}
