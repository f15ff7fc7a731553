package xz

const (
	maxChunkOut = 1 << 21 // bytes; the largest uncompressed size of a chunk
	outPad      = 16      // bytes past a chunk that the decoder may overwrite
	firstWindow = 1 << 18 // bytes; the window grows from here
)

// lzma2 decodes the chunks of a block into a window: the dictionary, and
// behind it the chunk. When the window is full, its end, as long as the
// dictionary, is moved to the front, which is seldom enough to cost nothing.
type lzma2 struct {
	lzma
	window    []byte // grows with what comes out, and stays for the next file
	limit     int    // bytes; how large the window may get
	start     int    // of the dictionary in the window; below zero once its beginning is gone
	pos       int    // in the window: the end of what is decoded
	needDict  bool   // the next chunk must reset the dictionary,
	needProps bool   // and bring LZMA properties
}

// begin prepares for a block whose dictionary has the size given.
func (z *lzma2) begin(dictSize uint32) {
	z.dictSize = dictSize
	dict := int(dictSize)
	z.limit = dict + max(dict/2, 2*maxChunkOut) + outPad
	z.start, z.pos = 0, 0
	z.needDict, z.needProps = true, true
}

// room makes the window hold n more bytes. What was decoded before z.pos less
// the dictionary's size may be gone.
func (z *lzma2) room(n int) {
	need := z.pos + n + outPad
	if need <= len(z.window) {
		return
	}
	// The position in the dictionary counts modulo 16 at the most.
	shift := max(0, z.pos-int(z.dictSize)) &^ 15
	old := z.window
	if len(z.window) < z.limit {
		z.window = make([]byte, min(z.limit, max(2*len(z.window), need-shift, firstWindow)))
	}
	copy(z.window, old[shift:z.pos])
	z.pos -= shift
	z.start -= shift
}

// chunk decodes the next chunk. It returns the decoded bytes, which stay
// until the next call, or none at the end of the block.
func (z *lzma2) chunk(in *input) ([]byte, error) {
	head, err := in.take(1, "a block")
	if err != nil {
		return nil, err
	}
	control := head[0]
	switch {
	case control == 0:
		return nil, nil
	case control == 1 || control >= 0xe0:
		z.needDict, z.needProps = false, true
		z.start, z.pos = 0, 0 // what was decoded before has been read
	case z.needDict:
		return nil, formatError("the first chunk does not reset the dictionary")
	}
	if control < 0x80 {
		return z.stored(in, control)
	}
	head, err = in.take(4, "the header of a chunk")
	if err != nil {
		return nil, err
	}
	size := int(control&0x1f)<<16 + int(head[0])<<8 + int(head[1]) + 1
	packed := int(head[2])<<8 + int(head[3]) + 1
	if control >= 0xc0 {
		head, err = in.take(1, "the header of a chunk")
		if err != nil {
			return nil, err
		}
		if err := z.setProps(head[0]); err != nil {
			return nil, err
		}
		z.needProps = false
	} else if z.needProps {
		return nil, formatError("a chunk without LZMA properties where they are needed")
	}
	if control >= 0xa0 {
		z.reset()
	}
	if packed < 5 {
		return nil, formatError("a chunk of %d bytes is shorter than its range coder", packed)
	}
	z.room(size)
	if _, err := in.take(packed, "a chunk"); err != nil {
		return nil, err
	}
	from := z.pos
	if err := z.decode(z.window, z.start, from, from+size, in.buf[in.pos-packed:], packed); err != nil {
		return nil, err
	}
	z.pos += size
	return z.window[from:z.pos], nil
}

// stored copies a chunk that is not compressed.
func (z *lzma2) stored(in *input, control byte) ([]byte, error) {
	if control > 2 {
		return nil, formatError("a chunk of kind %#02x", control)
	}
	head, err := in.take(2, "the header of a chunk")
	if err != nil {
		return nil, err
	}
	size := int(head[0])<<8 + int(head[1]) + 1
	z.room(size)
	data, err := in.take(size, "a chunk")
	if err != nil {
		return nil, err
	}
	from := z.pos
	z.pos += copy(z.window[from:], data)
	return z.window[from:z.pos], nil
}
