package schema

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// respell writes the same in the same places for yaml.v3, which is stricter than
// PyYAML about four things: a version of YAML after 1.1, a block text whose first
// line begins with a tab, and in a double quoted text \/ and the halves of a
// surrogate pair, as some writers of JSON have them. Texts change a little by it, nothing else does: a tab that is no part of
// a text is a fault for strayTab, which sees the file as it is.
func respell(data []byte, p patterns) []byte {
	data = bytes.Clone(data)
	if at := p.version.FindSubmatchIndex(data); at != nil {
		data[at[2]] = '1'
	}
	for _, at := range p.tab.FindAllIndex(data, -1) {
		data[at[1]-1] = '.'
	}
	for i := 0; i+1 < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch {
		case data[i+1] == '/':
			data[i] = '/'
		case i+3 < len(data) && data[i+1] == 'u' && data[i+2]|0x20 == 'd' && data[i+3] >= '8':
			data[i+2] = '1'
		}
		i++
	}
	return data
}

// A layout knows where the lines of a file begin, and which bytes are inside of
// quoted and block texts.
type layout struct {
	data   []byte
	lines  []int // offsets
	inside []bool
}

// strayTab finds a tab that is neither in a quoted or block text nor in a comment.
// PyYAML takes none there, unlike yaml.v3.
func strayTab(data []byte, document *yaml.Node) *Problem {
	if !bytes.ContainsRune(data, '\t') {
		return nil
	}
	l := &layout{data: data, lines: []int{0}, inside: make([]bool, len(data))}
	for i, c := range data {
		if c == '\n' || c == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			l.lines = append(l.lines, i+1)
		}
	}
	l.mark(document)
	for number := range l.lines {
		line, comment := l.line(number), false
		for i, c := range line {
			at := l.lines[number] + i
			if c == '#' && !l.inside[at] && (i == 0 || line[i-1] == ' ') {
				comment = true
			}
			if c == '\t' && !l.inside[at] && !comment {
				return &Problem{Line: number + 1, Column: utf8.RuneCount(line[:i]) + 1, Message: "this is no YAML: a tab stands between values, write spaces"}
			}
		}
	}
	return nil
}

func (l *layout) line(number int) []byte {
	if number+1 < len(l.lines) {
		return l.data[l.lines[number]:l.lines[number+1]]
	}
	return l.data[l.lines[number]:]
}

// mark marks the texts of n and of what is in it.
func (l *layout) mark(n *yaml.Node) {
	for _, child := range n.Content {
		l.mark(child)
	}
	if n.Kind != yaml.ScalarNode || n.Line < 1 || n.Line > len(l.lines) {
		return
	}
	start := l.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(l.data[start:])
		start += size
	}
	// An anchor and a tag stand before the text.
	for start < len(l.data) && strings.IndexByte("&! \r\n", l.data[start]) >= 0 {
		if c := l.data[start]; c == '&' || c == '!' {
			start += max(bytes.IndexAny(l.data[start:], " \r\n"), 1)
			continue
		}
		start++
	}
	switch {
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		l.markQuoted(start)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		l.markBlock(n.Line-1, start)
	}
}

func (l *layout) markQuoted(start int) {
	if start >= len(l.data) {
		return
	}
	mark := l.data[start]
	for i := start + 1; i < len(l.data); i++ {
		l.inside[i] = true
		switch c := l.data[i]; {
		case mark == '"' && c == '\\', mark == '\'' && c == mark && i+1 < len(l.data) && l.data[i+1] == mark:
			if i++; i < len(l.data) {
				l.inside[i] = true
			}
		case c == mark:
			return
		}
	}
}

// markBlock marks the lines after the one with the | or > at start, which is line
// number or a later one, that are indented as the first of them is, or, where a
// digit gives the indentation, more than the line with it.
func (l *layout) markBlock(number, start int) {
	for number+1 < len(l.lines) && l.lines[number+1] <= start {
		number++
	}
	header := l.line(number)
	least, known := indent(header)+1, bytes.ContainsAny(header[start-l.lines[number]:], "123456789")
	for number++; number < len(l.lines); number++ {
		line := l.line(number)
		if len(bytes.Trim(line, " \r\n")) == 0 {
			continue
		}
		if !known {
			least, known = max(least, indent(line)), true
		}
		if indent(line) < least {
			return
		}
		for i := range line {
			l.inside[l.lines[number]+i] = true
		}
	}
}

func indent(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
