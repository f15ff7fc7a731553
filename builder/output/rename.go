package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// rename gives a draft its name. What had that name gets the draft's hidden name, so that it can be taken back.
func (d *draft) rename(dir string) error {
	if d.temp == "" {
		if err := d.link(dir); err != nil {
			return fmt.Errorf("output %s: %w", d.name, err)
		}
	}
	name := filepath.Join(dir, d.name)
	err := unix.Renameat2(unix.AT_FDCWD, d.temp, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("output %s: %w", d.name, err)
	}
	// Nothing has that name, or the file system cannot exchange names.
	if err := os.Rename(d.temp, name); err != nil {
		return fmt.Errorf("output %s: %w", d.name, err)
	}
	d.temp = ""
	return nil
}

// link gives a file without a name a hidden one. A file of that name is left over from a build that was killed in the
// midst of renaming: the folder is locked, so no other build has it.
func (d *draft) link(dir string) error {
	temp := filepath.Join(dir, "."+d.name+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// linkat(2): a file descriptor's link in /proc needs no privilege, AT_EMPTY_PATH does.
	if err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(d.file.Fd())), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	d.temp = temp
	return nil
}

// takeBack undoes rename.
func (d *draft) takeBack(dir string) error {
	name := filepath.Join(dir, d.name)
	if d.temp == "" {
		return os.Remove(name)
	}
	if err := os.Rename(d.temp, name); err != nil {
		return err
	}
	d.temp = ""
	return nil
}

// discard removes the hidden name, if there is one: that of a draft without a name of its own yet, or of what had the
// draft's name before.
func (d *draft) discard() error {
	if d.temp == "" {
		return nil
	}
	temp := d.temp
	d.temp = ""
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lockPoll is how often a lock that another build holds is tried again. It is held for as long as files are renamed.
const lockPoll = 20 * time.Millisecond

// lock keeps other builds from renaming files in dir.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("output folder %s cannot be locked: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("output folder %s is in use by another build: %w", dir, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
