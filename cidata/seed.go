// Package cidata makes and reads seeds for cloud-init's NoCloud datasource: the files user-data, meta-data,
// network-config and vendor-data on a small file system labelled cidata, or in a folder.
//
// A seed is described by one YAML file (docs/cidata.md) or by [Settings] of a command line. Load refuses, with file,
// line and column, what cloud-init would refuse or ignore, and what should not lie in a seed: private keys and plain
// passwords. The same description gives the same bytes.
//
// It does not run cloud-init, fetches nothing that an #include names, and renders no Jinja template. Formats:
// cloud-init's documentation, "NoCloud" (datasource), "User data formats", "Network configuration"; RFC 2045 and 2046
// for user-data of several parts. The file systems are written by packages iso and fat.
package cidata

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/fat"
	"github.com/applbuild/applbuild/cidata/iso"
	"github.com/applbuild/applbuild/cidata/seedfile"
)

// Labels of a seed's file system (cloud-init, "NoCloud"). FAT has upper case only.
const (
	Label     = "cidata"
	LabelVFAT = "CIDATA"
)

// The files of a seed that cloud-init reads.
const (
	UserData      = "user-data"
	MetaData      = "meta-data"
	NetworkConfig = "network-config"
	VendorData    = "vendor-data"
)

var wellKnown = []string{MetaData, NetworkConfig, UserData, VendorData}

// Bounds on a seed.
const (
	maxFile  = 64 << 20  // bytes of one file
	maxTotal = 256 << 20 // bytes of all
	maxFiles = 10_000
)

// Errors that an [Error] may have as its cause.
var (
	ErrSecret   = errors.New("a secret in a seed") // a private key or a plain password; LoadOptions.AllowSecrets lets it in
	ErrTooLarge = document.ErrTooLarge             // of a bound of this package, or of EC2's
	ErrNotSeed  = errors.New("not a NoCloud seed") // what was read holds no seed
)

// What is wrong with a seed, and where.
type (
	Position = document.Position
	Error    = document.Error // its cause matches ErrSecret, ErrTooLarge or nothing
	Errors   = document.Errors
)

// Settings are values from a command line, laid over those of a seed file.
type Settings = seedfile.Settings

// A File is one file of a seed. Its path has no leading slash.
type File struct {
	Path string
	Data []byte
}

// A Seed is a set of files, checked where Load made it.
type Seed struct {
	files    []File // sorted by path
	time     time.Time
	label    string // of the file system it was read from
	format   string // of what it was read from
	warnings Errors
}

// Files returns the files, sorted by path. The caller must not change their data.
func (s *Seed) Files() []File { return slices.Clone(s.files) }

// File returns the contents of the file at path, and whether it is there.
func (s *Seed) File(path string) ([]byte, bool) {
	i, found := slices.BinarySearchFunc(s.files, path, func(f File, path string) int { return cmp.Compare(f.Path, path) })
	if !found {
		return nil, false
	}
	return s.files[i].Data, true
}

// Size is the number of bytes in all files.
func (s *Seed) Size() int64 {
	var size int64
	for _, f := range s.files {
		size += int64(len(f.Data))
	}
	return size
}

// Warnings returns what Load found worth saying and did not refuse, such as deprecated keys.
func (s *Seed) Warnings() Errors { return s.warnings }

// WriteISO writes the seed as an ISO 9660 file system with Rock Ridge and Joliet names.
func (s *Seed) WriteISO(w io.Writer) error {
	var files []iso.File
	for _, f := range s.files {
		files = append(files, iso.File{Path: f.Path, Data: f.Data})
	}
	return iso.Write(w, files, iso.Label(Label), iso.Time(s.date()))
}

// WriteVFAT writes the seed as a FAT file system with long names.
func (s *Seed) WriteVFAT(w io.Writer) error {
	var files []fat.File
	for _, f := range s.files {
		files = append(files, fat.File{Path: f.Path, Data: f.Data})
	}
	return fat.Write(w, files, fat.Label(LabelVFAT), fat.Time(s.date()))
}

// date is what the seed's file system is dated: by default the earliest day that FAT knows.
func (s *Seed) date() time.Time {
	if s.time.IsZero() {
		return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return s.time
}

// add appends a file and keeps the order.
func (s *Seed) add(path string, data []byte) {
	s.files = append(s.files, File{path, data})
	slices.SortFunc(s.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
}

// digest is the instance-id that follows from the contents: another seed is another instance, so that cloud-init
// applies it.
func digest(files []File) string {
	hash := sha256.New()
	for _, f := range files {
		for _, data := range [][]byte{[]byte(f.Path), f.Data} {
			hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
			hash.Write(data)
		}
	}
	return "iid-" + hex.EncodeToString(hash.Sum(nil)[:16])
}
