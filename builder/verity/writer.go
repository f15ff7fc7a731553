package verity

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// Writer builds the tree over data that is written to it in order.
type Writer struct {
	t     *build
	g     *errgroup.Group
	ctx   context.Context
	units chan pending
	free  chan []byte
	buf   []byte
	next  int64 // unit that buf belongs to
	left  int64 // bytes still to come
}

type pending struct {
	unit int64
	data []byte
}

// NewWriter begins a tree over data of exactly size bytes. Blocks are hashed
// on all cores as they are written. Close must be called; it ends the
// goroutines, also after an error.
func NewWriter(ctx context.Context, size int64, hash io.WriterAt, p Params) (*Writer, error) {
	t, err := newBuild(size, hash, p)
	if err != nil {
		return nil, err
	}
	workers := runtime.GOMAXPROCS(0)
	w := &Writer{t: t, left: size, units: make(chan pending), free: make(chan []byte, workers+1)}
	w.g, w.ctx = errgroup.WithContext(ctx)
	for range cap(w.free) {
		w.free <- make([]byte, 0, min(unitSize, size))
	}
	w.buf = <-w.free
	for range workers {
		w.g.Go(func() error {
			h := newHasher(p.Salt)
			for u := range w.units {
				if err := t.unit(h, u.unit, u.data); err != nil {
					return err
				}
				w.free <- u.data[:0]
			}
			return nil
		})
	}
	return w, nil
}

// Write takes the next bytes of the data.
func (w *Writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, fmt.Errorf("verity: %w: %d bytes more than announced", ErrDataSize, int64(len(p))-w.left)
	}
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:take]...)
		p = p[take:]
		w.left -= int64(take)
		if len(w.buf) == cap(w.buf) || w.left == 0 {
			if err := w.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

// flush hands the unit in buf to a worker and takes an empty buffer.
func (w *Writer) flush() error {
	select {
	case w.units <- pending{w.next, w.buf}:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	w.next++
	select {
	case w.buf = <-w.free:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	return nil
}

// Close waits for the workers and, when all announced data was written,
// writes the rest of the tree. The result is only valid without an error.
func (w *Writer) Close() (Result, error) {
	close(w.units)
	if err := w.g.Wait(); err != nil {
		return Result{}, err
	}
	if w.left > 0 {
		return Result{}, fmt.Errorf("verity: %w: %d of %d bytes missing", io.ErrUnexpectedEOF, w.left, w.t.sb.DataBlocks*BlockSize)
	}
	return w.t.finish()
}
