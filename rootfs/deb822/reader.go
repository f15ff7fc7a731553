package deb822

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds on what a Reader accepts, in bytes. The longest line of Debian's
// indexes has about 60 kB; the longest paragraph, a Release file, about 1 MB.
const (
	MaxLine      = 1 << 20
	MaxParagraph = 16 << 20
)

// startBuffer is the size of a new Reader's buffer in bytes. Few paragraphs are
// longer than some kilobytes; a large buffer makes few and large reads.
const startBuffer = 256 << 10

// A SyntaxError says what is wrong with a control file and in which line.
type SyntaxError struct {
	Line int // counted from 1
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// A Reader reads paragraphs from a stream.
type Reader struct {
	// Comments allows lines that begin with '#', which are skipped: they are
	// part of the format of sources.list and of source packages, not of
	// indexes and of dpkg's files.
	Comments bool

	r    io.Reader
	buf  []byte // read from r and not yet handed out: buf[start:end]
	from int
	end  int
	eof  bool
	line int // lines before buf[from]
	err  error
}

// NewReader returns a Reader of the control file in r. It reads ahead.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, buf: make([]byte, startBuffer)}
}

// Next returns the next paragraph, or io.EOF after the last. The fields are
// slices of one string of the paragraph's size: who keeps one field keeps all.
// An error of the file is a *SyntaxError; after an error the Reader is at its
// end and returns the same error again.
func (r *Reader) Next() (Paragraph, error) {
	if r.err != nil {
		return nil, r.err
	}
	for {
		block, err := r.block()
		if err != nil {
			r.err = err
			return nil, err
		}
		first := r.line + 1
		r.line += bytes.Count(block, newline)
		p, err := r.parse(string(block), first)
		if err != nil {
			r.err = err
			return nil, err
		}
		// A block of comments alone is no paragraph.
		if len(p) > 0 {
			return p, nil
		}
	}
}

var (
	newline = []byte("\n")
	gap     = []byte("\n\n")
)

// block returns the lines up to the next empty line or the end, valid until the
// next call. Empty lines before it are counted and skipped.
func (r *Reader) block() ([]byte, error) {
	scanned := 0 // bytes from r.from on that hold no gap
	for {
		for r.from < r.end && scanned == 0 && r.buf[r.from] == '\n' {
			r.from++
			r.line++
		}
		if i := bytes.Index(r.buf[r.from+scanned:r.end], gap); i >= 0 {
			b := r.buf[r.from : r.from+scanned+i+1]
			r.from += len(b)
			return r.bounded(b)
		}
		if r.eof {
			b := r.buf[r.from:r.end]
			r.from = r.end
			if len(b) == 0 {
				return nil, io.EOF
			}
			return r.bounded(b)
		}
		scanned = max(0, r.end-r.from-1)
		if scanned > MaxParagraph {
			return nil, &SyntaxError{r.line + 1, fmt.Sprintf("paragraph longer than %d bytes", MaxParagraph)}
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

func (r *Reader) bounded(b []byte) ([]byte, error) {
	if len(b) > MaxParagraph {
		return nil, &SyntaxError{r.line + 1, fmt.Sprintf("paragraph longer than %d bytes", MaxParagraph)}
	}
	return b, nil
}

// fill reads more into the buffer, moving what is left to its start and
// doubling it where that is not enough.
func (r *Reader) fill() error {
	if r.from > 0 {
		copy(r.buf, r.buf[r.from:r.end])
		r.end -= r.from
		r.from = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, 2*len(r.buf))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for tries := 0; tries < 100; tries++ {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		if errors.Is(err, io.EOF) {
			r.eof = true
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return io.ErrNoProgress
}

// parse takes the lines of one paragraph apart; first is the number of the
// first.
func (r *Reader) parse(s string, first int) (Paragraph, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, &SyntaxError{first + strings.Count(s[:strings.IndexByte(s, 0)], "\n"), "NUL byte in text"}
	}
	p := make(Paragraph, 0, 24)
	var seen uint64 // which name hashes occurred, so that few names are compared
	for n := first; s != ""; n++ {
		line, rest := cutLine(s)
		if len(line) > MaxLine {
			return nil, &SyntaxError{n, fmt.Sprintf("line longer than %d bytes", MaxLine)}
		}
		if line[0] == '#' && r.Comments {
			s = rest
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			return nil, &SyntaxError{n, "continuation line without a field before it"}
		}
		colon := strings.IndexByte(line, ':')
		if err := checkName(line, colon, n); err != nil {
			return nil, err
		}
		name := line[:colon]
		if bit := nameBit(name); seen&bit == 0 {
			seen |= bit
		} else if _, twice := p.Lookup(name); twice {
			return nil, &SyntaxError{n, fmt.Sprintf("field %s is given twice", name)}
		}
		value := trim(line[colon+1:])
		if rest != "" && (rest[0] == ' ' || rest[0] == '\t' || rest[0] == '#' && r.Comments) {
			var err error
			var lines int
			value, rest, lines, err = r.continued(value, rest, n)
			if err != nil {
				return nil, err
			}
			n += lines
		}
		p = append(p, Field{name, value})
		s = rest
	}
	return p, nil
}

// continued joins value with the continuation lines at the start of s. It
// returns the joined value, what follows and the number of lines taken; n is
// the number of the field's first line.
func (r *Reader) continued(value, s string, n int) (string, string, int, error) {
	end, lines := 0, 0
	for end < len(s) && (s[end] == ' ' || s[end] == '\t' || s[end] == '#' && r.Comments) {
		line, _ := cutLine(s[end:])
		lines++
		if len(line) > MaxLine {
			return "", "", 0, &SyntaxError{n + lines, fmt.Sprintf("line longer than %d bytes", MaxLine)}
		}
		if line[0] != '#' && trim(line) == "" {
			return "", "", 0, &SyntaxError{n + lines, "line of blanks only: an empty line separates paragraphs, \" .\" stands for one inside a text"}
		}
		end += min(len(line)+1, len(s)-end)
	}
	var b strings.Builder
	b.Grow(len(value) + end)
	b.WriteString(value)
	for rest := s[:end]; rest != ""; {
		var line string
		line, rest = cutLine(rest)
		if line[0] != '#' {
			b.WriteByte('\n')
			b.WriteString(trimRight(line[1:]))
		}
	}
	return b.String(), s[end:], lines, nil
}

// cutLine returns the first line of s without its newline, and what follows it.
func cutLine(s string) (line, rest string) {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// checkName reports whether line[:colon] may be a field's name: printable ASCII
// without blanks, not beginning with '#' or '-' (Debian Policy, section 5.1).
func checkName(line string, colon, n int) error {
	if colon <= 0 {
		return &SyntaxError{n, fmt.Sprintf("%q is no field: a colon after a name is missing", clip(line))}
	}
	if line[0] == '#' || line[0] == '-' {
		return &SyntaxError{n, fmt.Sprintf("%q: a field's name cannot begin with %q", clip(line), line[0])}
	}
	for i := 0; i < colon; i++ {
		if line[i] < '!' || line[i] > '~' {
			return &SyntaxError{n, fmt.Sprintf("%q: a field's name is printable ASCII without blanks", clip(line[:colon]))}
		}
	}
	return nil
}

// nameBit maps a name to one of 64 bits, the same for all its spellings.
func nameBit(name string) uint64 {
	h := uint(len(name))*7 + uint(lower(name[0]))*3 + uint(lower(name[len(name)-1]))
	return 1 << (h & 63)
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return trimRight(s)
}

func trimRight(s string) string {
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}
