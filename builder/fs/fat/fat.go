// Package fat reads FAT32 file systems (Microsoft FAT specification), such as the EFI
// system partition of a disk that anybody may have made.
//
// It does not write them, which package fs does with the standard tools, and
// reads no FAT12 and FAT16.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"path"
	"strings"
	"unicode/utf16"
)

// ErrFormat says that a FAT32 file system is damaged, or none.
var ErrFormat = errors.New("not a sound FAT32 file system")

// Offsets in the boot sector (Microsoft FAT specification, sections 3.1 and
// 3.3) and in a directory entry (sections 6.1 and 7).
const (
	bpbBytesPerSector    = 11
	bpbSectorsPerCluster = 13
	bpbReserved          = 14
	bpbTables            = 16
	bpbTotalSectors      = 32
	bpbTableSize         = 36
	bpbRootCluster       = 44
	bootSectorSize       = 512

	dirAttr        = 11
	dirClusterHigh = 20
	dirClusterLow  = 26
	dirFileSize    = 28
	attrVolumeID   = 0x08
	attrDirectory  = 0x10
	attrLongName   = 0x0f
	lastLongEntry  = 0x40
	maxLongEntries = 20
	freeEntry      = 0xe5

	tableEntry  = 4  // bytes in a table for a cluster
	dirEntry    = 32 // bytes
	maxClusters = 0x0ffffff5
	clusterMask = 0x0fffffff
	clusterEnd  = 0x0ffffff8
	maxDir      = 1 << 20 // bytes of a folder that are read
)

// Reader reads a FAT32 file system, one that anybody may have made: sizes
// are checked before anything is allocated, chains of clusters end.
type Reader struct {
	r        io.ReaderAt
	cluster  int64  // bytes
	table    int64  // offset in bytes of the first table
	data     int64  // offset in bytes of cluster 2
	clusters uint32 // number of the last cluster, plus one
	root     uint32
}

// Entry is a file or folder.
type Entry struct {
	Name string
	Dir  bool
	Size int64 // bytes, of a file

	first uint32
}

// NewReader reads the boot sector of a file system of size bytes. Errors match
// ErrFormat, or are r's.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	b := make([]byte, bootSectorSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("%w: boot sector: %w", ErrFormat, err)
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[bpbBytesPerSector:])), int64(b[bpbSectorsPerCluster])
	tableSize := int64(le.Uint32(b[bpbTableSize:])) * sector
	f := &Reader{r: r, cluster: sector * perCluster, table: int64(le.Uint16(b[bpbReserved:])) * sector, root: le.Uint32(b[bpbRootCluster:])}
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, fmt.Errorf("%w: no signature", ErrFormat)
	case sector < 512 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1:
		return nil, fmt.Errorf("%w: sectors of %d bytes", ErrFormat, sector)
	case bits.OnesCount64(uint64(perCluster)) != 1:
		return nil, fmt.Errorf("%w: clusters of %d sectors", ErrFormat, perCluster)
	case f.table == 0 || b[bpbTables] == 0 || tableSize == 0:
		return nil, fmt.Errorf("%w: no table", ErrFormat)
	}
	f.data = f.table + int64(b[bpbTables])*tableSize
	total := int64(le.Uint32(b[bpbTotalSectors:])) * sector
	if total > size || f.data >= total {
		return nil, fmt.Errorf("%w: %d bytes with data from byte %d on, in a partition of %d bytes", ErrFormat, total, f.data, size)
	}
	count := min((total-f.data)/f.cluster+2, tableSize/tableEntry, maxClusters)
	f.clusters = uint32(count)
	return f, nil
}

// chain calls use with each cluster's number from first on, until use says no.
func (f *Reader) chain(first uint32, use func(n uint32) (more bool, err error)) error {
	entry := make([]byte, tableEntry)
	// A chain longer than all clusters goes round in a circle.
	for left := f.clusters; ; left-- {
		if first < 2 || first >= f.clusters || left == 0 {
			return fmt.Errorf("%w: a chain of clusters leads to cluster %d of %d", ErrFormat, first, f.clusters)
		}
		more, err := use(first)
		if err != nil || !more {
			return err
		}
		if _, err := f.r.ReadAt(entry, f.table+int64(first)*tableEntry); err != nil {
			return err
		}
		if first = binary.LittleEndian.Uint32(entry) & clusterMask; first >= clusterEnd {
			return nil
		}
	}
}

// read returns up to limit bytes of a chain.
func (f *Reader) read(first uint32, limit int64) ([]byte, error) {
	var data []byte
	err := f.chain(first, func(n uint32) (bool, error) {
		b := make([]byte, min(f.cluster, limit-int64(len(data))))
		if _, err := f.r.ReadAt(b, f.data+int64(n-2)*f.cluster); err != nil {
			return false, err
		}
		data = append(data, b...)
		return int64(len(data)) < limit, nil
	})
	return data, err
}

// ReadDir lists a folder, named with slashes; "." is the root. The error of
// one that is not there matches fs.ErrNotExist.
func (f *Reader) ReadDir(name string) ([]Entry, error) {
	entry, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if !entry.Dir {
		return nil, fmt.Errorf("%s is not a folder: %w", name, fs.ErrInvalid)
	}
	return f.list(entry.first)
}

// ReadFile returns a file of at most limit bytes.
func (f *Reader) ReadFile(name string, limit int64) ([]byte, error) {
	entry, err := f.find(name)
	switch {
	case err != nil:
		return nil, err
	case entry.Dir:
		return nil, fmt.Errorf("%s is a folder: %w", name, fs.ErrInvalid)
	case entry.Size > limit || entry.Size > int64(f.clusters)*f.cluster:
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrFormat, name, entry.Size)
	case entry.Size == 0:
		return nil, nil
	}
	data, err := f.read(entry.first, entry.Size)
	if err == nil && int64(len(data)) < entry.Size {
		err = fmt.Errorf("%w: %s ends after %d of %d bytes", ErrFormat, name, len(data), entry.Size)
	}
	return data, err
}

func (f *Reader) find(name string) (Entry, error) {
	at := Entry{Name: ".", Dir: true, first: f.root}
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." {
			continue
		}
		var next *Entry
		if at.Dir {
			entries, err := f.list(at.first)
			if err != nil {
				return at, err
			}
			for i := range entries {
				if strings.EqualFold(entries[i].Name, part) {
					next = &entries[i]
				}
			}
		}
		if next == nil {
			return at, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		at = *next
	}
	return at, nil
}

func (f *Reader) list(first uint32) ([]Entry, error) {
	data, err := f.read(first, maxDir)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	var long [maxLongEntries][]uint16
	for ; len(data) >= dirEntry && data[0] != 0; data = data[dirEntry:] {
		e := data[:dirEntry]
		if e[0] == freeEntry {
			long = [maxLongEntries][]uint16{}
			continue
		}
		if e[dirAttr]&attrLongName == attrLongName {
			if n := int(e[0] &^ lastLongEntry); n >= 1 && n <= maxLongEntries {
				long[n-1] = longPart(e)
			}
			continue
		}
		name := longName(long)
		long = [maxLongEntries][]uint16{}
		if name == "" {
			name = shortName(e)
		}
		if e[dirAttr]&attrVolumeID != 0 || name == "." || name == ".." {
			continue
		}
		le := binary.LittleEndian
		entries = append(entries, Entry{
			Name: name, Dir: e[dirAttr]&attrDirectory != 0, Size: int64(le.Uint32(e[dirFileSize:])),
			first: uint32(le.Uint16(e[dirClusterHigh:]))<<16 | uint32(le.Uint16(e[dirClusterLow:])),
		})
	}
	return entries, nil
}

// longPart takes the 13 characters out of an entry of a long name.
func longPart(e []byte) []uint16 {
	var part []uint16
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			c := binary.LittleEndian.Uint16(e[i:])
			if c == 0 {
				return part
			}
			part = append(part, c)
		}
	}
	return part
}

func longName(parts [maxLongEntries][]uint16) string {
	var all []uint16
	for _, part := range parts {
		all = append(all, part...)
	}
	return string(utf16.Decode(all))
}

func shortName(e []byte) string {
	base := strings.TrimRight(string(e[:8]), " ")
	if extension := strings.TrimRight(string(e[8:11]), " "); extension != "" {
		base += "." + extension
	}
	return base
}
