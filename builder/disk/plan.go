package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"unicode/utf16"

	"github.com/google/uuid"
)

const (
	// Alignment is where partitions begin and end when nothing else is said,
	// in bytes.
	Alignment = 1 << 20

	entrySize      = 128                    // bytes of a partition entry
	entryCount     = 128                    // entries in the array
	arraySize      = entrySize * entryCount // bytes
	maxLabel       = 36                     // UTF-16 code units
	maxDisk        = math.MaxInt64 / 2      // bytes; keeps sums from overflowing
	defaultSectors = 512                    // bytes of a sector
)

var (
	// ErrTooSmall says that a disk or partition is too small for what is to be in it.
	ErrTooSmall = errors.New("too small")
	// ErrOverlap says that two partitions share sectors.
	ErrOverlap = errors.New("partitions overlap")
	// ErrLayout says that a layout is wrong in itself.
	ErrLayout = errors.New("invalid layout")
)

// Content is what a partition is filled with: a *bytes.Reader, an
// *io.SectionReader, or a file by File.
type Content interface {
	io.ReaderAt
	Size() int64 // bytes
}

// FileContent is the content of a regular file. Its holes stay holes.
type FileContent struct {
	*os.File
	size int64
}

// File returns the content of an open regular file as large as it is now.
// The caller closes the file, after Write.
func File(f *os.File) (FileContent, error) {
	info, err := f.Stat()
	if err != nil {
		return FileContent{}, err
	}
	if !info.Mode().IsRegular() {
		return FileContent{}, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return FileContent{f, info.Size()}, nil
}

// Size returns the file's size in bytes when File was called.
func (c FileContent) Size() int64 { return c.size }

// Layout is a disk as it is wanted.
type Layout struct {
	DiskUUID   uuid.UUID
	SectorSize int64 // bytes: 512, which 0 stands for, or 4096
	Size       int64 // bytes; 0 is as large as the partitions need
	Partitions []Partition
}

// Partition is a partition as it is wanted.
type Partition struct {
	Type       string    // GUID in text form: TypeESP and so on
	UUID       uuid.UUID // unique on the disk
	Label      string    // at most 36 UTF-16 code units
	Attributes uint64    // AttrReadOnly and so on
	Start      int64     // bytes from the disk's beginning; 0 is behind the partition before, aligned
	Size       int64     // bytes; 0 is the content's size rounded up to Alignment
	Content    Content   // nil leaves the partition empty
}

// Plan is a layout with all places decided.
type Plan struct {
	DiskUUID    uuid.UUID
	SectorSize  int64 // bytes
	Size        int64 // bytes
	FirstUsable int64 // sector
	LastUsable  int64 // sector
	Partitions  []Placed
}

// Placed is a partition in its place.
type Placed struct {
	Partition
	Index    int   // 1 for the first
	FirstLBA int64 // sector
	LastLBA  int64 // sector, inclusive
}

// Offset returns where the partition begins, in bytes.
func (p *Plan) Offset(i int) int64 { return p.Partitions[i].FirstLBA * p.SectorSize }

// Plan decides where everything lies. It is a pure function of the layout and
// the sizes of its contents. Errors match ErrLayout, ErrOverlap or ErrTooSmall.
func (l Layout) Plan() (*Plan, error) {
	p := &Plan{DiskUUID: l.DiskUUID, SectorSize: cmp.Or(l.SectorSize, defaultSectors)}
	if p.SectorSize != 512 && p.SectorSize != 4096 {
		return nil, fmt.Errorf("%w: sectors of %d bytes; use 512 or 4096", ErrLayout, p.SectorSize)
	}
	if l.Size < 0 || l.Size > maxDisk || l.Size%p.SectorSize != 0 {
		return nil, fmt.Errorf("%w: disk of %d bytes; give a multiple of its %d-byte sectors", ErrLayout, l.Size, p.SectorSize)
	}
	if l.DiskUUID == uuid.Nil {
		return nil, fmt.Errorf("%w: the disk has no UUID", ErrLayout)
	}
	if len(l.Partitions) > entryCount {
		return nil, fmt.Errorf("%w: %d partitions, a table has room for %d", ErrLayout, len(l.Partitions), entryCount)
	}
	p.FirstUsable = 2 + arraySize/p.SectorSize
	end, err := p.place(l.Partitions)
	if err != nil {
		return nil, err
	}
	backup := arraySize + p.SectorSize
	p.Size = l.Size
	if p.Size == 0 {
		p.Size = roundUp(end+backup, Alignment)
	}
	if need := end + backup; need > p.Size {
		return nil, fmt.Errorf("disk of %d bytes is %w: partitions and backup table need %d, %d more", p.Size, ErrTooSmall, need, need-p.Size)
	}
	p.LastUsable = (p.Size-backup)/p.SectorSize - 1
	return p, p.checkOverlap()
}

// place puts the partitions one behind the other, or where they want to be,
// and returns the end of the last one in bytes.
func (p *Plan) place(parts []Partition) (end int64, err error) {
	end = p.FirstUsable * p.SectorSize
	behind := end
	uuids := map[uuid.UUID]int{}
	for i, part := range parts {
		name := partName(i+1, part.Label)
		if err := part.check(p.SectorSize); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		if other, ok := uuids[part.UUID]; ok {
			return 0, fmt.Errorf("%w: %s has the UUID of partition %d, %s", ErrLayout, name, other, part.UUID)
		}
		uuids[part.UUID] = i + 1
		if part.Size == 0 {
			part.Size = roundUp(part.Content.Size(), Alignment)
		}
		if part.Start == 0 {
			part.Start = roundUp(behind, Alignment)
		}
		if first := p.FirstUsable * p.SectorSize; part.Start < first {
			return 0, fmt.Errorf("%s: %w: it begins at byte %d, the partition table ends at %d", name, ErrOverlap, part.Start, first)
		}
		if part.Start > maxDisk-part.Size {
			return 0, fmt.Errorf("%s: %w: it ends beyond what a disk can have", name, ErrLayout)
		}
		behind = part.Start + part.Size
		end = max(end, behind)
		p.Partitions = append(p.Partitions, Placed{
			Partition: part, Index: i + 1,
			FirstLBA: part.Start / p.SectorSize, LastLBA: behind/p.SectorSize - 1,
		})
	}
	return end, nil
}

// check looks for what is wrong with one partition in itself.
func (p *Partition) check(sector int64) error {
	t, err := uuid.Parse(p.Type)
	if err != nil || len(p.Type) != 36 {
		return fmt.Errorf("%w: type %q is not a GUID", ErrLayout, p.Type)
	}
	if t == uuid.Nil || p.UUID == uuid.Nil {
		return fmt.Errorf("%w: type or UUID is all zeros, which marks an unused entry", ErrLayout)
	}
	if n := len(utf16.Encode([]rune(p.Label))); n > maxLabel {
		return fmt.Errorf("%w: label has %d UTF-16 code units, the most is %d", ErrLayout, n, maxLabel)
	}
	if p.Start < 0 || p.Start%sector != 0 || p.Size < 0 || p.Size > maxDisk || p.Size%sector != 0 {
		return fmt.Errorf("%w: start %d and size %d must be multiples of the %d-byte sector", ErrLayout, p.Start, p.Size, sector)
	}
	if p.Content == nil {
		if p.Size == 0 {
			return fmt.Errorf("%w: it has neither size nor content", ErrLayout)
		}
		return nil
	}
	n := p.Content.Size()
	if n <= 0 || n > maxDisk {
		return fmt.Errorf("%w: its content has %d bytes", ErrLayout, n)
	}
	if p.Size > 0 && n > p.Size {
		return fmt.Errorf("%w: %d bytes for a content of %d, %d more are needed", ErrTooSmall, p.Size, n, n-p.Size)
	}
	return nil
}

func (p *Plan) checkOverlap() error {
	byStart := slices.SortedFunc(slices.Values(p.Partitions), func(a, b Placed) int {
		return cmp.Or(cmp.Compare(a.FirstLBA, b.FirstLBA), cmp.Compare(a.Index, b.Index))
	})
	for i := 1; i < len(byStart); i++ {
		a, b := byStart[i-1], byStart[i]
		if b.FirstLBA <= a.LastLBA {
			return fmt.Errorf("%w: %s begins at byte %d, %d before the end of %s", ErrOverlap,
				partName(b.Index, b.Label), b.Start, a.Start+a.Size-b.Start, partName(a.Index, a.Label))
		}
	}
	return nil
}

func partName(index int, label string) string {
	return fmt.Sprintf("partition %d (%q)", index, label)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
