package sandbox

import (
	"errors"
	"io"
	"os"
	"reflect"
	"sync"
	"syscall"
)

// tailSize is how much output an ExitError keeps, in bytes.
const tailSize = 16 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if len(p) > tailSize {
		p = p[len(p)-tailSize:]
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return n, nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.buf...)
}

// stdio is the standard streams of a run: the sandbox's ends, and what moves bytes
// between the caller's readers and writers and our ends.
type stdio struct {
	files  [3]*os.File
	pipes  []int      // which of files are pipes made here
	theirs []*os.File // to be closed once the child has them
	ours   []*os.File
	out    []func() error // copy output until the sandbox has ended
	in     func() error   // copies input, may be nil
	tail   tail
}

// newStdio opens the streams of s.
func newStdio(s *Spec) (_ *stdio, err error) {
	d := new(stdio)
	defer func() {
		if err != nil {
			d.closeAll()
		}
	}()
	if err := d.openInput(s); err != nil {
		return nil, err
	}
	if sameWriter(s.Stdout, s.Stderr) {
		if err := d.openOutput(s, 1, s.Stdout, true); err != nil {
			return nil, err
		}
		d.files[2] = d.files[1]
		return d, nil
	}
	if err := d.openOutput(s, 1, s.Stdout, s.Stdout == nil); err != nil {
		return nil, err
	}
	return d, d.openOutput(s, 2, s.Stderr, true)
}

func sameWriter(a, b io.Writer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// direct says whether the sandbox may have the caller's files themselves. Under foreign
// ids it could not open them again through /dev/stderr, as scripts do.
func direct(s *Spec) bool { return s.Terminal || s.IDs == Caller }

func (d *stdio) openInput(s *Spec) error {
	switch r := s.Stdin.(type) {
	case nil:
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		d.files[0] = null
		d.theirs = append(d.theirs, null)
		return nil
	case *os.File:
		if direct(s) {
			d.files[0] = r
			return nil
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	d.files[0] = r
	d.pipes = append(d.pipes, 0)
	d.theirs = append(d.theirs, r)
	d.ours = append(d.ours, w)
	d.in = func() error {
		defer w.Close()
		_, err := io.Copy(w, s.Stdin)
		// A program need not read all of its input.
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		return err
	}
	return nil
}

func (d *stdio) openOutput(s *Spec, fd int, to io.Writer, keep bool) error {
	if f, ok := to.(*os.File); ok && direct(s) {
		d.files[fd] = f
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	d.files[fd] = w
	d.pipes = append(d.pipes, fd)
	d.theirs = append(d.theirs, w)
	d.ours = append(d.ours, r)
	switch {
	case to == nil:
		to = &d.tail
	case keep:
		to = io.MultiWriter(&d.tail, to)
	}
	d.out = append(d.out, func() error {
		_, err := io.Copy(to, r)
		if err != nil {
			// The program must not block on a pipe that nobody reads: it gets EPIPE.
			r.Close()
		}
		return err
	})
	return nil
}

// copying starts to move bytes. finish, to be called once the sandbox has ended,
// returns the first error of a reader or writer of the caller.
func (d *stdio) copying() (finish func() error) {
	for _, f := range d.theirs {
		f.Close()
	}
	d.theirs = nil
	results := make(chan error, len(d.out))
	for _, c := range d.out {
		go func() { results <- c() }()
	}
	input := make(chan error, 1)
	if d.in != nil {
		go func() { input <- d.in() }()
	}
	return func() error {
		var first error
		for range d.out {
			if err := <-results; err != nil && first == nil {
				first = err
			}
		}
		select {
		case err := <-input:
			if first == nil {
				first = err
			}
		default: // blocked in the caller's Read; it ends with the next Write
		}
		d.closeAll()
		return first
	}
}

func (d *stdio) closeAll() {
	for _, f := range append(d.theirs, d.ours...) {
		f.Close()
	}
	d.theirs, d.ours = nil, nil
}
