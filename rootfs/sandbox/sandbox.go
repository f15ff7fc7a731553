package sandbox

import (
	"os"
	"strings"
	"syscall"
)

// Main must be the first line of main, and of TestMain in packages whose tests run
// sandboxes. In a child that a sandbox is made of it does that child's work and never
// returns; in any other process it returns at once. funcs are those that Spec.Call
// can name.
func Main(funcs map[string]Func) {
	if len(os.Args) != 2 || os.Args[0] != argvZero {
		return
	}
	// Not os.Exit: its hooks are for the program, not for these children, and that of
	// the race detector takes a second.
	switch arg := os.Args[1]; {
	case arg == outerArg:
		syscall.Exit(outerMain())
	case strings.HasPrefix(arg, innerArg):
		syscall.Exit(innerMain(strings.TrimPrefix(arg, innerArg), funcs))
	}
}
