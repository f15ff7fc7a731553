package tree

import (
	"context"
	"fmt"
	"io"
	"time"
)

// writeBuffer is the size of writes, in bytes.
const writeBuffer = 1 << 20

// WriteTar writes the tree in the canonical form that the package's comment
// describes. Times after the clock become the clock. The context ends it
// between two writes.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer, clock time.Time) error {
	out := newWriter(ctx, w, clock)
	files := map[string]string{} // where a file with hard links was written
	err := t.Walk(func(e *Entry) error {
		e, err := t.canonicalLink(e, files)
		if err != nil {
			return err
		}
		return out.entry(e)
	})
	if err != nil {
		return err
	}
	return out.close()
}

// canonicalLink makes the first of a file's names in the order of the walk
// the file, and the others hard links to it.
func (t *Tree) canonicalLink(e *Entry, files map[string]string) (*Entry, error) {
	file := e
	switch {
	case e.Typeflag == TypeLink:
		if file = t.get(e.Linkname); file == nil || file.Typeflag != TypeReg {
			return nil, fmt.Errorf("/%s: hard link to %q, which is no regular file of the tree", e.Path, e.Linkname)
		}
	case e.Typeflag != TypeReg || len(t.links[e.Path]) == 0:
		return e, nil
	}
	first, written := files[file.Path]
	copied := *file
	copied.Path = e.Path
	if written {
		copied.Typeflag, copied.Linkname, copied.Xattrs = TypeLink, first, nil
	} else {
		files[file.Path] = e.Path
	}
	return &copied, nil
}

// A writer writes entries as a tar stream.
type writer struct {
	ctx   context.Context
	w     io.Writer
	clock time.Time
	buf   []byte
}

func newWriter(ctx context.Context, w io.Writer, clock time.Time) *writer {
	return &writer{ctx: ctx, w: w, clock: clock, buf: make([]byte, 0, writeBuffer)}
}

// entry writes an entry with its content.
func (w *writer) entry(e *Entry) error {
	if err := w.header(e); err != nil {
		return err
	}
	if e.Typeflag != TypeReg || e.Size == 0 {
		return nil
	}
	if e.content == nil {
		return fmt.Errorf("/%s: %d bytes without content", e.Path, e.Size)
	}
	for done := int64(0); done < e.Size; {
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		free := w.buf[len(w.buf):cap(w.buf)]
		n := min(int64(len(free)), e.Size-done)
		got, err := e.content.ReadAt(free[:n], e.offset+done)
		if int64(got) < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("/%s: reading %d bytes at %d of %d: %w", e.Path, n, done, e.Size, err)
		}
		w.buf = w.buf[:len(w.buf)+got]
		done += n
	}
	return w.pad(e.Size)
}

func (w *writer) header(e *Entry) error {
	if cap(w.buf)-len(w.buf) < 16*blockSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	b, err := appendHeader(w.buf, e, w.clock)
	w.buf = b
	return err
}

func (w *writer) pad(size int64) error {
	return w.write(zeros[:padding(size)])
}

// write takes a copy of p.
func (w *writer) write(p []byte) error {
	for len(p) > 0 {
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		n := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf = w.buf[:len(w.buf)+n]
		p = p[n:]
	}
	return nil
}

func (w *writer) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// close ends the archive: two empty blocks. The stream stays open.
func (w *writer) close() error {
	for range 2 {
		if err := w.write(zeros[:]); err != nil {
			return err
		}
	}
	return w.flush()
}
