package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A mount is held by the descriptor that fsmount(2) or open_tree(2) gave, first
// detached, then in its place. Everything is found before anything is put in place,
// so no mount of the sandbox can hide the source of another.
type mount struct {
	fd     int
	source string // for messages
}

func (m mount) close() { unix.Close(m.fd) }

// treeMount takes a copy of the mounts at a host path.
func treeMount(source string) (mount, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return mount{}, fmt.Errorf("%s: %w", source, err)
	}
	return mount{fd, source}, nil
}

// newMount makes a file system of a kind in memory; options are key=value.
func newMount(kind string, attr int, options ...string) (mount, error) {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return mount{}, fmt.Errorf("new %s: %w", kind, err)
	}
	defer unix.Close(fsfd)
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		if err := unix.FsconfigSetString(fsfd, k, v); err != nil {
			return mount{}, fmt.Errorf("new %s: option %s: %w", kind, o, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return mount{}, fmt.Errorf("new %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return mount{}, fmt.Errorf("new %s: %w", kind, err)
	}
	return mount{fd, kind}, nil
}

// set adds attributes (MOUNT_ATTR_*) to the mount and, with AT_RECURSIVE, to those below.
func (m mount) set(attr uint64, flags uint) error {
	err := unix.MountSetattr(m.fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attr})
	if err != nil {
		return fmt.Errorf("attributes of mount %s: %w", m.source, err)
	}
	return nil
}

func (m mount) attach(dirfd int, name string) error {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	if err := unix.MoveMount(m.fd, "", dirfd, name, flags); err != nil {
		return fmt.Errorf("mount %s: %w", m.source, err)
	}
	return nil
}

func (m mount) isDir() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(m.fd, &st); err != nil {
		return false, fmt.Errorf("%s: %w", m.source, err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// place is a mount and where it goes.
type place struct {
	mount
	target string
	usual  bool // one that every sandbox has
}

// assembly puts a sandbox's mounts together, in the outer child.
type assembly struct {
	order    *runOrder
	uid, gid int // root of the inner child
	root     mount
	made     bool // the root is a tmpfs of ours: places may be made in it
	places   []place
	devices  []place // for /dev
	inject   []injected
}

// inRoot opens a path inside; links are followed as the sandbox will see them.
func (a *assembly) inRoot(p string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(a.root.fd, p, &how)
		// EAGAIN: something was mounted or renamed meanwhile, anywhere on the
		// machine, and the kernel could not be sure of a "..".
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func (a *assembly) has(p string) bool {
	fd, err := a.inRoot(p, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

const (
	attrData = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	attrRO   = unix.MOUNT_ATTR_RDONLY
)

// prepare cuts this process's mounts off from the host's, finds all that will be
// mounted, and shows the new pid namespace in /proc, where its children look for
// themselves.
func (a *assembly) prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := a.gather(); err != nil {
		return err
	}
	proc, err := newProc()
	if err != nil {
		return err
	}
	defer proc.close()
	return proc.attach(unix.AT_FDCWD, "/proc")
}

// assemble makes the sandbox's tree the root of this process and its children, and the
// host's unreachable; before that it waits for ready.
func (a *assembly) assemble(ready func() error) error {
	entries, err := a.openRoot()
	if err != nil {
		return err
	}
	// Any directory does to hold the root until it is the root; this one is on every
	// host, and has nothing that the inner child's start needs.
	if err := a.root.attach(unix.AT_FDCWD, "/dev"); err != nil {
		return err
	}
	if err := a.fillSkeleton(entries); err != nil {
		return err
	}
	for _, p := range a.places {
		if err := a.put(p); err != nil {
			return err
		}
	}
	if err := a.guardProc(); err != nil {
		return err
	}
	if err := a.prepareInjected(); err != nil {
		return err
	}
	if a.made && a.order.ReadOnlyRoot {
		if err := a.root.set(attrRO, 0); err != nil {
			return err
		}
	}
	if err := ready(); err != nil {
		return err
	}
	if err := a.pivot(); err != nil {
		return err
	}
	return a.attachInjected()
}

// newProc makes a /proc of this process's pid namespace.
func newProc() (mount, error) {
	m, err := newMount("proc", attrData|unix.MOUNT_ATTR_NOEXEC)
	if errors.Is(err, unix.EPERM) {
		return m, fmt.Errorf("%w: a new /proc is refused because the one here is partly covered, as in a container; start the container with --security-opt systempaths=unconfined (docker) or unmask=ALL (podman)", err)
	}
	return m, err
}

// gather finds or makes everything that will be mounted below the root.
func (a *assembly) gather() error {
	o := a.order
	if err := a.gatherDevices(); err != nil {
		return err
	}
	proc, err := newProc()
	if err != nil {
		return err
	}
	a.places = append(a.places, place{proc, "/proc", true})
	owner := []string{"uid=" + strconv.Itoa(a.uid), "gid=" + strconv.Itoa(a.gid)}
	tmpfs := func(target, mode string, attr int, usual bool) error {
		for _, k := range o.Keep {
			if k == target {
				return nil
			}
		}
		m, err := newMount("tmpfs", attr, append(owner, "mode="+mode)...)
		if err != nil {
			return err
		}
		a.places = append(a.places, place{m, target, usual})
		return nil
	}
	for _, t := range []struct {
		target, mode string
		attr         int
	}{
		{"/sys", "555", attrData | attrRO},
		{"/dev", "755", unix.MOUNT_ATTR_NOSUID},
		{"/tmp", "1777", attrData},
		{"/run", "755", attrData},
	} {
		if err := tmpfs(t.target, t.mode, t.attr, true); err != nil {
			return err
		}
	}
	for _, t := range o.Tmpfs {
		if err := tmpfs(path.Clean(t), "755", attrData, false); err != nil {
			return err
		}
	}
	return a.gatherBinds()
}

func (a *assembly) gatherBinds() error {
	for _, b := range a.order.Binds {
		m, err := treeMount(b.Source)
		if err != nil {
			return fmt.Errorf("bind on %s: %w", b.Target, err)
		}
		attr := uint64(attrData)
		if b.ReadOnly {
			attr |= attrRO
		}
		if err := m.set(attr, unix.AT_RECURSIVE); err != nil {
			return err
		}
		a.places = append(a.places, place{m, b.Target, false})
	}
	return nil
}

// openRoot opens the order's root, or makes a skeleton for it: always without a root,
// and with a read-only root that lacks the place of a mount. Then the entries are
// those of the root, to be mounted into the skeleton.
func (a *assembly) openRoot() (entries []place, err error) {
	o := a.order
	if o.Root != "" {
		if a.root, err = treeMount(o.Root); err != nil {
			return nil, err
		}
		attr := uint64(attrData)
		if o.ReadOnlyRoot {
			attr |= attrRO
		}
		if err := a.root.set(attr, unix.AT_RECURSIVE); err != nil {
			return nil, err
		}
		if dir, err := a.root.isDir(); err != nil || !dir {
			return nil, fmt.Errorf("%s: not a directory", o.Root)
		}
		missing := a.missing()
		if missing == "" {
			return nil, nil
		}
		if !o.ReadOnlyRoot {
			return nil, fmt.Errorf("%s: there is no %s in the tree to mount on; make it there first (package base-files has the usual ones)", o.Root, missing)
		}
		if entries, err = topEntries(o.Root); err != nil {
			return nil, err
		}
		a.root.close()
	}
	a.made = true
	a.root, err = newMount("tmpfs", attrData, "mode=755", "uid="+strconv.Itoa(a.uid), "gid="+strconv.Itoa(a.gid))
	return entries, err
}

// missing is the first target that is not in the root, if any.
func (a *assembly) missing() string {
	for _, p := range a.places {
		if a.optional(p) || a.underPlace(p.target) || a.has(p.target) {
			continue
		}
		return p.target
	}
	return ""
}

// optional places are left out where the tree has none.
func (a *assembly) optional(p place) bool { return p.usual && p.target == "/sys" }

// underPlace says whether target lies in a tmpfs of the sandbox, where its place can be made.
func (a *assembly) underPlace(target string) bool {
	for _, p := range a.places {
		if p.source == "tmpfs" && strings.HasPrefix(target, p.target+"/") {
			return true
		}
	}
	return false
}

// topEntries lists what lies directly in a root; those without a descriptor are links.
func topEntries(root string) ([]place, error) {
	list, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var entries []place
	for _, e := range list {
		p := place{mount: mount{fd: -1}, target: "/" + e.Name()}
		if e.Type()&fs.ModeSymlink != 0 {
			if p.source, err = os.Readlink(path.Join(root, e.Name())); err != nil {
				return nil, err
			}
		} else {
			if p.mount, err = treeMount(path.Join(root, e.Name())); err != nil {
				return nil, err
			}
			if err := p.set(attrData|attrRO, unix.AT_RECURSIVE); err != nil {
				return nil, err
			}
		}
		entries = append(entries, p)
	}
	return entries, nil
}

// fillSkeleton lays links and the entries of a read-only root into a root of our own.
func (a *assembly) fillSkeleton(entries []place) error {
	for _, e := range entries {
		if e.fd >= 0 {
			if err := a.put(e); err != nil {
				return err
			}
		} else if err := a.link(e.target, e.source); err != nil {
			return err
		}
	}
	for _, l := range a.order.Links {
		if err := a.link(path.Clean(l.Path), l.Target); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) link(p, target string) error {
	dir, err := a.makeDirs(path.Dir(p))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Symlinkat(target, dir, path.Base(p)); err != nil {
		return fmt.Errorf("link %s: %w", p, err)
	}
	return nil
}

// put mounts p, making its place first where it lies in a file system of ours.
func (a *assembly) put(p place) error {
	fd, err := a.inRoot(p.target, 0)
	if errors.Is(err, unix.ENOENT) && (a.made || a.underPlace(p.target)) {
		var dir bool
		if dir, err = p.isDir(); err == nil {
			fd, err = a.makePlace(p.target, dir)
		}
	}
	if errors.Is(err, unix.ENOENT) && a.optional(p) {
		return nil
	}
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("mount on %s: the tree has no such place and is read-only there: %w; bind on a directory that is there, or one whose first directory the tree lacks", p.target, err)
	}
	if err != nil {
		return fmt.Errorf("mount on %s: %w", p.target, err)
	}
	defer unix.Close(fd)
	if err := p.attach(fd, ""); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("%w: %s is a file and the other a directory", err, p.target)
		}
		return fmt.Errorf("%w (on %s)", err, p.target)
	}
	if p.usual && p.target == "/dev" {
		return a.fillDev(p.mount)
	}
	return nil
}

// makePlace makes an empty file or directory in a tmpfs of ours and opens it.
func (a *assembly) makePlace(p string, dir bool) (int, error) {
	if dir {
		return a.makeDirs(p)
	}
	parent, err := a.makeDirs(path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := a.makeFile(parent, path.Base(p), 0o644, nil); err != nil {
		return -1, err
	}
	return a.inRoot(p, 0)
}

// makeDirs makes the directories of p that are missing and opens the last.
func (a *assembly) makeDirs(p string) (int, error) {
	fd, err := a.inRoot(p, unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := a.makeDirs(path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	name := path.Base(p)
	if err := unix.Mkdirat(parent, name, 0o755); err != nil {
		return -1, err
	}
	if err := unix.Fchownat(parent, name, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, err
	}
	return a.inRoot(p, unix.O_DIRECTORY)
}

// makeFile makes a new file, owned by root of the sandbox, in the directory dirfd.
func (a *assembly) makeFile(dirfd int, name string, mode uint32, content []byte) error {
	fd, err := unix.Openat(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := unix.Fchown(fd, a.uid, a.gid); err != nil {
		return err
	}
	return unix.Fchmod(fd, mode)
}

// pivot makes the assembled tree the root and lets go of the host's.
func (a *assembly) pivot() error {
	old, err := unix.Open("/", unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /: %w", err)
	}
	defer unix.Close(old)
	if err := unix.Fchdir(a.root.fd); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	// The old root is stacked on the new one and taken off from there (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("enter the old root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	for _, p := range append(a.places, a.devices...) {
		p.close()
	}
	a.root.close()
	return nil
}
