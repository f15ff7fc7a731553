package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// IDs says who is root inside.
type IDs int

const (
	// Caller: the caller's own user and group are 0 inside and there is no
	// other id. For tools that read and write the caller's files. Needs user
	// namespaces only, no newuidmap.
	Caller IDs = iota
	// Range: 0 to 65535 inside are 65536 ids that nobody has outside. For
	// trees. A host file that is bound in can be read only where its mode
	// lets others read it; what is private comes in by Files or Inject.
	Range
)

// Bind shows the host's file or directory Source, with all that is mounted
// below it, at Target inside.
type Bind struct {
	Source   string // on the host
	Target   string // absolute, inside; links in it are followed inside
	ReadOnly bool   // with all that is mounted below it
}

// Link is a symbolic link in the skeleton of a sandbox without a Root.
type Link struct {
	Path   string // absolute, inside
	Target string // what readlink(2) gives
}

// File is a file that exists only inside and only during the run.
type File struct {
	Path    string // absolute, inside; its directory must be there
	Content []byte
	Mode    fs.FileMode // permission bits; 0 is 0644
}

// Spec says what a sandbox looks like and what runs in it.
type Spec struct {
	// Root is the host directory that becomes /. When it is empty, / is a
	// tmpfs in which the places of all mounts are made.
	//
	// A tree for writing must have the directories proc, dev, tmp and run
	// (base-files has them) and the targets of Binds and Tmpfs: nothing is
	// made in it. With ReadOnlyRoot a target that is missing is made beside
	// the tree, not in it, where its first directory is missing too.
	Root         string
	ReadOnlyRoot bool // with all that is mounted below it

	Binds   []Bind   // mounted in this order, after what every sandbox has
	Tmpfs   []string // further empty directories in memory, mode 0755
	Links   []Link   // only without a Root
	Devices []string // device nodes of the host beyond the usual, e.g. /dev/kvm
	Keep    []string // of /tmp, /run and /sys: the tree's own instead of an empty tmpfs

	// Inject lays files over the tree's for the time of the run, e.g. a
	// policy-rc.d. Where the tree has no such file, an empty one is made to
	// mount upon and removed at the end of the run, also when the run fails
	// or the caller is killed. Only when the outer child itself is killed or
	// the machine stops, an empty file of mode 0 and date 1 (seconds since 1970)
	// stays; the next Run that injects the same path removes it. Two runs at
	// a time in one tree must not inject the same missing path.
	Inject []File

	// Network leaves the host's network in reach. Without it there is a
	// loopback and nothing else: connecting fails at once with ENETUNREACH.
	Network bool

	// NoSync lets fsync(2) and its kin succeed at once without doing anything:
	// for a tree that is thrown away, or synced as a whole later.
	NoSync bool

	IDs IDs

	Argv []string // Argv[0] without a slash is looked up in Env's PATH
	// Env is the whole environment; PATH and HOME=/root are added when missing.
	Env []string
	Dir string // working directory inside; / when empty

	// Call names a function given to Main that runs inside, instead of
	// Argv, in a process of its own with Args as JSON.
	Call string
	Args any

	// Stdin is empty when nil. Run does not wait for a Read that is still
	// blocked when the program has ended.
	Stdin io.Reader
	// Stdout and Stderr, when nil, go to ExitError.Tail only.
	Stdout, Stderr io.Writer
	Files          []*os.File // file descriptors 3 and up inside

	// Terminal leaves the program in the caller's session with the caller's
	// controlling terminal, and hands Stdin, Stdout and Stderr on as they are
	// when they are *os.File.
	Terminal bool
}

// Func is a function of this program that runs inside a sandbox. args is
// Spec.Args as JSON, files are those of Spec.Files. Its error's text is what
// Run returns in a *CallError. ctx never ends: the end of Run's kills the process. A
// function can do all that root of the sandbox can, except mount.
type Func func(ctx context.Context, args []byte, files []*os.File) error

// ExitError says that the program ended with a status other than 0 or by a signal.
type ExitError struct {
	Argv   []string
	Code   int            // exit status; -1 when a signal ended it
	Signal syscall.Signal // 0 when it exited
	// Tail holds the last 16 KiB of the program's standard error, together
	// with its standard output where Spec.Stdout is nil or the same writer.
	Tail []byte
}

// Error names the program, its end and the last line that it wrote.
func (e *ExitError) Error() string {
	var b strings.Builder
	b.WriteString(path.Base(e.Argv[0]))
	if e.Signal != 0 {
		fmt.Fprintf(&b, ": ended by signal %d (%v)", int(e.Signal), e.Signal)
	} else {
		fmt.Fprintf(&b, ": exit status %d", e.Code)
	}
	if line := lastLine(e.Tail); line != "" {
		b.WriteString(": " + line)
	}
	return b.String()
}

// lastLine returns the last line of b that is not blank, cut to 300 bytes.
func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	if i := bytes.LastIndexAny(b, "\r\n"); i >= 0 {
		b = bytes.TrimSpace(b[i+1:])
	}
	if len(b) > 300 {
		b = b[:300]
	}
	return strings.ToValidUTF8(string(b), "?")
}

// CallError is the error that a function run by Spec.Call returned.
type CallError struct {
	Call string
	Text string // the text of the function's error
}

func (e *CallError) Error() string { return e.Text }

// ErrNotSupported is matched by errors about a host that has or allows no user
// namespaces, or too few ids. The message says what to change.
var ErrNotSupported = errors.New("sandbox not possible on this host")

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// keepable are the mounts of every sandbox that Spec.Keep may leave out.
var keepable = [...]string{"/run", "/sys", "/tmp"}

// resolved is a copy of s with absolute host paths, clean inside paths and a full
// environment, or an error that says what in s cannot be.
func (s Spec) resolved() (Spec, error) {
	if err := s.validate(); err != nil {
		return s, fmt.Errorf("sandbox: %w", err)
	}
	abs := func(p string) (string, error) {
		a, err := filepath.Abs(p)
		if err != nil {
			return "", fmt.Errorf("sandbox: %s: %w", p, err)
		}
		return a, nil
	}
	var err error
	if s.Root != "" {
		if s.Root, err = abs(s.Root); err != nil {
			return s, err
		}
	}
	s.Binds = slices.Clone(s.Binds)
	for i := range s.Binds {
		b := &s.Binds[i]
		if b.Source, err = abs(b.Source); err != nil {
			return s, err
		}
		b.Target = path.Clean(b.Target)
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	s.Env = slices.Clone(s.Env)
	has := func(prefix string) bool {
		return slices.ContainsFunc(s.Env, func(v string) bool { return strings.HasPrefix(v, prefix) })
	}
	if !has("PATH=") {
		s.Env = append(s.Env, defaultPath)
	}
	if !has("HOME=") {
		s.Env = append(s.Env, "HOME=/root")
	}
	return s, nil
}

func (s Spec) validate() error {
	switch {
	case s.Call == "" && len(s.Argv) == 0:
		return errors.New("neither Argv nor Call is set")
	case s.Call != "" && len(s.Argv) != 0:
		return errors.New("both Argv and Call are set")
	case s.Call == "" && s.Argv[0] == "":
		return errors.New("the program name Argv[0] is empty")
	case s.IDs != Caller && s.IDs != Range:
		return fmt.Errorf("IDs is %d, not Caller or Range", s.IDs)
	case s.Root != "" && len(s.Links) != 0:
		return errors.New("only a sandbox without a Root can have Links")
	}
	inside := []string{}
	for _, b := range s.Binds {
		if b.Source == "" {
			return fmt.Errorf("bind on %s: Source is empty", b.Target)
		}
		inside = append(inside, b.Target)
	}
	for _, l := range s.Links {
		inside = append(inside, l.Path)
	}
	for _, f := range s.Inject {
		inside = append(inside, f.Path)
	}
	inside = append(inside, s.Tmpfs...)
	for _, p := range inside {
		if !path.IsAbs(p) || path.Clean(p) == "/" {
			return fmt.Errorf("%q is not an absolute path below /", p)
		}
	}
	for _, d := range s.Devices {
		if !strings.HasPrefix(d, "/dev/") || path.Clean(d) != d {
			return fmt.Errorf("device %q is not a clean path below /dev", d)
		}
	}
	for _, k := range s.Keep {
		if !slices.Contains(keepable[:], k) {
			return fmt.Errorf("%q cannot be kept, only %s", k, strings.Join(keepable[:], ", "))
		}
	}
	if s.Dir != "" && !path.IsAbs(s.Dir) {
		return fmt.Errorf("working directory %q is not absolute", s.Dir)
	}
	for _, v := range slices.Concat(s.Argv, s.Env) {
		if strings.IndexByte(v, 0) >= 0 {
			return fmt.Errorf("%q has a NUL in it", v)
		}
	}
	return nil
}

// args is s.Args as JSON.
func (s Spec) args() (json.RawMessage, error) {
	if s.Call == "" {
		return nil, nil
	}
	b, err := json.Marshal(s.Args)
	if err != nil {
		return nil, fmt.Errorf("sandbox: arguments of %s: %w", s.Call, err)
	}
	return b, nil
}

// name is what errors call the program.
func (s Spec) name() string {
	if s.Call != "" {
		return s.Call
	}
	return path.Base(s.Argv[0])
}
