package xz

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// Sizes in bytes, and magic numbers: sections 2.1 and 3.1 of the format.
const (
	headerMagic = "\xfd7zXZ\x00"
	footerMagic = "YZ"
	headerSize  = 12
	footerSize  = 12

	flagFilters    = 0x03 // the number of filters less one
	flagReserved   = 0x3c
	flagPacked     = 0x40 // the compressed size is there
	flagUnpacked   = 0x80 // the uncompressed size is there
	filterLZMA2    = 0x21
	maxVarintBytes = 9
)

// The kinds of check, section 2.1.1.2.
const (
	checkNone   = 0
	checkCRC32  = 1
	checkCRC64  = 4
	checkSHA256 = 10
)

// filterNames are the filters of section 5.3 and the official ones since.
var filterNames = map[uint64]string{
	0x03: "delta", 0x04: "x86 BCJ", 0x05: "PowerPC BCJ", 0x06: "IA-64 BCJ", 0x07: "ARM BCJ",
	0x08: "ARM-Thumb BCJ", 0x09: "SPARC BCJ", 0x0a: "ARM64 BCJ", 0x0b: "RISC-V BCJ",
}

// newCheck returns the hash of a kind of check, nil for none.
func newCheck(kind byte) (hash.Hash, error) {
	switch kind {
	case checkNone:
		return nil, nil
	case checkCRC32:
		return crc32.NewIEEE(), nil
	case checkCRC64:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case checkSHA256:
		return sha256.New(), nil
	}
	return nil, formatError("a check of kind %d is not known: none, CRC32, CRC64 and SHA-256 are", kind)
}

// sum returns a check as it stands in the file: the CRCs have their lowest
// byte first.
func sum(h hash.Hash, to []byte) []byte {
	switch h := h.(type) {
	case nil:
		return to
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(to, h.Sum32())
	case hash.Hash64:
		return binary.LittleEndian.AppendUint64(to, h.Sum64())
	}
	return h.Sum(to)
}

// checkCRC compares the CRC32 of b with the one stored.
func checkCRC(b, stored []byte, part string) error {
	if crc32.ChecksumIEEE(b) != binary.LittleEndian.Uint32(stored) {
		return formatError("the checksum of %s is wrong", part)
	}
	return nil
}

// parseFlags returns the kind of check of the two bytes of stream flags.
func parseFlags(b []byte) (byte, error) {
	if b[0] != 0 || b[1]&0xf0 != 0 {
		return 0, formatError("stream flags %#02x%02x are not known", b[0], b[1])
	}
	return b[1], nil
}

// varint reads a multibyte integer, section 1.2, from the front of b and
// returns the number of bytes.
func varint(b []byte) (uint64, int, error) {
	var v uint64
	for i, c := range b[:min(len(b), maxVarintBytes)] {
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break
			}
			return v, i + 1, nil
		}
	}
	return 0, 0, formatError("a number is badly encoded")
}

// blockHeader is what the header of a block says, sizes in bytes, -1 where it
// does not.
type blockHeader struct {
	packed, unpacked int64
	dictSize         uint32
}

// parseBlockHeader reads a header between its size and its checksum.
func parseBlockHeader(b []byte) (blockHeader, error) {
	h := blockHeader{packed: -1, unpacked: -1}
	flags := b[0]
	b = b[1:]
	if flags&flagReserved != 0 {
		return h, formatError("block flags %#02x are not known", flags)
	}
	next := func() (v uint64, err error) {
		v, n, err := varint(b)
		b = b[n:]
		return v, err
	}
	if flags&flagPacked != 0 {
		v, err := next()
		if err != nil {
			return h, err
		}
		if v == 0 {
			return h, formatError("a block of no compressed bytes")
		}
		h.packed = int64(v)
	}
	if flags&flagUnpacked != 0 {
		v, err := next()
		if err != nil {
			return h, err
		}
		h.unpacked = int64(v)
	}
	for range flags&flagFilters + 1 {
		id, err := next()
		if err != nil {
			return h, err
		}
		size, err := next()
		if err != nil {
			return h, err
		}
		switch {
		case id != filterLZMA2:
			name, ok := filterNames[id]
			if !ok {
				name = fmt.Sprintf("%#x", id)
			}
			return h, fmt.Errorf("%w %s is not read: LZMA2 alone is", ErrFilter, name)
		case flags&flagFilters != 0:
			return h, formatError("filters after LZMA2, which must be the last")
		case size != 1 || len(b) == 0:
			return h, formatError("LZMA2 with %d bytes of properties", size)
		}
		if h.dictSize, err = dictionary(b[0]); err != nil {
			return h, err
		}
		b = b[1:]
	}
	for _, c := range b {
		if c != 0 {
			return h, formatError("the padding of a block header is not zero")
		}
	}
	return h, nil
}

// dictionary returns the size in bytes that LZMA2's property byte stands for,
// section 5.3.1.
func dictionary(b byte) (uint32, error) {
	switch {
	case b > 40:
		return 0, formatError("a dictionary size coded %#02x", b)
	case b == 40:
		return 1<<32 - 1, nil
	}
	return (2 | uint32(b&1)) << (b/2 + 11), nil
}
