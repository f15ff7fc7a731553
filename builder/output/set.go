// Package output writes what a build makes into one folder: all of it or nothing, with a SHA256SUMS file.
//
// Files are written under no name (O_TMPFILE of open(2), or a hidden name where a file system has no such thing) and
// get their names together at the end, so that a build that fails or is killed leaves the folder as it was. Several
// builds may write into one folder: SHA256SUMS keeps the lines of files that are not this build's.
//
// The package knows nothing of what is in the files; the layout of disks is builder/disk's.
package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// SumsName is the name of the file with the digests of all others.
const SumsName = "SHA256SUMS"

// A File is one output.
type File struct {
	Name   string // in the folder
	Size   int64  // in bytes, holes counted
	SHA256 string // in hexadecimal
}

// An ExistsError names outputs that are there already.
type ExistsError struct {
	Dir   string
	Names []string
}

func (e *ExistsError) Error() string {
	verb := "exists"
	if len(e.Names) > 1 {
		verb = "exist"
	}
	return fmt.Sprintf("%s: %s %s already: choose another folder, or replace with --force", e.Dir, strings.Join(e.Names, ", "), verb)
}

// validName keeps outputs in their folder and SHA256SUMS readable by sha256sum.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,200}$`)

func checkName(name string) error {
	if !validName.MatchString(name) || name == SumsName {
		return fmt.Errorf("output %q: not a name for an output: use letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}

// Check looks, before the work begins, whether outputs of these names could be written into dir. It returns an
// [*ExistsError] where some are there, nil where dir is missing or holds none of them. Something that is no regular
// file, and a SHA256SUMS file that cannot be read, are errors of their own: no force replaces them.
func Check(dir string, names []string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("output folder: %w", err)
	case !info.IsDir():
		return fmt.Errorf("output folder %s is a file: choose another folder", dir)
	}
	var there []string
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		info, err := os.Lstat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("output folder: %w", err)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is not a regular file: remove it, or choose another folder", filepath.Join(dir, name))
		}
		there = append(there, name)
	}
	if _, err := ReadSums(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(there) > 0 {
		slices.Sort(there)
		return &ExistsError{dir, there}
	}
	return nil
}

// A Set is the outputs of one build while they are written. Its methods are not safe for use by several goroutines;
// the files it hands out are.
type Set struct {
	dir   string
	force bool
	made  []string // folders that New made, innermost first
	files []*draft
	done  bool
}

// A draft is a file without its name.
type draft struct {
	name   string
	file   *os.File
	handed *os.File // the same file, as Create gave it to the caller
	temp   string   // its hidden name, if it has one
	sealed *File    // once its digest is known
}

// New begins a set of outputs in dir, which is made where it is missing. With force, outputs that are there already are
// replaced; [Check] says before the work begins whether there are any. The caller ends the set with Commit or Abort.
func New(dir string, force bool) (*Set, error) {
	s := &Set{dir: dir, force: force}
	for missing := filepath.Clean(dir); ; missing = filepath.Dir(missing) {
		if _, err := os.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.made = append(s.made, missing)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("output folder: %w", err), s.Abort())
	}
	return s, nil
}

// Create makes a file, open for reading and writing, that will have this name. The set closes it; a caller that has
// written it may do so before.
func (s *Set) Create(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(s.files, func(d *draft) bool { return d.name == name }) || s.done {
		return nil, fmt.Errorf("output %s: made already", name)
	}
	d := &draft{name: name}
	if err := d.open(s.dir); err != nil {
		return nil, err
	}
	s.files = append(s.files, d)
	fd, err := unix.FcntlInt(d.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", name, err)
	}
	d.handed = os.NewFile(uintptr(fd), filepath.Join(s.dir, name))
	return d.handed, nil
}

func (d *draft) open(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err == nil {
		d.file = os.NewFile(uintptr(fd), filepath.Join(dir, d.name))
		return nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("output %s: %w", filepath.Join(dir, d.name), err)
	}
	return d.openNamed(dir)
}

// openNamed is for file systems that have no files without a name.
func (d *draft) openNamed(dir string) error {
	file, err := os.CreateTemp(dir, "."+d.name+".*")
	if err != nil {
		return fmt.Errorf("output %s: %w", d.name, err)
	}
	d.file, d.temp = file, file.Name()
	return file.Chmod(0o644)
}

// Seal computes the digests of all files made so far that have none yet, on all cores, and returns them in the order
// they were made. These files must not be written any more.
func (s *Set) Seal(ctx context.Context) ([]File, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range s.files {
		if d.sealed != nil {
			continue
		}
		group.Go(func() error {
			size, sum, err := digest(ctx, d.file)
			if err != nil {
				return fmt.Errorf("output %s: %w", d.name, err)
			}
			if err := d.file.Sync(); err != nil {
				return fmt.Errorf("output %s: %w", d.name, err)
			}
			d.sealed = &File{d.name, size, sum}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	files := make([]File, len(s.files))
	for i, d := range s.files {
		files[i] = *d.sealed
	}
	return files, nil
}

// Commit gives all files their names, writes SHA256SUMS and ends the set. Files that are there already with the same
// contents stay untouched; others are an [*ExistsError] without force. On an error the folder is as it was before, but
// on a file system that cannot exchange two names (RENAME_EXCHANGE of rename(2)) an output that was replaced is gone.
func (s *Set) Commit(ctx context.Context) ([]File, error) {
	files, err := s.Seal(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	unlock, err := lock(ctx, s.dir)
	if err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	defer unlock()
	if err := s.publish(ctx, files); err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	s.done = true
	return files, s.close()
}

// publish makes all changes to the folder, or takes them back.
func (s *Set) publish(ctx context.Context, files []File) error {
	old, err := ReadSums(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	differ, err := s.differing(ctx)
	if err != nil {
		return err
	}
	sums := mergeSums(old, files, func(name string) bool {
		_, err := os.Lstat(filepath.Join(s.dir, name))
		return err == nil
	})
	list := &draft{name: SumsName}
	if err := list.open(s.dir); err != nil {
		return err
	}
	defer list.file.Close()
	if _, err := list.file.Write(sums); err != nil {
		return errors.Join(err, list.discard())
	}
	if err := list.file.Sync(); err != nil {
		return errors.Join(err, list.discard())
	}
	if !slices.Equal(old, parsed(sums)) || len(differ) > 0 {
		differ = append(differ, list)
	} else if err := list.discard(); err != nil {
		return err
	}
	for i, d := range differ {
		if err := d.rename(s.dir); err != nil {
			for _, done := range slices.Backward(differ[:i]) {
				err = errors.Join(err, done.takeBack(s.dir))
			}
			return errors.Join(err, list.discard())
		}
	}
	for _, d := range differ {
		err = errors.Join(err, d.discard())
	}
	return errors.Join(err, syncDir(s.dir))
}

// differing returns the drafts that are not in the folder yet with the same contents.
func (s *Set) differing(ctx context.Context) ([]*draft, error) {
	var differ []*draft
	var clash []string
	for _, d := range s.files {
		there, err := os.Open(filepath.Join(s.dir, d.name))
		if errors.Is(err, fs.ErrNotExist) {
			differ = append(differ, d)
			continue
		}
		if err != nil {
			return nil, err
		}
		same, err := d.same(ctx, there)
		there.Close()
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", d.name, err)
		}
		if !same {
			differ, clash = append(differ, d), append(clash, d.name)
		}
	}
	if len(clash) > 0 && !s.force {
		slices.Sort(clash)
		return nil, &ExistsError{s.dir, clash}
	}
	return differ, nil
}

func (d *draft) same(ctx context.Context, there *os.File) (bool, error) {
	info, err := there.Stat()
	if err != nil || info.Size() != d.sealed.Size {
		return false, err
	}
	_, sum, err := digest(ctx, there)
	return err == nil && sum == d.sealed.SHA256, err
}

// Abort ends the set and leaves the folder as it was before New. After Commit it does nothing, so it may be deferred.
func (s *Set) Abort() error {
	if s.done {
		return nil
	}
	s.done = true
	err := s.close()
	for _, dir := range s.made {
		// A folder that something else was put into meanwhile stays.
		if rm := os.Remove(dir); rm != nil && !errors.Is(rm, fs.ErrNotExist) && !errors.Is(rm, unix.ENOTEMPTY) {
			err = errors.Join(err, rm)
		}
	}
	return err
}

// close closes all files; those under hidden names go away.
func (s *Set) close() error {
	var err error
	for _, d := range s.files {
		err = errors.Join(err, d.discard())
		for _, f := range []*os.File{d.handed, d.file} {
			if e := f.Close(); e != nil && !errors.Is(e, os.ErrClosed) && !errors.Is(e, os.ErrInvalid) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// Same reports whether dir holds exactly these files, digests and lines of SHA256SUMS included.
func Same(ctx context.Context, dir string, files []File) (bool, error) {
	sums, err := ReadSums(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	for _, f := range files {
		if !slices.Contains(sums, Sum{f.Name, f.SHA256}) {
			return false, nil
		}
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			return false, nil
		}
	}
	same := make([]bool, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range files {
		group.Go(func() error {
			_, sum, err := Digest(ctx, filepath.Join(dir, f.Name))
			same[i] = err == nil && sum == f.SHA256
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	return !slices.Contains(same, false), nil
}
