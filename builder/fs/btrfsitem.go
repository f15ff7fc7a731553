package fs

import (
	"archive/tar"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes in bytes (btrfs documentation, "On-disk Format").
const (
	btrfsSector     = 4096
	btrfsNode       = 16384
	btrfsHeaderSize = 101
	btrfsItemSize   = 25
	btrfsPtrSize    = 33
	btrfsDirSize    = 30
	btrfsRootSize   = 439
	btrfsLeafRoom   = btrfsNode - btrfsHeaderSize
	btrfsName       = 255  // the longest name
	btrfsInlineMost = 2048 // the largest file that is kept in a leaf
	btrfsExtentMost = 128 << 20
	btrfsCRCsMost   = 1024 // checksums in an item
)

// Object ids.
const (
	btrfsRootTree      = 1
	btrfsExtentTree    = 2
	btrfsChunkTree     = 3
	btrfsDevTree       = 4
	btrfsFSTree        = 5
	btrfsRootTreeDir   = 6
	btrfsCRCTree       = 7
	btrfsUUIDTree      = 9
	btrfsFreeSpaceTree = 10
	btrfsDevItems      = 1
	btrfsFirstChunk    = 256
	btrfsFirstFree     = 256
	btrfsCRCs          = 1<<64 - 10
	btrfsRelocTree     = 1<<64 - 9
	btrfsFirstIndex    = 2 // of a name in a directory
)

// Types of items.
const (
	btrfsInodeItem       = 1
	btrfsInodeRef        = 12
	btrfsXattrItem       = 24
	btrfsDirItem         = 84
	btrfsDirIndex        = 96
	btrfsExtentData      = 108
	btrfsExtentCRC       = 128
	btrfsRootItem        = 132
	btrfsExtentItem      = 168
	btrfsMetadataItem    = 169
	btrfsTreeBlockRef    = 176
	btrfsExtentDataRef   = 178
	btrfsGroupItem       = 192
	btrfsFreeSpaceInfo   = 198
	btrfsFreeSpaceExtent = 199
	btrfsDevExtent       = 204
	btrfsDevItem         = 216
	btrfsChunkItem       = 228
	btrfsSubvolKey       = 251
)

// Flags.
const (
	btrfsData         = 1 << 0 // of a chunk
	btrfsSystem       = 1 << 1
	btrfsMetadata     = 1 << 2
	btrfsDup          = 1 << 5
	btrfsExtentIsData = 1 << 0 // of an extent
	btrfsExtentIsTree = 1 << 1
	btrfsWritten      = 1 << 0                     // of a header
	btrfsBackrefRev   = 1 << 56                    // of a header: revision 1 of back references
	btrfsROFeatures   = 0x3                        // FREE_SPACE_TREE, FREE_SPACE_TREE_VALID
	btrfsFeatures     = 0x1 | 0x40 | 0x100 | 0x200 // MIXED_BACKREF, EXTENDED_IREF, SKINNY_METADATA, NO_HOLES
)

// btrfsGeneration is the one transaction that a file system is made in.
const btrfsGeneration = 1

// btrfsTypeXattr is a directory entry's type for an extended attribute.
const btrfsTypeXattr = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// btrfsHash returns the hash of a name: CRC-32C with the seed ^1 and not
// inverted at the end.
func btrfsHash(name string) uint64 {
	return uint64(^crc32.Update(1, castagnoli, []byte(name)))
}

// btrfsKey is a key of all trees.
type btrfsKey struct {
	object uint64
	kind   byte
	offset uint64
}

func (k btrfsKey) compare(o btrfsKey) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.kind, o.kind), cmp.Compare(k.offset, o.offset))
}

// btrfsItem is a key and what is kept under it.
type btrfsItem struct {
	key  btrfsKey
	data []byte
}

func (i btrfsItem) compare(o btrfsItem) int { return i.key.compare(o.key) }

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
func (f *fields) key(k btrfsKey) {
	f.u64(k.object)
	f.u8(k.kind)
	f.u64(k.offset)
}
func (f *fields) time(t time.Time) {
	f.u64(uint64(t.Unix()))
	f.u32(uint32(t.Nanosecond()))
}

// btrfsRef is a file's note of a name of it.
func btrfsRef(index uint64, name string) []byte {
	var f fields
	f.u64(index)
	f.u16(uint16(len(name)))
	f.text(name)
	return f
}

// btrfsDirEntry is a name in a directory, or an extended attribute.
func btrfsDirEntry(at btrfsKey, kind byte, name string, value []byte) []byte {
	var f fields
	f.key(at)
	f.u64(btrfsGeneration)
	f.u16(uint16(len(value)))
	f.u16(uint16(len(name)))
	f.u8(kind)
	f.text(name)
	f.u8(value...)
	return f
}

// btrfsType returns the type of a directory entry.
func btrfsType(flag byte) byte {
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

// btrfsInline is contents that lie in a leaf.
func btrfsInline(data []byte) []byte {
	var f fields
	f.u64(btrfsGeneration, uint64(len(data)))
	f.zeros(5)
	f.u8(data...)
	return f
}

// btrfsRegular is contents that lie in an extent.
func btrfsRegular(e btrfsExtent) []byte {
	var f fields
	n := uint64(e.length)
	f.u64(btrfsGeneration, n)
	f.zeros(4)
	f.u8(1)
	f.u64(uint64(e.start), n, 0, n)
	return f
}

func btrfsInodeData(i *btrfsInode) []byte {
	h := i.header
	device := uint64(0)
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		device = uint64(h.Devmajor)<<20 | uint64(h.Devminor)
	}
	return btrfsInodeFields(i.size, i.bytes, i.links, uint32(h.Uid), uint32(h.Gid), uint32(typeBits(h.Typeflag)|h.Mode&0o7777), device, h.ModTime)
}

func btrfsInodeFields(size, bytes uint64, links, uid, gid, mode uint32, device uint64, at time.Time) []byte {
	var f fields
	f.u64(btrfsGeneration, btrfsGeneration, size, bytes, 0)
	f.u32(links, uid, gid, mode)
	f.u64(device, 0, 0)
	f.zeros(4 * 8)
	for range 4 { // access, change, modification, creation
		f.time(at)
	}
	return f
}

// btrfsDirectory is the inode of an empty directory of the file system's own.
func btrfsDirectory(at time.Time) []byte {
	return btrfsInodeFields(0, btrfsNode, 1, 0, 0, unix.S_IFDIR|0o755, 0, at)
}
