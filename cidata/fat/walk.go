package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/applbuild/applbuild/cidata/volume"
)

// maxWalk is the bytes of all folders that are read.
const maxWalk = 16 << 20

// walker reads all folders of a volume.
type walker struct {
	*layout
	label   string
	entered map[uint32]bool // folders, by first cluster
	entries int
	dirs    int64 // bytes of folders so far
	files   int64 // bytes of files so far
}

func (w *walker) walk() (*volume.File, error) {
	top := &volume.File{Name: ".", Mode: fs.ModeDir | 0o755}
	slots, err := w.rootSlots()
	if err != nil {
		return nil, err
	}
	for rest := slots; len(rest) >= slotSize && rest[0] != 0; rest = rest[slotSize:] {
		if rest[0] != slotFree && rest[slotAttributes]&attrLongMask != attrLong && rest[slotAttributes]&attrVolume != 0 {
			w.label = trimLabel(unescape(rest[:labelSize]))
			break
		}
	}
	return top, w.fill(top, slots, 1)
}

func (w *walker) rootSlots() ([]byte, error) {
	if w.bits == 32 {
		return w.slots(w.rootFirst)
	}
	b := make([]byte, w.rootBytes)
	if err := readAt(w.r, b, w.root, w.size); err != nil {
		return nil, fmt.Errorf("fat: root folder: %w", err)
	}
	return b, nil
}

// slots returns the entries of the folder at a cluster. A folder is entered
// once: one that can be reached twice is a loop, or as bad.
func (w *walker) slots(first uint32) ([]byte, error) {
	if w.entered[first] {
		return nil, fmt.Errorf("fat: %w: the folder at cluster %d is in two places", ErrFormat, first)
	}
	w.entered[first] = true
	c, err := w.chain(first, maxFolderBytes+1)
	if err != nil {
		return nil, err
	}
	if c.length > max(maxFolderBytes, w.cluster) {
		return nil, fmt.Errorf("fat: %w: the folder at cluster %d has no end", ErrFormat, first)
	}
	if w.dirs += c.length; w.dirs > maxWalk {
		return nil, fmt.Errorf("fat: %w: the folders have more than %d MiB", ErrLimit, maxWalk>>20)
	}
	b := make([]byte, c.length)
	if _, err := c.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("fat: the folder at cluster %d: %w", first, err)
	}
	return b, nil
}

// fill reads entries, and the folders among them, into n.
func (w *walker) fill(n *volume.File, slots []byte, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("fat: %w: more than %d levels of folders", ErrLimit, MaxDepth)
	}
	var long longName
	for ; len(slots) >= slotSize && slots[0] != 0; slots = slots[slotSize:] {
		slot := slots[:slotSize]
		switch attributes := slot[slotAttributes]; {
		case slot[0] == slotFree:
			long = longName{}
		case attributes&attrLongMask == attrLong:
			long.add(slot)
		case attributes&attrVolume != 0:
			long = longName{}
		default:
			name := long.of(slot)
			long = longName{}
			if isOwn := strings.TrimRight(string(slot[:labelSize]), " "); isOwn == "." || isOwn == ".." {
				continue
			}
			child, err := w.node(name, slot, depth)
			if err != nil {
				return err
			}
			n.Children = append(n.Children, child)
		}
	}
	return nil
}

// node makes an entry a file or folder, with all that is in it.
func (w *walker) node(name string, slot []byte, depth int) (*volume.File, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("fat: %w: a file with the name %q", ErrFormat, name)
	}
	if w.entries++; w.entries > MaxEntries {
		return nil, fmt.Errorf("fat: %w: more than %d files and folders", ErrLimit, MaxEntries)
	}
	le := binary.LittleEndian
	first := uint32(le.Uint16(slot[slotCluster:]))
	if w.bits == 32 {
		first |= uint32(le.Uint16(slot[slotClusterHigh:])) << 16
	}
	n := &volume.File{Name: name, Mode: 0o644, Modified: readTime(slot)}
	if slot[slotAttributes]&attrFolder != 0 {
		n.Mode = fs.ModeDir | 0o755
		slots, err := w.slots(first)
		if err != nil {
			return nil, err
		}
		return n, w.fill(n, slots, depth+1)
	}
	n.Size = int64(le.Uint32(slot[slotFileSize:]))
	if w.files += n.Size; w.files > MaxBytes {
		return nil, fmt.Errorf("fat: %w: the files have more than %d MiB", ErrLimit, MaxBytes>>20)
	}
	c := &chain{}
	if n.Size > 0 {
		var err error
		if c, err = w.chain(first, n.Size); err != nil {
			return nil, err
		}
	}
	if c.length < n.Size {
		return nil, fmt.Errorf("fat: %w: %q ends after %d of %d bytes", ErrFormat, name, c.length, n.Size)
	}
	n.Contents = io.NewSectionReader(c, 0, n.Size)
	return n, nil
}

// longName collects the entries of a long name, which come last part first.
type longName struct {
	parts    [][]uint16 // the last part first
	missing  int        // parts to come
	checksum byte
}

func (l *longName) add(slot []byte) {
	number := int(slot[0] &^ longLast)
	if slot[0]&longLast != 0 && number >= 1 && number <= maxLong {
		*l = longName{missing: number, checksum: slot[longChecksum]}
	}
	if l.missing == 0 || number != l.missing || slot[longChecksum] != l.checksum {
		*l = longName{}
		return
	}
	l.missing--
	part := make([]uint16, 0, longUnits)
	for _, span := range longSpans {
		for i := span[0]; i < span[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(slot[i:]))
		}
	}
	l.parts = append(l.parts, part)
}

// of is the name of the entry behind the long ones: the long name if it is
// whole and belongs to that entry, else the short one.
func (l *longName) of(slot []byte) string {
	if len(l.parts) == 0 || l.missing != 0 || l.checksum != checksum(slot) {
		return readShort(slot)
	}
	var units []uint16
	for _, part := range slices.Backward(l.parts) {
		units = append(units, part...)
	}
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units))
}

// readShort is a short name as Linux and Windows show it: in lower case where
// Windows NT has marked it so.
func readShort(slot []byte) string {
	raw := unescape(slot[:labelSize])
	base, extension := fromCodePage(raw[:baseSize]), fromCodePage(raw[baseSize:])
	if slot[slotCase]&caseBase != 0 {
		base = strings.ToLower(base)
	}
	if slot[slotCase]&caseExtension != 0 {
		extension = strings.ToLower(extension)
	}
	base, extension = strings.TrimRight(base, " "), strings.TrimRight(extension, " ")
	if extension == "" {
		return base
	}
	return base + "." + extension
}

// unescape puts back a first byte that would mark a free entry.
func unescape(name []byte) []byte {
	if name[0] == slotKanji {
		return append([]byte{slotFree}, name[1:]...)
	}
	return name
}
