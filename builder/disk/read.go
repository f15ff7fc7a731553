package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"unicode/utf16"

	"github.com/google/uuid"
)

// The protective MBR (UEFI Specification, section 5.2.3). Offsets in bytes.
const (
	mbrEntry      = 446 // the first of four entries of 16 bytes
	mbrEntrySize  = 16
	mbrOSType     = 4  // in an entry: 0xee
	mbrStartLBA   = 8  // u32: 1
	mbrSizeInLBA  = 12 // u32
	mbrSignature  = 510
	mbrMaxSectors = math.MaxUint32
)

// The GPT header (UEFI Specification, section 5.3.2). Offsets in bytes.
const (
	gptMagic      = "EFI PART"
	gptRevision   = 0x00010000
	gptHeaderSize = 92

	offRevision    = 8  // u32
	offHeaderSize  = 12 // u32
	offHeaderCRC   = 16 // u32, over the header with this field zero
	offReserved    = 20 // u32, zero
	offMyLBA       = 24 // u64
	offAlternate   = 32 // u64
	offFirstUsable = 40 // u64
	offLastUsable  = 48 // u64
	offDiskGUID    = 56 // 16 bytes
	offArrayLBA    = 72 // u64
	offCount       = 80 // u32
	offEntrySize   = 84 // u32
	offArrayCRC    = 88 // u32

	maxArray  = 1 << 20             // bytes of an entry array that is read at all
	maxSector = math.MaxInt64 >> 12 // larger numbers are read as this; none overflows in bytes
)

// A partition entry (UEFI Specification, section 5.3.3). Offsets in bytes.
const (
	entType       = 0  // GUID
	entUUID       = 16 // GUID
	entFirst      = 32 // u64
	entLast       = 40 // u64
	entAttributes = 48 // u64
	entName       = 56 // UTF-16LE, 72 bytes
)

// ErrNoTable says that a disk has no partition table that can be read.
var ErrNoTable = errors.New("no readable GPT")

// Problem is something wrong with a partition table.
type Problem struct {
	Where  string // "protective MBR", "primary header", "backup entries", `partition 2 ("root")`
	What   string
	Offset int64 // bytes from the disk's beginning where it stands
}

// String says where and what on one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s (byte %d): %s", p.Where, p.Offset, p.What)
}

// Table is a partition table as it was found.
type Table struct {
	DiskUUID    uuid.UUID
	SectorSize  int64 // bytes
	Size        int64 // bytes of the disk
	FirstUsable int64 // sector
	LastUsable  int64 // sector
	Partitions  []Entry
	FromBackup  bool // the primary table was not usable
	Problems    []Problem
}

// Entry is a partition as it was found.
type Entry struct {
	Index      int    // 1 for the first entry of the array
	Type       string // GUID in lower case
	UUID       uuid.UUID
	Label      string
	Attributes uint64
	FirstLBA   int64 // sector
	LastLBA    int64 // sector, inclusive
	Offset     int64 // bytes
	Size       int64 // bytes
}

// Read reads the partition table of a disk of size bytes and checks all of it:
// protective MBR, both headers and entry arrays with their checksums, the
// places of the backup, and that partitions lie inside and apart. What is
// wrong is listed in the table's Problems. Every partition returned lies
// inside the disk. The error matches ErrNoTable where neither header is
// usable, and wraps r's otherwise.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	rd := &reader{r: r, t: &Table{Size: size}}
	if err := rd.findSectors(); err != nil {
		return nil, err
	}
	t, ss := rd.t, rd.t.SectorSize
	if err := rd.mbr(); err != nil {
		return nil, err
	}
	last := size/ss - 1
	primary, err := rd.header("primary", 1)
	if err != nil {
		return nil, err
	}
	at := last
	if primary != nil && primary.alternate != last {
		rd.problem("backup header", primary.alternate*ss, "it is not in the disk's last sector (%d)", last)
		if primary.alternate > 1 && primary.alternate < last {
			at = primary.alternate
		}
	}
	backup, err := rd.header("backup", at)
	if err != nil {
		return nil, err
	}
	use := cmp.Or(primary, backup)
	if use == nil {
		return nil, fmt.Errorf("disk: %w: %s", ErrNoTable, t.Problems[len(t.Problems)-1])
	}
	t.FromBackup = primary == nil
	t.DiskUUID, t.FirstUsable, t.LastUsable = use.disk, use.firstUsable, use.lastUsable
	if primary != nil && backup != nil {
		rd.compare(primary, backup)
	}
	rd.entries(use)
	rd.checkOverlap()
	return t, nil
}

// header is a header whose checksum was right, with its array.
type header struct {
	my, alternate           int64 // sectors
	firstUsable, lastUsable int64 // sectors
	disk                    uuid.UUID
	arrayLBA                int64
	count, entrySize        int64
	array                   []byte
}

type reader struct {
	r io.ReaderAt
	t *Table
}

func (rd *reader) problem(where string, offset int64, format string, args ...any) {
	rd.t.Problems = append(rd.t.Problems, Problem{where, fmt.Sprintf(format, args...), offset})
}

// findSectors looks for the header's magic where it stands with either size
// of sectors: behind the first sector, or in the last one.
func (rd *reader) findSectors() error {
	for _, backup := range []bool{false, true} {
		for _, ss := range []int64{512, 4096} {
			off := ss
			if backup {
				off = (rd.t.Size/ss - 1) * ss
			}
			if off < ss || off+ss > rd.t.Size {
				continue
			}
			magic := make([]byte, len(gptMagic))
			if err := readFull(rd.r, magic, off); err != nil {
				return fmt.Errorf("disk: read byte %d: %w", off, err)
			}
			if string(magic) == gptMagic {
				rd.t.SectorSize = ss
				return nil
			}
		}
	}
	return fmt.Errorf("disk: %w: neither behind the first sector nor in the last one stands %q", ErrNoTable, gptMagic)
}

func (rd *reader) mbr() error {
	b := make([]byte, 512)
	if err := readFull(rd.r, b, 0); err != nil {
		return fmt.Errorf("disk: read protective MBR: %w", err)
	}
	const where = "protective MBR"
	le := binary.LittleEndian
	if b[mbrSignature] != 0x55 || b[mbrSignature+1] != 0xaa {
		rd.problem(where, mbrSignature, "it does not end in 55 aa")
	}
	e := b[mbrEntry:]
	if e[mbrOSType] != 0xee {
		rd.problem(where, mbrEntry+mbrOSType, "its partition has type %#02x instead of 0xee", e[mbrOSType])
		return nil
	}
	if start := le.Uint32(e[mbrStartLBA:]); start != 1 {
		rd.problem(where, mbrEntry+mbrStartLBA, "its partition begins at sector %d instead of 1", start)
	}
	want := uint32(min(rd.t.Size/rd.t.SectorSize-1, mbrMaxSectors))
	if n := le.Uint32(e[mbrSizeInLBA:]); n != want {
		rd.problem(where, mbrEntry+mbrSizeInLBA, "its partition has %d sectors instead of %d", n, want)
	}
	for i := 1; i < 4; i++ {
		if e[i*mbrEntrySize+mbrOSType] != 0 {
			rd.problem(where, int64(mbrEntry+i*mbrEntrySize), "it has a partition %d besides the protective one", i+1)
		}
	}
	return nil
}

// header reads a header and its entry array. It is nil when it is not usable;
// the problem is then in the table.
func (rd *reader) header(which string, lba int64) (*header, error) {
	ss := rd.t.SectorSize
	where, off := which+" header", lba*ss
	if off+ss > rd.t.Size {
		rd.problem(where, off, "the disk ends before it, at byte %d", rd.t.Size)
		return nil, nil
	}
	b := make([]byte, ss)
	if err := readFull(rd.r, b, off); err != nil {
		return nil, fmt.Errorf("disk: read %s at byte %d: %w", where, off, err)
	}
	h, wrong := parseHeader(b, lba, rd.t.Size/ss)
	if wrong != "" {
		rd.problem(where, off, "%s", wrong)
	}
	if h == nil {
		return nil, nil
	}
	where, off = which+" entries", h.arrayLBA*ss
	h.array = make([]byte, h.count*h.entrySize)
	if off+int64(len(h.array)) > rd.t.Size {
		rd.problem(where, off, "they end beyond the disk")
		return nil, nil
	}
	if err := readFull(rd.r, h.array, off); err != nil {
		return nil, fmt.Errorf("disk: read %s at byte %d: %w", where, off, err)
	}
	if got, want := crc32.ChecksumIEEE(h.array), binary.LittleEndian.Uint32(b[offArrayCRC:]); got != want {
		rd.problem(where, off, "their checksum is %08x, the header says %08x", got, want)
		return nil, nil
	}
	rd.checkPlaces(which, h)
	return h, nil
}

// parseHeader parses the header in a sector of a disk. A nil header is not
// usable at all; wrong says why, or what is wrong with a usable one.
func parseHeader(b []byte, lba, sectors int64) (h *header, wrong string) {
	le := binary.LittleEndian
	if string(b[:len(gptMagic)]) != gptMagic {
		return nil, fmt.Sprintf("it does not begin with %q", gptMagic)
	}
	if rev := le.Uint32(b[offRevision:]); rev != gptRevision {
		return nil, fmt.Sprintf("its revision is %#x instead of %#x", rev, gptRevision)
	}
	n := le.Uint32(b[offHeaderSize:])
	if n < gptHeaderSize || int64(n) > int64(len(b)) {
		return nil, fmt.Sprintf("it claims a size of %d bytes", n)
	}
	raw := bytes.Clone(b[:n])
	clear(raw[offHeaderCRC : offHeaderCRC+4])
	if got, want := crc32.ChecksumIEEE(raw), le.Uint32(b[offHeaderCRC:]); got != want {
		return nil, fmt.Sprintf("its checksum is %08x, it says %08x", got, want)
	}
	h = &header{disk: guid(b[offDiskGUID:]), count: int64(le.Uint32(b[offCount:])), entrySize: int64(le.Uint32(b[offEntrySize:]))}
	for off, to := range map[int]*int64{
		offMyLBA: &h.my, offAlternate: &h.alternate, offArrayLBA: &h.arrayLBA,
		offFirstUsable: &h.firstUsable, offLastUsable: &h.lastUsable,
	} {
		*to = int64(min(le.Uint64(b[off:]), maxSector))
	}
	if h.arrayLBA >= sectors {
		return nil, fmt.Sprintf("its entries are at sector %d, the disk has %d", h.arrayLBA, sectors)
	}
	if h.entrySize < entrySize || h.entrySize&(h.entrySize-1) != 0 || h.count == 0 || h.count > maxArray/h.entrySize {
		return nil, fmt.Sprintf("it claims %d entries of %d bytes", h.count, h.entrySize)
	}
	if h.my != lba {
		wrong = fmt.Sprintf("it says it is sector %d, it is %d", h.my, lba)
	} else if le.Uint32(b[offReserved:]) != 0 {
		wrong = "its reserved field is not zero"
	}
	return h, wrong
}

// checkPlaces checks that a table's parts do not lie on each other.
func (rd *reader) checkPlaces(which string, h *header) {
	ss := rd.t.SectorSize
	where, off := which+" header", h.my*ss
	sectors := (int64(len(h.array)) + ss - 1) / ss
	if h.firstUsable > h.lastUsable {
		rd.problem(where, off, "its first usable sector %d is behind its last %d", h.firstUsable, h.lastUsable)
	}
	if n := rd.t.Size / ss; h.lastUsable >= n {
		rd.problem(where, off, "its last usable sector is %d, the disk has %d", h.lastUsable, n)
	}
	switch which {
	case "primary":
		if h.arrayLBA < 2 || h.arrayLBA+sectors > h.firstUsable {
			rd.problem(where, off, "its entries (sectors %d to %d) are not between header and first usable sector %d", h.arrayLBA, h.arrayLBA+sectors-1, h.firstUsable)
		}
	case "backup":
		if h.arrayLBA <= h.lastUsable || h.arrayLBA+sectors > h.my {
			rd.problem(where, off, "its entries (sectors %d to %d) are not between last usable sector %d and header", h.arrayLBA, h.arrayLBA+sectors-1, h.lastUsable)
		}
		if h.alternate != 1 {
			rd.problem(where, off, "it says the primary header is sector %d instead of 1", h.alternate)
		}
	}
}

// compare checks that both tables say the same.
func (rd *reader) compare(a, b *header) {
	const where = "backup header"
	off := b.my * rd.t.SectorSize
	if a.disk != b.disk {
		rd.problem(where, off, "its disk GUID is %s, the primary's %s", b.disk, a.disk)
	}
	if a.firstUsable != b.firstUsable || a.lastUsable != b.lastUsable {
		rd.problem(where, off, "its usable sectors are %d to %d, the primary's %d to %d", b.firstUsable, b.lastUsable, a.firstUsable, a.lastUsable)
	}
	if a.count != b.count || a.entrySize != b.entrySize || !bytes.Equal(a.array, b.array) {
		rd.problem("backup entries", b.arrayLBA*rd.t.SectorSize, "they differ from the primary ones")
	}
}

// entries takes over the partitions that lie inside the disk.
func (rd *reader) entries(h *header) {
	t, le := rd.t, binary.LittleEndian
	seen := map[uuid.UUID]int{}
	for i := range int(h.count) {
		b := h.array[int64(i)*h.entrySize:][:entrySize]
		typ := guid(b[entType:])
		if typ == uuid.Nil {
			continue
		}
		e := Entry{Index: i + 1, Type: typ.String(), UUID: guid(b[entUUID:]), Label: label(b[entName:]), Attributes: le.Uint64(b[entAttributes:])}
		where, off := partName(e.Index, e.Label), h.arrayLBA*t.SectorSize+int64(i)*h.entrySize
		if other, ok := seen[e.UUID]; ok {
			rd.problem(where, off, "it has the UUID of partition %d, %s", other, e.UUID)
		}
		seen[e.UUID] = e.Index
		first, last := le.Uint64(b[entFirst:]), le.Uint64(b[entLast:])
		if first > last || last >= uint64(t.Size/t.SectorSize) {
			rd.problem(where, off, "its sectors %d to %d are not on the disk, which has %d", first, last, t.Size/t.SectorSize)
			continue
		}
		e.FirstLBA, e.LastLBA = int64(first), int64(last)
		e.Offset, e.Size = e.FirstLBA*t.SectorSize, (e.LastLBA-e.FirstLBA+1)*t.SectorSize
		if e.FirstLBA < t.FirstUsable || e.LastLBA > t.LastUsable {
			rd.problem(where, off, "its sectors %d to %d are not in the usable range %d to %d", first, last, t.FirstUsable, t.LastUsable)
		}
		t.Partitions = append(t.Partitions, e)
	}
}

func (rd *reader) checkOverlap() {
	byStart := slices.SortedStableFunc(slices.Values(rd.t.Partitions), func(a, b Entry) int {
		return cmp.Compare(a.FirstLBA, b.FirstLBA)
	})
	for i := 1; i < len(byStart); i++ {
		a, b := byStart[i-1], byStart[i]
		if b.FirstLBA <= a.LastLBA {
			rd.problem(partName(b.Index, b.Label), b.Offset, "it begins in %s, which ends at byte %d", partName(a.Index, a.Label), a.Offset+a.Size)
		}
	}
}

// guid reads a GUID as GPT stores it, the first three fields little endian
// (UEFI Specification, appendix A).
func guid(b []byte) (u uuid.UUID) {
	copy(u[:], b[:16])
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
	return u
}

func label(b []byte) string {
	var units []uint16
	for i := 0; i < maxLabel; i++ {
		u := binary.LittleEndian.Uint16(b[2*i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
