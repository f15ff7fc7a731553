package vm

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// EmulationFactor is how many times as long as by KVM a guest takes where it is
// emulated, roughly: a boot of 4 seconds takes about 20.
const EmulationFactor = 5

// A Guest is a machine that runs. Its methods may be called from several
// goroutines. Close must be called in the end.
//
// A reboot ends QEMU, as does a power cut: with the same [Machine], Start boots
// it again, from the same disks and, where Machine.State is set, with the same
// firmware variables and TPM. So each boot has a Guest and a Result of its own,
// and nothing of the machine's inside outlives a reset.
type Guest struct {
	m        *Machine
	platform platform
	dir      string // for as long as the guest runs
	state    string // of the firmware and the TPM
	start    time.Time
	console  *console

	guestEnds
	lines    chan Line
	done     chan struct{}
	emulated chan struct{} // closed when emulation has replaced KVM

	// What the loop writes; to be read after done.
	result *Result
	err    error

	shared
}

// Done is closed when the guest has ended.
func (g *Guest) Done() <-chan struct{} { return g.done }

// Wait waits for the guest's end and returns what became of it, each time it is
// called. When ctx ends first the guest goes on and the error is ctx's.
func (g *Guest) Wait(ctx context.Context) (*Result, error) {
	select {
	case <-g.done:
		return g.result, g.err
	default:
	}
	select {
	case <-g.done:
		return g.result, g.err
	case <-ctx.Done():
		return nil, fmt.Errorf("vm: waiting for the guest's end: %w", context.Cause(ctx))
	}
}

// PowerCut ends the guest as a power cut does: QEMU is killed at once. It
// returns when QEMU is gone.
//
// What the guest had written and flushed is in the disk's file. What it had
// written without a flush is there too when the file is raw or the place was
// written before, since the host's cache has it already; upon an overlay
// ([WriteOverlay]) a new place that was not flushed is lost, as QEMU holds its
// table of places in memory until a flush. What the guest held in its own memory
// is lost always.
func (g *Guest) PowerCut() {
	g.mu.Lock()
	g.cut = true
	g.process.kill()
	g.mu.Unlock()
	<-g.done
}

// Close cuts the power where the guest still runs, and frees what it held. The
// ports are closed.
func (g *Guest) Close() {
	g.PowerCut()
	for _, c := range g.ports {
		c.Close()
	}
}

// PowerButton presses the power button: an ACPI event that a system takes for a
// wish to power off, once it has started so far.
func (g *Guest) PowerButton(ctx context.Context) error {
	return g.command(ctx, "system_powerdown", nil)
}

// Reset presses the reset button: the guest's kernel is not asked. The guest ends
// with the reason [Reset].
func (g *Guest) Reset(ctx context.Context) error {
	return g.command(ctx, "system_reset", nil)
}

// SetLink plugs the cable of the network card in or out.
func (g *Guest) SetLink(ctx context.Context, up bool) error {
	if g.m.network() == NetworkNone {
		return fmt.Errorf("vm: the machine has no network card whose link could change")
	}
	return g.command(ctx, "set_link", map[string]any{"name": "nic0", "up": up})
}

// Port returns the host's end of the virtio-serial port with a name of
// Machine.Ports, nil for another name. The guest is to speak first: the firmware
// has a driver for such ports, which swallows what is written before the guest's
// own has taken over. Read ends with io.EOF after the guest's end, when all that
// it wrote has been read.
func (g *Guest) Port(name string) net.Conn {
	if c, ok := g.ports[name]; ok {
		return c
	}
	return nil
}

// Forwards are the ports that lead to the guest: SSHPort first, where it is set,
// and then those of Machine.Forwards. Each has its port of the host.
func (g *Guest) Forwards() []Forward {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.forwards)
}

// Accel says what runs the guest: kvm or tcg.
func (g *Guest) Accel() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accel
}

// Scale returns a time limit that was chosen for KVM as it is to be for this
// guest: longer where it is emulated.
func (g *Guest) Scale(limit time.Duration) time.Duration {
	if g.Accel() == "tcg" {
		return limit * EmulationFactor
	}
	return limit
}

// ConsoleTail returns the console's last lines, at most n and at most 500,
// without escape sequences.
func (g *Guest) ConsoleTail(n int) []string { return g.console.tail(n) }

// Findings returns what went wrong on the console so far; see [Findings].
func (g *Guest) Findings() []Finding { return g.console.findings() }

// command has QEMU carry out a command.
func (g *Guest) command(ctx context.Context, name string, arguments any) error {
	monitor, ctx, cancel := g.monitor(ctx)
	defer cancel()
	_, err := monitor.call(ctx, name, arguments)
	return err
}

// monitor returns QEMU's monitor and a context for a command to it.
func (g *Guest) monitor(ctx context.Context) (*monitor, context.Context, context.CancelFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errSlow)
	return g.process.monitor, ctx, cancel
}
