// Package overlay holds the files that every appliance gets on top of its
// packages: those of the root file system and those of the initrd.
//
// They keep the first boot short (nothing is made again that the image already
// has), let the machine make its own identity (machine-id, SSH host keys) and
// put a writable state over a root that is never written. The package knows
// no tree: it returns plain values for the caller to lay down.
package overlay

import "io/fs"

// A File is one file, directory or symbolic link, owned by root.
type File struct {
	Path    string      // without a leading slash
	Mode    fs.FileMode // type (regular, directory or symbolic link) and permissions
	Content []byte      // of a regular file
	Link    string      // target of a symbolic link
}

// Options chooses among the files.
type Options struct {
	// State is where what the machine writes goes to.
	State State
	// StateSize bounds a state in memory, in the notation of tmpfs(5)'s size=
	// option; "" means half of the machine's memory.
	StateSize string
}

// State says how long the writable places of the machine are kept.
type State int

const (
	// StateNone: the writable places are in memory and forgotten at power-off.
	StateNone State = iota
)

// Files returns what belongs into the root file system, sorted by path.
func Files(o Options) []File { return nil }

// Initrd returns what belongs into the initrd, sorted by path.
func Initrd(o Options) []File { return nil }
