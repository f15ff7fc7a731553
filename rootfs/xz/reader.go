package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// DefaultMaxDictionary is the largest dictionary allowed where nothing else is
// said, in bytes. xz -9 uses 64 MiB, dpkg 8 MiB.
const DefaultMaxDictionary = 128 << 20

// An Option changes how a Reader reads.
type Option func(*Reader)

// MaxDictionary allows dictionaries of at most n bytes. A Reader takes up to
// half as much again; 4 MiB more where that is more.
func MaxDictionary(n int64) Option {
	return func(z *Reader) { z.maxDict = n }
}

// Reader reads the content of an .xz file. Content is given out before the
// check at the end of its block was seen: it is to be trusted when io.EOF has
// come. A Reader holds no resources but memory and needs no closing; it must
// not be used by several goroutines at a time.
type Reader struct {
	in      input
	dec     lzma2
	maxDict int64

	out     []byte // decoded and not yet read, in dec's window
	err     error  // stays, once out is read
	inBlock bool

	kind     byte          // of the check of this stream
	check    hash.Hash     // nil for none
	checks   [16]hash.Hash // made so far, by kind
	header   blockHeader
	start    int64     // in.taken at the beginning of the block header, then of the data
	overhead int64     // bytes of block header and check
	unpacked int64     // bytes out of this block
	blocks   uint64    // in this stream
	records  hash.Hash // over the sizes of the blocks, to be compared with the index
	indexed  hash.Hash // over those of the index
}

// NewReader returns a Reader of the .xz file that r is. It reads the header of
// the first stream, whose errors it returns, and reads ahead: nothing of r may
// be relied on thereafter.
func NewReader(r io.Reader, options ...Option) (*Reader, error) {
	z := &Reader{maxDict: DefaultMaxDictionary, records: sha256.New(), indexed: sha256.New()}
	for _, o := range options {
		o(z)
	}
	if err := z.Reset(r); err != nil {
		return nil, err
	}
	return z, nil
}

// Reset makes z read another file with the options and the memory it has,
// whatever the reading of the file before came to. It returns what NewReader
// would.
func (z *Reader) Reset(r io.Reader) error {
	z.in.reset(r)
	z.out, z.inBlock = nil, false
	z.err = z.streamHeader()
	return z.err
}

// Read reads content. At the end of the file it returns io.EOF, when
// everything was found to be right.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(z.out) == 0 {
		if z.err != nil {
			return 0, z.err
		}
		z.out, z.err = z.next()
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// WriteTo writes all content to w without a buffer in between.
func (z *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(z.out) > 0 {
			n, err := w.Write(z.out)
			if n < 0 || n > len(z.out) {
				return total, errors.New("xz: the writer returned an impossible count")
			}
			total += int64(n)
			z.out = z.out[n:]
			if err != nil {
				return total, err
			}
			if len(z.out) > 0 {
				return total, io.ErrShortWrite
			}
		}
		if z.err == io.EOF {
			return total, nil
		}
		if z.err != nil {
			return total, z.err
		}
		z.out, z.err = z.next()
	}
}

// next decodes one chunk, or what stands between two: it may return nothing
// and no error.
func (z *Reader) next() ([]byte, error) {
	if !z.inBlock {
		return nil, z.between()
	}
	out, err := z.dec.chunk(&z.in)
	if err != nil {
		return nil, err
	}
	z.unpacked += int64(len(out))
	packed := z.in.taken - z.start
	switch h := z.header; {
	case h.packed >= 0 && (packed > h.packed || out == nil && packed < h.packed):
		return nil, formatError("the compressed size of a block is not the %d bytes its header says", h.packed)
	case h.unpacked >= 0 && (z.unpacked > h.unpacked || out == nil && z.unpacked < h.unpacked):
		return nil, formatError("the size of a block is not the %d bytes its header says", h.unpacked)
	case out == nil:
		return nil, z.blockEnd(packed)
	}
	if z.check != nil {
		z.check.Write(out)
	}
	return out, nil
}

// between reads what stands between blocks: a block header, or the index and
// what follows it.
func (z *Reader) between() error {
	z.start = z.in.taken
	size, err := z.in.take(1, "a stream")
	if err != nil {
		return err
	}
	if size[0] != 0 {
		return z.blockHeader(int(size[0])*4 + 4)
	}
	n, err := z.index()
	if err != nil {
		return err
	}
	if err := z.footer(n); err != nil {
		return err
	}
	return z.nextStream()
}

// streamHeader reads section 2.1.1.
func (z *Reader) streamHeader() error {
	b, err := z.in.take(headerSize, "the header of a stream")
	if err != nil {
		return err
	}
	if string(b[:6]) != headerMagic {
		return formatError("not an .xz file: it begins with % x", b[:6])
	}
	if err := checkCRC(b[6:8], b[8:], "a stream header"); err != nil {
		return err
	}
	if z.kind, err = parseFlags(b[6:]); err != nil {
		return err
	}
	if z.check = z.checks[z.kind]; z.check == nil {
		if z.check, err = newCheck(z.kind); err != nil {
			return err
		}
		z.checks[z.kind] = z.check
	}
	z.blocks = 0
	z.records.Reset()
	return nil
}

// blockHeader reads section 3.1, size bytes in all, the first of which is read.
func (z *Reader) blockHeader(size int) error {
	b, err := z.in.take(size-1, "a block header")
	if err != nil {
		return err
	}
	// The checksum is over the byte of the size too, which stands before b.
	whole := z.in.buf[z.in.pos-size : z.in.pos]
	if err := checkCRC(whole[:size-4], whole[size-4:], "a block header"); err != nil {
		return err
	}
	if z.header, err = parseBlockHeader(b[:len(b)-4]); err != nil {
		return err
	}
	if int64(z.header.dictSize) > z.maxDict {
		return fmt.Errorf("%w of %d bytes, where %d are allowed", ErrDictionary, z.header.dictSize, z.maxDict)
	}
	z.dec.begin(z.header.dictSize)
	if z.check != nil {
		z.check.Reset()
	}
	z.overhead, z.start, z.unpacked, z.inBlock = int64(size), z.in.taken, 0, true
	return nil
}

// padding reads zeros until n bytes are a multiple of four.
func (z *Reader) padding(n int64, part string) error {
	b, err := z.in.take(int(-n&3), part)
	if err != nil {
		return err
	}
	for _, c := range b {
		if c != 0 {
			return formatError("the padding of %s is not zero", part)
		}
	}
	return nil
}

// blockEnd reads a block's padding and check, and enters its sizes.
func (z *Reader) blockEnd(packed int64) error {
	if err := z.padding(packed, "a block"); err != nil {
		return err
	}
	if z.check != nil {
		stored, err := z.in.take(z.check.Size(), "the check of a block")
		if err != nil {
			return err
		}
		var b [sha256.Size]byte
		if !bytes.Equal(sum(z.check, b[:0]), stored) {
			return fmt.Errorf("%w: the content of a block is damaged", ErrCheck)
		}
		z.overhead += int64(z.check.Size())
	}
	z.blocks++
	record(z.records, uint64(z.overhead+packed), uint64(z.unpacked))
	z.inBlock = false
	return nil
}

// record enters the sizes of a block.
func record(h hash.Hash, unpadded, unpacked uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], unpadded)
	binary.LittleEndian.PutUint64(b[8:], unpacked)
	h.Write(b[:])
}

// index reads section 4, whose first byte is read, compares it with the
// blocks, and returns its size in bytes.
func (z *Reader) index() (int64, error) {
	const part = "the index"
	crc := crc32.ChecksumIEEE([]byte{0})
	number := func() (uint64, error) {
		var b [maxVarintBytes]byte
		for i := range b {
			c, err := z.in.take(1, part)
			if err != nil {
				return 0, err
			}
			b[i] = c[0]
			if c[0] < 0x80 {
				v, _, err := varint(b[:i+1])
				crc = crc32.Update(crc, crc32.IEEETable, b[:i+1])
				return v, err
			}
		}
		_, _, err := varint(b[:])
		return 0, err
	}
	n, err := number()
	if err != nil {
		return 0, err
	}
	if n != z.blocks {
		return 0, formatError("the index has %d blocks, the stream %d", n, z.blocks)
	}
	z.indexed.Reset()
	for range n {
		unpadded, err := number()
		if err != nil {
			return 0, err
		}
		unpacked, err := number()
		if err != nil {
			return 0, err
		}
		record(z.indexed, unpadded, unpacked)
	}
	var a, b [sha256.Size]byte
	if !bytes.Equal(z.indexed.Sum(a[:0]), z.records.Sum(b[:0])) {
		return 0, formatError("the index has other sizes than the blocks")
	}
	pad := -(z.in.taken - z.start) & 3
	if err := z.padding(-pad, part); err != nil {
		return 0, err
	}
	crc = crc32.Update(crc, crc32.IEEETable, make([]byte, pad))
	stored, err := z.in.take(4, part)
	if err != nil {
		return 0, err
	}
	if crc != binary.LittleEndian.Uint32(stored) {
		return 0, formatError("the checksum of the index is wrong")
	}
	return z.in.taken - z.start, nil
}

// footer reads section 2.1.2; index is the size of the index in bytes.
func (z *Reader) footer(index int64) error {
	b, err := z.in.take(footerSize, "the footer of a stream")
	if err != nil {
		return err
	}
	if string(b[10:]) != footerMagic {
		return formatError("a stream footer without its magic bytes")
	}
	if err := checkCRC(b[4:10], b, "a stream footer"); err != nil {
		return err
	}
	if size := (int64(binary.LittleEndian.Uint32(b[4:])) + 1) * 4; size != index {
		return formatError("an index of %d bytes, where the stream footer says %d", index, size)
	}
	if kind, err := parseFlags(b[8:]); err != nil || kind != z.kind {
		return formatError("a stream footer with other flags than the header")
	}
	return nil
}

// nextStream reads the padding after a stream and the header of the next
// stream. It returns io.EOF at the end of the file.
func (z *Reader) nextStream() error {
	for {
		err := z.in.need(4)
		if err == io.EOF {
			return io.EOF
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if z.in.buf[z.in.pos] != 0 {
			return z.streamHeader()
		}
		b, err := z.in.take(4, "the padding after a stream")
		if err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(b) != 0 {
			return formatError("the padding after a stream is not zero")
		}
	}
}
