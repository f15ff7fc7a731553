package document

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Render writes n as YAML below header, which ends in a line end or is empty. The place tells for each line and column
// of what was written where it comes from. The same values give the same bytes.
func Render(n *Node, header string) ([]byte, Place, error) {
	data, err := encode(n, header, true)
	if err != nil {
		return nil, nil, err
	}
	back, problems := Parse(data, InFile(""))
	if len(problems) > 0 || !Same(n, back) {
		// A block scalar that YAML cannot hold as it is.
		if data, err = encode(n, header, false); err != nil {
			return nil, nil, err
		}
		back, problems = Parse(data, InFile(""))
		if len(problems) > 0 || !Same(n, back) {
			return nil, nil, fmt.Errorf("%s: a value cannot be written as YAML: remove control characters and bytes that are not UTF-8", n.Pos)
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
			return n.Pos
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
func trace(n, back *Node, marks []mark) []mark {
	marks = append(marks, mark{back.Pos.Line, back.Pos.Column, n.Pos})
	for i := range n.Items {
		marks = trace(n.Items[i], back.Items[i], marks)
	}
	for i, e := range n.Entries {
		at := back.Entries[i].Pos
		marks = append(marks, mark{at.Line, at.Column, e.Pos})
		marks = trace(e.Value, back.Entries[i].Value, marks)
	}
	return marks
}

// Same reports whether two nodes hold the same values.
func Same(a, b *Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || len(a.Items) != len(b.Items) || len(a.Entries) != len(b.Entries) {
		return false
	}
	if a.Kind == Scalar {
		return a.Tag == b.Tag && (a.Value == b.Value || a.Tag == "!!null")
	}
	for i := range a.Items {
		if !Same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for i, e := range a.Entries {
		if e.Key != b.Entries[i].Key || !Same(e.Value, b.Entries[i].Value) {
			return false
		}
	}
	return true
}

func encode(n *Node, header string, blocks bool) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	if n.Kind == Mapping && len(n.Entries) == 0 {
		out.WriteString("{}\n")
		return out.Bytes(), nil
	}
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(n.yaml(blocks)); err != nil {
		return nil, fmt.Errorf("%s: write YAML: %w", n.Pos, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("%s: write YAML: %w", n.Pos, err)
	}
	return out.Bytes(), nil
}

// yaml returns n for yaml.v3. Plain values stay as they were written, so that cloud-init, which reads YAML 1.1, sees
// what it would see in a file of its own.
func (n *Node) yaml(blocks bool) *yaml.Node {
	switch n.Kind {
	case Sequence:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range n.Items {
			y.Content = append(y.Content, item.yaml(blocks))
		}
		return y
	case Mapping:
		y := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range n.Entries {
			k := &Node{Tag: e.KeyTag, Value: e.Key}
			y.Content = append(y.Content, k.yaml(false), e.Value.yaml(blocks))
		}
		return y
	}
	y := &yaml.Node{Kind: yaml.ScalarNode, Value: n.Value}
	switch {
	case n.Tag == "!!null":
		y.Value = "null"
	case n.Tag == "!!binary":
		y.Tag = n.Tag
	case n.Tag != "!!str":
	case strings.Contains(n.Value, "\n") && blocks:
		y.Style = yaml.LiteralStyle
	case n.Quoted && !plain(n.Value), strings.Contains(n.Value, "\n"), n.Value == "":
		y.Style = yaml.DoubleQuotedStyle
	default:
		y.Tag = n.Tag
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

// IsText reports whether YAML can hold data as a string.
func IsText(data []byte) bool {
	return utf8.Valid(data) && !strings.ContainsFunc(string(data), func(r rune) bool {
		return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0x2028 || r == 0x2029 || r >= 0xfffe
	})
}
