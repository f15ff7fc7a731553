package btrfs

import (
	"archive/tar"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
	"golang.org/x/sys/unix"
)

// Sizes in bytes (btrfs documentation, "On-disk Format").
const (
	sectorSize = 4096
	nodeSize   = 16384
	headerSize = 101
	itemSize   = 25
	ptrSize    = 33
	dirSize    = 30
	rootSize   = 439
	leafRoom   = nodeSize - headerSize
	maxName    = 255  // the longest name
	maxInline  = 2048 // the largest file that is kept in a leaf
	maxExtent  = 128 << 20
	maxCRCs    = 1024 // checksums in an item
)

// Object ids.
const (
	rootTree      = 1
	extentTree    = 2
	chunkTree     = 3
	devTree       = 4
	fsTree        = 5
	rootTreeDir   = 6
	crcTree       = 7
	uuidTree      = 9
	freeSpaceTree = 10
	devObject     = 1
	firstChunk    = 256
	firstFree     = 256
	crcObject     = 1<<64 - 10
	relocTree     = 1<<64 - 9
	firstIndex    = 2 // of a name in a directory
)

// Types of items.
const (
	kindInodeItem       = 1
	kindInodeRef        = 12
	kindXattrItem       = 24
	kindDirItem         = 84
	kindDirIndex        = 96
	kindExtentData      = 108
	kindExtentCRC       = 128
	kindRootItem        = 132
	kindExtentItem      = 168
	kindMetadataItem    = 169
	kindTreeBlockRef    = 176
	kindExtentDataRef   = 178
	kindGroupItem       = 192
	kindFreeSpaceInfo   = 198
	kindFreeSpaceExtent = 199
	kindDevExtent       = 204
	kindDevItem         = 216
	kindChunkItem       = 228
	kindSubvolKey       = 251
)

// Flags.
const (
	chunkData        = 1 << 0 // of a chunk
	chunkSystem      = 1 << 1
	chunkMetadata    = 1 << 2
	chunkDup         = 1 << 5
	extentIsData     = 1 << 0 // of an extent
	extentIsTree     = 1 << 1
	headerWritten    = 1 << 0                     // of a header
	headerBackrefRev = 1 << 56                    // of a header: revision 1 of back references
	roFeatures       = 0x3                        // FREE_SPACE_TREE, FREE_SPACE_TREE_VALID
	features         = 0x1 | 0x40 | 0x100 | 0x200 // MIXED_BACKREF, EXTENDED_IREF, SKINNY_METADATA, NO_HOLES
)

// generation is the one transaction that a file system is made in.
const generation = 1

// typeXattr is a directory entry's type for an extended attribute.
const typeXattr = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// nameHash returns the hash of a name: CRC-32C with the seed ^1 and not
// inverted at the end.
func nameHash(name string) uint64 {
	return uint64(^crc32.Update(1, castagnoli, []byte(name)))
}

// key is a key of all trees.
type key struct {
	object uint64
	kind   byte
	offset uint64
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.kind, o.kind), cmp.Compare(k.offset, o.offset))
}

// item is a key and what is kept under it.
type item struct {
	key  key
	data []byte
}

func (i item) compare(o item) int { return i.key.compare(o.key) }

// fields is a record of little-endian fields that is being written.
type fields []byte

func (f *fields) u8(v ...byte) { *f = append(*f, v...) }
func (f *fields) u16(v uint16) { *f = binary.LittleEndian.AppendUint16(*f, v) }
func (f *fields) u32(v ...uint32) {
	for _, n := range v {
		*f = binary.LittleEndian.AppendUint32(*f, n)
	}
}
func (f *fields) u64(v ...uint64) {
	for _, n := range v {
		*f = binary.LittleEndian.AppendUint64(*f, n)
	}
}
func (f *fields) zeros(n int)   { *f = append(*f, make([]byte, n)...) }
func (f *fields) text(s string) { *f = append(*f, s...) }
func (f *fields) key(k key) {
	f.u64(k.object)
	f.u8(k.kind)
	f.u64(k.offset)
}
func (f *fields) time(t time.Time) {
	f.u64(uint64(t.Unix()))
	f.u32(uint32(t.Nanosecond()))
}

// nameRef is a file's note of a name of it.
func nameRef(index uint64, name string) []byte {
	var f fields
	f.u64(index)
	f.u16(uint16(len(name)))
	f.text(name)
	return f
}

// dirEntry is a name in a directory, or an extended attribute.
func dirEntry(at key, kind byte, name string, value []byte) []byte {
	var f fields
	f.key(at)
	f.u64(generation)
	f.u16(uint16(len(value)))
	f.u16(uint16(len(name)))
	f.u8(kind)
	f.text(name)
	f.u8(value...)
	return f
}

// entryType returns the type of a directory entry.
func entryType(flag byte) byte {
	switch flag {
	case tar.TypeDir:
		return 2
	case tar.TypeChar:
		return 3
	case tar.TypeBlock:
		return 4
	case tar.TypeFifo:
		return 5
	case tar.TypeSymlink:
		return 7
	}
	return 1
}

// inlineExtent is contents that lie in a leaf.
func inlineExtent(data []byte) []byte {
	var f fields
	f.u64(generation, uint64(len(data)))
	f.zeros(5)
	f.u8(data...)
	return f
}

// regularExtent is contents that lie in an extent.
func regularExtent(e extent) []byte {
	var f fields
	n := uint64(e.length)
	f.u64(generation, n)
	f.zeros(4)
	f.u8(1)
	f.u64(uint64(e.start), n, 0, n)
	return f
}

func inodeData(i *inode) []byte {
	h := i.header
	device := uint64(0)
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		device = uint64(h.Devmajor)<<20 | uint64(h.Devminor)
	}
	return inodeFields(i.size, i.bytes, i.links, uint32(h.Uid), uint32(h.Gid), member.Mode(h), device, h.ModTime)
}

func inodeFields(size, bytes uint64, links, uid, gid, mode uint32, device uint64, at time.Time) []byte {
	var f fields
	f.u64(generation, generation, size, bytes, 0)
	f.u32(links, uid, gid, mode)
	f.u64(device, 0, 0)
	f.zeros(4 * 8)
	for range 4 { // access, change, modification, creation
		f.time(at)
	}
	return f
}

// emptyDir is the inode of an empty directory of the file system's own.
func emptyDir(at time.Time) []byte {
	return inodeFields(0, nodeSize, 1, 0, 0, unix.S_IFDIR|0o755, 0, at)
}
