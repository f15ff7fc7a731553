package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outerMain is the outer child: pid 1 of the sandbox.
func outerMain() int {
	// It must outlive what a terminal sends to a whole group. Handlers, other than
	// ignoring, are not inherited by the program.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
	unix.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	in := json.NewDecoder(control)
	var order outerOrder
	if err := in.Decode(&order); err != nil {
		return 1 // the caller is gone, or never was one
	}
	o := &outer{order: &order}
	go o.watch(in)
	var report outerReport
	if err := o.do(&report); err != nil {
		report.Failure = asFailure(err)
	}
	if err := json.NewEncoder(control).Encode(report); err != nil {
		return 1
	}
	return 0
}

// maxReport is how much of an inner child's report is read, in bytes.
const maxReport = 1 << 20

type outer struct {
	order   *outerOrder
	started atomic.Bool // there is, or will at once be, an inner child
}

// watch waits for the caller's end and then kills all but this process, which
// ends as it would have ended anyway.
func (o *outer) watch(in *json.Decoder) {
	var nothing json.RawMessage
	in.Decode(&nothing) // returns when the other end is closed: nothing more is ever sent
	for {
		if !o.started.Load() {
			syscall.Exit(1)
		}
		unix.Kill(-1, unix.SIGKILL)
		time.Sleep(5 * time.Millisecond)
	}
}

func (o *outer) do(report *outerReport) error {
	switch o.order.Op {
	case opRun:
		return o.run(report)
	case opMakeOwned:
		return makeOwned(o.order.Path, int(o.order.RootUID), int(o.order.RootGID))
	case opRemoveAll:
		return os.RemoveAll(o.order.Path)
	}
	return fmt.Errorf("unknown order %q", o.order.Op)
}

func (o *outer) run(report *outerReport) (err error) {
	run := o.order.Run
	// What the caller has open from its own parent without wanting it stays behind.
	if err := unix.CloseRange(uint(controlFD+1+run.Files), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if err := o.takePipes(); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := setLimits(); err != nil {
		return err
	}
	a := &assembly{order: run, uid: int(o.order.RootUID), gid: int(o.order.RootGID)}
	if err := a.prepare(); err != nil {
		return err
	}
	// From here on the end of the caller has to go the way of the inner child's end, so that
	// the tree is cleaned.
	o.started.Store(true)
	// The inner child is executed while the host's files are here: this program may
	// need an interpreter and libraries. It waits for its order, and the change of
	// root takes it along.
	pid, conn, err := o.startInner()
	if err != nil {
		return err
	}
	unix.Umask(0)
	defer func() {
		if cleanErr := a.removePlaceholders(); err == nil {
			err = cleanErr
		}
	}()
	answers := json.NewDecoder(io.LimitReader(conn, maxReport))
	if err := a.assemble(func() error {
		if err := answers.Decode(new(innerReport)); err != nil {
			return fmt.Errorf("start of the inner child: %w", err)
		}
		return nil
	}); err != nil {
		return err
	}
	told := make(chan innerReport, 1)
	go func() {
		var r innerReport
		if json.NewEncoder(conn).Encode(run.Inner) == nil {
			answers.Decode(&r) // nothing when the program was started
		}
		told <- r
	}()
	status, err := reapUntil(pid)
	if err != nil {
		return err
	}
	unix.Kill(-1, unix.SIGKILL)
	if _, err := reapUntil(-1); !errors.Is(err, unix.ECHILD) {
		return err
	}
	report.Status = uint32(status)
	report.Inner = <-told
	return nil
}

// takePipes gives the pipes of this run to the sandbox's root, so that /dev/stderr
// can be opened inside.
func (o *outer) takePipes() error {
	for _, fd := range o.order.Run.OwnPipes {
		if err := unix.Fchown(fd, int(o.order.RootUID), int(o.order.RootGID)); err != nil {
			return fmt.Errorf("own standard stream %d: %w", fd, err)
		}
	}
	return nil
}

// setLimits sets what would otherwise come from the caller's shell.
func setLimits() error {
	var had syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	hard := min(had.Max, 524288)
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: min(1024, hard), Max: hard}); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	if err := syscall.Setrlimit(unix.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("limit on core files: %w", err)
	}
	return nil
}

// lastCapability is CAP_CHECKPOINT_RESTORE, the newest of Linux 5.15 (capabilities(7)).
const lastCapability = 40

// startInner starts the inner child in its namespaces and returns the socket to it.
func (o *outer) startInner() (int, *os.File, error) {
	run := o.order.Run
	mine, theirs, err := socketPair()
	if err != nil {
		return 0, nil, err
	}
	defer theirs.Close()
	files := []uintptr{0, 1, 2}
	for i := range run.Files {
		files = append(files, uintptr(controlFD+1+i))
	}
	files = append(files, theirs.Fd())
	// Its mount namespace it makes itself, when this one is complete.
	flags := unix.CLONE_NEWUSER | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if !run.Network {
		flags |= unix.CLONE_NEWNET
	}
	if run.Cgroup {
		flags |= unix.CLONE_NEWCGROUP
	}
	// The child starts with no id in its namespace, so that it may still execute a
	// program file which only the caller can read; its capabilities come over execve
	// as ambient ones.
	caps := make([]uintptr, lastCapability+1)
	for i := range caps {
		caps[i] = uintptr(i)
	}
	// This attribute is the thread's, and its children's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, nil, fmt.Errorf("no_new_privs: %w", err)
	}
	// ForkExec and not package os: pid 1 waits for all children alike.
	pid, err := syscall.ForkExec(selfExe, []string{argvZero, innerArg + strconv.Itoa(len(files)-1)}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 uintptr(flags),
			UidMappings:                sysProcMaps(run.UIDMap),
			GidMappings:                sysProcMaps(run.GIDMap),
			GidMappingsEnableSetgroups: run.Groups,
			AmbientCaps:                caps,
			Setsid:                     !run.Terminal,
		},
	})
	if err != nil {
		mine.Close()
		return 0, nil, fmt.Errorf("start in new namespaces: %w", err)
	}
	return pid, mine, o.dropStreams()
}

// dropStreams lets go of what was handed on, so that its ends are the sandbox's alone.
func (o *outer) dropStreams() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	for fd := range 3 {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("/dev/null: %w", err)
		}
	}
	for i := range o.order.Run.Files {
		unix.Close(controlFD + 1 + i)
	}
	return nil
}

// reapUntil waits for children until pid has ended, and returns its status. With
// pid -1 it ends with ECHILD, when there are no more.
func reapUntil(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid:
			return status, nil
		}
	}
}
