package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// injected is a file over a tree's, first prepared, then mounted.
type injected struct {
	path     string
	file     mount // the content
	target   int   // descriptor of what it goes over
	dir      int   // descriptor of the directory to remove a placeholder from; -1 for none
	attached bool
}

// A placeholder is an empty file in a tree, made to mount upon. This time, in seconds
// since 1970, together with mode 0 and no content marks one.
const placeholderTime = 1

// prepareInjected makes the files' contents and placeholders.
func (a *assembly) prepareInjected() error {
	if len(a.order.Inject) == 0 {
		return nil
	}
	store, err := newMount("tmpfs", attrData, "mode=700", "uid="+strconv.Itoa(a.uid), "gid="+strconv.Itoa(a.gid))
	if err != nil {
		return err
	}
	defer store.close()
	// A tmpfs must be somewhere to have parts of it mounted elsewhere (before Linux
	// 6.15). This place is left again before anything runs.
	if err := store.attach(a.root.fd, "dev/shm"); err != nil {
		return err
	}
	for i, f := range a.order.Inject {
		if err := a.prepareOne(store, strconv.Itoa(i), f); err != nil {
			return fmt.Errorf("inject %s: %w", f.Path, err)
		}
	}
	if err := unix.Fchdir(store.fd); err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	return nil
}

func (a *assembly) prepareOne(store mount, name string, f File) error {
	mode := uint32(f.Mode.Perm())
	if mode == 0 {
		mode = 0o644
	}
	if err := a.makeFile(store.fd, name, mode, f.Content); err != nil {
		return err
	}
	fd, err := unix.OpenTree(store.fd, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	in := injected{path: path.Clean(f.Path), file: mount{fd, f.Path}, target: -1, dir: -1}
	err = a.findTarget(&in)
	a.inject = append(a.inject, in) // also on failure: a placeholder may have been made
	return err
}

// findTarget opens the file that is there, or makes a placeholder.
func (a *assembly) findTarget(in *injected) error {
	dir, err := a.inRoot(path.Dir(in.path), unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("directory %s: %w; it must be in the tree", path.Dir(in.path), err)
	}
	name := path.Base(in.path)
	in.target, err = a.inRoot(in.path, 0)
	if err == nil {
		var st unix.Stat_t
		if err := unix.Fstat(in.target, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return unix.EISDIR
		}
		if st.Mode == unix.S_IFREG && st.Size == 0 && st.Mtim.Sec == placeholderTime {
			in.dir = dir // left by a run that was cut off
		} else {
			unix.Close(dir)
		}
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		unix.Close(dir)
		return err
	}
	if err := a.makeFile(dir, name, 0, nil); err != nil {
		unix.Close(dir)
		switch {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("it is a link to nowhere: %w", unix.ENOENT)
		case errors.Is(err, unix.EROFS):
			return fmt.Errorf("the tree has no such file and is read-only: %w", err)
		}
		return err
	}
	in.dir = dir
	when := []unix.Timespec{{Sec: placeholderTime}, {Sec: placeholderTime}}
	if err := unix.UtimesNanoAt(dir, name, when, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	in.target, err = a.inRoot(in.path, 0)
	return err
}

// attachInjected lays the files over their targets. It is for the time after pivot.
func (a *assembly) attachInjected() error {
	for i := range a.inject {
		in := &a.inject[i]
		if err := in.file.attach(in.target, ""); err != nil {
			return fmt.Errorf("inject %s: %w", in.path, err)
		}
		in.attached = true
		unix.Close(in.target)
	}
	return nil
}

// uncover unmounts the injected files: a file that is mounted upon cannot be removed.
func (a *assembly) uncover() error {
	for i := range a.inject {
		in := &a.inject[i]
		if !in.attached {
			continue
		}
		if err := unix.Unmount("/proc/self/fd/"+strconv.Itoa(in.file.fd), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount injected %s: %w", in.path, err)
		}
		in.attached = false
		in.file.close()
	}
	return nil
}

// removePlaceholders takes the placeholders out of the tree, where scripts may have
// moved their directories. It is for the time when nothing runs any more.
func (a *assembly) removePlaceholders() error {
	first := a.uncover()
	for _, in := range a.inject {
		if in.dir < 0 {
			continue
		}
		err := unix.Unlinkat(in.dir, path.Base(in.path), 0)
		if err != nil && !errors.Is(err, unix.ENOENT) && first == nil {
			first = fmt.Errorf("remove injected %s: %w", in.path, err)
		}
	}
	a.inject = nil
	return first
}
