package boottest

import (
	"context"
	"io"
	"net"
	"time"
)

// A Machine is what a plan is run against. It is off at first.
type Machine interface {
	// Start boots the machine, from the same disks each time, with the
	// credentials of [Credentials] and a port [PortName].
	Start(ctx context.Context) (Guest, error)
}

// A Guest is a machine from one start to its end: power off, reset or worse.
type Guest interface {
	// Port is the host's end of the port; reading it ends with the guest.
	Port() io.ReadWriter
	// Scale returns a limit of time, chosen for KVM, for this guest.
	Scale(limit time.Duration) time.Duration
	// Dial connects to a TCP port of the guest.
	Dial(ctx context.Context, port int) (net.Conn, error)
	PowerCut()
	// Done is closed at the guest's end, whose kind End tells then.
	Done() <-chan struct{}
	End() End
	// Problems are lines of the console so far that say what went wrong, and
	// Console is all of it.
	Problems() []Problem
	Console() Console
	// Close cuts the power where the guest still runs.
	Close()
}

// An End is how a guest ended.
type End struct {
	Kind   string // such as EndPowerOff
	Detail string // what the kernel said on a panic
	Err    error  // where it was not the guest's doing
}

// Kinds of ends that a plan may ask for.
const (
	EndPowerOff = "poweroff"
	EndReset    = "reset"
)

// A Problem is a line of a console that says what went wrong.
type Problem struct {
	Kind  string // such as kernel panic
	Text  string
	Fatal bool // a machine does not come up after it
}

// A Console is what a guest has written to its console.
type Console struct {
	File string   // where it is kept, "" for nowhere
	Text string   // all of it, or as much as is kept, without escape sequences
	Last []string // its last lines
}
