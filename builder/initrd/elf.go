package initrd

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// An executable is what a program or library says of what it loads.
type executable struct {
	interpreter string   // program loader, an absolute path; "" for a library
	needed      []string // DT_NEEDED
	runpath     []string // DT_RUNPATH, else DT_RPATH
	dlopens     []dlopen
}

// A dlopen is one entry of an ELF note after systemd's "ELF dlopen metadata"
// specification: libraries that are opened while the program runs.
type dlopen struct {
	Feature  string   `json:"feature"`
	Priority string   `json:"priority"` // required, recommended or suggested
	Sonames  []string `json:"soname"`   // the first that is there serves
}

const (
	noteDlopen     = 0x407c0c0a // type of the note
	noteOwner      = "FDO\x00"
	maxNoteSection = 1 << 20
	maxInterpreter = 4096
)

// isELF says whether content begins as an ELF file does.
func isELF(content []byte) bool {
	return bytes.HasPrefix(content, []byte(elf.ELFMAG))
}

// readExecutable reads the dynamic section, the interpreter and the dlopen notes.
// A statically linked program has none of them, which is no error.
func readExecutable(content []byte) (*executable, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("ELF: %w", err)
	}
	defer f.Close()
	b := new(executable)
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_INTERP {
			continue
		}
		if prog.Filesz > maxInterpreter {
			return nil, fmt.Errorf("ELF: a name of the program loader of %d bytes", prog.Filesz)
		}
		name := make([]byte, prog.Filesz)
		if _, err := prog.ReadAt(name, 0); err != nil {
			return nil, fmt.Errorf("ELF: name of the program loader: %w", err)
		}
		b.interpreter = string(bytes.TrimRight(name, "\x00"))
	}
	if b.needed, err = dynamic(f, elf.DT_NEEDED); err != nil {
		return nil, err
	}
	paths, err := dynamic(f, elf.DT_RUNPATH)
	if err == nil && len(paths) == 0 {
		paths, err = dynamic(f, elf.DT_RPATH)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		b.runpath = append(b.runpath, strings.Split(p, ":")...)
	}
	if s := f.Section(".note.dlopen"); s != nil && s.Type == elf.SHT_NOTE {
		if b.dlopens, err = readNotes(f, s); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func dynamic(f *elf.File, tag elf.DynTag) ([]string, error) {
	names, err := f.DynString(tag)
	if err != nil {
		// debug/elf has no other sign for a file without a dynamic section.
		if f.SectionByType(elf.SHT_DYNAMIC) == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("ELF: %v: %w", tag, err)
	}
	return names, nil
}

// readNotes reads the section of notes: each has the lengths of owner and
// description, a type, and both texts padded to 4 bytes.
func readNotes(f *elf.File, s *elf.Section) ([]dlopen, error) {
	if s.Size > maxNoteSection {
		return nil, fmt.Errorf("ELF: dlopen notes of %d bytes", s.Size)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("ELF: dlopen notes: %w", err)
	}
	var all []dlopen
	for len(data) >= 12 {
		owner := uint64(f.ByteOrder.Uint32(data))
		size := uint64(f.ByteOrder.Uint32(data[4:]))
		kind := f.ByteOrder.Uint32(data[8:])
		data = data[12:]
		ownerEnd, end := align4(owner), align4(align4(owner)+size)
		if ownerEnd+size > uint64(len(data)) {
			return nil, errors.New("ELF: dlopen notes: a note is longer than the section")
		}
		if kind == noteDlopen && string(data[:owner]) == noteOwner {
			text := bytes.TrimRight(data[ownerEnd:ownerEnd+size], "\x00")
			var list []dlopen
			if err := json.Unmarshal(text, &list); err != nil {
				return nil, fmt.Errorf("ELF: dlopen notes: %w", err)
			}
			all = append(all, list...)
		}
		data = data[min(end, uint64(len(data))):]
	}
	return all, nil
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
