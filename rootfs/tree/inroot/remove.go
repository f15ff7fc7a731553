package inroot

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveAll removes name with all that is in it. It follows no link, and
// that nothing is there is no error.
func (r *Root) RemoveAll(name string) error {
	dir, base, err := r.parent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = unix.Unlinkat(dir, base, 0)
	if err == unix.EISDIR {
		err = r.removeDir(dir, base)
	}
	if err != unix.ENOENT {
		r.forget(name)
	}
	if err == unix.ENOENT {
		return nil
	}
	return r.fail("remove", name, err)
}

// removeDir empties and removes a directory. How deep it can go is bounded
// by the number of open files.
func (r *Root) removeDir(dir int, base string) error {
	fd, err := openDir(dir, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Unlinkat(fd, name, 0)
		if err == unix.EISDIR {
			err = r.removeDir(fd, name)
		}
		if err != nil && err != unix.ENOENT {
			return err
		}
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}

// openDir opens a directory for reading, never through a link.
func openDir(dir int, base string) (int, error) {
	return retryFD(func() (int, error) {
		return unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

func readNames(fd int) ([]string, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}
