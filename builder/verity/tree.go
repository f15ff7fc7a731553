package verity

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

const (
	digestSize = sha256.Size
	fanout     = BlockSize / digestSize // digests in a hash block
	unitSize   = fanout * BlockSize     // bytes of data below one hash block
)

// level is one level of the tree on the hash device.
type level struct {
	blocks int64 // hash blocks in it
	offset int64 // bytes from the beginning of the hash device
}

// levels lays out the tree over a number of data blocks. Level 0 is the one
// right above the data, and the last one lies first on the device. A single
// data block has no levels. size is the hash device's, in bytes.
func levels(dataBlocks int64) (ls []level, size int64) {
	for n := dataBlocks; n > 1; {
		n = (n + fanout - 1) / fanout
		ls = append(ls, level{blocks: n})
	}
	size = BlockSize
	for i := len(ls) - 1; i >= 0; i-- {
		ls[i].offset = size
		size += ls[i].blocks * BlockSize
	}
	return ls, size
}

// HashSize returns the size in bytes of the hash device, superblock included,
// for a data device of that size in bytes.
func HashSize(dataSize int64) int64 {
	_, size := levels((dataSize + BlockSize - 1) / BlockSize)
	return size
}

var zeroBlock [BlockSize]byte

// hasher computes digests of blocks. It is for one goroutine.
type hasher struct {
	h    hash.Hash
	salt []byte
	zero []byte // the digest of a block of zeros
}

func newHasher(salt []byte) *hasher {
	h := &hasher{h: sha256.New(), salt: salt}
	h.zero = h.sum(nil, zeroBlock[:])
	return h
}

func (h *hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	h.h.Write(h.salt)
	h.h.Write(block)
	return h.h.Sum(dst)
}

// block appends the digest of a block to dst. Images have long runs of zeros,
// which are found far faster than they are hashed.
func (h *hasher) block(dst, block []byte) []byte {
	if block[0] == 0 && block[BlockSize-1] == 0 && bytes.Equal(block, zeroBlock[:]) {
		return append(dst, h.zero...)
	}
	return h.sum(dst, block)
}

// blocks appends the digests of all blocks of data to dst.
func (h *hasher) blocks(dst, data []byte) []byte {
	for ; len(data) > 0; data = data[BlockSize:] {
		dst = h.block(dst, data[:BlockSize])
	}
	return dst
}
