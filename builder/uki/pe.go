package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
)

// ErrFormat is wrapped by every error that says a file is no PE32+ image, or a
// damaged one.
var ErrFormat = errors.New("not a valid PE32+ image")

// Content is the bytes of a stub, a kernel or another section. *bytes.Reader,
// *strings.Reader and *io.SectionReader are Contents. It must not change
// between the call it is given to and the last read of the result.
type Content interface {
	io.ReaderAt
	Size() int64 // in bytes
}

// Offsets and limits of the format (PE Format, sections "MS-DOS Stub" to
// "Section Table").
const (
	dosHeaderSize     = 64
	dosPEOffset       = 60 // of e_lfanew in the MS-DOS header
	coffHeaderSize    = 20
	sectionHeaderSize = 40
	// optionalHeaderSize is a PE32+ header with all 16 data directories.
	optionalHeaderSize = 112 + 16*8
	// optionalFixedSize is the part before the data directories.
	optionalFixedSize = 112

	optionalMagic64     = 0x20b
	optionalCheckSum    = 64 // of CheckSum in the optional header
	directoryCertTable  = 4
	directoryDebug      = 6
	directoryOffset     = optionalFixedSize
	directorySize       = 8
	dllNXCompat         = 0x0100
	sectionCode         = 0x00000020
	sectionInitialized  = 0x00000040
	sectionMemoryRead   = 0x40000000
	fileLocalSymsAbsent = 0x0008

	// maxHeaders bounds what is read before anything is known of a file.
	maxHeaders = 1 << 20
	// maxSections is far above what an image with many profiles and device
	// trees has.
	maxSections = 2048
)

// A header is what precedes the sections' data in a PE file.
type header struct {
	raw      []byte // the file's first bytes, at least to the section table's end
	peOffset int    // of the signature
	file     pe.FileHeader
	optional pe.OptionalHeader64
	sections []pe.SectionHeader32
	size     int64 // of the whole file
}

func (h *header) optionalOffset() int { return h.peOffset + 4 + coffHeaderSize }
func (h *header) tableOffset() int {
	return h.optionalOffset() + int(h.file.SizeOfOptionalHeader)
}

// certificates returns the place of the attribute certificate table: a file
// offset, unlike that of every other data directory.
func (h *header) certificates() (offset, size int64) {
	d := h.optional.DataDirectory[directoryCertTable]
	return int64(d.VirtualAddress), int64(d.Size)
}

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// parseHeader reads and checks the headers of a PE32+ file of size bytes.
func parseHeader(r io.ReaderAt, size int64) (*header, error) {
	h := &header{size: size}
	raw, err := readPrefix(r, size, dosHeaderSize)
	if err != nil {
		return nil, err
	}
	if len(raw) < dosHeaderSize || raw[0] != 'M' || raw[1] != 'Z' {
		return nil, formatError("no MZ signature")
	}
	offset := binary.LittleEndian.Uint32(raw[dosPEOffset:])
	if offset < 4 || offset > maxHeaders {
		return nil, formatError("PE header at offset %d", offset)
	}
	h.peOffset = int(offset)

	need := h.optionalOffset() + optionalHeaderSize
	if h.raw, err = readPrefix(r, size, need); err != nil {
		return nil, err
	}
	if len(h.raw) < h.optionalOffset()+optionalFixedSize {
		return nil, formatError("file ends in the headers")
	}
	if !bytes.Equal(h.raw[h.peOffset:h.peOffset+4], []byte("PE\x00\x00")) {
		return nil, formatError("no PE signature at offset %d", h.peOffset)
	}
	if err := h.parseOptional(); err != nil {
		return nil, err
	}
	return h, h.parseSections(r)
}

// readPrefix returns the first n bytes of the file, or all of a shorter one.
func readPrefix(r io.ReaderAt, size int64, n int) ([]byte, error) {
	b := make([]byte, min(int64(n), max(size, 0)))
	if len(b) == 0 {
		return b, nil
	}
	if got, err := r.ReadAt(b, 0); got < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading PE headers: %w", err)
	}
	return b, nil
}

func (h *header) parseOptional() error {
	if err := decode(h.raw[h.peOffset+4:], &h.file); err != nil {
		return err
	}
	at := h.optionalOffset()
	if magic := binary.LittleEndian.Uint16(h.raw[at:]); magic != optionalMagic64 {
		return formatError("optional header of kind %#x, want PE32+ (%#x)", magic, optionalMagic64)
	}
	// A header may hold fewer data directories than the sixteen there are:
	// those that are left out read as empty.
	fixed := make([]byte, optionalHeaderSize)
	copy(fixed, h.raw[at:at+optionalFixedSize])
	count := binary.LittleEndian.Uint32(fixed[optionalFixedSize-4:])
	end := optionalFixedSize + int(min(count, 16))*directorySize
	if int(h.file.SizeOfOptionalHeader) < end {
		return formatError("optional header of %d bytes is too short for %d data directories",
			h.file.SizeOfOptionalHeader, count)
	}
	if at+end > len(h.raw) {
		return formatError("file ends in the data directories")
	}
	copy(fixed[optionalFixedSize:end], h.raw[at+optionalFixedSize:at+end])
	if err := decode(fixed, &h.optional); err != nil {
		return err
	}

	for _, a := range []uint32{h.optional.FileAlignment, h.optional.SectionAlignment} {
		if a == 0 || a&(a-1) != 0 || a > 1<<24 {
			return formatError("alignment of %d bytes", a)
		}
	}
	return nil
}

func (h *header) parseSections(r io.ReaderAt) error {
	n := int(h.file.NumberOfSections)
	if n > maxSections {
		return formatError("%d sections; %d are the most that is read", n, maxSections)
	}
	end := h.tableOffset() + n*sectionHeaderSize
	headers := int64(h.optional.SizeOfHeaders)
	if headers > h.size || headers > maxHeaders || int64(end) > headers {
		return formatError("section table ends at %d, headers at %d, file at %d", end, headers, h.size)
	}
	raw, err := readPrefix(r, h.size, int(headers))
	if err != nil {
		return err
	}
	h.raw = raw
	h.sections = make([]pe.SectionHeader32, n)
	if err := decode(raw[h.tableOffset():], h.sections); err != nil {
		return err
	}
	if offset, size := h.certificates(); size > 0 && (offset < headers || offset+size > h.size) {
		return formatError("certificate table at %d+%d is outside of the file's %d bytes", offset, size, h.size)
	}
	return h.checkSections()
}

// checkSections refuses sections whose data is outside of the file or shared:
// no tool makes such images, and a reader would read the same bytes many times.
func (h *header) checkSections() error {
	byOffset := make([]pe.SectionHeader32, 0, len(h.sections))
	for i, s := range h.sections {
		start, size := int64(s.PointerToRawData), int64(s.SizeOfRawData)
		if start+size > h.size {
			return formatError("section %d (%q) at %d+%d reaches past the file's end at %d",
				i, sectionName(s), start, size, h.size)
		}
		if uint64(s.VirtualAddress)+uint64(s.VirtualSize) > math.MaxUint32 {
			return formatError("section %d (%q) reaches past 4 GiB of memory", i, sectionName(s))
		}
		if size > 0 {
			byOffset = append(byOffset, s)
		}
	}
	sort.SliceStable(byOffset, func(i, j int) bool {
		return byOffset[i].PointerToRawData < byOffset[j].PointerToRawData
	})
	end := int64(0)
	for _, s := range byOffset {
		if int64(s.PointerToRawData) < end {
			return formatError("section %q at %d overlaps the one before it", sectionName(s), s.PointerToRawData)
		}
		end = int64(s.PointerToRawData) + int64(s.SizeOfRawData)
	}
	return nil
}

func decode(b []byte, v any) error {
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		return formatError("headers are cut short")
	}
	return nil
}

func sectionName(s pe.SectionHeader32) string {
	name, _, _ := bytes.Cut(s.Name[:], []byte{0})
	return string(name)
}
