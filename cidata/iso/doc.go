// Package iso writes and reads the ISO 9660 images that carry cloud-init's
// NoCloud seeds.
//
// It is for small read-only volumes: a seed of a few files, held in memory. It
// is not for boot media: there is no El Torito, no UDF, no file in several
// extents, and of what Rock Ridge can describe only files and folders.
//
// Write makes one volume with two trees over the same contents: ISO 9660
// level 1 (ECMA-119, 4th edition) with Rock Ridge (SUSP 1.12 and RRIP 1.12,
// IEEE P1282), which Linux reads, and Joliet (level 3, UCS-2), which Windows
// reads. The same files give the same bytes, in whatever order they are given
// and whenever it is done. All belong to root; folders have mode 0555 and
// files 0444, since a mount of the volume is read-only anyway.
//
// Open reads what genisoimage, mkisofs, xorriso, cloud-localds and Windows's
// tools make. Its input is taken to be hostile: extents are checked against
// the size of the image before anything is read, a folder is entered once, and
// the number of entries, their depth and their bytes have limits.
package iso

import (
	"errors"
	"time"
)

var (
	// ErrName says that a file or label has a name that cannot be written.
	ErrName = errors.New("not a name for a seed")
	// ErrLimit says that there is more than a seed has.
	ErrLimit = errors.New("too much for a seed")
	// ErrFormat says that an image is damaged, or no ISO 9660 at all.
	ErrFormat = errors.New("not a sound ISO 9660 volume")
)

// Limits of what is written and read.
const (
	MaxBytes   = 256 << 20 // of all files together
	MaxEntries = 16384     // files and folders
	MaxDepth   = 8         // levels of folders, the root among them (ECMA-119, 6.8.2.1)
	MaxName    = 253       // bytes of one name: Linux passes over longer ones
)

// File is one file of a seed.
type File struct {
	Path string // relative, with slashes; the folders it names are made
	Data []byte
}

// Option changes what Write makes.
type Option func(*options)

type options struct {
	label string
	time  time.Time
}

// Label names the volume: at most 16 printable ASCII characters. ISO 9660
// wants upper case, cloud-init finds both, and its own tools write "cidata",
// which is also what is written without this option.
func Label(label string) Option { return func(o *options) { o.label = label } }

// Time dates the volume and all its files, in whole seconds of UTC. It is
// 1980-01-01 without this option.
func Time(t time.Time) Option { return func(o *options) { o.time = t } }
