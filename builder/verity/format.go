package verity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// ErrDataSize says that the data is not a positive whole number of blocks.
var ErrDataSize = errors.New("data size is not a positive multiple of 4096 bytes")

// Params are the inputs of a tree besides the data.
type Params struct {
	Salt []byte   // 0 to 256 bytes
	UUID [16]byte // of the superblock; nothing looks a device up by it
}

// Result describes a tree that was written.
type Result struct {
	RootHash   []byte // 32 bytes
	HashSize   int64  // bytes of the hash device that were written
	DataBlocks int64
}

// RootUUIDs returns the UUIDs that the Discoverable Partitions Specification
// gives the partitions of a verity root file system: the first and the last
// 128 bits of the root hash.
func RootUUIDs(rootHash []byte) (root, verity uuid.UUID, err error) {
	if len(rootHash) != digestSize {
		return root, verity, fmt.Errorf("root hash has %d bytes instead of %d", len(rootHash), digestSize)
	}
	copy(root[:], rootHash[:16])
	copy(verity[:], rootHash[16:])
	return root, verity, nil
}

// Format writes superblock and tree for the first size bytes of data to hash.
// It reads data once, on all cores, and holds a 16384th of it in memory.
// The same input gives the same bytes. Errors match ErrDataSize, or wrap those
// of data and hash.
func Format(ctx context.Context, data io.ReaderAt, size int64, hash io.WriterAt, p Params) (Result, error) {
	t, err := newBuild(size, hash, p)
	if err != nil {
		return Result{}, err
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			h := newHasher(p.Salt)
			buf := make([]byte, min(unitSize, size))
			for {
				unit := next.Add(1) - 1
				off := unit * unitSize
				if off >= size {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				b := buf[:min(unitSize, size-off)]
				if err := readFull(data, b, off); err != nil {
					return fmt.Errorf("verity: read data at byte %d: %w", off, err)
				}
				if err := t.unit(h, unit, b); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	return t.finish()
}

// build is a tree in the making. Units, each the data below one hash block of
// level 0, may come in any order and from several goroutines.
type build struct {
	sb     Superblock
	levels []level
	size   int64
	hash   io.WriterAt
	above  []byte // digests of level 0's blocks: the contents of level 1
}

func newBuild(size int64, hash io.WriterAt, p Params) (*build, error) {
	if size <= 0 || size%BlockSize != 0 {
		return nil, fmt.Errorf("verity: %w: %d bytes; pad the file system to whole blocks", ErrDataSize, size)
	}
	if len(p.Salt) > maxSaltSize {
		return nil, fmt.Errorf("verity: salt has %d bytes, the most is %d", len(p.Salt), maxSaltSize)
	}
	t := &build{sb: Superblock{UUID: p.UUID, DataBlocks: size / BlockSize, Salt: p.Salt}, hash: hash}
	t.levels, t.size = levels(t.sb.DataBlocks)
	t.above = make([]byte, (size+unitSize-1)/unitSize*digestSize)
	return t, nil
}

// unit hashes the data of one unit and writes its hash block.
func (t *build) unit(h *hasher, unit int64, data []byte) error {
	above := t.above[unit*digestSize : unit*digestSize : (unit+1)*digestSize]
	if len(t.levels) == 0 {
		h.block(above, data)
		return nil
	}
	var block [BlockSize]byte
	h.blocks(block[:0], data)
	h.block(above, block[:])
	return t.write(block[:], t.levels[0].offset+unit*BlockSize)
}

// finish writes the levels above level 0 and the superblock.
func (t *build) finish() (Result, error) {
	h := newHasher(t.sb.Salt)
	digests := t.above
	for _, l := range t.levels[min(1, len(t.levels)):] {
		contents := make([]byte, l.blocks*BlockSize)
		copy(contents, digests)
		if err := t.write(contents, l.offset); err != nil {
			return Result{}, err
		}
		digests = h.blocks(make([]byte, 0, l.blocks*digestSize), contents)
	}
	if err := t.write(t.sb.marshal(), 0); err != nil {
		return Result{}, err
	}
	return Result{RootHash: digests, HashSize: t.size, DataBlocks: t.sb.DataBlocks}, nil
}

func (t *build) write(b []byte, off int64) error {
	if _, err := t.hash.WriteAt(b, off); err != nil {
		return fmt.Errorf("verity: write hash tree at byte %d: %w", off, err)
	}
	return nil
}

// readFull fills b from offset off; an end before that is ErrUnexpectedEOF.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
