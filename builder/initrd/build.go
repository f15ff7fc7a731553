package initrd

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// A Source gives the files of one package in the order of its archive. Names
// may begin with "./" or "/". The reader is only valid during the call, and
// only for regular files. *deb.File is a Source; Dir makes one of a directory.
type Source interface {
	Walk(ctx context.Context, fn func(h *tar.Header, r io.Reader) error) error
}

// A Package is a named Source. The name stands in errors.
type Package struct {
	Name  string
	Files Source
}

// A File is put into the archive as it is, over what a package has at its
// path.
type File struct {
	Path    string      // without a leading slash, merged /usr: usr/bin/x
	Mode    fs.FileMode // type (regular, directory or symbolic link) and permissions
	Content []byte      // of a regular file
	Link    string      // target of a symbolic link
}

// Params is the whole input of Build.
type Params struct {
	// Input.
	Packages      []Package // user space: systemd, udev, libc6, …
	Kernel        []Package // the packages with usr/lib/modules/KernelVersion
	KernelVersion string    // as uname -r says it
	Architecture  string    // the distribution's name: amd64, arm64

	// What the initrd has to do.
	RootFilesystem string   // squashfs, erofs, ext4 or btrfs
	Verity         bool     // the root is behind dm-verity
	Modules        []string // kernel modules on top, by name; a missing one is an error
	Programs       []string // files of Packages on top, by path; a missing one is an error
	Files          []File   // files on top, such as rootfs/overlay's

	// Output.
	Clock time.Time // modification time of every file; whole seconds
}

// A Summary says what Build wrote.
type Summary struct {
	Files      int      // entries of the archive, directories included
	Size       int64    // bytes of the archive before compression
	Compressed int64    // bytes written
	Modules    []string // kernel modules by name, sorted
	Paths      []string // of all entries, sorted
}

// ErrMissing is matched by the error of Build when something the initrd can't
// do without is in none of the packages; the message names it.
var ErrMissing = errors.New("not in the packages")

// Build writes the initrd that p describes to w. It reads each package once,
// several side by side.
func Build(ctx context.Context, p Params, w io.Writer) (*Summary, error) {
	return nil, fmt.Errorf("initrd: %w", ErrMissing)
}
