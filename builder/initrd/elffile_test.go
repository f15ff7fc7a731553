package initrd

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// An elfSpec says what a composed ELF file of 64 bits has.
type elfSpec struct {
	interpreter string
	needed      []string
	runpath     string
	dlopen      string // JSON of one dlopen note
	modinfo     string // contents of the section .modinfo
}

// elfFile composes a file as far as its readers look: a header, the section
// table, and a program header for the interpreter.
func elfFile(s elfSpec) []byte {
	type section struct {
		name string
		elf.Section64
		data []byte
	}
	sections := []section{{}}
	add := func(name string, kind elf.SectionType, link uint32, data []byte) {
		sections = append(sections, section{name, elf.Section64{Type: uint32(kind), Link: link}, data})
	}
	if len(s.needed) > 0 || s.runpath != "" {
		strtab, dyn := []byte{0}, new(bytes.Buffer)
		tag := func(tag elf.DynTag, name string) {
			binary.Write(dyn, binary.LittleEndian, elf.Dyn64{Tag: int64(tag), Val: uint64(len(strtab))})
			strtab = append(append(strtab, name...), 0)
		}
		for _, name := range s.needed {
			tag(elf.DT_NEEDED, name)
		}
		if s.runpath != "" {
			tag(elf.DT_RUNPATH, s.runpath)
		}
		binary.Write(dyn, binary.LittleEndian, elf.Dyn64{})
		add(".dynamic", elf.SHT_DYNAMIC, 2, dyn.Bytes())
		add(".dynstr", elf.SHT_STRTAB, 0, strtab)
	}
	if s.dlopen != "" {
		note := new(bytes.Buffer)
		binary.Write(note, binary.LittleEndian, []uint32{4, uint32(len(s.dlopen) + 1), noteDlopen})
		note.WriteString(noteOwner + s.dlopen + "\x00")
		note.Write(make([]byte, (4-note.Len()%4)%4))
		add(".note.dlopen", elf.SHT_NOTE, 0, note.Bytes())
	}
	if s.modinfo != "" {
		add(".modinfo", elf.SHT_PROGBITS, 0, []byte(s.modinfo))
	}
	names := []byte{0}
	add(".shstrtab", elf.SHT_STRTAB, 0, nil)
	for i := range sections {
		sections[i].Name = uint32(len(names))
		names = append(append(names, sections[i].name...), 0)
	}
	sections[len(sections)-1].data = names

	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: 64, Phentsize: 56, Shentsize: 64,
		Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	body, start := new(bytes.Buffer), uint64(64)
	var prog []elf.Prog64
	if s.interpreter != "" {
		start += 56
		size := uint64(len(s.interpreter) + 1)
		prog = append(prog, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: start, Filesz: size, Memsz: size})
		h.Phoff, h.Phnum = 64, 1
		body.WriteString(s.interpreter + "\x00")
	}
	for i := range sections[1:] {
		sec := &sections[i+1]
		sec.Off, sec.Size = start+uint64(body.Len()), uint64(len(sec.data))
		body.Write(sec.data)
	}
	h.Shoff = start + uint64(body.Len())
	out := new(bytes.Buffer)
	binary.Write(out, binary.LittleEndian, h)
	binary.Write(out, binary.LittleEndian, prog)
	out.Write(body.Bytes())
	for _, sec := range sections {
		binary.Write(out, binary.LittleEndian, sec.Section64)
	}
	return out.Bytes()
}
