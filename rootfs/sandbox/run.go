package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs s.Argv or s.Call in a sandbox and waits for its end. Then no process of
// the sandbox is alive, whether it forked, changed its session or ignores signals.
//
// Run returns nil when the program ended with status 0, an *ExitError when it did
// not, a *CallError when a function returned an error, and an error that matches
// ctx's when ctx ended first. An error that matches ErrNotSupported says what to
// change on the host. A program or source that is missing matches fs.ErrNotExist.
func Run(ctx context.Context, s Spec) error {
	s, err := s.resolved()
	if err != nil {
		return err
	}
	if err := run(ctx, thisHost(), s); err != nil {
		var exit *ExitError
		var call *CallError
		if errors.As(err, &exit) || errors.As(err, &call) {
			return err
		}
		return fmt.Errorf("sandbox: %s: %w", s.name(), err)
	}
	return nil
}

func run(ctx context.Context, h Host, s Spec) error {
	m, err := h.mappings(s.IDs)
	if err != nil {
		return err
	}
	order, err := newOrder(s, m)
	if err != nil {
		return err
	}
	streams, err := newStdio(&s)
	if err != nil {
		return err
	}
	order.Run.OwnPipes = streams.pipes
	if s.Terminal {
		defer keepForeground(s.Stdin)()
	}
	c, err := start(ctx, h, m, streams.files, s.Files, s.Terminal)
	if err != nil {
		streams.closeAll()
		return err
	}
	c.gentle = len(s.Inject) > 0
	finish := streams.copying()
	report, err := c.obey(ctx, order)
	copyErr := finish()
	if err != nil {
		if errors.Is(err, errNoReport) {
			err = fmt.Errorf("%w%s", err, colon(lastLine(streams.tail.bytes())))
		}
		return err
	}
	if report.Failure != nil {
		return h.explain(&wireError{*report.Failure})
	}
	if err := s.result(report, streams.tail.bytes()); err != nil {
		return err
	}
	if copyErr != nil {
		return fmt.Errorf("standard streams: %w", copyErr)
	}
	return nil
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// result makes an error of what is known about the program's end.
func (s *Spec) result(r outerReport, tail []byte) error {
	if r.Inner.Failure != nil {
		return &wireError{*r.Inner.Failure}
	}
	if r.Inner.Error != nil {
		return &CallError{Call: s.Call, Text: *r.Inner.Error}
	}
	argv := s.Argv
	if s.Call != "" {
		argv = []string{s.Call}
	}
	status := syscall.WaitStatus(r.Status)
	switch {
	case status.Signaled():
		return &ExitError{Argv: argv, Code: -1, Signal: status.Signal(), Tail: tail}
	case status.ExitStatus() != 0:
		return &ExitError{Argv: argv, Code: status.ExitStatus(), Tail: tail}
	case s.Call != "" && !r.Inner.Done:
		return fmt.Errorf("function ended the process before it returned%s", colon(lastLine(tail)))
	}
	return nil
}

func newOrder(s Spec, m mappings) (*outerOrder, error) {
	args, err := s.args()
	if err != nil {
		return nil, err
	}
	_, cgroupErr := os.Stat("/proc/self/ns/cgroup")
	return &outerOrder{
		Op:      opRun,
		RootUID: m.rootUID, RootGID: m.rootGID,
		Run: &runOrder{
			Root: s.Root, ReadOnlyRoot: s.ReadOnlyRoot,
			Binds: s.Binds, Tmpfs: s.Tmpfs, Links: s.Links, Devices: s.Devices, Keep: s.Keep, Inject: s.Inject,
			Network: s.Network, Cgroup: cgroupErr == nil, Terminal: s.Terminal,
			Groups: m.setgroups, UIDMap: m.innerUID, GIDMap: m.innerGID,
			Files: len(s.Files),
			Inner: innerOrder{
				Argv: s.Argv, Env: s.Env, Dir: s.Dir,
				Call: s.Call, Args: args, Files: len(s.Files),
				Loopback: !s.Network, Become: m.setgroups, NoSync: s.NoSync,
			},
		},
	}, nil
}

// child is an outer child from the caller's side.
type child struct {
	cmd     *exec.Cmd
	control *os.File
	gentle  bool // it has something to put right before it is killed
}

// graceful is how long an outer child may take to put a tree right after the end of ctx.
const graceful = 5 * time.Second

// start starts an outer child whose namespaces and ids are ready.
func start(ctx context.Context, h Host, m mappings, streams [3]*os.File, files []*os.File, terminal bool) (*child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	mine, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Setsid: !terminal}
	if m.outer {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		// The maps may come later: capabilities get over execve as ambient ones.
		for c := range uintptr(lastCapability + 1) {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
		if m.tool == "" {
			attr.UidMappings = sysProcMaps(m.outerUID)
			attr.GidMappings = sysProcMaps(m.outerGID)
		}
	}
	cmd := &exec.Cmd{
		Path: selfExe, Args: []string{argvZero, outerArg},
		Env: []string{}, Dir: "/",
		Stdin: streams[0], Stdout: streams[1], Stderr: streams[2],
		ExtraFiles:  append([]*os.File{theirs}, files...),
		SysProcAttr: attr,
	}
	if err := cmd.Start(); err != nil {
		mine.Close()
		return nil, h.explain(fmt.Errorf("new namespaces: %w", err))
	}
	c := &child{cmd: cmd, control: mine}
	if m.tool != "" {
		if err := m.writeOuter(ctx, cmd.Process.Pid); err != nil {
			c.end()
			return nil, h.explain(err)
		}
	}
	return c, nil
}

// end kills the child, and so its pid namespace, and waits until all of it is gone.
func (c *child) end() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.control.Close()
}

// errNoReport is about a child that ended without a word.
var errNoReport = errors.New("the sandbox's first process ended early; is sandbox.Main the first line of this program's main?")

// obey gives the child its order and waits for its end.
func (c *child) obey(ctx context.Context, order *outerOrder) (report outerReport, err error) {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		if !c.gentle {
			c.cmd.Process.Kill()
			return
		}
		c.control.Close()
		time.AfterFunc(graceful, func() { c.cmd.Process.Kill() })
	})
	sent := json.NewEncoder(c.control).Encode(order)
	got := json.NewDecoder(c.control).Decode(&report)
	c.cmd.Wait()
	if !stop() {
		<-stopped
	}
	c.control.Close()
	switch {
	case got == nil:
		return report, nil
	case ctx.Err() != nil:
		return report, ctx.Err()
	case sent != nil && !errors.Is(sent, unix.EPIPE):
		return report, sent
	}
	return report, fmt.Errorf("%w (%v)", errNoReport, c.cmd.ProcessState)
}

// keepForeground remembers the foreground process group of a terminal, and gives the
// function that sets it again: a shell in the sandbox may have changed it.
func keepForeground(stdin any) func() {
	f, ok := stdin.(*os.File)
	if !ok {
		return func() {}
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return func() {}
	}
	group := -1
	conn.Control(func(fd uintptr) {
		if g, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil {
			group = g
		}
	})
	return func() {
		if group > 0 {
			conn.Control(func(fd uintptr) { setForeground(int(fd), group) })
		}
	}
}
