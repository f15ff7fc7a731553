package xz

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrFormat matches every error of input that is not an .xz file this
	// package reads, or is damaged. Input that ends early is
	// io.ErrUnexpectedEOF instead, and an error of the reader below is
	// handed on as it is.
	ErrFormat = errors.New("xz")

	// ErrFilter matches a filter other than LZMA2, which the message names.
	ErrFilter = fmt.Errorf("%w: filter", ErrFormat)

	// ErrDictionary matches a dictionary larger than allowed.
	ErrDictionary = fmt.Errorf("%w: dictionary", ErrFormat)

	// ErrCheck matches content that is not what the file's check promises.
	ErrCheck = fmt.Errorf("%w: check", ErrFormat)
)

// errFirstByte is the one error that XZ Embedded, and what descends from it,
// does not report: it leaves the first byte of the range coder unread.
var errFirstByte = formatError("the range coder does not begin with a zero byte")

// errData is what the decoder of LZMA says of symbols that cannot be.
var errData = formatError("the compressed data are damaged")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// errTruncated names the part in which the input ended.
func errTruncated(part string) error {
	return fmt.Errorf("xz: the file ends within %s: %w", part, io.ErrUnexpectedEOF)
}
