package xz

import (
	"errors"
	"io"
)

const (
	// maxChunkIn is the largest compressed size of an LZMA2 chunk, in bytes.
	maxChunkIn = 1 << 16
	// inSize is what the input buffer holds, in bytes: the largest chunk,
	// its header and as much again, so that a read below is seldom small.
	inSize = 2*maxChunkIn + 64
	// inPad follows the input buffer, in bytes: one LZMA symbol takes 20 at
	// the most, so that the decoder looks once a symbol whether it has gone
	// past the chunk.
	inPad = 32
)

// input is the compressed file, through a buffer in which chunks are decoded
// in place.
type input struct {
	r        io.Reader
	buf      []byte // inSize and inPad bytes
	pos, end int    // the bytes read from r and not yet used
	taken    int64  // bytes used in all
	err      error  // of r
}

func (in *input) reset(r io.Reader) {
	if in.buf == nil {
		in.buf = make([]byte, inSize+inPad)
	}
	in.r, in.pos, in.end, in.taken, in.err = r, 0, 0, 0, nil
}

// need makes n bytes, at most inSize, stand at in.pos. It reports io.EOF when
// the file ends before the first of them, io.ErrUnexpectedEOF when later.
func (in *input) need(n int) error {
	if in.end-in.pos >= n {
		return nil
	}
	if in.pos+n > inSize {
		in.end = copy(in.buf, in.buf[in.pos:in.end])
		in.pos = 0
	}
	for idle := 0; in.end-in.pos < n; {
		if in.err != nil {
			if in.err == io.EOF && in.end > in.pos {
				return io.ErrUnexpectedEOF
			}
			return in.err
		}
		m, err := in.r.Read(in.buf[in.end:inSize])
		if m < 0 || m > inSize-in.end {
			return errors.New("xz: the reader below returned an impossible count")
		}
		in.end += m
		in.err = err
		if idle++; m > 0 {
			idle = 0
		} else if idle == 100 && err == nil {
			in.err = io.ErrNoProgress
		}
	}
	return nil
}

// take returns the next n bytes, at most inSize, which stay until the next
// call. part names them in the error of a file that ends before.
func (in *input) take(n int, part string) ([]byte, error) {
	if err := in.need(n); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, errTruncated(part)
		}
		return nil, err
	}
	b := in.buf[in.pos : in.pos+n]
	in.pos += n
	in.taken += int64(n)
	return b, nil
}
