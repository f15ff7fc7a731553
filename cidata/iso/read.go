package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/applbuild/applbuild/cidata/volume"
)

// maxDescriptors is how many volume descriptors are looked at.
const maxDescriptors = 32

// Names tells where an image's names come from.
type Names string

const (
	RockRidge Names = "Rock Ridge"
	Joliet    Names = "Joliet"
	// Plain names are read in lower case and without their version, as Linux
	// shows them. A user-data file can hardly be found under such a name.
	Plain Names = "ISO 9660"
)

// Image is a volume that was opened. It is an fs.FS with ReadDir, ReadFile and
// Stat; what is read is read from the image then, so the image must stay open.
// A symbolic link and the like cannot be opened: the error matches
// fs.ErrInvalid. A file has at most MaxBytes bytes.
type Image struct {
	label string
	names Names
	*volume.Tree
}

// Label is the volume's label, without the spaces behind it.
func (m *Image) Label() string { return m.label }

// Names tells where the names come from: Rock Ridge where it is there, else
// Joliet, else ISO 9660 itself.
func (m *Image) Names() Names { return m.names }

// Open reads the folders of an image of size bytes, all of them. Errors match
// ErrFormat or ErrLimit, or are r's.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	primary, joliet, err := descriptors(r, size)
	if err != nil {
		return nil, err
	}
	m := &Image{label: strings.TrimRight(string(primary[volLabel:volLabel+volLabelSize]), " \x00"), names: Plain}
	w := &walker{r: r, size: size, entered: map[uint32]bool{}}
	at := rootOf(primary)
	if skip, ok, err := w.rockRidge(at); err != nil {
		return nil, err
	} else if ok {
		m.names, w.skip = RockRidge, skip
	} else if joliet != nil {
		m.names, at = Joliet, rootOf(joliet)
	}
	if m.label == "" && joliet != nil {
		m.label = strings.TrimRight(fromUCS2(joliet[volLabel:volLabel+volLabelSize]), " \x00")
	}
	w.names = m.names
	root, err := w.walk(at)
	if err != nil {
		return nil, err
	}
	if m.Tree, err = volume.New(root, exact); err != nil {
		return nil, fmt.Errorf("iso: %w: %w", ErrFormat, err)
	}
	return m, nil
}

// descriptors returns the primary and, if there is one, Joliet's descriptor.
func descriptors(r io.ReaderAt, size int64) (primary, joliet []byte, err error) {
	for i := range int64(maxDescriptors) {
		b := make([]byte, sectorSize)
		if err := readAt(r, b, (firstDescriptor+i)*sectorSize, size); err != nil {
			return nil, nil, fmt.Errorf("iso: volume descriptor %d: %w", i, err)
		}
		if string(b[1:6]) != descriptorID {
			return nil, nil, fmt.Errorf("iso: %w: no %s in volume descriptor %d", ErrFormat, descriptorID, i)
		}
		switch {
		case b[0] == kindTerminator && primary == nil:
			return nil, nil, fmt.Errorf("iso: %w: no primary volume descriptor", ErrFormat)
		case b[0] == kindTerminator:
			return primary, joliet, nil
		case b[0] == kindPrimary && primary == nil:
			primary = b
		case b[0] == kindSupplement && joliet == nil && isJoliet(b):
			joliet = b
		default:
			continue
		}
		if n := binary.LittleEndian.Uint16(b[volBlockSize:]); n != sectorSize {
			return nil, nil, fmt.Errorf("iso: %w: blocks of %d bytes; only %d are read", ErrFormat, n, sectorSize)
		}
	}
	return nil, nil, fmt.Errorf("iso: %w: %d volume descriptors and no end", ErrFormat, maxDescriptors)
}

// isJoliet tells Joliet's levels 1 to 3 from other supplements (Joliet
// specification, "SVD Escape Sequences Field").
func isJoliet(b []byte) bool {
	for _, level := range []string{"%/@", "%/C", "%/E"} {
		if bytes.HasPrefix(b[volEscapes:], []byte(level)) {
			return true
		}
	}
	return false
}

// readAt fills b from an image of size bytes.
func readAt(r io.ReaderAt, b []byte, offset, size int64) error {
	if offset+int64(len(b)) > size {
		return fmt.Errorf("%w: it ends at byte %d, before byte %d", ErrFormat, size, offset+int64(len(b)))
	}
	n, err := r.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends before byte %d", ErrFormat, offset+int64(len(b)))
	}
	return err
}
