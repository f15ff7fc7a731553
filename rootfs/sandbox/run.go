package sandbox

import (
	"context"
	"fmt"
)

// Run runs s.Argv or s.Call in a sandbox and waits for its end. It returns nil when
// the program ended with status 0, an *ExitError when it did not, a *CallError when a
// function returned an error, and ctx's error when ctx ended first.
func Run(ctx context.Context, s Spec) error {
	_, err := s.resolved()
	if err != nil {
		return err
	}
	return fmt.Errorf("sandbox: %s: %w", s.name(), ErrNotSupported)
}

// Check says whether sandboxes with ids can be had on this host, and if not, what to change.
func Check(ctx context.Context, ids IDs) error { return ErrNotSupported }

// MakeOwned makes the directory dir, owned by root of the Range sandboxes, with mode 0755.
func MakeOwned(ctx context.Context, dir string) error { return ErrNotSupported }

// RemoveAll removes dir and all below it, whoever of a Range sandbox owns it.
func RemoveAll(ctx context.Context, dir string) error { return ErrNotSupported }

func outerMain() int                                     { return 1 }
func innerMain(arg string, funcs map[string]Func) int { return 1 }
