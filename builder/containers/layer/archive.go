package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

const tarBlock = 512 // bytes

// An archive walks the entries of an uncompressed archive.
type archive struct {
	in    *window
	tr    *tar.Reader
	holes int64 // bytes of sparse files so far
}

func newArchive(r io.ReaderAt, size int64) *archive {
	in := &window{r: r, size: size}
	return &archive{in: in, tr: tar.NewReader(in)}
}

// next returns the next entry and, of a regular file, its content.
func (a *archive) next() (*tar.Header, io.ReaderAt, error) {
	a.in.header = -1
	h, err := a.tr.Next()
	if err == io.EOF {
		return nil, nil, io.EOF
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: after %d bytes: %w", ErrFormat, a.in.offset, err)
	}
	if sparse(h) {
		return a.sparseFile(h)
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return h, nil, nil
	}
	if left := a.in.size - a.in.offset; h.Size < 0 || h.Size > left {
		return nil, nil, fmt.Errorf("%w: %q: %d bytes of %d are there", ErrFormat, shorten(h.Name), left, h.Size)
	}
	return h, io.NewSectionReader(a.in.r, a.in.offset, h.Size), nil
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// sparseFile makes the content of a file with holes: archive/tar keeps to
// itself where they are, so it is asked again for each reading.
func (a *archive) sparseFile(h *tar.Header) (*tar.Header, io.ReaderAt, error) {
	if a.holes += h.Size; h.Size < 0 || a.holes > maxHoles {
		return nil, nil, fmt.Errorf("%w: %q: sparse files of more than %d bytes", ErrTooLarge, shorten(h.Name), int64(maxHoles))
	}
	plain := *h
	plain.Typeflag = tar.TypeReg
	return &plain, &holey{section: io.NewSectionReader(a.in.r, a.in.header, a.in.size-a.in.header)}, nil
}

// A holey file is a sparse file of an archive, read from its headers on.
type holey struct {
	section *io.SectionReader

	mu     sync.Mutex
	tr     *tar.Reader // nil before the first read
	offset int64       // in the file
}

// ReadAt is cheap where reads follow each other.
func (f *holey) ReadAt(p []byte, offset int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tr == nil || offset < f.offset {
		if err := f.rewind(); err != nil {
			return 0, err
		}
	}
	n, err := io.CopyN(io.Discard, f.tr, offset-f.offset)
	f.offset += n
	if err != nil {
		return 0, err
	}
	done, err := io.ReadFull(f.tr, p)
	f.offset += int64(done)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return done, err
}

func (f *holey) rewind() error {
	if _, err := f.section.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f.tr, f.offset = tar.NewReader(f.section), 0
	_, err := f.tr.Next()
	return err
}

// A window reads headers many at a time and skips contents.
type window struct {
	r      io.ReaderAt
	size   int64
	offset int64
	header int64 // where an entry's first header is, -1 before it was read
	data   []byte
	start  int64 // of data
}

const windowSize = 64 << 10 // bytes

func (w *window) Read(p []byte) (int, error) {
	if w.offset >= w.size {
		return 0, io.EOF
	}
	if w.header < 0 && len(p) == tarBlock {
		// What archive/tar reads before it is what it skips: single bytes.
		w.header = w.offset
	}
	if w.offset < w.start || w.offset >= w.start+int64(len(w.data)) {
		if w.data == nil {
			w.data = make([]byte, windowSize)
		}
		n, err := w.r.ReadAt(w.data[:min(windowSize, w.size-w.offset)], w.offset)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		w.start, w.data = w.offset, w.data[:n]
	}
	n := copy(p, w.data[w.offset-w.start:])
	w.offset += int64(n)
	return n, nil
}

// Seek lets archive/tar skip contents.
func (w *window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.offset
	case io.SeekEnd:
		offset += w.size
	}
	if offset < 0 || offset > w.size {
		return 0, fmt.Errorf("offset %d in an archive of %d bytes", offset, w.size)
	}
	w.offset = offset
	return offset, nil
}
