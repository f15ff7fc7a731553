package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// BlockSize is the size of data and hash blocks in bytes.
const BlockSize = 4096

// The superblock, as cryptsetup's verity on-disk format gives it
// (docs/on-disk-format of cryptsetup, "DM-Verity"). Numbers are little endian.
const (
	superblockSize = 512
	magic          = "verity\x00\x00"

	offVersion       = 8  // u32, 1
	offHashType      = 12 // u32, 1: the salt comes before the data
	offUUID          = 16 // 16 bytes
	offAlgorithm     = 32 // 32 bytes, NUL padded
	offDataBlockSize = 64 // u32, bytes
	offHashBlockSize = 68 // u32, bytes
	offDataBlocks    = 72 // u64
	offSaltSize      = 80 // u16, bytes
	offSalt          = 88 // 256 bytes

	algorithm   = "sha256"
	maxSaltSize = 256
)

// ErrSuperblock says that a hash device has no superblock, or one of a kind
// that this package does not read.
var ErrSuperblock = errors.New("no usable verity superblock")

// Superblock is what the first bytes of a hash device say about the tree.
type Superblock struct {
	UUID       [16]byte
	DataBlocks int64 // blocks of BlockSize
	Salt       []byte
}

// marshal returns the superblock padded to a whole hash block.
func (s *Superblock) marshal() []byte {
	b := make([]byte, BlockSize)
	le := binary.LittleEndian
	copy(b, magic)
	le.PutUint32(b[offVersion:], 1)
	le.PutUint32(b[offHashType:], 1)
	copy(b[offUUID:], s.UUID[:])
	copy(b[offAlgorithm:], algorithm)
	le.PutUint32(b[offDataBlockSize:], BlockSize)
	le.PutUint32(b[offHashBlockSize:], BlockSize)
	le.PutUint64(b[offDataBlocks:], uint64(s.DataBlocks))
	le.PutUint16(b[offSaltSize:], uint16(len(s.Salt)))
	copy(b[offSalt:], s.Salt)
	return b
}

// ParseSuperblock reads the superblock in the first 512 bytes of a hash
// device. Errors match ErrSuperblock.
func ParseSuperblock(b []byte) (*Superblock, error) {
	if len(b) < superblockSize {
		return nil, fmt.Errorf("%w: %d bytes are less than its %d", ErrSuperblock, len(b), superblockSize)
	}
	if string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: the device does not begin with \"verity\"", ErrSuperblock)
	}
	le := binary.LittleEndian
	for _, f := range []struct {
		name      string
		got, want uint32
	}{
		{"version", le.Uint32(b[offVersion:]), 1},
		{"hash type", le.Uint32(b[offHashType:]), 1},
		{"data block size", le.Uint32(b[offDataBlockSize:]), BlockSize},
		{"hash block size", le.Uint32(b[offHashBlockSize:]), BlockSize},
	} {
		if f.got != f.want {
			return nil, fmt.Errorf("%w: its %s is %d, only %d is read here", ErrSuperblock, f.name, f.got, f.want)
		}
	}
	name, _, _ := bytes.Cut(b[offAlgorithm:offDataBlockSize], []byte{0})
	if string(name) != algorithm {
		return nil, fmt.Errorf("%w: its hash algorithm is %q, only %q is read here", ErrSuperblock, name, algorithm)
	}
	blocks := le.Uint64(b[offDataBlocks:])
	if blocks == 0 || blocks > math.MaxInt64/BlockSize {
		return nil, fmt.Errorf("%w: it claims %d data blocks", ErrSuperblock, blocks)
	}
	saltSize := int(le.Uint16(b[offSaltSize:]))
	if saltSize > maxSaltSize {
		return nil, fmt.Errorf("%w: it claims a salt of %d bytes, the most is %d", ErrSuperblock, saltSize, maxSaltSize)
	}
	s := &Superblock{DataBlocks: int64(blocks), Salt: bytes.Clone(b[offSalt : offSalt+saltSize])}
	copy(s.UUID[:], b[offUUID:])
	return s, nil
}
