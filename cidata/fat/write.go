package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// Write writes a volume with files to w. Errors match ErrName or ErrLimit, or
// are w's; of those but the last, nothing has been written.
func Write(w io.Writer, files []File, opts ...Option) error {
	o := options{label: "CIDATA", time: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkTime(o.time); err != nil {
		return err
	}
	if err := checkLabel(o.label); err != nil {
		return err
	}
	root, sum, err := gather(files)
	if err != nil {
		return err
	}
	if o.serial == nil {
		o.serial = &sum
	}
	g, err := layOut(root)
	if err != nil {
		return err
	}
	v := &writer{options: o, geometry: g, root: root}
	return v.write(w)
}

func checkLabel(label string) error {
	if label == "" || len(label) > labelSize || strings.TrimSpace(label) != label {
		return fmt.Errorf("fat: %w: the label %q has not 1 to %d characters, without spaces around them", ErrName, label, labelSize)
	}
	for _, c := range label {
		if !isShort(c) && c != ' ' {
			return fmt.Errorf("fat: %w: the label %q: FAT has no %q in labels, which are upper case", ErrName, label, c)
		}
	}
	return nil
}

// writer is what is written.
type writer struct {
	options
	geometry
	root *source
}

// write writes boot sector, tables, root and clusters, in this order.
func (v *writer) write(w io.Writer) error {
	out := v.bootSector()
	table := v.table()
	out = append(append(append(out, table...), table...), v.folder(v.root)...)
	if _, err := w.Write(out); err != nil {
		return err
	}
	left := int64(v.sectors)*sectorSize - int64(len(out))
	zeros := make([]byte, 64<<10) // no cluster is larger
	var err error
	put := func(b []byte) {
		if err == nil {
			_, err = w.Write(b)
			left -= int64(len(b))
		}
	}
	v.root.walk(func(s *source) {
		data := s.data
		if s.dir {
			data = v.folder(s)
		}
		if s.clusters > 0 {
			put(data)
			put(zeros[:int(s.clusters)*v.clusterSize()-len(data)])
		}
	})
	for left > 0 && err == nil {
		put(zeros[:min(left, int64(len(zeros)))])
	}
	return err
}

func (v *writer) bootSector() []byte {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	// A jump over the parameters, which some readers want to see, and the name
	// that the specification recommends: others have confused old Windows.
	copy(b, "\xeb\x3c\x90MSWIN4.1")
	le.PutUint16(b[bpbSector:], sectorSize)
	b[bpbPerCluster] = byte(v.perCluster)
	le.PutUint16(b[bpbReserved:], reservedSectors)
	b[bpbTables] = tables
	le.PutUint16(b[bpbRootEntries:], uint16(v.rootSlots))
	if v.sectors <= 0xffff {
		le.PutUint16(b[bpbSectors16:], uint16(v.sectors))
	} else {
		le.PutUint32(b[bpbSectors32:], v.sectors)
	}
	b[bpbMedia] = mediaFixed
	le.PutUint16(b[bpbTableSize16:], uint16(v.tableSectors))
	le.PutUint16(b[bpbSectorsTrack:], 32)
	le.PutUint16(b[bpbHeads:], 64)
	b[bootDrive] = 0x80
	b[bootMark] = markExtended
	le.PutUint32(b[bootSerial:], *v.serial)
	copy(b[bootLabel:], padded(v.label))
	copy(b[bootKind:], fmt.Sprintf("FAT%-5d", v.bits))
	b[bootSignature], b[bootSignature+1] = 0x55, 0xaa
	return b
}

// padded is a name or label of an entry that has no extension.
func padded(s string) string { return fmt.Sprintf("%-*s", labelSize, s) }

// table is the file allocation table: each cluster names the next, or is the
// last.
func (v *writer) table() []byte {
	b := make([]byte, v.tableSectors*sectorSize)
	last := uint32(1)<<v.bits - 1
	v.setEntry(b, 0, last&^0xff|mediaFixed)
	v.setEntry(b, 1, last)
	v.root.walk(func(s *source) {
		for i := range s.clusters {
			next := s.first + i + 1
			if i == s.clusters-1 {
				next = last
			}
			v.setEntry(b, s.first+i, next)
		}
	})
	return b
}

func (v *writer) setEntry(b []byte, n, value uint32) {
	le := binary.LittleEndian
	if v.bits == 16 {
		le.PutUint16(b[2*n:], uint16(value))
		return
	}
	at := b[n+n/2:]
	if n%2 == 0 {
		le.PutUint16(at, le.Uint16(at)&0xf000|uint16(value))
	} else {
		le.PutUint16(at, le.Uint16(at)&0x000f|uint16(value)<<4)
	}
}

// folder returns a folder's entries. Those of the root are all that it has
// room for.
func (v *writer) folder(s *source) []byte {
	var out []byte
	if s == v.root {
		label := v.slot(nil, attrVolume)
		copy(label, padded(v.label))
		out = append(out, label...)
	} else {
		for i, of := range []*source{s, s.parent} {
			slot := v.slot(of, attrFolder)
			copy(slot, padded(strings.Repeat(".", i+1)))
			out = append(out, slot...)
		}
	}
	for _, c := range s.children {
		for _, slot := range longSlots(c.name, c.short) {
			out = append(out, slot...)
		}
		attributes := byte(attrArchive)
		if c.dir {
			attributes = attrFolder
		}
		slot := v.slot(c, attributes)
		copy(slot, c.short[:])
		out = append(out, slot...)
	}
	if s == v.root {
		out = append(out, make([]byte, v.rootSlots*slotSize-len(out))...)
	}
	return out
}

// slot is a directory entry of a node, or of the label, still without a name.
func (v *writer) slot(s *source, attributes byte) []byte {
	b := make([]byte, slotSize)
	b[slotAttributes] = attributes
	date, clock := stamp(v.time)
	le := binary.LittleEndian
	le.PutUint16(b[slotCreatedTime:], clock)
	le.PutUint16(b[slotCreatedDate:], date)
	le.PutUint16(b[slotAccessDate:], date)
	le.PutUint16(b[slotTime:], clock)
	le.PutUint16(b[slotDate:], date)
	if s != nil {
		le.PutUint16(b[slotCluster:], uint16(s.first))
		le.PutUint32(b[slotFileSize:], uint32(len(s.data)))
	}
	return b
}
