package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// answerTime bounds QEMU's answers to a command.
	answerTime = 30 * time.Second
	// panicTime is left for the rest of what a panicking kernel says.
	panicTime = time.Second
	// firstGoodQEMU is the first version whose emulation of x86-64 is trusted:
	// 7.2's cmpxchg16b is wrong, so that guests' kernels oops now and then.
	firstGoodQEMU = 8
)

// A run is a machine that runs.
type run struct {
	m       *Machine
	result  *Result
	console *console
	stderr  tail
	start   time.Time

	qmp      net.Conn
	report   net.Conn
	theirs   []*os.File // QEMU's ends, closed after its end
	messages chan message
	lines    chan Line
	ended    chan error
	kill     context.CancelFunc

	shutdown string // the reason QEMU gave
	broken   bool   // the CPU could not go on, for a reason outside of the guest
	quitting bool
	quit     <-chan time.Time // when QEMU must have quit
}

// Run boots the machine and waits for its end. How the guest ended is in the
// result, also where that is a timeout or a panic; the error says that the
// machine could not be run, or why ctx ended.
func (m *Machine) Run(ctx context.Context) (*Result, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	kvm, err := m.useKVM()
	if err != nil {
		return nil, err
	}
	if !kvm {
		return m.boot(ctx, false, nil)
	}
	res, err := m.boot(ctx, true, nil)
	if m.Accel == AccelAuto && errors.Is(err, errKVM) {
		return m.boot(ctx, false, []string{err.Error() + ": the guest is emulated instead"})
	}
	return res, err
}

// errKVM is wrapped by the error for a KVM that gives up before the guest's
// kernel has started. It happens inside of virtual machines whose KVM emulates a
// part of the instructions only, and which an empty machine doesn't show.
var errKVM = errors.New("KVM failed on an instruction of the firmware")

// boot runs the machine once, after warnings of an earlier attempt.
func (m *Machine) boot(ctx context.Context, kvm bool, warnings []string) (*Result, error) {
	p, err := lookupPlatform(m.Arch)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(m.Dir, "vm-")
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	defer os.RemoveAll(dir)
	vars := filepath.Join(dir, "vars.fd")
	if err := copyFile(vars, m.Firmware.Vars); err != nil {
		return nil, fmt.Errorf("vm: firmware's variables: %w", err)
	}
	argv, err := m.argv(p, kvm, vars)
	if err != nil {
		return nil, err
	}

	r := &run{m: m, result: &Result{Accel: "tcg"}, start: m.Now()}
	command := Command{
		Argv: argv, Paths: m.paths(dir), Network: m.SSHPort != 0,
		Env: []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + dir},
	}
	if kvm {
		r.result.Accel = "kvm"
		command.Devices = []string{"/dev/kvm"}
	}
	if err := r.connect(); err != nil {
		return nil, err
	}
	defer r.close()
	if command.Stdin, err = r.input(); err != nil {
		return nil, err
	}
	for _, w := range warnings {
		r.warn(w)
	}
	r.launch(ctx, command)
	if err := r.handshake(); err != nil {
		return nil, errors.Join(err, r.abort())
	}
	return r.wait(ctx)
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

func (r *run) since() time.Duration { return r.m.Now().Sub(r.start) }

// connect makes the pairs of sockets that QEMU is steered and reports through.
func (r *run) connect() error {
	for _, ours := range []*net.Conn{&r.qmp, &r.report} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			r.close()
			return fmt.Errorf("vm: socket pair: %w", err)
		}
		r.theirs = append(r.theirs, os.NewFile(uintptr(fds[1]), "qemu"))
		f := os.NewFile(uintptr(fds[0]), "applbuild")
		*ours, err = net.FileConn(f)
		f.Close()
		if err != nil {
			r.close()
			return fmt.Errorf("vm: socket pair: %w", err)
		}
	}
	return nil
}

// input returns what QEMU reads the console's input from: the file that was
// given, or else a pipe. A Runner that copied from another reader itself would
// wait for its next byte when QEMU has long ended.
func (r *run) input() (io.Reader, error) {
	if r.m.Input == nil {
		return nil, nil
	}
	if f, ok := r.m.Input.(*os.File); ok {
		return f, nil
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	r.theirs = append(r.theirs, from, to)
	go func() {
		io.Copy(to, r.m.Input)
		to.Close()
	}()
	return from, nil
}

func (r *run) close() {
	for _, c := range []net.Conn{r.qmp, r.report} {
		if c != nil {
			c.Close()
		}
	}
	r.closeTheirs()
}

func (r *run) closeTheirs() {
	for _, f := range r.theirs {
		f.Close()
	}
	r.theirs = nil
}

// launch starts QEMU and the readers of what it says. QEMU outlives ctx: the
// guest is to be powered off first.
func (r *run) launch(ctx context.Context, c Command) {
	r.console = newConsole(r.m.Console, r.since)
	c.Files, c.Stdout, c.Stderr = slices.Clone(r.theirs[:reportFD-qmpFD+1]), r.console, &r.stderr
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	r.kill = kill
	r.messages, r.lines, r.ended = make(chan message), make(chan Line), make(chan error, 1)
	go readMessages(r.qmp, r.messages)
	go readLines(r.report, r.since, r.lines)
	go func() { r.ended <- r.m.Runner.Run(running, c) }()
}

// handshake waits for QEMU, notes its version and lets the guest go.
func (r *run) handshake() error {
	limit := time.NewTimer(answerTime)
	defer limit.Stop()
	for _, command := range []string{"", "qmp_capabilities", "cont"} {
		if command != "" {
			if err := execute(r.qmp, command); err != nil {
				return err
			}
		}
		if err := r.answer(command, limit.C); err != nil {
			return err
		}
	}
	return nil
}

// answer waits for the answer to a command, or for the greeting.
func (r *run) answer(command string, limit <-chan time.Time) error {
	ended := r.ended
	for {
		select {
		case m, ok := <-r.messages:
			switch {
			case !ok:
				r.messages = nil
				return errors.New("vm: QEMU did not start")
			case m.Error != nil:
				return fmt.Errorf("vm: QEMU refuses to %s: %s", command, m.Error.Desc)
			case m.Greeting != nil:
				v := m.Greeting.Version.QEMU
				r.result.QEMU = fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
				if r.result.Accel == "tcg" && v.Major < firstGoodQEMU {
					r.warn(fmt.Sprintf("QEMU %s emulates cmpxchg16b wrongly: a guest may crash for no reason of its own; use QEMU %d or later",
						r.result.QEMU, firstGoodQEMU))
				}
				return nil
			case m.Return != nil:
				return nil
			default:
				r.message(m)
			}
		case err := <-ended:
			// What it said before is still to be read.
			r.ended <- err
			ended = nil
			r.closeTheirs()
		case <-limit:
			return fmt.Errorf("vm: QEMU did not answer in %v", answerTime)
		}
	}
}

func (r *run) warn(text string) {
	r.result.Warnings = append(r.result.Warnings, text)
	if r.m.Warn != nil {
		r.m.Warn(text)
	}
}

// abort ends QEMU and says what it said.
func (r *run) abort() error {
	r.kill()
	err := <-r.ended
	r.closeTheirs()
	r.drain()
	if said := r.stderr.String(); said != "" {
		return errors.New(said)
	}
	return err
}

// wait follows the guest to its end.
func (r *run) wait(ctx context.Context) (*Result, error) {
	defer r.kill()
	var timeout, panicked, grace <-chan time.Time
	if d := orDefault(r.m.Timeout, DefaultTimeout); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	done := ctx.Done()
	for {
		select {
		case m, ok := <-r.messages:
			if !ok {
				r.messages = nil
			}
			r.message(m)
		case l, ok := <-r.lines:
			if !ok {
				r.lines = nil
				break
			}
			r.line(l)
		case line := <-r.console.panics:
			r.result.Panic = line
			panicked = time.After(panicTime)
		case <-panicked:
			r.stop(Panic)
		case <-timeout:
			r.stop(Timeout)
		case <-done:
			done = nil
			r.result.Exit = orDefault(r.result.Exit, Killed)
			if execute(r.qmp, "system_powerdown") != nil {
				r.stop(Killed)
			}
			grace = time.After(orDefault(r.m.Grace, DefaultGrace))
		case <-grace:
			r.stop(Killed)
		case <-r.quit:
			r.kill()
		case err := <-r.ended:
			r.closeTheirs()
			r.drain()
			return r.finish(ctx, err)
		}
	}
}

// message takes note of an event.
func (r *run) message(m message) {
	switch m.Event {
	case "SHUTDOWN":
		r.shutdown = m.Data.Reason
	case "GUEST_PANICKED":
		r.stop(Panic)
	case "STOP":
		// QEMU says why in the answer only.
		if execute(r.qmp, "query-status") != nil {
			r.kill()
		}
	}
	if m.status() == "internal-error" {
		r.broken = true
		r.stop(Killed)
	}
}

func (r *run) line(l Line) {
	if l.Text == reportEnd {
		r.result.Done = true
	} else {
		r.result.Report = append(r.result.Report, l)
	}
	if r.m.Line != nil {
		r.m.Line(l)
	}
}

// stop ends the guest for a reason; the first one counts.
func (r *run) stop(why Reason) {
	r.result.Exit = orDefault(r.result.Exit, why)
	if r.quitting {
		return
	}
	r.quitting = true
	if execute(r.qmp, "quit") != nil {
		r.kill()
	}
	r.quit = time.After(answerTime / 3)
}

// drain takes what is left of the messages and of the report after QEMU's end.
func (r *run) drain() {
	for r.messages != nil || r.lines != nil {
		select {
		case m, ok := <-r.messages:
			if !ok {
				r.messages = nil
			}
			r.message(m)
		case l, ok := <-r.lines:
			if !ok {
				r.lines = nil
				break
			}
			r.line(l)
		}
	}
}

// finish works out how the guest ended.
func (r *run) finish(ctx context.Context, ended error) (*Result, error) {
	res := r.result
	res.Duration = r.since()
	res.FirmwareAfter, res.KernelAfter = r.console.times()
	select {
	case res.Panic = <-r.console.panics:
	default:
	}
	if r.broken {
		err := errors.New("QEMU failed")
		if res.Accel == "kvm" && res.KernelAfter == 0 && len(res.Report) == 0 {
			err = errKVM
		}
		said, _, _ := strings.Cut(r.stderr.String(), ";")
		return nil, fmt.Errorf("vm: %w (%s)", err, orDefault(said, "it said nothing"))
	}
	if res.Exit == "" {
		switch {
		case res.Panic != "" || r.shutdown == "guest-panic":
			res.Exit = Panic
		case r.shutdown == "guest-shutdown":
			res.Exit = PowerOff
		case r.shutdown == "guest-reset":
			res.Exit = Reset
		case r.shutdown != "":
			res.Exit = Killed
		default:
			return nil, fmt.Errorf("vm: QEMU ended (%v) before the guest did: %s", ended, orDefault(r.stderr.String(), "it said nothing"))
		}
	}
	if err := context.Cause(ctx); err != nil && res.Exit == Killed {
		return res, fmt.Errorf("vm: %w", err)
	}
	return res, nil
}
