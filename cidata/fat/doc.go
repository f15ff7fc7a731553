// Package fat writes and reads the FAT volumes that carry cloud-init's NoCloud
// seeds.
//
// It is for small volumes: a seed of a few files, held in memory. It is not
// for boot partitions, and not for disks: a volume in a partition, behind an
// MBR or GPT, is not looked for.
//
// The format is the Microsoft Extensible Firmware Initiative FAT32 File System
// Specification 1.03, with long names (its chapter "Long Directory Entries").
// Write makes FAT12 or FAT16, as the size wants it, in a whole number of MiB;
// the same files give the same bytes, in whatever order they are given and
// whenever it is done. Open reads FAT12, FAT16 and FAT32, as mkfs.vfat,
// cloud-localds and Windows make them.
//
// What is read is taken to be hostile: every cluster is checked against the
// volume, chains end, a folder is entered once, and the number of entries,
// their depth and their bytes have limits.
package fat

import (
	"errors"
	"time"
)

var (
	// ErrName says that a file or label has a name that cannot be written.
	ErrName = errors.New("not a name for a seed")
	// ErrLimit says that there is more than a seed has.
	ErrLimit = errors.New("too much for a seed")
	// ErrFormat says that an image is damaged, or no FAT volume at all.
	ErrFormat = errors.New("not a sound FAT volume")
)

// Limits of what is written and read.
const (
	MaxBytes   = 256 << 20 // of all files together
	MaxEntries = 16384     // files and folders
	MaxDepth   = 64        // levels of folders, the root among them
	MaxName    = 255       // units of UTF-16 of one name
)

// File is one file of a seed.
type File struct {
	Path string // relative, with slashes; the folders it names are made
	Data []byte
}

// Option changes what Write makes.
type Option func(*options)

type options struct {
	label  string
	serial *uint32
	time   time.Time
}

// Label names the volume: at most 11 characters of those that short names
// have, and spaces. Without this option it is "CIDATA": FAT's labels are upper
// case, and cloud-init looks for that as well as for "cidata".
func Label(label string) Option { return func(o *options) { o.label = label } }

// Serial is the volume's serial number, which Linux shows as its UUID. Without
// this option it is a checksum of the files.
func Serial(n uint32) Option { return func(o *options) { o.serial = &n } }

// Time dates all files, in UTC; FAT counts every other second. It is
// 1980-01-01 without this option.
func Time(t time.Time) Option { return func(o *options) { o.time = t } }
