package verity

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// maxListed is how many wrong blocks a CorruptError lists.
const maxListed = 16

// DataLevel is the level of a Block that is not of the tree but of the data.
const DataLevel = -1

// Block names a block that is not what the tree says.
type Block struct {
	Level  int   // DataLevel, or the level of the tree; 0 is right above the data
	Index  int64 // in the data, or in the level
	Offset int64 // bytes from the beginning of the data or of the hash device
}

// String names the block for a person.
func (b Block) String() string {
	if b.Level == DataLevel {
		return fmt.Sprintf("data block %d (byte %d)", b.Index, b.Offset)
	}
	return fmt.Sprintf("hash block %d of level %d (byte %d of the hash device)", b.Index, b.Level, b.Offset)
}

// CorruptError says which blocks are not what the root hash promises.
type CorruptError struct {
	Root      bool    // the top of the tree does not have the root hash
	Blocks    []Block // the first wrong ones: the tree's from the top down, then the data's
	Count     int64   // all wrong blocks
	Unchecked int64   // data blocks below wrong hash blocks, of which nothing can be said
}

func (e *CorruptError) Error() string {
	var s []string
	switch {
	case e.Root && e.Count == 0:
		s = append(s, "the root hash is another tree's: data and hash tree agree with each other")
	case e.Root:
		s = append(s, "the top of the hash tree does not have the root hash")
	}
	for _, b := range e.Blocks {
		s = append(s, b.String()+" is wrong")
	}
	if more := e.Count - int64(len(e.Blocks)); more > 0 {
		s = append(s, fmt.Sprintf("and %d more", more))
	}
	if e.Unchecked > 0 {
		s = append(s, fmt.Sprintf("%d data blocks below them cannot be checked", e.Unchecked))
	}
	return "verity: " + strings.Join(s, ", ")
}

// Verify checks every block of the tree and of the data against the root
// hash, on all cores, and reads the data once. The sizes are those of the
// devices in bytes; both may be larger than what the superblock covers.
// A nil rootHash checks the tree in itself only.
//
// Errors match ErrSuperblock where there is no usable one, are a *CorruptError
// where blocks are wrong, and wrap those of data and hash otherwise.
func Verify(ctx context.Context, data io.ReaderAt, dataSize int64, hash io.ReaderAt, hashSize int64, rootHash []byte) error {
	sb, err := ReadSuperblock(hash, hashSize)
	if err != nil {
		return err
	}
	if have := dataSize / BlockSize; sb.DataBlocks > have {
		return fmt.Errorf("verity: %w: it covers %d data blocks, the data device has %d", ErrSuperblock, sb.DataBlocks, have)
	}
	ls, size := levels(sb.DataBlocks)
	if size > hashSize {
		return fmt.Errorf("verity: %w: its tree takes %d bytes, the hash device has %d", ErrSuperblock, size, hashSize)
	}
	c := &check{sb: sb, levels: ls, data: data, hash: hash}
	if err := c.root(rootHash); err != nil {
		return err
	}
	wrong := newBitmap(1)
	for l := len(ls) - 1; l >= 0; l-- {
		if wrong, err = c.level(ctx, l, wrong); err != nil {
			return err
		}
	}
	if c.found.Root || c.found.Count > 0 {
		return &c.found
	}
	return nil
}

// ReadSuperblock reads the superblock of a hash device of that size in bytes.
// Errors match ErrSuperblock, or wrap hash's.
func ReadSuperblock(hash io.ReaderAt, hashSize int64) (*Superblock, error) {
	if hashSize < BlockSize {
		return nil, fmt.Errorf("verity: %w: the hash device has %d bytes, less than a block", ErrSuperblock, hashSize)
	}
	b := make([]byte, superblockSize)
	if err := readFull(hash, b, 0); err != nil {
		return nil, fmt.Errorf("verity: read superblock: %w", err)
	}
	sb, err := ParseSuperblock(b)
	if err != nil {
		return nil, fmt.Errorf("verity: %w", err)
	}
	return sb, nil
}

// check is a verification under way.
type check struct {
	sb     *Superblock
	levels []level
	data   io.ReaderAt
	hash   io.ReaderAt

	mu    sync.Mutex
	found CorruptError
}

// root compares the top block with the root hash. Where they differ the
// levels below are checked all the same: what is wrong may be the root hash.
func (c *check) root(rootHash []byte) error {
	if rootHash == nil && len(c.levels) > 0 {
		return nil
	}
	top, r, at := int64(0), c.data, "data"
	if n := len(c.levels); n > 0 {
		top, r, at = c.levels[n-1].offset, c.hash, "hash tree"
	}
	b := make([]byte, BlockSize)
	if err := readFull(r, b, top); err != nil {
		return fmt.Errorf("verity: read %s at byte %d: %w", at, top, err)
	}
	sum := newHasher(c.sb.Salt).sum(nil, b)
	c.found.Root = rootHash != nil && !bytes.Equal(sum, rootHash)
	return nil
}

// level compares what lies below each hash block of a level with the digests
// in it. Nothing is said about what lies below blocks in wrong. It returns
// the wrong blocks of the level below.
func (c *check) level(ctx context.Context, l int, wrong bitmap) (bitmap, error) {
	below, r, base, at := c.sb.DataBlocks, c.data, int64(0), "data"
	var found bitmap
	if l > 0 {
		below, r, base, at = c.levels[l-1].blocks, c.hash, c.levels[l-1].offset, "hash tree"
		found = newBitmap(below)
	}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(int64(runtime.GOMAXPROCS(0)), c.levels[l].blocks) {
		g.Go(func() error {
			h := newHasher(c.sb.Salt)
			digests, buf := make([]byte, BlockSize), make([]byte, unitSize)
			for {
				i := next.Add(1) - 1
				if i >= c.levels[l].blocks {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				b := buf[:min(unitSize, (below-i*fanout)*BlockSize)]
				if wrong.has(i) {
					c.unchecked(l, i, found, int64(len(b)/BlockSize))
					continue
				}
				if err := readFull(c.hash, digests, c.levels[l].offset+i*BlockSize); err != nil {
					return fmt.Errorf("verity: read hash tree at byte %d: %w", c.levels[l].offset+i*BlockSize, err)
				}
				off := base + i*unitSize
				if err := readFull(r, b, off); err != nil {
					return fmt.Errorf("verity: read %s at byte %d: %w", at, off, err)
				}
				c.unit(h, digests, b, Block{l - 1, i * fanout, off}, found)
			}
		})
	}
	return found, g.Wait()
}

// unit compares the blocks in b, of which first is the first, with digests.
func (c *check) unit(h *hasher, digests, b []byte, first Block, found bitmap) {
	var sum [digestSize]byte
	for i := int64(0); len(b) > 0; i++ {
		h.block(sum[:0], b[:BlockSize])
		if !bytes.Equal(sum[:], digests[i*digestSize:(i+1)*digestSize]) {
			c.wrong(Block{first.Level, first.Index + i, first.Offset + i*BlockSize}, found)
		}
		b = b[BlockSize:]
	}
}

// wrong notes a wrong block. The list is kept in order and short; tree
// levels are checked from the top, so all of one level is there before the
// next begins.
func (c *check) wrong(b Block, found bitmap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found.set(b.Index)
	c.found.Count++
	at, _ := slices.BinarySearchFunc(c.found.Blocks, b, func(x, y Block) int {
		if x.Level != y.Level {
			return y.Level - x.Level
		}
		if x.Index < y.Index {
			return -1
		}
		return 1
	})
	if at < maxListed {
		c.found.Blocks = slices.Insert(c.found.Blocks, at, b)
		c.found.Blocks = c.found.Blocks[:min(len(c.found.Blocks), maxListed)]
	}
}

// unchecked notes that n blocks below hash block i of level l cannot be
// checked, and passes that on to the level below.
func (c *check) unchecked(l int, i int64, found bitmap, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l == 0 {
		c.found.Unchecked += n
		return
	}
	for j := i * fanout; n > 0; n, j = n-1, j+1 {
		found.set(j)
	}
}

// bitmap is a set of small numbers; a nil one forgets.
type bitmap []uint64

func newBitmap(n int64) bitmap { return make(bitmap, (n+63)/64) }

func (m bitmap) has(i int64) bool { return m[i/64]&(1<<(i%64)) != 0 }

func (m bitmap) set(i int64) {
	if m != nil {
		m[i/64] |= 1 << (i % 64)
	}
}
