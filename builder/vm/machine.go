package vm

import (
	"context"
	"io"
	"os"
	"time"
)

// ReportPort is the name of the virtio-serial port that the guest reports on:
// /dev/virtio-ports/applbuild.report in the guest.
const ReportPort = "applbuild.report"

// What a zero field of a [Machine] stands for.
const (
	DefaultMemory  = 2 << 30 // bytes
	DefaultCPUs    = 2
	DefaultTimeout = 5 * time.Minute
	DefaultGrace   = 20 * time.Second
)

// An Accel says whether the guest's code runs on the host's CPU through KVM or
// is emulated (TCG).
type Accel int

const (
	AccelAuto Accel = iota // KVM where it works; the result says which it was
	AccelKVM               // KVM, or an error that says why not
	AccelTCG
)

// A Bus is what a disk is attached to.
type Bus string

const (
	BusVirtio Bus = "virtio" // /dev/vdX; also ""
	BusNVMe   Bus = "nvme"   // /dev/nvmeXn1, as on EC2
)

// A Drive is a disk of the machine. The first is booted from, the firmware does
// not try the others.
type Drive struct {
	// ID names the disk for [Guest.Grow] and [Guest.Unplug]: letters, digits,
	// - and _, a letter first. "" is disk0 for the machine's first disk, and so
	// on; for one that is plugged it must be given.
	ID   string
	Path string
	// Format is QEMU's name of the file's format; "" is raw, which is never
	// guessed: a guest could write another format's header.
	Format string
	// Backing is the raw file that Path lies upon where it is an overlay
	// ([WriteOverlay]). It is only read.
	Backing string
	// Write lets the guest's writes through to the file. Otherwise they go to
	// a temporary overlay that ends with the guest: a reboot forgets them.
	Write    bool
	ReadOnly bool // the guest sees a read-only disk
	Bus      Bus
	// SectorSize is the logical sector size the guest sees in bytes; 0 is 512.
	SectorSize int
	Serial     string
}

// Firmware is a build of EDK II for virtual machines (OVMF, AAVMF).
type Firmware struct {
	Code string // path of the code, as QEMU sees it
	Vars string // path on the host of the variable store to start from; never written
	// SMM is set for builds that keep variables in System Management Mode, as
	// those for Secure Boot do.
	SMM bool
}

// A Credential is handed to the guest's systemd (systemd.system-credentials(7)).
// All of a machine's have at most about 59,000 bytes together.
type Credential struct {
	Name  string
	Value []byte
}

// A Machine says what to boot and how. Runner, Firmware, Dir and Now must be
// set.
type Machine struct {
	Arch     string // of the guest, Debian's name: amd64 or arm64
	Program  string // QEMU, as the Runner sees it; "" is qemu-system-x86_64 or qemu-system-aarch64
	Firmware Firmware
	Disks    []Drive
	Memory   int64 // bytes
	CPUs     int
	Accel    Accel

	Credentials  []Credential
	CmdlineExtra string // appended to the kernel's command line by systemd-stub 254 or later

	Network Network
	// Forwards are ports of the host's loopback address that lead to the guest.
	// Where there are any, a Network that is not set is NetworkUser.
	Forwards []Forward
	// SSHPort is short for a forward from this port to the guest's port 22.
	SSHPort int

	// Ports are the names of virtio-serial ports in both directions, each
	// /dev/virtio-ports/NAME in the guest; see [Guest.Port].
	Ports []string
	// Slots is how many disks can be plugged at one time while the guest runs.
	Slots int
	// TPM gives the machine a TPM 2.0, played by swtpm. TPMProgram is swtpm, as
	// the Runner sees it; "" is looked up by its name.
	TPM        bool
	TPMProgram string
	// State is a folder of this machine that keeps the firmware's variables and
	// the TPM's memory from one start to the next. It is made where it is
	// missing. With "" each start begins with new ones. A new disk needs a new
	// folder: a boot entry of another disk ends in the firmware's shell.
	State string

	// Args are further arguments for QEMU.
	Args []string

	// Console takes what the guest writes to its first serial port; may be nil.
	Console io.Writer
	// Input, when set, is the terminal's side of that port, with QEMU's monitor
	// at Ctrl-A c. The caller puts a terminal into raw mode. A reader that is no
	// *os.File may be read once more after the guest's end.
	Input io.Reader
	// Line is called for each line of the guest's report, Warn for each thing
	// that makes the result less worth, never two at a time; may be nil.
	Line func(Line)
	Warn func(string)

	Timeout time.Duration // from the start to the end of the guest; negative is none
	Grace   time.Duration // for powering off after the context has ended
	Dir     string        // an existing folder for what lasts as long as the guest
	Now     func() time.Time
	Runner  Runner
}

// A Runner runs programs where QEMU is.
type Runner interface {
	// Run runs the program until it ends by itself or ctx ends, and leaves no
	// process behind.
	Run(ctx context.Context, c Command) error
}

// A Command is a program that a [Runner] runs.
type Command struct {
	Argv []string
	// Env is what the program needs of an environment; a Runner may add to it.
	Env []string
	// Files are file descriptors 3 and up.
	Files []*os.File
	// Paths are the host's files and folders that the arguments name, absolute.
	// They must be at the same place for the program.
	Paths []Path
	// Devices are device nodes that the program opens, such as /dev/kvm.
	Devices []string
	// Network asks for the host's network.
	Network        bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// A Path is a file or folder of the host.
type Path struct {
	Name  string
	Write bool
}

// A Reason is how a guest ended.
type Reason string

const (
	PowerOff Reason = "poweroff"  // by the guest
	Reset    Reason = "reset"     // the guest asked for a reboot, or Guest.Reset was called
	Panic    Reason = "panic"     // of the guest's kernel
	PowerCut Reason = "power cut" // by Guest.PowerCut
	Timeout  Reason = "timeout"
	Killed   Reason = "killed" // the context ended, or somebody quit QEMU
)

// A Line is a line of the guest's report.
type Line struct {
	After time.Duration // since the machine was started
	Text  string        // without line end
}

// A Result is what became of a guest.
type Result struct {
	Exit     Reason
	Panic    string // what the kernel said on the console, if anything
	Accel    string // kvm or tcg
	QEMU     string // its version
	Warnings []string

	Report []Line
	// Done is true when the guest said that its report is whole.
	Done bool

	Duration time.Duration
	// FirmwareAfter is the time of the console's first byte, KernelAfter that of
	// the kernel's first line; 0 when there was none.
	FirmwareAfter, KernelAfter time.Duration
}

// Values returns what the report says for a key: of lines key=value, all values
// in order.
func (r *Result) Values(key string) []string {
	var values []string
	for _, l := range r.Report {
		if k, v, ok := cutReport(l.Text); ok && k == key {
			values = append(values, v)
		}
	}
	return values
}
