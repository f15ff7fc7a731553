package fs

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/google/uuid"
)

// Where things lie on the disk, in bytes.
const (
	btrfsSuper      = 64 << 10 // the superblock
	btrfsReserved   = 1 << 20  // nothing but it is before this
	btrfsAlign      = 1 << 20  // chunks begin and end at multiples of this
	btrfsSystemSize = 4 << 20
	btrfsDataMost   = 1 << 30   // a chunk of data
	btrfsMetaLeast  = 32 << 20  // a chunk of metadata, if there is room
	btrfsMetaMost   = 256 << 20 // the same, if the files need no more
)

// btrfsMirrors are the places of the superblock's copies, as far as a disk
// reaches to them.
var btrfsMirrors = []int64{64 << 20, 256 << 30}

// btrfsChunk is a range of the disk for contents of one kind. Its address is
// where its first copy lies.
type btrfsChunk struct {
	kind   uint64
	start  int64
	length int64
	used   int64 // from its beginning
	copies []int64
}

// btrfsExtent is a range of contents.
type btrfsExtent struct {
	start, length int64
	inode, offset uint64 // the file, and where in it
}

// btrfsVolume is a disk on which chunks are laid one behind the other.
type btrfsVolume struct {
	disk    io.WriterAt
	options *Btrfs
	end     int64 // of what is taken
	system  btrfsChunk
	data    []btrfsChunk
	extents []btrfsExtent
	crcs    [][]byte // of each chunk's sectors
}

func newBtrfsVolume(disk io.WriterAt, b *Btrfs) *btrfsVolume {
	v := &btrfsVolume{disk: disk, options: b, end: btrfsReserved}
	v.system = btrfsChunk{kind: btrfsSystem | btrfsDup, length: btrfsSystemSize}
	v.place(&v.system, 2)
	return v
}

// derived returns a UUID that is made of the file system's.
func (v *btrfsVolume) derived(what string) uuid.UUID {
	return uuid.NewSHA1(v.options.uuid, []byte("btrfs "+what))
}

// room returns the next free range of the disk that has no copy of the
// superblock in it.
func (v *btrfsVolume) room(least int64) (start, length int64) {
	start, end := v.end, v.options.size/btrfsAlign*btrfsAlign
	for _, m := range btrfsMirrors {
		if start <= m && m-start < least {
			start = max(start, m+btrfsAlign)
		} else if start < m {
			return start, min(m, end) - start
		}
	}
	return start, end - start
}

// place gives a chunk its places on the disk, and tells whether there are any.
func (v *btrfsVolume) place(c *btrfsChunk, copies int) bool {
	was := v.end
	for range copies {
		start, length := v.room(c.length)
		if length < c.length {
			v.end, c.copies = was, nil
			return false
		}
		c.copies = append(c.copies, start)
		v.end = start + c.length
	}
	c.start = c.copies[0]
	return true
}

// store writes at most n bytes of a file's contents into one extent.
func (v *btrfsVolume) store(r io.Reader, n int64, inode, offset uint64) (btrfsExtent, error) {
	last := len(v.data) - 1
	if last < 0 || v.data[last].used == v.data[last].length {
		start, length := v.room(btrfsAlign)
		if length < btrfsAlign {
			return btrfsExtent{}, fmt.Errorf("%w: %d bytes are less than the files alone take", ErrNoSpace, v.options.size)
		}
		length = min(length, btrfsDataMost)
		v.data = append(v.data, btrfsChunk{kind: btrfsData, start: start, length: length, copies: []int64{start}})
		v.crcs = append(v.crcs, nil)
		last++
		v.end = start + length
	}
	c := &v.data[last]
	e := btrfsExtent{start: c.start + c.used, inode: inode, offset: offset}
	sector := make([]byte, btrfsSector)
	zeros := make([]byte, btrfsSector)
	for n > 0 && e.length < btrfsExtentMost && c.used < c.length {
		size := min(n, btrfsSector)
		if _, err := io.ReadFull(r, sector[:size]); err != nil {
			return e, err
		}
		clear(sector[size:])
		// The disk is a file of zeros.
		if !bytes.Equal(sector, zeros) {
			if _, err := v.disk.WriteAt(sector, c.start+c.used); err != nil {
				return e, err
			}
		}
		f := fields(v.crcs[last])
		f.u32(crc32.Checksum(sector, castagnoli))
		v.crcs[last] = f
		n, c.used, e.length = n-size, c.used+btrfsSector, e.length+btrfsSector
	}
	v.extents = append(v.extents, e)
	return e, nil
}

// finish writes all trees and superblocks, with the items of the subvolume.
func (v *btrfsVolume) finish(files []btrfsItem) error {
	if n := len(v.data); n > 0 {
		// What the last chunk of data does not need is free for others.
		c := &v.data[n-1]
		c.length = (c.used + btrfsAlign - 1) / btrfsAlign * btrfsAlign
		v.end = c.start + c.length
	}
	meta, err := v.metadata(files)
	if err != nil {
		return err
	}
	chunks := slices.Concat([]btrfsChunk{v.system}, v.data, []btrfsChunk{meta})
	t := &btrfsTrees{volume: v, chunks: chunks}
	t.build(files)
	for _, tree := range t.all {
		if err := t.write(tree); err != nil {
			return err
		}
	}
	for _, at := range append([]int64{btrfsSuper}, btrfsMirrors...) {
		if at+btrfsSector > v.options.size {
			break
		}
		if _, err := v.disk.WriteAt(t.superblock(at), at); err != nil {
			return err
		}
	}
	return nil
}

// metadata makes the chunk that the trees go into: as large as they can
// become, and larger where there is room.
func (v *btrfsVolume) metadata(files []btrfsItem) (btrfsChunk, error) {
	size := int64(len(v.extents)) * (btrfsItemSize + 53)
	for _, item := range files {
		size += btrfsItemSize + int64(len(item.data))
	}
	for _, crcs := range v.crcs {
		size += int64(len(crcs)) + int64(len(crcs)/btrfsCRCsMost+1)*btrfsItemSize
	}
	// Two leaves in a row hold more than fits into one; nodes above them and
	// extents of all these blocks add less than a sixteenth.
	need := size*2 + size/8 + 64*btrfsNode
	need = (need + btrfsAlign - 1) / btrfsAlign * btrfsAlign
	tenth := v.options.size / 10 / btrfsAlign * btrfsAlign
	meta := btrfsChunk{kind: btrfsMetadata | btrfsDup}
	for length := max(tenth, btrfsMetaLeast); ; length /= 2 {
		meta.length = max(need, min(length, btrfsMetaMost)/btrfsAlign*btrfsAlign)
		if v.place(&meta, 2) {
			return meta, nil
		}
		if meta.length == need {
			break
		}
	}
	return meta, fmt.Errorf("%w: %d bytes, the files take %d and their metadata up to twice %d", ErrNoSpace, v.options.size, v.end, need)
}
