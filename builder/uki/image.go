package uki

import (
	"fmt"
	"io"
	"sort"
)

// An Image is a laid out unified kernel image. It holds no more than the headers
// in memory; everything else is read from the Contents it was made of, each
// time. It is an io.ReaderAt, an io.WriterTo and a [Content] itself.
type Image struct {
	parts []part
	size  int64
}

// A part is some content and the zeros behind it.
type part struct {
	offset  int64 // in the image
	size    int64 // of content
	end     int64 // with the zeros
	content io.ReaderAt
}

// append adds size bytes of c and zeros up to a multiple of align.
func (m *Image) append(c io.ReaderAt, size, align int64) {
	if size == 0 {
		return
	}
	end := int64(roundUp(uint64(m.size+size), uint64(align)))
	m.parts = append(m.parts, part{offset: m.size, size: size, end: end, content: c})
	m.size = end
}

// Size returns the image's size in bytes.
func (m *Image) Size() int64 { return m.size }

// WriteTo writes the whole image to w.
func (m *Image) WriteTo(w io.Writer) (int64, error) {
	var written int64
	buffer := make([]byte, 1<<20)
	for _, p := range m.parts {
		n, err := io.CopyBuffer(onlyWriter{w}, io.NewSectionReader(p.content, 0, p.size), buffer)
		written += n
		if err == nil && n < p.size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return written, fmt.Errorf("uki: writing at %d: %w", p.offset+n, err)
		}
		zeros := buffer[:min(p.end-p.offset-p.size, int64(len(buffer)))]
		clear(zeros)
		for left := p.end - p.offset - p.size; left > 0; {
			n, err := w.Write(zeros[:min(left, int64(len(zeros)))])
			written += int64(n)
			left -= int64(n)
			if err != nil {
				return written, fmt.Errorf("uki: %w", err)
			}
		}
	}
	return written, nil
}

// onlyWriter hides a ReadFrom, which would copy by blocks of its own size.
type onlyWriter struct{ io.Writer }

// ReadAt implements io.ReaderAt.
func (m *Image) ReadAt(b []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("uki: reading at %d", offset)
	}
	first := sort.Search(len(m.parts), func(i int) bool { return m.parts[i].end > offset })
	n := 0
	for _, p := range m.parts[first:] {
		if n == len(b) {
			break
		}
		got, err := p.readAt(b[n:], offset+int64(n)-p.offset)
		n += got
		if err != nil {
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// readAt fills b from the part's content and zeros as far as the part goes.
func (p part) readAt(b []byte, offset int64) (int, error) {
	b = b[:min(int64(len(b)), p.end-p.offset-offset)]
	n := 0
	if offset < p.size {
		want := b[:min(int64(len(b)), p.size-offset)]
		got, err := p.content.ReadAt(want, offset)
		if got < len(want) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return got, err
		}
		n = got
	}
	clear(b[n:])
	return len(b), nil
}
