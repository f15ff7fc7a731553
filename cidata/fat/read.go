package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sort"
	"strings"

	"github.com/applbuild/applbuild/cidata/volume"
)

// Image is a volume that was opened. It is an fs.FS with ReadDir, ReadFile and
// Stat, which finds names in upper or lower case as FAT does; what is read is
// read from the image then, so the image must stay open. A file
// has at most MaxBytes bytes.
type Image struct {
	label string
	kind  string
	*volume.Tree
}

// Label is the volume's label, without the spaces behind it.
func (m *Image) Label() string { return m.label }

// Kind is FAT12, FAT16 or FAT32.
func (m *Image) Kind() string { return m.kind }

// Open reads the folders of an image of size bytes, all of them. Errors match
// ErrFormat or ErrLimit, or are r's.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	b := make([]byte, 512)
	if err := readAt(r, b, 0, size); err != nil {
		return nil, fmt.Errorf("fat: boot sector: %w", err)
	}
	v, err := parseBoot(b, size)
	if err != nil {
		return nil, err
	}
	v.r, v.size = r, size
	w := &walker{layout: v, entered: map[uint32]bool{}}
	root, err := w.walk()
	if err != nil {
		return nil, err
	}
	tree, err := volume.New(root, fold)
	if err != nil {
		return nil, fmt.Errorf("fat: %w: %w", ErrFormat, err)
	}
	m := &Image{label: w.label, kind: fmt.Sprintf("FAT%d", v.bits), Tree: tree}
	if at := v.bootLabel(b); m.label == "" && string(at) != noLabel {
		m.label = trimLabel(at)
	}
	return m, nil
}

func trimLabel(b []byte) string { return strings.TrimRight(fromCodePage(b), " \x00") }

// layout is where things are in a volume that is read, in bytes.
type layout struct {
	r         io.ReaderAt
	size      int64 // of the image
	bits      int   // 12, 16 or 32
	table     int64
	root      int64 // of FAT12 and FAT16
	rootBytes int64
	rootFirst uint32 // cluster, of FAT32
	data      int64  // of cluster 2
	cluster   int64
	clusters  uint32 // number of the last cluster, plus one
}

// parseBoot reads the boot sector. FAT32 is what has no 16-bit size of its
// table, as Linux has it; the number of clusters tells FAT12 from FAT16.
func parseBoot(b []byte, size int64) (*layout, error) {
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[bpbSector:])), int64(b[bpbPerCluster])
	reserved, count := int64(le.Uint16(b[bpbReserved:])), int64(b[bpbTables])
	switch {
	case b[bootSignature] != 0x55 || b[bootSignature+1] != 0xaa:
		return nil, fmt.Errorf("fat: %w: no signature in the boot sector", ErrFormat)
	case sector < 512 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1, bits.OnesCount64(uint64(perCluster)) != 1:
		return nil, fmt.Errorf("fat: %w: clusters of %d sectors of %d bytes (partitions of a disk are not looked into)", ErrFormat, perCluster, sector)
	case reserved == 0 || count == 0 || b[bpbMedia] < 0xf0:
		return nil, fmt.Errorf("fat: %w: %d reserved sectors, %d tables", ErrFormat, reserved, count)
	}
	v := &layout{table: reserved * sector, cluster: sector * perCluster, rootBytes: int64(le.Uint16(b[bpbRootEntries:])) * slotSize}
	sectors, tableSize := int64(le.Uint16(b[bpbSectors16:])), int64(le.Uint16(b[bpbTableSize16:]))*sector
	if sectors == 0 {
		sectors = int64(le.Uint32(b[bpbSectors32:]))
	}
	if tableSize == 0 {
		v.bits, tableSize = 32, int64(le.Uint32(b[bpbTableSize32:]))*sector
		v.rootFirst = le.Uint32(b[bpbRootCluster32:])
		v.rootBytes = 0
	}
	v.root = v.table + count*tableSize
	v.data = v.root + (v.rootBytes+sector-1)/sector*sector
	total := (sectors*sector - v.data) / v.cluster
	switch {
	case sectors*sector > size:
		return nil, fmt.Errorf("fat: %w: a volume of %d bytes in an image of %d", ErrFormat, sectors*sector, size)
	case sectors*sector < v.data || total == 0:
		return nil, fmt.Errorf("fat: %w: %d sectors have no room for its tables", ErrFormat, sectors)
	}
	return v, v.divide(total, tableSize, b)
}

// divide settles the kind of a volume with total clusters, and its table.
func (v *layout) divide(total, tableSize int64, b []byte) error {
	switch {
	case v.bits == 32:
		if flags := binary.LittleEndian.Uint16(b[bpbFlags32:]); flags&flagOneTable != 0 {
			active := int64(flags & 0x0f)
			if active >= int64(b[bpbTables]) {
				return fmt.Errorf("fat: %w: table %d of %d is in use", ErrFormat, active, b[bpbTables])
			}
			v.table += active * tableSize
		}
	case total <= maxClusters12:
		v.bits = 12
	default:
		v.bits = 16
	}
	// A table may be too short for all clusters; the last ones are missing, then.
	v.clusters = uint32(min(total+firstCluster, tableSize*8/int64(v.bits), int64(v.endMark())-1))
	return nil
}

func (v *layout) bootLabel(b []byte) []byte {
	at := bootLabel
	if v.bits == 32 {
		at = bootLabel32
	}
	if b[at-labelAfterMark] != markExtended {
		return nil
	}
	return b[at : at+labelSize]
}

// endMark is the least entry of a table that ends a chain; the one before it
// marks a bad cluster.
func (v *layout) endMark() uint32 { return 1<<min(v.bits, 28) - 8 }

// next is the cluster behind n; last tells that there is none.
func (v *layout) next(n uint32) (next uint32, last bool, err error) {
	b := make([]byte, 4)
	at, width := v.table+int64(n)*int64(v.bits)/8, 2
	if v.bits == 32 {
		width = 4
	}
	if err := readAt(v.r, b[:width], at, v.size); err != nil {
		return 0, false, fmt.Errorf("fat: table: %w", err)
	}
	next = binary.LittleEndian.Uint32(b)
	switch {
	case v.bits == 32:
		next &= 0x0fffffff
	case v.bits == 12 && n%2 != 0:
		next >>= 4
	case v.bits == 12:
		next &= 0x0fff
	}
	return next, next >= v.endMark(), nil
}

// chain returns where up to limit bytes of a chain of clusters lie.
func (v *layout) chain(first uint32, limit int64) (*chain, error) {
	c := &chain{r: v.r, size: v.size}
	for n := first; c.length < limit; {
		if n < firstCluster || n >= v.clusters {
			return nil, fmt.Errorf("fat: %w: a chain of clusters leads to cluster %d of %d", ErrFormat, n, v.clusters)
		}
		c.add(v.data+int64(n-firstCluster)*v.cluster, v.cluster)
		next, last, err := v.next(n)
		if err != nil {
			return nil, err
		}
		if last {
			break
		}
		n = next
	}
	return c, nil
}

// chain is the clusters of a file or folder, neighbours joined. It is an
// io.ReaderAt.
type chain struct {
	r      io.ReaderAt
	size   int64 // of the image
	runs   []run
	length int64
}

type run struct {
	from   int64 // in the file
	offset int64 // in the image
	length int64
}

func (c *chain) add(offset, length int64) {
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].offset+c.runs[last].length == offset {
		c.runs[last].length += length
	} else {
		c.runs = append(c.runs, run{from: c.length, offset: offset, length: length})
	}
	c.length += length
}

func (c *chain) ReadAt(b []byte, off int64) (n int, err error) {
	from := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].from+c.runs[i].length > off })
	for _, r := range c.runs[from:] {
		if n == len(b) {
			return n, nil
		}
		skip := off - r.from
		part := b[n:min(int64(len(b)), int64(n)+r.length-skip)]
		if err := readAt(c.r, part, r.offset+skip, c.size); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// readAt fills b from an image of size bytes.
func readAt(r io.ReaderAt, b []byte, offset, size int64) error {
	if offset+int64(len(b)) > size {
		return fmt.Errorf("%w: the image ends at byte %d, before byte %d", ErrFormat, size, offset+int64(len(b)))
	}
	n, err := r.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the image ends before byte %d", ErrFormat, offset+int64(len(b)))
	}
	return err
}
