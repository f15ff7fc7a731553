package boottest

import (
	"context"
	"time"
)

// A Plan is what to test, in this order.
type Plan []Step

// A Step is an item of a plan.
type Step struct {
	Name   string        // what its result is called
	Limit  time.Duration // for a machine with KVM; 0 is the default
	Quiet  bool          // of a Change: only a failure is told
	Action Action
}

// An Action is what a step does: one of the types of this package whose names end
// in Check, which ask the machine and start it where it is off, or of those that
// do something to the machine.
type Action interface{ action() }

// Limits of time where a step names none, for a machine with KVM.
const (
	DefaultLimit = 30 * time.Second
	// DefaultBoot is for the end of a boot, and for a machine to power off.
	DefaultBoot = 60 * time.Second
)

// A Match says what a text is to be. The zero value is for any text.
type Match struct {
	Contains []string // what is to be in the text: as it is, or between slashes as a regular expression
	Not      []string // what is not to be in it
	Equals   string   // all of it, blanks and newlines at its end aside; "" is not looked at
	Empty    bool
}

// Expect says what is expected of a command.
type Expect struct {
	Exit           int
	Stdout, Stderr Match
}

// Checks.
type (
	// RunCheck runs a shell command in the machine, as root.
	RunCheck struct {
		Command string
		Expect  Expect
	}
	// UnitCheck asks for a unit's state, as systemd names it.
	UnitCheck struct{ Unit, State string }
	// PortCheck asks whether something listens on a port.
	PortCheck struct {
		Protocol string // tcp or udp
		Port     int
		Closed   bool // nothing is to listen
	}
	// FileCheck asks for a file. What is empty is not looked at.
	FileCheck struct {
		Path        string
		Absent      bool
		Kind        string // file, directory or link
		Contents    *Match
		User, Group string  // by name or number
		Mode        *uint32 // permission bits with setuid, setgid and sticky
	}
	// JournalCheck looks into the messages of this boot.
	JournalCheck struct {
		Unit        string // "" is all of them
		Has, HasNot []string
	}
	// MountCheck asks for what is mounted.
	MountCheck struct {
		Path       string
		Absent     bool
		Filesystem string
		Options    []string
		AtLeast    int64 // size of the file system in bytes
	}
	// TimeCheck bounds the time from the kernel's start to a unit's.
	TimeCheck struct {
		Unit  string
		Below time.Duration // with KVM
	}
	// SSHCheck logs in from the host and runs a command.
	SSHCheck struct {
		User    string
		Port    int
		Command string
		Expect  Expect
		Key     []byte // of the user, in PEM; nil is the run's
	}
)

// Steps.
type (
	// Boot starts a machine that is off.
	Boot struct {
		Fails   bool // it is not to come up
		Console *Match
	}
	// Reboot has a machine that runs start anew.
	Reboot Boot
	// PowerCut switches the machine off at once. One that is off is started: where
	// After is 0 until it is up, else for that time.
	PowerCut struct{ After time.Duration }
	// Poweroff shuts the machine down.
	Poweroff struct{}
	// AllowFailed names the units that may have failed at the end of a boot, as
	// patterns of path.Match; it replaces what an earlier one has said.
	AllowFailed struct{ Units []string }
	// Change is what the maker of the machine does to it, while it runs or while
	// it is off: a disk more, another seed.
	Change struct {
		Apply func(context.Context) error
	}
	// Wait lets time pass.
	Wait struct{ Time time.Duration }
)

func (RunCheck) action()     {}
func (UnitCheck) action()    {}
func (PortCheck) action()    {}
func (FileCheck) action()    {}
func (JournalCheck) action() {}
func (MountCheck) action()   {}
func (TimeCheck) action()    {}
func (SSHCheck) action()     {}
func (Boot) action()         {}
func (Reboot) action()       {}
func (PowerCut) action()     {}
func (Poweroff) action()     {}
func (AllowFailed) action()  {}
func (Change) action()       {}
func (Wait) action()         {}
