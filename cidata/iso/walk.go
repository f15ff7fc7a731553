package iso

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/applbuild/applbuild/cidata/volume"
)

const (
	maxReadDepth = 64      // levels of folders; Rock Ridge has more than eight
	maxDirBytes  = 8 << 20 // records of all folders
)

// record is a directory record as it lies in an image.
type record struct {
	extent, size uint32
	flags        byte
	strange      string // what of it is not read, if anything
	modified     time.Time
	id           []byte
	use          []byte // the system use area
}

// parseRecord takes the record that b begins with.
func parseRecord(b []byte) (record, error) {
	n := int(b[0])
	if n < recName+1 || n > len(b) || recName+int(b[recNameLen]) > n || b[recNameLen] == 0 {
		return record{}, fmt.Errorf("iso: %w: a directory record of %d bytes", ErrFormat, n)
	}
	end := recName + int(b[recNameLen])
	rec := record{
		extent: binary.LittleEndian.Uint32(b[recExtent:]), size: binary.LittleEndian.Uint32(b[recSize:]),
		flags: b[recFlags], modified: readTime(b[recTime:]), id: b[recName:end],
	}
	if use := end + 1 - int(b[recNameLen])%2; use < n { // a name of even length has a byte behind it
		rec.use = b[use:n]
	}
	switch {
	case rec.flags&flagMultiExtent != 0:
		rec.strange = "a file in several extents"
	case b[recUnit] != 0 || b[recGap] != 0:
		rec.strange = "an interleaved file"
	}
	return rec, nil
}

// rootOf is the record in a descriptor, of a length that is checked by nobody
// else.
func rootOf(descriptor []byte) record {
	b := descriptor[volRoot:]
	return record{extent: binary.LittleEndian.Uint32(b[recExtent:]), size: binary.LittleEndian.Uint32(b[recSize:]),
		flags: flagDir, modified: readTime(b[recTime:])}
}

// walker reads all folders of a volume.
type walker struct {
	r       io.ReaderAt
	size    int64 // of the image, in bytes
	names   Names
	skip    int             // bytes before the fields of Rock Ridge
	entered map[uint32]bool // folders, by first sector
	entries int
	dirs    int64 // bytes of folders so far
	files   int64 // bytes of files so far
}

func (w *walker) walk(root record) (*volume.File, error) {
	top := &volume.File{Name: ".", Mode: fs.ModeDir | 0o555, Modified: root.modified}
	return top, w.fill(top, root, 1)
}

// fill reads the folder at a record, and those in it, into n.
func (w *walker) fill(n *volume.File, at record, depth int) error {
	if depth > maxReadDepth {
		return fmt.Errorf("iso: %w: more than %d levels of folders", ErrLimit, maxReadDepth)
	}
	records, err := w.records(at)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if w.entries++; w.entries > MaxEntries {
			return fmt.Errorf("iso: %w: more than %d files and folders", ErrLimit, MaxEntries)
		}
		child, dir, err := w.node(rec)
		if err != nil {
			return err
		}
		if child == nil {
			continue
		}
		if child.Mode.IsDir() {
			if err := w.fill(child, dir, depth+1); err != nil {
				return err
			}
		} else if w.files += child.Size; w.files > MaxBytes {
			return fmt.Errorf("iso: %w: the files have more than %d MiB", ErrLimit, MaxBytes>>20)
		}
		n.Children = append(n.Children, child)
	}
	return nil
}

// records lists the records of a folder without its own two. A folder is
// entered once: one that can be reached twice is a loop, or as bad.
func (w *walker) records(at record) ([]record, error) {
	if w.entered[at.extent] {
		return nil, fmt.Errorf("iso: %w: the folder at sector %d is in two places", ErrFormat, at.extent)
	}
	w.entered[at.extent] = true
	if w.dirs += int64(at.size); w.dirs > maxDirBytes {
		return nil, fmt.Errorf("iso: %w: the folders have more than %d MiB", ErrLimit, maxDirBytes>>20)
	}
	b := make([]byte, at.size)
	if err := readAt(w.r, b, int64(at.extent)*sectorSize, w.size); err != nil {
		return nil, fmt.Errorf("iso: the folder at sector %d: %w", at.extent, err)
	}
	var all []record
	for len(b) > 0 {
		sector := b[:min(sectorSize, len(b))]
		b = b[len(sector):]
		for len(sector) > 0 && sector[0] != 0 {
			rec, err := parseRecord(sector)
			if err != nil {
				return nil, err
			}
			if own := len(rec.id) == 1 && rec.id[0] <= 1; !own && rec.flags&flagAssociated == 0 {
				all = append(all, rec)
			}
			sector = sector[sector[0]:]
		}
	}
	return all, nil
}

// node makes a record a file or folder; that of a folder is the record that
// says where the folder is. A folder that is shown elsewhere gives none.
func (w *walker) node(rec record) (*volume.File, record, error) {
	n := &volume.File{Size: int64(rec.size), Mode: 0o444, Modified: rec.modified, Unread: rec.strange}
	if rec.flags&flagDir != 0 {
		n.Mode = fs.ModeDir | 0o555
	}
	switch w.names {
	case RockRidge:
		attributes, err := w.attributes(rec)
		if err != nil {
			return nil, rec, err
		}
		if attributes.moved {
			return nil, rec, nil
		}
		if rec, err = w.apply(n, rec, attributes); err != nil {
			return nil, rec, err
		}
	case Joliet:
		n.Name = withoutVersion(fromUCS2(rec.id), rec)
	}
	if n.Name == "" {
		n.Name = plainName(rec)
	}
	n.Name = strings.ToValidUTF8(n.Name, "\uFFFD")
	if n.Name == "." || n.Name == ".." || strings.ContainsAny(n.Name, "/\x00") {
		return nil, rec, fmt.Errorf("iso: %w: a file with the name %q", ErrFormat, n.Name)
	}
	if n.Mode.IsDir() {
		n.Size = 0
		return n, rec, nil
	}
	if end := int64(rec.extent)*sectorSize + n.Size; n.Size > 0 && end > w.size {
		return nil, rec, fmt.Errorf("iso: %w: %q ends at byte %d, the image at %d", ErrFormat, n.Name, end, w.size)
	}
	n.Contents = io.NewSectionReader(w.r, int64(rec.extent)*sectorSize, n.Size)
	return n, rec, nil
}

// plainName is a name of ISO 9660 as Linux shows it without an extension.
func plainName(rec record) string {
	return strings.TrimSuffix(withoutVersion(strings.ToLower(string(rec.id)), rec), ".")
}

// withoutVersion cuts the version, which only files have.
func withoutVersion(name string, rec record) string {
	if i := strings.LastIndexByte(name, ';'); i > 0 && rec.flags&flagDir == 0 && strings.Trim(name[i+1:], "0123456789") == "" {
		return name[:i]
	}
	return name
}
