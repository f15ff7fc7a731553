package boottest

import (
	"fmt"
	"regexp"
	"strings"
)

// The bounds of what a result quotes of a text.
const (
	maxQuoteLines = 12
	maxQuoteBytes = 1500
)

// fits returns what a text is not that it is to be, each in words such as
// `contains "Welcome"`.
func (m Match) fits(text string) []string {
	var missed []string
	for _, pattern := range m.Contains {
		if !found(pattern, text) {
			missed = append(missed, "to contain "+show(pattern))
		}
	}
	for _, pattern := range m.Not {
		if found(pattern, text) {
			missed = append(missed, "not to contain "+show(pattern))
		}
	}
	if m.Equals != "" && strings.TrimRight(text, " \t\r\n") != strings.TrimRight(m.Equals, " \t\r\n") {
		missed = append(missed, "to be "+show(m.Equals))
	}
	if m.Empty && text != "" {
		missed = append(missed, "to be empty")
	}
	return missed
}

// expression returns the regular expression between a pattern's slashes, nil for a
// pattern that is meant as it is or that is no expression.
func expression(pattern string) *regexp.Regexp {
	if len(pattern) < 3 || pattern[0] != '/' || pattern[len(pattern)-1] != '/' {
		return nil
	}
	re, err := regexp.Compile(pattern[1 : len(pattern)-1])
	if err != nil {
		return nil
	}
	return re
}

func found(pattern, text string) bool {
	if re := expression(pattern); re != nil {
		return re.MatchString(text)
	}
	return strings.Contains(text, pattern)
}

func show(pattern string) string {
	if expression(pattern) != nil {
		return pattern
	}
	return fmt.Sprintf("%q", pattern)
}

// judge holds a text against what it is to be: nothing where it fits, else lines
// that say what was expected and what the text is.
func judge(what, text string, m Match) []string {
	missed := m.fits(text)
	if len(missed) == 0 {
		return nil
	}
	lines := []string{what + ": expected " + strings.Join(missed, " and ")}
	return append(lines, quote(what, text)...)
}

// quote returns the lines of a text, indented, shortened in the middle: the
// beginning tells what it is, the end how it came out.
func quote(what, text string) []string {
	text = strings.TrimRight(text, " \t\r\n")
	if text == "" {
		return []string{what + " is empty"}
	}
	lines := strings.Split(text, "\n")
	if len(lines) == 1 && len(text) <= 200 {
		return []string{what + " is " + fmt.Sprintf("%q", text)}
	}
	var quoted []string
	if over := len(lines) - maxQuoteLines; over > 0 {
		head := append([]string(nil), lines[:maxQuoteLines/3]...)
		head = append(head, fmt.Sprintf("… %d lines more …", over))
		lines = append(head, lines[len(lines)-maxQuoteLines*2/3:]...)
	}
	quoted = append(quoted, what+" is:")
	room := maxQuoteBytes
	for _, line := range lines {
		line = plain(line)
		line = line[:min(len(line), max(room, 0))]
		room -= len(line)
		quoted = append(quoted, "  "+line)
	}
	return quoted
}

// plain keeps what a machine writes from steering the terminal.
func plain(line string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, "\uFFFD"))
}
