package deb

import (
	"context"
	"io"
	"runtime"
	"sync"
)

const (
	aheadBlock = 128 << 10 // bytes that are handed over at once
	aheadLimit = 192 << 20 // bytes of all packages that may wait
)

// An opened package is on its way from a decompressor to the tree.
type opened struct {
	file    *File
	control *Control
	err     error         // of control; good once ready is closed
	ready   chan struct{} // closed when control is there
	data    *stream
}

// ahead decompresses packages on several goroutines, in order, so that they
// are ready when it is their turn. What waits in memory is bounded, but for
// the package whose turn it is.
type ahead struct {
	packages []*opened
	budget   *budget
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func startAhead(ctx context.Context, files []*File, jobs int) *ahead {
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, budget: newBudget(ctx, aheadLimit)}
	for i, f := range files {
		a.packages = append(a.packages, &opened{
			file:  f,
			ready: make(chan struct{}),
			data:  newStream(a.budget, i),
		})
	}
	next := make(chan *opened, len(files))
	for _, p := range a.packages {
		next <- p
	}
	close(next)
	for range min(jobs, len(files)) {
		a.wg.Go(func() {
			d := &decoders{}
			defer d.close()
			for p := range next {
				p.fill(d)
			}
		})
	}
	return a
}

// stop ends the decompressors, whatever they are at.
func (a *ahead) stop() {
	a.cancel()
	a.budget.wake()
	a.wg.Wait()
}

// fill reads a package to its end.
func (p *opened) fill(d *decoders) {
	p.control, p.err = p.file.readControl(d)
	close(p.ready)
	if p.err != nil {
		p.data.finish(p.err)
		return
	}
	data, err := d.openMember(p.file, p.file.data, "data.tar")
	if err != nil {
		p.data.finish(err)
		return
	}
	for {
		block, ok := p.data.budget.take(p.data.turn)
		if !ok {
			p.data.finish(context.Canceled)
			return
		}
		n, err := readBlock(data, block)
		if n > 0 {
			p.data.push(block[:n])
		} else {
			p.data.budget.give(block)
		}
		if err != nil {
			p.data.finish(err)
			return
		}
	}
}

// readBlock fills block; unlike io.ReadFull it leaves errors as they are, so
// that a truncated stream is not taken for its end.
func readBlock(r io.Reader, block []byte) (n int, err error) {
	for n < len(block) && err == nil {
		var got int
		got, err = r.Read(block[n:])
		n += got
	}
	return n, err
}

// A budget lends blocks to the decompressors.
type budget struct {
	ctx   context.Context
	mu    sync.Mutex
	cond  sync.Cond
	free  [][]byte
	used  int // blocks
	limit int // blocks
	turn  int // the package that is being written
}

func newBudget(ctx context.Context, limit int) *budget {
	b := &budget{ctx: ctx, limit: limit / aheadBlock}
	b.cond.L = &b.mu
	return b
}

// take waits for a block. The package whose turn it is gets one at once:
// all others wait for it to be written.
func (b *budget) take(turn int) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ctx.Err() == nil && b.used >= b.limit && turn > b.turn {
		b.cond.Wait()
	}
	if b.ctx.Err() != nil {
		return nil, false
	}
	b.used++
	if n := len(b.free); n > 0 {
		block := b.free[n-1]
		b.free = b.free[:n-1]
		return block[:aheadBlock], true
	}
	return make([]byte, aheadBlock), true
}

func (b *budget) give(block []byte) {
	b.mu.Lock()
	b.used--
	b.free = append(b.free, block)
	b.mu.Unlock()
	b.cond.Broadcast()
}

// advance says whose turn it is.
func (b *budget) advance(turn int) {
	b.mu.Lock()
	b.turn = turn
	b.mu.Unlock()
	b.cond.Broadcast()
}

func (b *budget) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cond.Broadcast()
}

// A stream hands decompressed blocks from a decompressor to a reader.
type stream struct {
	budget *budget
	turn   int

	mu     sync.Mutex
	cond   sync.Cond
	blocks [][]byte
	err    error

	block []byte // being read
	rest  []byte // of block
}

func newStream(b *budget, turn int) *stream {
	s := &stream{budget: b, turn: turn}
	s.cond.L = &s.mu
	return s
}

func (s *stream) push(block []byte) {
	s.mu.Lock()
	s.blocks = append(s.blocks, block)
	s.mu.Unlock()
	s.cond.Signal()
}

func (s *stream) finish(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.cond.Signal()
}

// Read implements io.Reader for the one that writes the tree.
func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) next() error {
	if s.block != nil {
		s.budget.give(s.block)
		s.block = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.blocks) == 0 {
		if s.err != nil {
			return s.err
		}
		s.cond.Wait()
	}
	s.block, s.blocks = s.blocks[0], s.blocks[1:]
	s.rest = s.block
	return nil
}
