package iso

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// hierarchy is one of the two trees of directory records: the primary one with
// Rock Ridge, or Joliet's.
type hierarchy struct {
	joliet bool
	time   time.Time
	dirs   []*entry      // by level, then by parent, then by name: the path table's order (ECMA-119, 6.9.1)
	spare  continuations // of the folder at hand
	little uint32        // first sector of each path table
	big    uint32
}

// entry is a file or folder in a hierarchy.
type entry struct {
	*source
	id      []byte
	parent  *entry
	entries []*entry // of a folder, sorted by id
	number  uint16   // of a folder, in the path table
	extent  uint32   // of a folder: its first sector
	size    uint32   // of a folder: the bytes of its records
}

func newHierarchy(root *source, joliet bool, t time.Time) *hierarchy {
	top := &entry{source: root, id: []byte{0}}
	top.parent = top
	h := &hierarchy{joliet: joliet, time: t, dirs: []*entry{top}}
	for i := 0; i < len(h.dirs); i++ {
		d := h.dirs[i]
		d.number = uint16(i + 1)
		names := newNamer()
		for _, s := range d.children {
			name := names.primary
			if joliet {
				name = names.joliet
			}
			d.entries = append(d.entries, &entry{source: s, id: name(s.name, s.dir), parent: d})
		}
		slices.SortFunc(d.entries, func(a, b *entry) int { return bytes.Compare(h.sortKey(a), h.sortKey(b)) })
		for _, e := range d.entries {
			if e.dir {
				h.dirs = append(h.dirs, e)
			}
		}
	}
	return h
}

// sortKey is an identifier without its version, which sorts by itself.
func (h *hierarchy) sortKey(e *entry) []byte {
	switch {
	case e.dir:
		return e.id
	case h.joliet:
		return e.id[:len(e.id)-2*len(versionSeparator)]
	}
	return e.id[:len(e.id)-len(versionSeparator)]
}

// place gives each folder, and the continuation area behind it, its sectors
// from next on, and returns the sector behind all of them. A continuation area
// lies before the folders in its folder, because readers of streams (bsdtar)
// need the names by then.
func (h *hierarchy) place(next uint32) uint32 {
	for _, d := range h.dirs {
		h.spare = continuations{}
		d.extent, d.size = next, uint32(len(h.folder(d)))
		next += d.size/sectorSize + sectors(len(h.spare.data))
	}
	return next
}

// write returns folders and continuation areas, as place has laid them out.
func (h *hierarchy) write() []byte {
	var out []byte
	for _, d := range h.dirs {
		h.spare = continuations{first: d.extent + d.size/sectorSize}
		out = append(out, h.folder(d)...)
		out = append(out, pad(h.spare.data)...)
	}
	return out
}

// folder returns a folder's records, in whole sectors.
func (h *hierarchy) folder(d *entry) []byte {
	var out []byte
	add := func(record []byte) {
		// No record crosses a sector (ECMA-119, 6.8.1.1).
		if len(out)%sectorSize+len(record) > sectorSize {
			out = pad(out)
		}
		out = append(out, record...)
	}
	add(h.record(d, []byte{0}, d == h.dirs[0]))
	add(h.record(d.parent, []byte{1}, false))
	for _, e := range d.entries {
		add(h.record(e, e.id, false))
	}
	return pad(out)
}

// record is a directory record with its system use area. The first record of
// the root announces Rock Ridge.
func (h *hierarchy) record(e *entry, id []byte, first bool) []byte {
	b := h.bare(e, id)
	if !h.joliet {
		var fields [][]byte
		if first {
			fields = append(fields, fieldSP())
		}
		fields = append(fields, fieldPX(e.source), fieldTF(h.time))
		if len(id) > 1 || id[0] > 1 {
			fields = append(fields, fieldsNM(e.name)...)
		}
		if first {
			fields = append(fields, fieldER())
		}
		b = append(b, h.spare.place(fields, maxRecord-len(b))...)
	}
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

// bare is a directory record without a system use area (ECMA-119, 9.1).
func (h *hierarchy) bare(e *entry, id []byte) []byte {
	b := make([]byte, (recName+len(id)+1)/2*2)
	b[0] = byte(len(b))
	extent, size := e.extent, e.size
	if !e.dir {
		extent, size = e.source.extent, uint32(len(e.data))
	}
	both(b[recExtent:], extent)
	both(b[recSize:], size)
	copy(b[recTime:], shortTime(h.time))
	if e.dir {
		b[recFlags] = flagDir
	}
	both16(b[recSequence:], 1)
	b[recNameLen] = byte(len(id))
	copy(b[recName:], id)
	return b
}

// pathTable lists all folders (ECMA-119, 9.4).
func (h *hierarchy) pathTable(order binary.AppendByteOrder) []byte {
	var out []byte
	for _, d := range h.dirs {
		out = append(out, byte(len(d.id)), 0)
		out = order.AppendUint32(out, d.extent)
		out = order.AppendUint16(out, d.parent.number)
		out = append(out, d.id...)
		if len(d.id)%2 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// pad fills the last sector with zeros.
func pad(b []byte) []byte {
	return append(b, make([]byte, int(sectors(len(b)))*sectorSize-len(b))...)
}
