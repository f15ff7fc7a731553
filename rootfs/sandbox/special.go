package sandbox

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// usualDevices are harmless to everyone.
var usualDevices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// ttyGroup is the group of terminals in Debian's base-passwd.
const ttyGroup = 5

// fillDev makes what is in /dev. Nodes are the host's: user namespaces make none.
func (a *assembly) fillDev(dev mount) error {
	for _, d := range a.devices {
		if err := a.put(d); err != nil {
			return err
		}
	}
	for _, l := range [...]Link{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(l.Target, dev.fd, l.Path); err != nil {
			return fmt.Errorf("link /dev/%s: %w", l.Path, err)
		}
	}
	options := []string{"ptmxmode=0666", "mode=0620"}
	if a.order.Groups {
		options = append(options, "gid="+strconv.Itoa(a.gid+ttyGroup))
	}
	pts, err := newMount("devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, options...)
	if err != nil {
		return err
	}
	shm, err := newMount("tmpfs", attrData, "mode=1777", "uid="+strconv.Itoa(a.uid), "gid="+strconv.Itoa(a.gid))
	if err != nil {
		return err
	}
	for _, p := range []place{{pts, "/dev/pts", false}, {shm, "/dev/shm", false}} {
		err := a.put(p)
		p.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// gatherDevices finds the nodes for /dev.
func (a *assembly) gatherDevices() error {
	names := append([]string(nil), a.order.Devices...)
	for _, name := range usualDevices {
		names = append(names, "/dev/"+name)
	}
	for _, d := range names {
		node, err := treeMount(d)
		if err != nil {
			return fmt.Errorf("device %w", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(node.fd, &st); err != nil {
			return fmt.Errorf("device %s: %w", d, err)
		}
		if t := st.Mode & unix.S_IFMT; t != unix.S_IFCHR && t != unix.S_IFBLK {
			return fmt.Errorf("device %s: not a device node", d)
		}
		if err := node.set(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, 0); err != nil {
			return err
		}
		a.devices = append(a.devices, place{node, d, false})
	}
	return nil
}

// What of /proc speaks of or to the whole machine. User ids alone guard it, and a
// Caller sandbox of root has root's.
var (
	procReadOnly = [...]string{"/proc/sys", "/proc/sysrq-trigger", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/acpi", "/proc/scsi", "/proc/mtrr"}
	procHidden   = [...]string{"/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list"}
)

func (a *assembly) guardProc() error {
	cover := func(p string, source int, sourcePath string, attr uint64) error {
		fd, err := a.inRoot(p, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // this kernel has no such file
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		defer unix.Close(fd)
		if source < 0 {
			source = fd
		}
		copied, err := unix.OpenTree(source, sourcePath, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("guard %s: %w", p, err)
		}
		m := mount{copied, p}
		defer m.close()
		if err := m.set(attr, 0); err != nil {
			return err
		}
		return m.attach(fd, "")
	}
	for _, p := range procReadOnly {
		if err := cover(p, -1, "", attrData|attrRO|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	null, err := a.inRoot("/dev/null", 0)
	if err != nil {
		return fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	for _, p := range procHidden {
		if err := cover(p, null, "", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|attrRO); err != nil {
			return err
		}
	}
	return nil
}
