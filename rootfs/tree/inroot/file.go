package inroot

import (
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A File is a new file that is being written.
type File struct {
	fd   int
	name string
	root *Root
}

// Create makes a new file for writing; it must not be there yet (fs.ErrExist).
// Finish or Abandon has to follow.
func (r *Root) Create(name string) (*File, error) {
	dir, base, err := r.parent(name)
	if err != nil {
		return nil, err
	}
	fd, err := retryFD(func() (int, error) {
		return unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, r.fail("create", name, err)
	}
	return &File{fd: fd, name: name, root: r}, nil
}

func (f *File) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(f.fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, f.root.fail("write", f.name, err)
		}
		if n == 0 {
			return done, f.root.fail("write", f.name, io.ErrShortWrite)
		}
		done += n
	}
	return done, nil
}

// Finish sets the attributes and closes the file.
func (f *File) Finish(a Attr) error {
	err := f.set(a)
	if e := unix.Close(f.fd); err == nil {
		err = e
	}
	return f.root.fail("write", f.name, err)
}

// set leaves the time to the end, as writing changes it.
func (f *File) set(a Attr) error {
	if err := setOpen(f.fd, a); err != nil {
		return err
	}
	if a.ModTime.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(a.ModTime.UnixNano())
	return unix.UtimesNanoAt(f.fd, "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
}

// Abandon closes and removes the file.
func (f *File) Abandon() {
	unix.Close(f.fd)
	f.root.Remove(f.name)
}

// ReadFile reads a file of at most limit bytes, following links within the
// root.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	fd, err := r.open2(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, r.fail("open", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, r.fail("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > limit {
		return nil, r.fail("read", name, unix.EFBIG)
	}
	data := make([]byte, st.Size)
	for done := 0; done < len(data); {
		n, err := unix.Pread(fd, data[done:], int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, r.fail("read", name, err)
		}
		if n == 0 {
			return data[:done], nil
		}
		done += n
	}
	return data, nil
}

// WriteFile makes or replaces a file: it is written beside, with ".new"
// after its name, and renamed.
func (r *Root) WriteFile(name string, data []byte, a Attr) error {
	beside := name + ".new"
	if err := r.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.Create(beside)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Abandon()
		return err
	}
	if err := f.Finish(a); err != nil {
		return err
	}
	return r.Rename(beside, name)
}
