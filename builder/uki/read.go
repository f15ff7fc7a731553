package uki

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"errors"
	"fmt"
	"io"
)

// ErrNoSection is wrapped by the error for a section that an image lacks.
var ErrNoSection = errors.New("no such section")

// maxText bounds the sections that are read as text, in bytes.
const maxText = 1 << 20

// A Section is one section of an image.
type Section struct {
	Name           string
	Offset         int64  // of the data in the file, in bytes
	Size           int64  // of the contents, in bytes, without the padding in the file
	RawSize        int64  // of the data in the file with its padding, in bytes
	VirtualAddress uint32 // in memory, relative to the image's base
	VirtualSize    uint32 // in memory, in bytes

	r io.ReaderAt
}

// Open returns a reader of the section's contents.
func (s *Section) Open() *io.SectionReader { return io.NewSectionReader(s.r, s.Offset, s.Size) }

// SHA256 digests the section's contents.
func (s *Section) SHA256() ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	h := sha256.New()
	if _, err := io.Copy(h, s.Open()); err != nil {
		return sum, fmt.Errorf("section %s: %w", s.Name, err)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// text returns the contents up to the first NUL.
func (s *Section) text() (string, error) {
	if s.Size > maxText {
		return "", formatError("section %s has %d bytes; %d are the most for a text", s.Name, s.Size, maxText)
	}
	b := make([]byte, s.Size)
	if _, err := io.ReadFull(s.Open(), b); err != nil {
		return "", fmt.Errorf("section %s: %w", s.Name, err)
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b), nil
}

// A File is a unified kernel image, or any other PE32+ image, that was read.
type File struct {
	Arch     string // Debian's name: amd64 or arm64; "" for another machine
	Signed   bool   // there is a table of certificates; nothing is said of their worth
	Sections []Section
}

// Read reads an image's headers. It keeps r, of size bytes, for reading the
// sections' contents later. The error for a file that is no sound image wraps
// [ErrFormat].
func Read(r io.ReaderAt, size int64) (*File, error) {
	h, err := parseHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{Arch: archName(h.file.Machine)}
	_, certificates := h.certificates()
	f.Signed = certificates > 0
	for _, s := range h.sections {
		f.Sections = append(f.Sections, newSection(r, s))
	}
	return f, nil
}

func newSection(r io.ReaderAt, s pe.SectionHeader32) Section {
	return Section{
		Name:           sectionName(s),
		Offset:         int64(s.PointerToRawData),
		Size:           int64(min(s.VirtualSize, s.SizeOfRawData)),
		RawSize:        int64(s.SizeOfRawData),
		VirtualAddress: s.VirtualAddress,
		VirtualSize:    s.VirtualSize,
		r:              r,
	}
}

func archName(machine uint16) string {
	switch machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return "amd64"
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return "arm64"
	}
	return ""
}

// Section returns the first section of that name. The error wraps
// [ErrNoSection].
func (f *File) Section(name string) (*Section, error) {
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			return &f.Sections[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoSection, name)
}

// Text returns the contents of a section of text up to its first NUL. The error
// wraps [ErrNoSection] or [ErrFormat].
func (f *File) Text(name string) (string, error) {
	s, err := f.Section(name)
	if err != nil {
		return "", err
	}
	return s.text()
}

// Cmdline returns the kernel's command line.
func (f *File) Cmdline() (string, error) { return f.Text(".cmdline") }

// OSRelease returns the os-release file.
func (f *File) OSRelease() (string, error) { return f.Text(".osrel") }

// Uname returns the kernel's version.
func (f *File) Uname() (string, error) { return f.Text(".uname") }

// Profile returns the sections that apply when profile n is booted: those before
// the first .profile, and those that profile n has in their place or besides.
// An image without profiles has profile 0.
func (f *File) Profile(n int) ([]Section, error) {
	var base, own []Section
	current := -1
	for _, s := range f.Sections {
		if s.Name == ".profile" {
			current++
		}
		switch current {
		case -1:
			base = append(base, s)
		case n:
			own = append(own, s)
		}
	}
	if n < 0 || n > max(current, 0) {
		return nil, fmt.Errorf("no profile %d: the image has %d", n, max(current, 0)+1)
	}
	replaced := make(map[string]bool, len(own))
	for _, s := range own {
		replaced[s.Name] = true
	}
	sections := own
	for _, s := range base {
		if !replaced[s.Name] {
			sections = append(sections, s)
		}
	}
	return sections, nil
}
