package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	// answerTime bounds QEMU's answers to a command.
	answerTime = 30 * time.Second
	// panicTime is left for the rest of what a panicking kernel says.
	panicTime = time.Second
	// settleTime is how long KVM is given to bring the firmware's first word.
	settleTime = 10 * time.Second
	// firstGoodQEMU is the first version whose emulation of x86-64 is trusted:
	// 7.2's cmpxchg16b is wrong, so that guests' kernels oops now and then.
	firstGoodQEMU = 8
)

// errKVM is wrapped by the error for a KVM that gives up before the guest's
// kernel has started. It happens inside of virtual machines whose KVM emulates a
// part of the instructions only, and which an empty machine doesn't show.
var errKVM = errors.New("KVM failed on an instruction of the firmware")

// Run boots the machine and waits for its end: [Machine.Start] and [Guest.Wait]
// in one. How the guest ended is in the result, also where that is a timeout or a
// panic; the error says that the machine could not be run, or why ctx ended.
func (m *Machine) Run(ctx context.Context) (*Result, error) {
	g, err := m.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	return g.Wait(context.WithoutCancel(ctx))
}

// Start boots the machine and returns as soon as its processor runs; where KVM
// may be replaced by emulation, as soon as it is seen whether it is. When ctx
// ends, the guest's power button is pressed, and after the machine's Grace it is
// killed. The machine must not be changed while the guest runs.
func (m *Machine) Start(ctx context.Context) (*Guest, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	p, err := lookupPlatform(m.Arch)
	if err != nil {
		return nil, err
	}
	kvm, err := m.useKVM()
	if err != nil {
		return nil, err
	}
	g := &Guest{
		m: m, platform: p, start: m.Now(), result: &Result{},
		lines: make(chan Line), done: make(chan struct{}), emulated: make(chan struct{}),
	}
	g.console = newConsole(m.Console, g.since)
	g.forwards = m.forwards()
	err = g.prepare()
	if err == nil {
		err = g.connect()
	}
	if err == nil {
		err = g.launch(ctx, kvm)
	}
	if err != nil {
		g.discard()
		return nil, err
	}
	go readLines(g.report, g.since, g.lines)
	go g.loop(ctx)
	if kvm && m.Accel == AccelAuto {
		g.settle(ctx)
	}
	return g, nil
}

// settle waits until the firmware speaks or KVM has failed on it.
func (g *Guest) settle(ctx context.Context) {
	limit := time.NewTimer(settleTime)
	defer limit.Stop()
	select {
	case <-g.console.spoke:
	case <-g.emulated:
	case <-g.done:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// discard frees what a guest that did not start has.
func (g *Guest) discard() {
	g.closeTheirs()
	if g.report != nil {
		g.report.Close()
	}
	for _, c := range g.ports {
		c.Close()
	}
	os.RemoveAll(g.dir)
}

func (g *Guest) since() time.Duration { return g.m.Now().Sub(g.start) }

func (g *Guest) warn(text string) {
	g.result.Warnings = append(g.result.Warnings, text)
	if g.m.Warn != nil {
		g.m.Warn(text)
	}
}

// loop follows the guest to its end, through a second QEMU where KVM fails in
// the first.
func (g *Guest) loop(ctx context.Context) {
	defer close(g.done)
	defer os.RemoveAll(g.dir)
	defer g.report.Close()
	g.follow(ctx)
	var err error
	if g.kvmGaveUp() && g.m.Accel == AccelAuto && ctx.Err() == nil {
		g.warn(fmt.Sprintf("%v: the guest is emulated instead", g.broken()))
		g.result.Exit = ""
		if err = g.launch(ctx, false); err == nil {
			close(g.emulated)
			g.follow(ctx)
		}
	}
	g.closeTheirs()
	for l := range g.lines {
		g.line(l)
	}
	if err != nil && !g.isCut() {
		g.result, g.err = nil, err
		return
	}
	g.result, g.err = g.finish(ctx)
}

// follow attends to the guest until QEMU's end.
func (g *Guest) follow(ctx context.Context) {
	p := g.process
	events, lines, done := p.monitor.events, g.lines, ctx.Done()
	var timeout, panicked, grace <-chan time.Time
	if d := orDefault(g.m.Timeout, DefaultTimeout); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	for {
		select {
		case m, ok := <-events:
			if !ok {
				events = nil
			}
			g.event(m)
		case <-p.failed:
			p.broken = true
			g.stop(Killed)
		case l, ok := <-lines:
			if !ok {
				lines = nil
				break
			}
			g.line(l)
		case line := <-g.console.panics:
			g.result.Panic = line
			panicked = time.After(panicTime)
		case <-panicked:
			g.stop(Panic)
		case <-timeout:
			g.stop(Timeout)
		case <-done:
			done = nil
			g.result.Exit = orDefault(g.result.Exit, Killed)
			g.tell("system_powerdown")
			grace = time.After(orDefault(g.m.Grace, DefaultGrace))
		case <-grace:
			g.stop(Killed)
		case <-p.quit:
			p.kill()
		case <-p.ended:
			for m := range p.monitor.events {
				g.event(m)
			}
			p.monitor.conn.Close()
			return
		}
	}
}

// event takes note of an event.
func (g *Guest) event(m message) {
	p := g.process
	switch m.Event {
	case "SHUTDOWN":
		p.shutdown = m.Data.Reason
	case "GUEST_PANICKED":
		g.stop(Panic)
	case "STOP":
		// QEMU says why in the answer only.
		go p.askStatus()
	}
}

// askStatus asks for the state of a machine that stopped.
func (p *process) askStatus() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), answerTime, errSlow)
	defer cancel()
	b, err := p.monitor.call(ctx, "query-status", nil)
	if err != nil {
		p.kill()
		return
	}
	var s struct{ Status string }
	if json.Unmarshal(b, &s) == nil && s.Status == "internal-error" {
		select {
		case p.failed <- struct{}{}:
		default:
		}
	}
}

func (g *Guest) line(l Line) {
	if l.Text == reportEnd {
		g.result.Done = true
	} else {
		g.result.Report = append(g.result.Report, l)
	}
	if g.m.Line != nil {
		g.m.Line(l)
	}
}

// stop ends the guest for a reason; the first one counts.
func (g *Guest) stop(why Reason) {
	p := g.process
	g.result.Exit = orDefault(g.result.Exit, why)
	if p.quitting {
		return
	}
	p.quitting = true
	g.tell("quit")
	p.quit = time.After(answerTime / 3)
}

// tell has QEMU carry out a command, or kills it where it does not hear. It does
// not wait for the answer.
func (g *Guest) tell(command string) {
	p := g.process
	go func() {
		ctx, cancel := context.WithTimeoutCause(context.Background(), answerTime, errSlow)
		defer cancel()
		if _, err := p.monitor.call(ctx, command, nil); err != nil {
			p.kill()
		}
	}()
}

// kvmGaveUp says whether KVM failed before the guest's kernel started.
func (g *Guest) kvmGaveUp() bool {
	_, kernel := g.console.times()
	return g.process.broken && g.result.Accel == "kvm" && kernel == 0 && len(g.result.Report) == 0 && !g.isCut()
}

func (g *Guest) isCut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cut
}

// broken is the error of a QEMU that could not go on.
func (g *Guest) broken() error {
	err := errors.New("QEMU failed")
	if g.kvmGaveUp() {
		err = errKVM
	}
	said, _, _ := strings.Cut(g.process.stderr.String(), ";")
	return fmt.Errorf("vm: %w (%s)", err, orDefault(said, "it said nothing"))
}

// finish works out how the guest ended.
func (g *Guest) finish(ctx context.Context) (*Result, error) {
	res, p := g.result, g.process
	res.Duration = g.since()
	res.FirmwareAfter, res.KernelAfter = g.console.times()
	select {
	case res.Panic = <-g.console.panics:
	default:
	}
	if p.broken {
		return nil, g.broken()
	}
	if res.Exit == "" {
		switch {
		case res.Panic != "" || p.shutdown == "guest-panic":
			res.Exit = Panic
		case p.shutdown == "guest-shutdown":
			res.Exit = PowerOff
		case p.shutdown == "guest-reset", p.shutdown == "host-qmp-system-reset":
			res.Exit = Reset
		case p.shutdown != "":
			res.Exit = Killed
		case g.isCut():
			res.Exit = PowerCut
		default:
			return nil, p.explain(errors.New("vm: QEMU ended before the guest did"))
		}
	}
	if err := context.Cause(ctx); err != nil && res.Exit == Killed {
		return res, fmt.Errorf("vm: %w", err)
	}
	return res, nil
}
