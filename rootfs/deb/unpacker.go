package deb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/tree/inroot"
)

// ErrConflict matches the error for a file that two packages ship without
// one replacing the other.
var ErrConflict = errors.New("trying to overwrite")

// An Unpacker puts the files of packages into a tree as dpkg does. Its
// fields are set before the first use and left alone then.
type Unpacker struct {
	// Root is the directory that is the tree. It must be there.
	Root string
	// Database records the packages and settles conflicts between them. With
	// nil there is no dpkg database, the last package to ship a file wins,
	// and conffiles are put in place at once.
	Database *Database
	// IgnoreOwner leaves all files to the caller and drops setuid and setgid
	// bits, device nodes and extended attributes: for a tree whose programs
	// are only to be run by an ordinary user.
	IgnoreOwner bool
	// MergedUsr are the folders of the tree's root that are links to those
	// of the same name in usr, made before the first package: "bin", "lib"….
	// Packages that ship files in them have them put into usr.
	MergedUsr []string
	// Clock is the time of what no package brings: the links of MergedUsr.
	Clock time.Time
	// Filters leave out files, like dpkg's path-exclude and path-include:
	// the last that matches counts.
	Filters []Filter
	// Jobs is how many packages are decompressed at once, 0 for one a core.
	Jobs int
	// Progress, where it is not nil, is called after each package with its
	// name and the bytes of its archive.
	Progress func(name string, size int64)

	mu       sync.Mutex
	root     *inroot.Root
	dirTimes map[string]time.Time // of directories made here, by name in the tree
	devices  []Device
	buf      []byte
}

// A Device is a device node that could not be made, for lack of the right to.
type Device struct {
	Path         string // "dev/null"
	Block        bool
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     int
	ModTime      time.Time
}

// Unpack unpacks one package. Calls from several goroutines are done one
// after the other: UnpackAll is the quick way for many.
//
// Errors name the package; they match ErrFormat for a damaged package and
// ErrConflict for a file that another package has. After an error the tree
// is neither the old nor the new one and good for nothing.
func (u *Unpacker) Unpack(ctx context.Context, f *File) error {
	return u.UnpackAll(ctx, []*File{f})
}

// UnpackAll unpacks packages in the order given, with the next ones being
// decompressed meanwhile. See Unpack for its errors.
func (u *Unpacker) UnpackAll(ctx context.Context, files []*File) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.open(); err != nil {
		return err
	}
	if u.Database != nil {
		if err := u.Database.Reload(); err != nil {
			return fmt.Errorf("dpkg database: %w", err)
		}
	}
	if err := u.apply(ctx, files); err != nil {
		return err
	}
	return u.setDirTimes()
}

func (u *Unpacker) apply(ctx context.Context, files []*File) error {
	ahead := startAhead(ctx, files, u.Jobs)
	defer ahead.stop()
	for i, p := range ahead.packages {
		ahead.budget.advance(i)
		<-p.ready
		if p.err != nil {
			return p.err
		}
		if err := u.unpackOne(ctx, p); err != nil {
			return fmt.Errorf("%s %s: %w", p.control.Name(), p.control.Version(), err)
		}
		if u.Progress != nil {
			u.Progress(p.control.Name(), p.file.data.size)
		}
	}
	return nil
}

// Devices lists the device nodes that could not be made, in order. Nothing
// stands in their places.
func (u *Unpacker) Devices() []Device {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.devices)
}

// Close ends the use of the tree. The Database stays open.
func (u *Unpacker) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.root == nil {
		return nil
	}
	err := u.root.Close()
	u.root = nil
	return err
}

// open opens the tree at the first use and makes the links of MergedUsr.
// Later it forgets what scripts may have changed since.
func (u *Unpacker) open() error {
	if u.root != nil {
		u.root.Forget()
		return nil
	}
	root, err := inroot.Open(u.Root)
	if err != nil {
		return err
	}
	u.root = root
	u.dirTimes = map[string]time.Time{}
	u.buf = make([]byte, copyBuffer)
	if err := u.mergeUsr(); err != nil {
		u.root = nil
		root.Close()
		return err
	}
	return nil
}

// mergeUsr makes bin -> usr/bin and the like, and what they lead to.
func (u *Unpacker) mergeUsr() error {
	attr := inroot.Attr{Mode: 0o755, UID: -1, GID: -1, ModTime: u.Clock}
	if len(u.MergedUsr) > 0 {
		if err := u.root.Mkdir("usr", attr); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, name := range u.MergedUsr {
		if clean, err := cleanName(name); err != nil || clean != name || strings.Contains(name, "/") {
			return fmt.Errorf("merged /usr: %q is no name of a folder", name)
		}
		if err := u.root.Mkdir("usr/"+name, attr); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err := u.root.Symlink("usr/"+name, name, attr)
		if errors.Is(err, fs.ErrExist) {
			target, rerr := u.root.Readlink(name)
			if rerr == nil && (target == "usr/"+name || target == "/usr/"+name) {
				continue
			}
			return fmt.Errorf("merged /usr: /%s is there and no link to usr/%s", name, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setDirTimes gives directories the times of the packages that brought
// them, after the last file was made in them.
func (u *Unpacker) setDirTimes() error {
	for name, t := range u.dirTimes {
		if err := u.root.SetModTime(name, t); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
	return nil
}
