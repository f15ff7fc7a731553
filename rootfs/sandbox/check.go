package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// thisHost is the host this process runs on.
func thisHost() Host {
	return Host{FS: os.DirFS("/"), UID: os.Geteuid(), GID: os.Getegid()}
}

// Check says whether sandboxes with ids can be had on this host. Its error matches
// ErrNotSupported and names the setting, file or package and the command to change it.
func Check(ctx context.Context, ids IDs) error {
	h := thisHost()
	h.Try = func(ctx context.Context, ids IDs) error {
		return Run(ctx, Spec{IDs: ids, Call: probeCall})
	}
	return h.Check(ctx, ids)
}

// Check is the package's Check for the host h.
func (h Host) Check(ctx context.Context, ids IDs) error {
	if _, err := h.mappings(ids); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if h.Try == nil {
		if reasons := h.reasons(); len(reasons) > 0 {
			return fmt.Errorf("sandbox: %w: %s", ErrNotSupported, strings.Join(reasons, "; "))
		}
		return nil
	}
	err := h.Try(ctx, ids)
	if err == nil || errors.Is(err, ErrNotSupported) || ctx.Err() != nil {
		return err
	}
	if explained := h.explain(err); errors.Is(explained, ErrNotSupported) {
		return explained
	}
	return fmt.Errorf("%w: %w", ErrNotSupported, err)
}

// explain adds to an error of the kernel about namespaces what on the host may be its cause.
func (h Host) explain(err error) error {
	forbidden := false
	for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		forbidden = forbidden || errors.Is(err, errno)
	}
	if !forbidden && !errors.Is(err, ErrNotSupported) {
		return err
	}
	reasons := h.reasons()
	if len(reasons) == 0 {
		return err
	}
	if errors.Is(err, ErrNotSupported) {
		return fmt.Errorf("%w; %s", err, strings.Join(reasons, "; "))
	}
	return fmt.Errorf("%w: %w: %s", ErrNotSupported, err, strings.Join(reasons, "; "))
}

// setting reads a file of one word, "" when it is not there.
func (h Host) setting(name string) string {
	b, err := fs.ReadFile(h.FS, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// reasons lists what on the host stands against user namespaces, each with its remedy.
func (h Host) reasons() []string {
	var found []string
	if h.setting("proc/sys/user/max_user_namespaces") == "0" {
		found = append(found, "user.max_user_namespaces is 0; as root run: sysctl -w user.max_user_namespaces=15000")
	}
	for _, kind := range []string{"mnt", "pid", "net", "uts", "ipc"} {
		if h.setting("proc/sys/user/max_"+kind+"_namespaces") == "0" {
			found = append(found, fmt.Sprintf("user.max_%s_namespaces is 0; as root run: sysctl -w user.max_%s_namespaces=15000", kind, kind))
		}
	}
	if _, err := fs.Stat(h.FS, "proc/self/ns/user"); errors.Is(err, fs.ErrNotExist) {
		found = append(found, "the kernel has no user namespaces (CONFIG_USER_NS); start one that has")
	}
	if h.UID != 0 {
		if h.setting("proc/sys/kernel/unprivileged_userns_clone") == "0" {
			found = append(found, "kernel.unprivileged_userns_clone is 0; as root run: sysctl -w kernel.unprivileged_userns_clone=1")
		}
		if h.setting("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
			found = append(found, "kernel.apparmor_restrict_unprivileged_userns is 1; as root run: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
		}
	}
	status := h.setting("proc/self/status")
	if h.UID == 0 && !hasSysAdmin(status) {
		found = append(found, "root lacks CAP_SYS_ADMIN here, as in a container; start the container with --privileged")
	}
	if field(status, "Seccomp:") == "2" {
		found = append(found, "a seccomp filter is in force, as in a container, which may forbid namespaces; start the container with --security-opt seccomp=unconfined")
	}
	return found
}

// field is the value of a line of /proc/self/status (proc(5)).
func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func hasSysAdmin(status string) bool {
	var caps uint64
	if _, err := fmt.Sscanf(field(status, "CapEff:"), "%x", &caps); err != nil {
		return true // not known: no reason to claim it
	}
	return caps&(1<<unix.CAP_SYS_ADMIN) != 0
}
