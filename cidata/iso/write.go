package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// Write writes a volume with files to w. Errors match ErrName or ErrLimit, or
// are w's; of those but the last, nothing has been written.
func Write(w io.Writer, files []File, opts ...Option) error {
	o := options{label: "cidata", time: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkTime(o.time); err != nil {
		return err
	}
	if err := checkLabel(o.label); err != nil {
		return err
	}
	root, err := gather(files)
	if err != nil {
		return err
	}
	v := layOut(root, o)
	if _, err := w.Write(v.head()); err != nil {
		return err
	}
	zeros := make([]byte, sectorSize)
	for _, f := range v.files {
		if _, err := w.Write(f.data); err != nil {
			return err
		}
		if _, err := w.Write(zeros[:int(sectors(len(f.data)))*sectorSize-len(f.data)]); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(label string) error {
	const longest = 16 // characters that both descriptors hold
	for _, c := range label {
		if c < 0x20 || c > 0x7e {
			return fmt.Errorf("iso: %w: the label %q is not all printable ASCII", ErrName, label)
		}
	}
	if label == "" || len(label) > longest || strings.TrimSpace(label) != label {
		return fmt.Errorf("iso: %w: the label %q has not 1 to %d characters, without spaces around them", ErrName, label, longest)
	}
	return nil
}

// layout is what stands where: descriptors, path tables, the trees, the files.
type layout struct {
	options
	primary *hierarchy
	joliet  *hierarchy
	files   []*source
	sectors uint32
}

func layOut(root *source, o options) *layout {
	v := &layout{options: o, files: root.files(),
		primary: newHierarchy(root, false, o.time), joliet: newHierarchy(root, true, o.time)}
	next := uint32(firstDescriptor + 3)
	for _, h := range []*hierarchy{v.primary, v.joliet} {
		table := sectors(len(h.pathTable(binary.LittleEndian)))
		h.little, h.big = next, next+table
		next += 2 * table
	}
	next = v.primary.place(next)
	next = v.joliet.place(next)
	for _, f := range v.files {
		if len(f.data) > 0 {
			f.extent = next
			next += sectors(len(f.data))
		}
	}
	v.sectors = next
	return v
}

// head is all that lies before the files' contents.
func (v *layout) head() []byte {
	out := make([]byte, firstDescriptor*sectorSize)
	out = append(out, v.descriptor(v.primary)...)
	out = append(out, v.descriptor(v.joliet)...)
	out = pad(append(out, append([]byte{kindTerminator}, descriptorID+"\x01"...)...))
	for _, h := range []*hierarchy{v.primary, v.joliet} {
		out = append(out, pad(h.pathTable(binary.LittleEndian))...)
		out = append(out, pad(h.pathTable(binary.BigEndian))...)
	}
	out = append(out, v.primary.write()...)
	return append(out, v.joliet.write()...)
}

// descriptor is the primary or supplementary volume descriptor of a tree.
func (v *layout) descriptor(h *hierarchy) []byte {
	b := make([]byte, sectorSize)
	b[0] = kindPrimary
	space, label := []byte{' '}, []byte(v.label)
	if h.joliet {
		b[0] = kindSupplement
		space, label = []byte{0, ' '}, ucs2(v.label)
		copy(b[volEscapes:], jolietEscape)
	}
	copy(b[1:], descriptorID+"\x01")
	fill := func(from, size int) { copy(b[from:], bytes.Repeat(space, size/len(space))) }
	fill(volSystem, volSystemSize)
	fill(volLabel, volLabelSize)
	copy(b[volLabel:], label)
	both(b[volSectors:], v.sectors)
	both16(b[volSetSize:], 1)
	both16(b[volSequence:], 1)
	both16(b[volBlockSize:], sectorSize)
	both(b[volPathBytes:], uint32(len(h.pathTable(binary.LittleEndian))))
	binary.LittleEndian.PutUint32(b[volPathLittle:], h.little)
	binary.BigEndian.PutUint32(b[volPathBig:], h.big)
	copy(b[volRoot:], h.bare(h.dirs[0], []byte{0}))
	fill(volTexts, volTextsSize)
	for i := range 3 {
		fill(volFileNames+i*volFileNameSize, volFileNameSize)
	}
	copy(b[volCreated:], longTime(v.time))
	copy(b[volModified:], longTime(v.time))
	copy(b[volExpires:], noTime)
	copy(b[volEffective:], noTime)
	b[volStructure] = 1
	return b
}
