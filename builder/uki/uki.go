package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// maxCmdline is COMMAND_LINE_SIZE of x86 and arm64, in bytes with the final NUL:
// the kernel cuts what is longer without a word.
const maxCmdline = 2048

// A UKI says what goes into a unified kernel image. Stub and Linux must be
// given; a section whose field is empty is left out.
type UKI struct {
	Stub   Content   // systemd's linux*.efi.stub, unsigned
	Linux  Content   // a kernel with an EFI entry; one compressed by gzip or zstd is decompressed
	Initrd []Content // cpio archives, compressed or not, in the kernel's order

	OSRelease string // the os-release file
	Cmdline   string // at most 2047 bytes
	Uname     string // the kernel's version; "" takes it from Linux (see KernelVersion)
	SBAT      string // revocation lines without a header; "" is systemd's line for UKIs

	Microcode  Content // an uncompressed cpio archive
	Splash     Content // a BMP picture
	DeviceTree Content
	PCRPKey    []byte // PEM: the public key that PCRSig is signed with
	PCRSig     []byte // JSON, of systemd-measure's form
	Profile    string // ID= and TITLE= lines
}

type section struct {
	name    string
	content Content
}

// Build writes the image to w.
func (u *UKI) Build(w io.Writer) error {
	img, err := u.Layout()
	if err != nil {
		return err
	}
	_, err = img.WriteTo(w)
	return err
}

// Layout lays the image out without reading more than headers (and a compressed
// kernel). The same input gives the same bytes: the time stamp is the stub's.
// The error for a stub or a kernel that is no PE32+ image wraps [ErrFormat].
func (u *UKI) Layout() (*Image, error) {
	if u.Stub == nil || u.Linux == nil {
		return nil, errors.New("uki: a stub and a kernel are needed")
	}
	stub, err := parseHeader(u.Stub, u.Stub.Size())
	if err != nil {
		return nil, fmt.Errorf("uki: stub: %w", err)
	}
	linux, err := openKernel(u.Linux)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	kernel, err := parseHeader(linux, linux.Size())
	if err != nil {
		return nil, fmt.Errorf("uki: kernel: %w", err)
	}
	if stub.file.Machine != kernel.file.Machine {
		return nil, fmt.Errorf("uki: the stub is for machine %#x, the kernel for %#x: take both of one architecture",
			stub.file.Machine, kernel.file.Machine)
	}
	sections, err := u.sections(linux)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	sbat, err := u.sbat(stub, linux, kernel)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	img, err := assemble(u.Stub, stub, kernel, sections, sbat)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	return img, nil
}

// sections lists what is added to the stub but .sbat, in ukify's order.
func (u *UKI) sections(linux Content) ([]section, error) {
	if len(u.Cmdline) >= maxCmdline {
		return nil, fmt.Errorf("the command line has %d bytes; the kernel takes %d", len(u.Cmdline), maxCmdline-1)
	}
	if strings.ContainsAny(u.Cmdline, "\x00\n") {
		return nil, errors.New("the command line has a NUL or a line break in it")
	}
	uname := u.Uname
	if uname == "" {
		var err error
		if uname, err = KernelVersion(linux); err != nil {
			return nil, err
		}
	}
	all := []section{
		{".osrel", strings.NewReader(u.OSRelease)},
		{".cmdline", strings.NewReader(u.Cmdline)},
		{".dtb", u.DeviceTree},
		{".uname", strings.NewReader(uname)},
		{".splash", u.Splash},
		{".pcrpkey", bytes.NewReader(u.PCRPKey)},
		{".linux", linux},
		{".initrd", joinInitrds(u.Initrd)},
		{".ucode", u.Microcode},
		// The profile is the last that is measured, so that what precedes it
		// is shared by all profiles; its signature is not.
		{".profile", strings.NewReader(u.Profile)},
		{".pcrsig", bytes.NewReader(u.PCRSig)},
	}
	var sections []section
	for _, s := range all {
		if s.content != nil && s.content.Size() > 0 {
			sections = append(sections, s)
		}
	}
	return sections, nil
}

// joinInitrds puts archives behind each other, each but the last padded to 4
// bytes: the kernel looks for the next one there.
func joinInitrds(initrds []Content) Content {
	if len(initrds) == 1 {
		return initrds[0]
	}
	img := &Image{}
	for _, c := range initrds {
		img.append(c, c.Size(), 4)
	}
	return img
}

// sbat merges the .sbat sections of the stub and the kernel with the image's.
func (u *UKI) sbat(stub *header, linux Content, kernel *header) (string, error) {
	own, err := sbatOf(u.Stub, stub)
	if err != nil {
		return "", fmt.Errorf("stub: %w", err)
	}
	kernels, err := sbatOf(linux, kernel)
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	return mergeSBAT(own, kernels, u.SBAT)
}

func sbatOf(r io.ReaderAt, h *header) (string, error) {
	for _, raw := range h.sections {
		if s := newSection(r, raw); s.Name == ".sbat" {
			return s.text()
		}
	}
	return "", nil
}

// assemble lays out the stub with sections added and its .sbat replaced.
func assemble(stub Content, h, kernel *header, sections []section, sbat string) (*Image, error) {
	if _, size := h.certificates(); size > 0 {
		return nil, errors.New("the stub is signed: take the unsigned one, adding sections would break the signature")
	}
	if h.optional.DataDirectory[directoryDebug].Size > 0 {
		return nil, errors.New("the stub has a debug directory: strip it")
	}
	a := &assembly{header: h, optional: h.optional, file: h.file}
	replaced, err := a.addStub(stub, sbat)
	if err != nil {
		return nil, err
	}
	if !replaced {
		sections = append(sections, section{".sbat", strings.NewReader(sbat)})
	}
	for _, s := range sections {
		if err := a.add(s); err != nil {
			return nil, err
		}
	}
	// A kernel that can't do with memory protections must not be in an image
	// that says it can.
	a.optional.DllCharacteristics &^= ^kernel.optional.DllCharacteristics & dllNXCompat
	return a.finish()
}

// An assembly is an image in the making: headers and data by section.
type assembly struct {
	header   *header
	file     pe.FileHeader
	optional pe.OptionalHeader64
	sections []pe.SectionHeader32
	contents []Content
}

// addStub takes over the stub's sections, each with its address; only .sbat gets
// other contents. It says whether there was one.
func (a *assembly) addStub(stub Content, sbat string) (bool, error) {
	replaced := false
	for i, s := range a.header.sections {
		var c Content = io.NewSectionReader(stub, int64(s.PointerToRawData), int64(s.SizeOfRawData))
		if sectionName(s) == ".sbat" {
			limit := uint32(math.MaxUint32)
			if i+1 < len(a.header.sections) {
				limit = a.header.sections[i+1].VirtualAddress
			}
			if uint64(s.VirtualAddress)+uint64(len(sbat)) > uint64(limit) {
				return false, fmt.Errorf(".sbat: %d bytes do not fit between the stub's sections: fewer lines are needed", len(sbat))
			}
			c = strings.NewReader(sbat)
			s.VirtualSize = uint32(len(sbat))
			replaced = true
		}
		// Line numbers and relocations of object files have no place in an image.
		s.PointerToRelocations, s.PointerToLineNumbers = 0, 0
		s.NumberOfRelocations, s.NumberOfLineNumbers = 0, 0
		a.sections = append(a.sections, s)
		a.contents = append(a.contents, c)
	}
	return replaced, nil
}

// add appends a section behind all others in memory.
func (a *assembly) add(s section) error {
	end := a.memoryEnd()
	size := s.content.Size()
	if uint64(size) > math.MaxUint32-end {
		return fmt.Errorf("section %s: the image passes 4 GiB", s.name)
	}
	sh := pe.SectionHeader32{
		VirtualSize:     uint32(size),
		VirtualAddress:  uint32(end),
		Characteristics: sectionMemoryRead | sectionInitialized,
	}
	if s.name == ".linux" {
		// Stubs older than 252 run the kernel in its place.
		sh.Characteristics = sectionMemoryRead | sectionCode
	}
	copy(sh.Name[:], s.name)
	a.sections = append(a.sections, sh)
	a.contents = append(a.contents, s.content)
	a.optional.SizeOfInitializedData += sh.VirtualSize
	return nil
}

// memoryEnd returns the first free address behind the sections so far.
func (a *assembly) memoryEnd() uint64 {
	end := uint64(0)
	for _, s := range a.sections {
		end = max(end, uint64(s.VirtualAddress)+uint64(s.VirtualSize))
	}
	return roundUp(end, uint64(a.optional.SectionAlignment))
}

// finish places the sections' data in the file and encodes the headers.
func (a *assembly) finish() (*Image, error) {
	align := uint64(a.optional.FileAlignment)
	tableOffset := a.header.tableOffset()
	tableEnd := tableOffset + len(a.sections)*sectionHeaderSize
	headers := max(roundUp(uint64(tableEnd), align), roundUp(uint64(a.optional.SizeOfHeaders), align))
	for _, s := range a.sections {
		if uint64(s.VirtualAddress) < headers {
			return nil, fmt.Errorf("no room for %d section headers before the stub's section at %#x",
				len(a.sections), s.VirtualAddress)
		}
	}

	img := &Image{}
	raw := make([]byte, headers)
	img.append(bytes.NewReader(raw), int64(headers), int64(align))
	for i, c := range a.contents {
		size := c.Size()
		a.sections[i].PointerToRawData = uint32(img.size)
		a.sections[i].SizeOfRawData = uint32(roundUp(uint64(size), align))
		if size == 0 {
			a.sections[i].PointerToRawData = 0
		}
		img.append(c, size, int64(align))
	}
	if img.size > math.MaxUint32 {
		return nil, errors.New("the image passes 4 GiB")
	}

	copy(raw, a.header.raw[:tableOffset])
	a.file.NumberOfSections = uint16(len(a.sections))
	// Old stubs carry a symbol table behind their sections: it stays out.
	a.file.PointerToSymbolTable, a.file.NumberOfSymbols = 0, 0
	a.file.Characteristics |= fileLocalSymsAbsent
	a.optional.SizeOfHeaders = uint32(headers)
	a.optional.SizeOfImage = uint32(a.memoryEnd())
	a.optional.CheckSum = 0
	return img, a.encode(raw, tableOffset)
}

func (a *assembly) encode(raw []byte, tableOffset int) error {
	directories := int(min(a.optional.NumberOfRvaAndSizes, 16))
	optional := make([]byte, optionalHeaderSize)
	if _, err := binary.Encode(optional, binary.LittleEndian, &a.optional); err != nil {
		return err
	}
	copy(raw[a.header.optionalOffset():], optional[:optionalFixedSize+directories*directorySize])
	if _, err := binary.Encode(raw[a.header.peOffset+4:], binary.LittleEndian, &a.file); err != nil {
		return err
	}
	_, err := binary.Encode(raw[tableOffset:], binary.LittleEndian, a.sections)
	return err
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
