package document

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ErrTooLarge is the cause of an [Error] where a bound was met.
var ErrTooLarge = errors.New("too large")

// A Position is where a value stands.
type Position struct {
	File   string `json:"file"`             // as it was opened, or the flag that gave the value
	Line   int    `json:"line,omitempty"`   // from 1; 0 where there are no lines
	Column int    `json:"column,omitempty"` // from 1, in characters; 0 where it is not known
}

// String returns file:line:column, as far as they are known.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is one thing that is wrong with what was written.
type Error struct {
	Position Position
	What     string // what is wrong
	Do       string // what to do about it
	Err      error  // the cause, where there is onematches ErrSecret, ErrTooLarge
}

// Error returns "file:line:column: what: what to do", always one line.
func (e *Error) Error() string {
	text := e.What
	if at := e.Position.String(); at != "" {
		text = at + ": " + text
	}
	if e.Do != "" {
		text += ": " + e.Do
	}
	return OneLine(text)
}

// OneLine keeps what a file holds from breaking the line or steering the terminal.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors is all that is wrong with it. errors.As finds the first [*Error] in it.
type Errors []*Error

// Error returns one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, problem := range e {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single problems.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, problem := range e {
		errs[i] = problem
	}
	return errs
}

// Err returns e as an error, nil where it is empty; each line once, in the order of the file.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e.Once()
}

// Once returns e without lines that are there already, those of one file in its order.
func (e Errors) Once() Errors {
	var list Errors
	seen, files := map[string]bool{}, map[string]int{}
	for _, problem := range e {
		if text := problem.Error(); !seen[text] {
			seen[text] = true
			list = append(list, problem)
		}
		if _, known := files[problem.Position.File]; !known {
			files[problem.Position.File] = len(files)
		}
	}
	slices.SortStableFunc(list, func(a, b *Error) int {
		return cmp.Or(files[a.Position.File]-files[b.Position.File], a.Position.Line-b.Position.Line, a.Position.Column-b.Position.Column)
	})
	return slices.Clip(list)
}

// Shorten keeps an error on one line of bearable length.
func Shorten(text string) string {
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return text
}

// Quote returns what a file holds in quotes, shortened and on one line, for an error.
func Quote(value string) string { return `"` + Shorten(OneLine(value)) + `"` }
