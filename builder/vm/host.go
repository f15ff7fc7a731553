package vm

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Host runs the host's own QEMU.
type Host struct{}

// Run implements [Runner].
func (Host) Run(ctx context.Context, c Command) error {
	// The signal for the parent's death is bound to the thread that started
	// the program: it must last as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = c.Env
	cmd.ExtraFiles = c.Files
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A reader of the terminal may not end with the program.
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
