package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The children are told apart by their first argument. It looks like a flag so that
// a program that forgot to call Main ends on it, instead of doing its work once more.
const (
	argvZero = "applbuild-sandbox"
	outerArg = "--applbuild-sandbox-outer"
	innerArg = "--applbuild-sandbox-inner="
	selfExe  = "/proc/self/exe"
)

// controlFD is the outer child's end of the socket to the caller.
const controlFD = 3

// What the outer child is asked to do.
const (
	opRun       = "run"
	opMakeOwned = "make-owned"
	opRemoveAll = "remove-all"
)

// outerOrder is the one message from the caller to the outer child.
type outerOrder struct {
	Op      string
	Path    string // of opMakeOwned and opRemoveAll
	RootUID uint32 // root of the inner child as the outer child sees it
	RootGID uint32
	Run     *runOrder `json:",omitempty"`
}

// runOrder is what the outer child needs to know of a Spec.
type runOrder struct {
	Root         string
	ReadOnlyRoot bool
	Binds        []Bind
	Tmpfs        []string
	Links        []Link
	Devices      []string
	Keep         []string
	Inject       []File
	Network      bool
	Cgroup       bool // the kernel has cgroup namespaces
	Terminal     bool
	Groups       bool // more ids than one are mapped: 5 (tty) is there, setgroups is allowed
	UIDMap       []idMap
	GIDMap       []idMap
	OwnPipes     []int // which of 0, 1, 2 are pipes made for this run
	Files        int   // how many file descriptors from 4 up are Spec.Files
	Inner        innerOrder
}

// innerOrder is the one message from the outer to the inner child.
type innerOrder struct {
	Argv, Env []string
	Dir       string
	Call      string
	Args      json.RawMessage `json:",omitempty"`
	Files     int
	Loopback  bool // the network namespace is its own
	Become    bool // take up id 0 of the new range
	NoSync    bool
}

// failure is an error on its way through a socket.
type failure struct {
	Text  string
	Errno syscall.Errno
}

func asFailure(err error) *failure {
	f := &failure{Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

// wireError is a failure on the receiving side.
type wireError struct{ f failure }

func (e *wireError) Error() string { return e.f.Text }

// Unwrap lets errors.Is match the error number, if there was one.
func (e *wireError) Unwrap() error {
	if e.f.Errno == 0 {
		return nil
	}
	return e.f.Errno
}

// innerReport is what the inner child says, if it does not become another program.
type innerReport struct {
	Failure *failure `json:",omitempty"` // before the program or function started
	Done    bool     // the function returned
	Error   *string  `json:",omitempty"` // with this error
}

// outerReport is the one answer of the outer child.
type outerReport struct {
	Failure *failure    `json:",omitempty"`
	Status  uint32      // wait(2) status of the inner child
	Inner   innerReport // what the inner child said
}

// socketPair returns two ends of a stream: mine can be waited for by the runtime's
// poller, theirs is for a child.
func socketPair() (mine, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "sandbox"), os.NewFile(uintptr(fds[1]), "sandbox"), nil
}
