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

// assemble lays out the stub with sections added and its .sbat replaced.
func assemble(stub Content, h, kernel *header, sections []section, sbat string) (*Image, error) {
	if _, size := h.certificates(); size > 0 {
		return nil, errors.New("the stub is signed: take the unsigned one, adding sections would break the signature")
	}
	if h.optional.DataDirectory[directoryDebug].Size > 0 {
		return nil, errors.New("the stub has a debug directory: strip it")
	}
	inPlace, err := runsInPlace(stub, h)
	if err != nil {
		return nil, err
	}
	a := &assembly{header: h, optional: h.optional, file: h.file}
	if !a.addStub(stub, sbat) {
		sections = append(sections, section{".sbat", strings.NewReader(sbat)})
	}
	for _, s := range sections {
		room := int64(0)
		if inPlace && s.name == ".linux" {
			room = int64(kernel.optional.SizeOfImage)
		}
		if err := a.add(s, room); err != nil {
			return nil, err
		}
	}
	// A kernel that can't do with memory protections must not be in an image
	// that says it can.
	a.optional.DllCharacteristics &^= ^kernel.optional.DllCharacteristics & dllNXCompat
	return a.finish()
}

// runsInPlace says whether the stub is one that jumps into the kernel where it
// lies in memory: those older than 252, which say their version in .sdmagic or,
// still older, have no such section. The kernel zeroes its own data behind
// itself then: an initrd that lay there would be lost.
func runsInPlace(stub Content, h *header) (bool, error) {
	for _, raw := range h.sections {
		s := newSection(stub, raw)
		if s.Name != ".sdmagic" {
			continue
		}
		text, err := s.text()
		if err != nil {
			return false, fmt.Errorf("stub: %w", err)
		}
		var version int
		if _, err := fmt.Sscanf(text, "#### LoaderInfo: systemd-stub %d", &version); err == nil {
			return version < 252, nil
		}
	}
	return true, nil
}

// An assembly is an image in the making: headers and data by section.
type assembly struct {
	header   *header
	file     pe.FileHeader
	optional pe.OptionalHeader64
	sections []pe.SectionHeader32
	contents []Content
	end      uint64 // the first free address in memory
}

// addStub takes over the stub's sections, each with its address; only .sbat gets
// other contents. It returns false when .sbat is still to be added: no code
// refers to it, so one that has no room to grow, as in stubs older than 254, is
// left out here.
func (a *assembly) addStub(stub Content, sbat string) bool {
	replaced := false
	for _, s := range a.header.sections {
		var c Content = io.NewSectionReader(stub, int64(s.PointerToRawData), int64(s.SizeOfRawData))
		if sectionName(s) == ".sbat" {
			if replaced || uint64(len(sbat)) > a.roomFor(s) {
				continue
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
		a.end = max(a.end, uint64(s.VirtualAddress)+uint64(s.VirtualSize))
	}
	return replaced
}

// roomFor returns how large a section of the stub can be before it meets the
// next one in memory.
func (a *assembly) roomFor(s pe.SectionHeader32) uint64 {
	end := uint64(math.MaxUint32)
	for _, other := range a.header.sections {
		if other.VirtualAddress > s.VirtualAddress {
			end = min(end, uint64(other.VirtualAddress))
		}
	}
	return end - uint64(s.VirtualAddress)
}

// add appends a section behind all others in memory, with room bytes at least
// until the next one.
func (a *assembly) add(s section, room int64) error {
	start := roundUp(a.end, uint64(a.optional.SectionAlignment))
	size := s.content.Size()
	if uint64(max(size, room)) > math.MaxUint32-min(start, math.MaxUint32) {
		return fmt.Errorf("section %s: the image passes 4 GiB", s.name)
	}
	sh := pe.SectionHeader32{
		VirtualSize:     uint32(size),
		VirtualAddress:  uint32(start),
		Characteristics: sectionMemoryRead | sectionInitialized,
	}
	if s.name == ".linux" {
		// Old stubs run the kernel in its place.
		sh.Characteristics = sectionMemoryRead | sectionCode
	}
	copy(sh.Name[:], s.name)
	a.sections = append(a.sections, sh)
	a.contents = append(a.contents, s.content)
	a.optional.SizeOfInitializedData += sh.VirtualSize
	a.end = start + uint64(max(size, room))
	return nil
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
	a.optional.SizeOfImage = uint32(roundUp(a.end, uint64(a.optional.SectionAlignment)))
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
