package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrFormat matches every complaint about the bytes of a package: a wrong
// magic, a size that leads beyond the end, a name that must not be.
var ErrFormat = errors.New("malformed package")

// The common ar format, as deb(5) restricts it.
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arNameEnd    = 16 // name, padded with spaces, perhaps ended by a slash
	arSizeStart  = 48 // size in bytes, decimal
	arSizeEnd    = 58
	arTrailer    = "`\n" // at offset 58

	maxArMembers = 64
)

// A member is one file in the ar archive.
type member struct {
	name   string
	offset int64 // of its first byte, in bytes
	size   int64 // in bytes
}

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// readMembers lists the members of an ar archive of size bytes.
func readMembers(r io.ReaderAt, size int64) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if err := readFullAt(r, magic, 0); err != nil {
		return nil, fmt.Errorf("%w: no ar archive: %w", ErrFormat, err)
	}
	if string(magic) != arMagic {
		return nil, formatError("no ar archive: it begins with %q", magic)
	}
	var members []member
	offset := int64(len(arMagic))
	for offset < size {
		if size-offset < arHeaderSize {
			return nil, formatError("%d stray bytes at offset %d, after the last member", size-offset, offset)
		}
		if len(members) == maxArMembers {
			return nil, formatError("more than %d ar members", maxArMembers)
		}
		m, err := readMember(r, offset)
		if err != nil {
			return nil, err
		}
		if m.size > size-m.offset {
			return nil, formatError("truncated: member %s wants %d bytes, %d are left", m.name, m.size, size-m.offset)
		}
		members = append(members, m)
		offset = m.offset + m.size
		if m.size%2 == 1 && offset < size { // the padding of the last member may be missing
			offset++
		}
	}
	return members, nil
}

func readMember(r io.ReaderAt, offset int64) (member, error) {
	header := make([]byte, arHeaderSize)
	if err := readFullAt(r, header, offset); err != nil {
		return member{}, fmt.Errorf("%w: ar header at offset %d: %w", ErrFormat, offset, err)
	}
	if string(header[arSizeEnd:]) != arTrailer {
		return member{}, formatError("no ar header at offset %d", offset)
	}
	name := strings.TrimSuffix(strings.TrimRight(string(header[:arNameEnd]), " "), "/")
	if name == "" || strings.ContainsAny(name, "/\x00\n") {
		return member{}, formatError("ar member name %q at offset %d", name, offset)
	}
	text := string(bytes.TrimRight(header[arSizeStart:arSizeEnd], " "))
	size, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return member{}, formatError("size %q of ar member %s", text, name)
	}
	return member{name: name, offset: offset + arHeaderSize, size: int64(size)}, nil
}

// readFullAt fills b from offset; a short file is io.ErrUnexpectedEOF.
func readFullAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
