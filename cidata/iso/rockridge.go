package iso

import (
	"encoding/binary"
	"fmt"
	"io/fs"

	"github.com/applbuild/applbuild/cidata/volume"
)

// maxContinuations is how many continuation areas a record may have: as many
// as Linux follows.
const maxContinuations = 32

// maxReadName is the bytes that a name may have, as other tools write it.
const maxReadName = 255

// attributes are what Rock Ridge says of a record.
type attributes struct {
	name      string
	mode      uint32 // of POSIX; 0 when not given
	time      []byte // of modification, when given
	elsewhere uint32 // the first sector of the folder that was moved, or 0
	moved     bool   // this is such a folder, in the place it was moved to
	packed    bool   // by zisofs
}

// rockRidge tells whether the root's first record announces the System Use
// Sharing Protocol, and how many bytes to skip in front of fields. Like Linux
// it takes the fields that follow for Rock Ridge's.
func (w *walker) rockRidge(root record) (skip int, ok bool, err error) {
	first, err := w.own(root.extent)
	if err != nil {
		return 0, false, err
	}
	const xa = 14 // bytes that CD-ROM XA puts in front of SP
	for _, at := range []int{0, xa} {
		if u := first.use; len(u) >= at+7 && string(u[at:at+2]) == "SP" && u[at+4] == 0xbe && u[at+5] == 0xef {
			return int(u[at+6]), true, nil
		}
	}
	return 0, false, nil
}

// own is the record in which a folder describes itself.
func (w *walker) own(extent uint32) (record, error) {
	b := make([]byte, sectorSize)
	if err := readAt(w.r, b, int64(extent)*sectorSize, w.size); err != nil {
		return record{}, fmt.Errorf("iso: the folder at sector %d: %w", extent, err)
	}
	return parseRecord(b)
}

// attributes reads the fields of a record and its continuations.
func (w *walker) attributes(rec record) (attributes, error) {
	var a attributes
	area := rec.use[min(w.skip, len(rec.use)):]
	for range maxContinuations {
		next := a.read(area)
		if len(a.name) > maxReadName {
			return a, fmt.Errorf("iso: %w: a name of more than %d bytes", ErrFormat, maxReadName)
		}
		if next == nil {
			return a, nil
		}
		le := binary.LittleEndian
		extent, offset, size := le.Uint32(next), le.Uint32(next[8:]), le.Uint32(next[16:])
		if offset > sectorSize || size > sectorSize {
			return a, fmt.Errorf("iso: %w: a continuation of %d bytes at byte %d of a sector", ErrFormat, size, offset)
		}
		area = make([]byte, size)
		if err := readAt(w.r, area, int64(extent)*sectorSize+int64(offset), w.size); err != nil {
			return a, fmt.Errorf("iso: a continuation: %w", err)
		}
	}
	return a, fmt.Errorf("iso: %w: more than %d continuations of a record", ErrFormat, maxContinuations)
}

// read takes the fields of one area, and returns what the field CE among them
// holds. Fields of wrong length are passed over, as other readers do.
func (a *attributes) read(area []byte) (next []byte) {
	for len(area) >= suspHeader {
		n := int(area[2])
		if n < suspHeader || n > len(area) {
			return next
		}
		b := area[suspHeader:n]
		switch signature := string(area[:2]); {
		case signature == "ST":
			return next
		case signature == "CE" && len(b) >= ceSize-suspHeader:
			next = b
		case signature == "PX" && len(b) >= 4:
			a.mode = binary.LittleEndian.Uint32(b)
		case signature == "NM" && len(b) >= 1 && b[0]&(nameCurrent|nameParent) == 0:
			a.name += string(b[1:])
		case signature == "TF" && len(b) >= 1:
			a.readTF(b[0], b[1:])
		case signature == "CL" && len(b) >= 4:
			a.elsewhere = binary.LittleEndian.Uint32(b)
		case signature == "RE":
			a.moved = true
		case signature == "ZF":
			a.packed = true
		}
		area = area[n:]
	}
	return next
}

// readTF takes the time of modification; times are in the order of their flags,
// and that of creation is before it.
func (a *attributes) readTF(flags byte, b []byte) {
	const created, short = 0x01, 7
	if flags&timeLong != 0 || flags&timeModify == 0 {
		return
	}
	if flags&created != 0 {
		b = b[min(short, len(b)):]
	}
	if len(b) >= short {
		a.time = b[:short]
	}
}

// apply gives n what Rock Ridge says, and returns the record that says where
// its contents are.
func (w *walker) apply(n *volume.File, rec record, a attributes) (record, error) {
	n.Name = a.name
	if a.time != nil {
		n.Modified = readTime(a.time)
	}
	if a.elsewhere != 0 {
		own, err := w.own(a.elsewhere)
		if err != nil {
			return rec, err
		}
		rec.extent, rec.size = a.elsewhere, own.size
		n.Mode = fs.ModeDir | 0o555
	}
	switch kind := a.mode & modeType; {
	case a.mode == 0:
	case n.Mode.IsDir() || kind == modeFile&modeType:
		n.Mode = n.Mode.Type() | fs.FileMode(a.mode&0o777)
	case kind == modeLink:
		n.Mode, n.Unread = fs.ModeSymlink|0o777, "a symbolic link"
	default:
		n.Mode, n.Unread = fs.ModeIrregular, "a device, pipe or socket"
	}
	if a.packed {
		n.Unread = "compressed by zisofs"
	}
	return rec, nil
}
