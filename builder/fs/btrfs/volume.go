package btrfs

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/google/uuid"
)

// Where things lie on the disk, in bytes.
const (
	superStart  = 64 << 10 // the superblock
	reserved    = 1 << 20  // nothing but it is before this
	chunkAlign  = 1 << 20  // chunks begin and end at multiples of this
	systemSize  = 4 << 20
	maxData     = 1 << 30   // a chunk of data
	minMetadata = 32 << 20  // a chunk of metadata, if there is room
	maxMetadata = 256 << 20 // the same, if the files need no more
)

// superMirrors are the places of the superblock's copies, as far as a disk
// reaches to them.
var superMirrors = []int64{64 << 20, 256 << 30}

// chunk is a range of the disk for contents of one kind. Its address is
// where its first copy lies.
type chunk struct {
	kind   uint64
	start  int64
	length int64
	used   int64 // from its beginning
	copies []int64
}

// extent is a range of contents.
type extent struct {
	start, length int64
	inode, offset uint64 // the file, and where in it
}

// volume is a disk on which chunks are laid one behind the other.
type volume struct {
	disk    io.WriterAt
	options *Writer
	end     int64 // of what is taken
	system  chunk
	data    []chunk
	extents []extent
	crcs    [][]byte // of each chunk's sectors
}

func newVolume(disk io.WriterAt, b *Writer) *volume {
	v := &volume{disk: disk, options: b, end: reserved}
	v.system = chunk{kind: chunkSystem | chunkDup, length: systemSize}
	v.place(&v.system, 2)
	return v
}

// derived returns a UUID that is made of the file system's.
func (v *volume) derived(what string) uuid.UUID {
	return uuid.NewSHA1(v.options.uuid, []byte("btrfs "+what))
}

// room returns the next free range of the disk that has no copy of the
// superblock in it.
func (v *volume) room(least int64) (start, length int64) {
	start, end := v.end, v.options.size/chunkAlign*chunkAlign
	for _, m := range superMirrors {
		if start <= m && m-start < least {
			start = max(start, m+chunkAlign)
		} else if start < m {
			return start, min(m, end) - start
		}
	}
	return start, end - start
}

// place gives a chunk its places on the disk, and tells whether there are any.
func (v *volume) place(c *chunk, copies int) bool {
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
func (v *volume) store(r io.Reader, n int64, inode, offset uint64) (extent, error) {
	last := len(v.data) - 1
	if last < 0 || v.data[last].used == v.data[last].length {
		start, length := v.room(chunkAlign)
		if length < chunkAlign {
			return extent{}, fmt.Errorf("%w: %d bytes are less than the files alone take", fs.ErrNoSpace, v.options.size)
		}
		length = min(length, maxData)
		v.data = append(v.data, chunk{kind: chunkData, start: start, length: length, copies: []int64{start}})
		v.crcs = append(v.crcs, nil)
		last++
		v.end = start + length
	}
	c := &v.data[last]
	e := extent{start: c.start + c.used, inode: inode, offset: offset}
	sector := make([]byte, sectorSize)
	zeros := make([]byte, sectorSize)
	for n > 0 && e.length < maxExtent && c.used < c.length {
		size := min(n, sectorSize)
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
		n, c.used, e.length = n-size, c.used+sectorSize, e.length+sectorSize
	}
	v.extents = append(v.extents, e)
	return e, nil
}

// finish writes all trees and superblocks, with the items of the subvolume.
func (v *volume) finish(files []item) error {
	if n := len(v.data); n > 0 {
		// What the last chunk of data does not need is free for others.
		c := &v.data[n-1]
		c.length = (c.used + chunkAlign - 1) / chunkAlign * chunkAlign
		v.end = c.start + c.length
	}
	meta, err := v.metadata(files)
	if err != nil {
		return err
	}
	chunks := slices.Concat([]chunk{v.system}, v.data, []chunk{meta})
	t := &forest{volume: v, chunks: chunks}
	t.build(files)
	for _, tree := range t.all {
		if err := t.write(tree); err != nil {
			return err
		}
	}
	for _, at := range append([]int64{superStart}, superMirrors...) {
		if at+sectorSize > v.options.size {
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
func (v *volume) metadata(files []item) (chunk, error) {
	size := int64(len(v.extents)) * (itemSize + 53)
	for _, it := range files {
		size += itemSize + int64(len(it.data))
	}
	for _, crcs := range v.crcs {
		size += int64(len(crcs)) + int64(len(crcs)/maxCRCs+1)*itemSize
	}
	// Two leaves in a row hold more than fits into one; nodes above them and
	// extents of all these blocks add less than a sixteenth.
	need := size*2 + size/8 + 64*nodeSize
	need = (need + chunkAlign - 1) / chunkAlign * chunkAlign
	tenth := v.options.size / 10 / chunkAlign * chunkAlign
	meta := chunk{kind: chunkMetadata | chunkDup}
	for length := max(tenth, minMetadata); ; length /= 2 {
		meta.length = max(need, min(length, maxMetadata)/chunkAlign*chunkAlign)
		if v.place(&meta, 2) {
			return meta, nil
		}
		if meta.length == need {
			break
		}
	}
	return meta, fmt.Errorf("%w: %d bytes, the files take %d and their metadata up to twice %d", fs.ErrNoSpace, v.options.size, v.end, need)
}
