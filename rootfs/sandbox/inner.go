package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostname is the name of every sandbox, so that no name of a host gets into a tree.
const hostname = "applbuild"

// innerMain is the inner child. arg is the number of its socket's descriptor.
func innerMain(arg string, funcs map[string]Func) int {
	fd, err := strconv.Atoi(arg)
	if err != nil {
		return 1
	}
	unix.CloseOnExec(fd)
	conn := os.NewFile(uintptr(fd), "control")
	// With this the program's own libraries are loaded, and the host's files can go.
	if err := json.NewEncoder(conn).Encode(innerReport{}); err != nil {
		return 1
	}
	var order innerOrder
	if err := json.NewDecoder(conn).Decode(&order); err != nil {
		return 1
	}
	report := innerReport{}
	if err := settle(&order); err != nil {
		report.Failure = asFailure(err)
	} else if order.Call == "" {
		report.Failure = asFailure(execute(&order))
	} else if f := funcs[order.Call]; f == nil && order.Call != probeCall {
		report.Failure = asFailure(fmt.Errorf("no function of that name was given to sandbox.Main"))
	} else {
		report.Done = true
		if err := call(f, &order); err != nil {
			text := err.Error()
			report.Error = &text
		}
	}
	if err := json.NewEncoder(conn).Encode(report); err != nil {
		return 1
	}
	return 0
}

// probeCall is the function that every program has: it does nothing.
const probeCall = "applbuild sandbox probe"

func call(f Func, order *innerOrder) error {
	if f == nil {
		return nil
	}
	os.Clearenv()
	for _, v := range order.Env {
		if k, val, ok := strings.Cut(v, "="); ok && k != "" {
			if err := os.Setenv(k, val); err != nil {
				return err
			}
		}
	}
	files := make([]*os.File, order.Files)
	for i := range files {
		fd := 3 + i
		unix.CloseOnExec(fd)
		files[i] = os.NewFile(uintptr(fd), "file "+strconv.Itoa(i))
	}
	return f(context.Background(), order.Args, files)
}

// settle makes this process root of the namespaces that it was started in.
func settle(order *innerOrder) error {
	if order.Become {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := syscall.Setresgid(0, 0, 0); err != nil {
			return fmt.Errorf("become group 0: %w", err)
		}
		if err := syscall.Setresuid(0, 0, 0); err != nil {
			return fmt.Errorf("become user 0: %w", err)
		}
		// A change of ids takes /proc/self away from its owner.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("own /proc/self: %w", err)
		}
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if order.Loopback {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
	}
	// The caller's session keyring would be in reach otherwise. Where keyctl(2) is
	// missing or forbidden, it is so for the program too.
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("session keyring: %w", err)
	}
	if err := unix.Chdir(order.Dir); err != nil {
		return fmt.Errorf("working directory %s: %w", order.Dir, err)
	}
	if order.NoSync {
		skipSyncs()
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // a kernel without IPv4
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// execute becomes the program; it returns only with an error.
func execute(order *innerOrder) error {
	file, err := lookPath(order.Argv[0], order.Env)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	// Until now the mounts were the outer child's, which nobody in here can change. The
	// program gets copies, so that it can mount, but undo none of them. (A thread can
	// do this for itself only, so a function that is called has to do without.)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := clearThread(); err != nil {
		return err
	}
	err = syscall.Exec(file, order.Argv, order.Env)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: its interpreter is not in the tree: %w", file, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// lookPath finds a program in the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if err := unix.Access(name, unix.X_OK); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return name, nil
	}
	i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	if i < 0 {
		return "", fmt.Errorf("%s: no PATH: %w", name, unix.ENOENT)
	}
	dirs := strings.TrimPrefix(env[i], "PATH=")
	for dir := range strings.SplitSeq(dirs, ":") {
		file := path.Join(dir, name)
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: not in %s: %w", name, dirs, unix.ENOENT)
}

// clearThread takes from this thread what the program should not inherit: ambient and
// inheritable capabilities (as root of its namespace it has all others), ignored and
// blocked signals.
func clearThread() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	caps[0].Inheritable, caps[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &caps[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return fmt.Errorf("blocked signals: %w", err)
	}
	// struct sigaction of the kernel: handler, flags, restorer, mask. All zero is the default.
	var byDefault, had [4]uint64
	const ignored = 1
	for sig := 1; sig <= 64; sig++ {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&had)), 8, 0, 0)
		if errno != 0 || had[0] != ignored {
			continue
		}
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0); errno != 0 {
			return fmt.Errorf("signal %d: %w", sig, errno)
		}
	}
	return nil
}
