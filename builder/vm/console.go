package vm

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Marks on the console that say where the guest is.
const (
	panicMark  = "Kernel panic - not syncing"
	kernelMark = "Linux version "
)

// maxKept is how many of the console's last lines are kept.
const maxKept = 500

// A console passes on what the guest writes and looks at its lines: a kernel
// that panics before it has a driver for the panic device says so only there.
type console struct {
	to     io.Writer // may be nil
	since  func() time.Duration
	panics chan string   // takes the first panic's line; holds one
	spoke  chan struct{} // closed at the first byte

	mu            sync.Mutex
	line          []byte
	number        int // of whole lines
	kept          []string
	found         []Finding
	first, kernel time.Duration
}

func newConsole(to io.Writer, since func() time.Duration) *console {
	return &console{to: to, since: since, panics: make(chan string, 1), spoke: make(chan struct{})}
}

// Write implements io.Writer.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == 0 && len(b) > 0 {
		c.first = max(1, c.since())
		close(c.spoke)
	}
	for rest := b; len(rest) > 0; {
		text, after, whole := bytes.Cut(rest, []byte{'\n'})
		c.line = append(c.line, text[:min(len(text), maxLine-len(c.line))]...)
		if whole {
			c.look(string(c.line))
			c.line = c.line[:0]
		}
		rest = after
	}
	if c.to == nil {
		return len(b), nil
	}
	return c.to.Write(b)
}

// look takes note of a whole line.
func (c *console) look(line string) {
	if c.kernel == 0 && strings.Contains(line, kernelMark) {
		c.kernel = c.since()
	}
	if i := strings.Index(line, panicMark); i >= 0 {
		select {
		case c.panics <- strings.TrimSpace(line[i:]):
		default:
		}
	}
	c.number++
	c.found = judge(c.found, c.number, c.line)
	if len(c.kept) == 2*maxKept {
		c.kept = append(c.kept[:0], c.kept[maxKept:]...)
	}
	c.kept = append(c.kept, lastShown(c.line))
}

// lastShown is what a terminal shows of a line that is written over itself, at
// the least: its last part with text.
func lastShown(line []byte) string {
	parts := bytes.Split(line, []byte{'\r'})
	for _, part := range slices.Backward(parts) {
		if text := plainText(part); text != "" {
			return text
		}
	}
	return ""
}

// times returns when the first byte and the kernel's first line came.
func (c *console) times() (first, kernel time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first, c.kernel
}

// tail returns the last lines, at most n of them and of maxKept. The last may be
// one that the guest has not ended, such as a prompt.
func (c *console) tail(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := slices.Clone(c.kept)
	if text := lastShown(c.line); text != "" {
		lines = append(lines, text)
	}
	return lines[len(lines)-max(0, min(n, len(lines), maxKept)):]
}

// findings returns what went wrong so far.
func (c *console) findings() []Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return judge(slices.Clone(c.found), c.number+1, c.line)
}

// A tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

// String returns what was kept on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.FieldsFunc(string(t.b), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
