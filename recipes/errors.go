package recipes

import (
	"fmt"
	"strings"
	"unicode"
)

// A Position is where a value stands.
type Position struct {
	File   string // as it was opened, or "--set PATH" for a value from the command line
	Line   int    // from 1; 0 where the file has no lines
	Column int    // from 1, in characters
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is one thing that is wrong with a recipe.
type Error struct {
	Position Position
	What     string // what is wrong
	Do       string // what to do about it
	Err      error  // the cause, where there is one
}

// Error returns "file:line:column: what: what to do", always one line.
func (e *Error) Error() string {
	text := e.Position.String() + ": " + e.What
	if e.Do != "" {
		text += ": " + e.Do
	}
	return strings.Map(printable, text)
}

// printable keeps what a recipe holds from breaking the line or steering the terminal.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors is all that is wrong with a recipe, in the order of the file. errors.As finds the first [*Error] in it.
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
