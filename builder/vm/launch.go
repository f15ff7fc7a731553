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
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// guestEnds are the ends of what joins host and guest. They last as long as the
// guest, also where QEMU is started twice.
type guestEnds struct {
	report net.Conn
	ports  map[string]net.Conn
	theirs []*os.File // QEMU's ends, by their numbers from reportFD on
	input  io.Reader  // of the console; nil is none
	pipe   []*os.File // of the input
}

// shared is what a guest's methods and its loop both use.
type shared struct {
	mu       sync.Mutex
	process  *process
	accel    string
	forwards []Forward
	cut      bool
	plugged  []plugged
}

// A process is a QEMU that runs, with its TPM.
type process struct {
	monitor *monitor
	kill    context.CancelFunc
	stderr  tail
	tpm     *tpm          // nil without
	ended   chan struct{} // closed after QEMU's and the TPM's end
	err     error         // of QEMU's end

	shutdown string        // the reason QEMU gave
	failed   chan struct{} // takes that the CPU could not go on, for a reason outside of the guest
	broken   bool          // that has happened
	quitting bool
	quit     <-chan time.Time // when QEMU must have quit
}

// errSlow is the cause where QEMU does not answer in time.
var errSlow = fmt.Errorf("QEMU did not answer in %v", answerTime)

// socketPair returns both ends of a connection, one to be handed to a program.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("vm: socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "theirs")
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("vm: socket pair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

// connect makes the connections that the guest reports and talks through.
func (g *Guest) connect() error {
	g.ports = map[string]net.Conn{}
	for i, name := range append([]string{ReportPort}, g.m.Ports...) {
		ours, theirs, err := socketPair()
		if err != nil {
			return err
		}
		g.theirs = append(g.theirs, theirs)
		if i == 0 {
			g.report = ours
		} else {
			g.ports[name] = ours
		}
	}
	return g.connectInput()
}

// connectInput sets what QEMU reads the console's input from: the file that was
// given, or else a pipe. A Runner that copied from another reader itself would
// wait for its next byte when QEMU has long ended.
func (g *Guest) connectInput() error {
	if g.m.Input == nil {
		return nil
	}
	if f, ok := g.m.Input.(*os.File); ok {
		g.input = f
		return nil
	}
	from, to, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	g.input, g.pipe = from, []*os.File{from, to}
	go func() {
		io.Copy(to, g.m.Input)
		to.Close()
	}()
	return nil
}

// closeTheirs lets the readers of what the guest said come to their end.
func (g *Guest) closeTheirs() {
	for _, f := range slices.Concat(g.theirs, g.pipe) {
		f.Close()
	}
	g.theirs, g.pipe = nil, nil
}

// prepare makes the folder of the guest and finds the one of its state.
func (g *Guest) prepare() error {
	var err error
	if g.dir, err = os.MkdirTemp(g.m.Dir, "vm-"); err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	g.state = orDefault(g.m.State, g.dir)
	if err := os.MkdirAll(g.state, 0o700); err != nil {
		return fmt.Errorf("vm: folder for the machine's state: %w", err)
	}
	vars := g.vars()
	if _, err := os.Stat(vars); err == nil {
		return nil
	}
	// A half-written store would be taken for a whole one the next time.
	if err := copyFile(vars+".part", g.m.Firmware.Vars); err != nil {
		return fmt.Errorf("vm: firmware's variables: %w", err)
	}
	if err := os.Rename(vars+".part", vars); err != nil {
		return fmt.Errorf("vm: firmware's variables: %w", err)
	}
	return nil
}

// vars is the machine's own variable store.
func (g *Guest) vars() string { return filepath.Join(g.state, "vars.fd") }

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// launch starts QEMU and lets the guest go. QEMU outlives ctx: the guest is to be
// powered off first.
func (g *Guest) launch(ctx context.Context, kvm bool) error {
	accel := "tcg"
	if kvm {
		accel = "kvm"
	}
	g.result.Accel = accel
	argv, err := g.m.argv(g.platform, setting{kvm, g.dir, g.vars(), g.Forwards()})
	if err != nil {
		return err
	}
	command := Command{
		Argv: argv, Paths: g.m.paths(slices.Compact([]string{g.dir, g.state})...), Stdin: g.input, Stdout: g.console,
		Network: g.m.network() == NetworkUser || len(g.m.forwards()) > 0,
		Env:     []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + g.dir},
	}
	if kvm {
		command.Devices = []string{"/dev/kvm"}
	}
	p := &process{ended: make(chan struct{}), failed: make(chan struct{}, 1)}
	if err := g.run(ctx, p, command); err != nil {
		return err
	}
	g.mu.Lock()
	g.process, g.accel, g.plugged = p, accel, make([]plugged, g.m.Slots)
	if g.cut {
		p.kill()
	}
	g.mu.Unlock()
	if err := g.handshake(ctx, p); err != nil {
		p.kill()
		<-p.ended
		for range p.monitor.events {
		}
		p.monitor.conn.Close()
		return p.explain(err)
	}
	return nil
}

// explain adds to an error what QEMU and the TPM said, or else how QEMU ended.
func (p *process) explain(err error) error {
	why := p.err
	if said := p.stderr.String(); said != "" {
		why = errors.New(said)
	}
	if p.tpm != nil {
		if said := p.tpm.stderr.String(); said != "" {
			why = fmt.Errorf("the TPM: %s: %w", said, why)
		}
	}
	return fmt.Errorf("%w: %w", err, why)
}

// run starts QEMU and, before it, the TPM.
func (g *Guest) run(ctx context.Context, p *process, command Command) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	files := append([]*os.File{theirs}, g.theirs...)
	passed := []*os.File{theirs}
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	p.kill = kill
	if g.m.TPM {
		var end *os.File
		if p.tpm, end, err = g.startTPM(running); err != nil {
			kill()
			theirs.Close()
			ours.Close()
			return err
		}
		files, passed = append(files, end), append(passed, end)
	}
	p.monitor = newMonitor(ours)
	command.Files, command.Stderr = files, &p.stderr
	go func() {
		defer close(p.ended)
		p.err = g.m.Runner.Run(running, command)
		for _, f := range passed {
			f.Close()
		}
		if p.tpm != nil {
			p.tpm.wait()
		}
		kill()
	}()
	return nil
}

// handshake waits for QEMU, notes its version and lets the guest go.
func (g *Guest) handshake(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), answerTime, errSlow)
	defer cancel()
	select {
	case got := <-p.monitor.ready:
		v := got.Greeting.Version.QEMU
		g.result.QEMU = fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
		if g.result.Accel == "tcg" && v.Major < firstGoodQEMU {
			g.warn(fmt.Sprintf("QEMU %s emulates cmpxchg16b wrongly: a guest may crash for no reason of its own; use QEMU %d or later",
				g.result.QEMU, firstGoodQEMU))
		}
	case <-p.monitor.gone:
		return errors.New("vm: QEMU did not start")
	case <-ctx.Done():
		return fmt.Errorf("vm: %w", errSlow)
	}
	if _, err := p.monitor.call(ctx, "qmp_capabilities", nil); err != nil {
		return err
	}
	if err := g.noteForwards(ctx, p); err != nil {
		return err
	}
	_, err := p.monitor.call(ctx, "cont", nil)
	return err
}

// noteForwards asks QEMU which free ports it took.
func (g *Guest) noteForwards(ctx context.Context, p *process) error {
	forwards := g.Forwards()
	if slices.ContainsFunc(forwards, func(f Forward) bool { return f.Host == 0 }) {
		said, err := p.monitor.human(ctx, "info usernet")
		if err != nil {
			return err
		}
		if forwards, err = boundPorts(said, forwards); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forwards = forwards
	return nil
}
