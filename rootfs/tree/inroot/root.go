// Package inroot makes files below a directory that is to become a root
// directory: every path is resolved as a process would see it after
// chroot(2), absolute symbolic links and ".." included, so that neither a
// name nor a link in the tree leads out of it. The kernel does this itself:
// openat2(2) with RESOLVE_IN_ROOT, Linux 5.6 or later.
//
// It is the way files of packages and archives get to the disk. It does not
// protect against another process that renames folders of the tree at the
// same time.
package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxDirs is how many directories are kept open.
const maxDirs = 256

// A Root is an open tree. Names are relative to it and cleaned: "usr/bin",
// "." is the tree itself. It is not safe for use by several goroutines.
type Root struct {
	path string
	fd   int
	dirs map[string]int // open directories by name
}

// Attr is what a new file gets beside its contents.
type Attr struct {
	Mode     uint32    // permission bits, 07777
	UID, GID int       // -1 leaves the caller's
	ModTime  time.Time // zero leaves the time at which it was made
	Xattrs   []Xattr
}

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Open opens the directory dir as a root. Close releases it.
func Open(dir string) (*Root, error) {
	fd, err := retryFD(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{path: dir, fd: fd, dirs: map[string]int{}}, nil
}

// Close closes the tree and all its directories.
func (r *Root) Close() error {
	r.Forget()
	return unix.Close(r.fd)
}

// Forget closes all directories but the root. It has to be called after
// somebody else changed links or folders of the tree.
func (r *Root) Forget() {
	for name, fd := range r.dirs {
		unix.Close(fd)
		delete(r.dirs, name)
	}
}

// forget closes what was opened through name, which is no more or another
// link now.
func (r *Root) forget(name string) {
	for dir, fd := range r.dirs {
		if dir == name || strings.HasPrefix(dir, name+"/") {
			unix.Close(fd)
			delete(r.dirs, dir)
		}
	}
}

// fail names the path as it is below the root.
func (r *Root) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSYS) && op == "resolve" {
		err = fmt.Errorf("the kernel has no openat2, Linux 5.6 or later is needed: %w", err)
	}
	return &fs.PathError{Op: op, Path: path.Join("/", name), Err: err}
}

// open2 resolves name within the root.
func (r *Root) open2(name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(r.fd, name, &how)
		// EAGAIN: something was renamed meanwhile and the kernel could not be sure.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// dir returns the open directory of that name, following links. It stays
// open until Forget.
func (r *Root) dir(name string) (int, error) {
	if name == "." || name == "" {
		return r.fd, nil
	}
	if fd, ok := r.dirs[name]; ok {
		return fd, nil
	}
	fd, err := r.open2(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, r.fail("resolve", name, err)
	}
	if len(r.dirs) >= maxDirs {
		r.Forget()
	}
	r.dirs[name] = fd
	return fd, nil
}

// parent returns the directory that name lies in, and its last element.
func (r *Root) parent(name string) (int, string, error) {
	if name == "." || name == "" {
		return r.fd, ".", nil
	}
	dir, base := path.Split(name)
	if base == ".." || base == "." || base == "" {
		return -1, "", r.fail("resolve", name, unix.EINVAL)
	}
	fd, err := r.dir(path.Clean(dir))
	return fd, base, err
}

// Lstat describes name without following it.
func (r *Root) Lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	dir, base, err := r.parent(name)
	if err != nil {
		return st, err
	}
	err = retry(func() error { return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, r.fail("lstat", name, err)
}

// Stat describes name, following links within the root.
func (r *Root) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open2(name, unix.O_PATH)
	if err != nil {
		return st, r.fail("stat", name, err)
	}
	defer unix.Close(fd)
	return st, r.fail("stat", name, unix.Fstat(fd, &st))
}

// Readlink returns the target of a symbolic link.
func (r *Root) Readlink(name string) (string, error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, buf)
	if err != nil {
		return "", r.fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// Mkdir makes a directory. Its times are not set: they change with every
// file made in it. SetModTime does that at the end.
func (r *Root) Mkdir(name string, a Attr) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return r.fail("mkdir", name, err)
	}
	return r.fail("mkdir", name, setOther(dir, base, a))
}

// UpdateDir gives an existing directory the mode, owner and xattrs of a; it
// does not follow name.
func (r *Root) UpdateDir(name string, a Attr) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	fd, err := retryFD(func() (int, error) {
		return unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return r.fail("open", name, err)
	}
	defer unix.Close(fd)
	return r.fail("set attributes of", name, setOpen(fd, a))
}

// Mknod makes a device or a pipe: kind is one of unix.S_IFCHR, S_IFBLK,
// S_IFIFO. An error matches unix.EPERM in a user namespace.
func (r *Root) Mknod(name string, kind uint32, dev uint64, a Attr) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(dir, base, kind|0o600, int(dev)); err != nil {
		return r.fail("mknod", name, err)
	}
	if err := setOther(dir, base, a); err != nil {
		return r.fail("mknod", name, err)
	}
	return r.fail("mknod", name, setTime(dir, base, a.ModTime))
}

// Symlink makes a symbolic link. Its mode is not settable.
func (r *Root) Symlink(target, name string, a Attr) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, dir, base); err != nil {
		return r.fail("symlink", name, err)
	}
	if a.UID >= 0 || a.GID >= 0 {
		if err := unix.Fchownat(dir, base, a.UID, a.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return r.fail("chown", name, err)
		}
	}
	return r.fail("set time of", name, setTime(dir, base, a.ModTime))
}

// Link gives the file old a second name. Neither is followed if it is a
// symbolic link.
func (r *Root) Link(old, name string) error {
	// The second directory may push the first out of the cache: it is looked
	// up again then.
	if _, _, err := r.parent(old); err != nil {
		return err
	}
	newDir, newBase, err := r.parent(name)
	if err != nil {
		return err
	}
	oldDir, oldBase, err := r.parent(old)
	if err != nil {
		return err
	}
	return r.fail("link", name, unix.Linkat(oldDir, oldBase, newDir, newBase, 0))
}

// Rename moves old to name, replacing what is there.
func (r *Root) Rename(old, name string) error {
	if _, _, err := r.parent(old); err != nil {
		return err
	}
	newDir, newBase, err := r.parent(name)
	if err != nil {
		return err
	}
	oldDir, oldBase, err := r.parent(old)
	if err != nil {
		return err
	}
	err = unix.Renameat(oldDir, oldBase, newDir, newBase)
	r.forget(old)
	r.forget(name)
	return r.fail("rename", name, err)
}

// Remove removes a file that is no directory.
func (r *Root) Remove(name string) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	err = unix.Unlinkat(dir, base, 0)
	r.forget(name)
	return r.fail("remove", name, err)
}

// SetModTime sets the time of modification of name, not following it.
func (r *Root) SetModTime(name string, t time.Time) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	return r.fail("set time of", name, setTime(dir, base, t))
}

// setOther sets owner, mode and xattrs of what was made a moment ago, is no
// symbolic link and need not be opened.
func setOther(dir int, base string, a Attr) error {
	if a.UID >= 0 || a.GID >= 0 {
		if err := unix.Fchownat(dir, base, a.UID, a.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	for _, x := range a.Xattrs {
		// There is no setxattrat before Linux 6.13.
		link := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
		if err := unix.Lsetxattr(link, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	return unix.Fchmodat(dir, base, a.Mode, 0)
}

// setOpen sets owner, xattrs and mode in the order in which nothing undoes
// what was done before: chown clears setuid bits and capabilities.
func setOpen(fd int, a Attr) error {
	if a.UID >= 0 || a.GID >= 0 {
		if err := unix.Fchown(fd, a.UID, a.GID); err != nil {
			return err
		}
	}
	for _, x := range a.Xattrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	return unix.Fchmod(fd, a.Mode)
}

// setTime leaves the time alone where t is zero.
func setTime(dir int, base string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

func retryFD(fn func() (int, error)) (int, error) {
	for {
		if fd, err := fn(); err != unix.EINTR {
			return fd, err
		}
	}
}
