package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// setForeground makes group the foreground process group of the terminal fd. From the
// background that would stop this process by SIGTTOU, so the signal is blocked meanwhile.
func setForeground(fd, group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	const bit = uint(unix.SIGTTOU) - 1
	block.Val[bit/64] |= 1 << (bit % 64)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) != nil {
		return
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	// A terminal that has gone away meanwhile has no foreground.
	_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
}
