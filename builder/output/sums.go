package output

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a SHA256SUMS file.
const (
	maxSums  = 16 << 20 // bytes
	sumWidth = 2 * sha256.Size
)

// A Sum is a line of SHA256SUMS.
type Sum struct {
	Name   string
	SHA256 string // in hexadecimal, lower case
}

// A SumError says that a file does not have the digest that SHA256SUMS gives it. Err is set where the file could not be
// read at all; errors.Is finds fs.ErrNotExist in it.
type SumError struct {
	Name, Want, Got string
	Err             error
}

func (e *SumError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: named in %s and not readable: %v", e.Name, SumsName, e.Err)
	}
	return fmt.Sprintf("%s: SHA-256 is %s, and %s says %s: the file was changed since it was built", e.Name, e.Got, SumsName, e.Want)
}

// Unwrap returns the cause.
func (e *SumError) Unwrap() error { return e.Err }

// ParseSums reads the format of sha256sum(1), text or binary. Names with slashes or escapes are refused.
func ParseSums(data []byte) ([]Sum, error) {
	if len(data) > maxSums {
		return nil, fmt.Errorf("%s is larger than %d bytes", SumsName, maxSums)
	}
	var sums []Sum
	line := 0
	for text := range strings.Lines(string(data)) {
		line++
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		if text == "" {
			continue
		}
		if len(text) < sumWidth+3 || text[sumWidth] != ' ' || text[sumWidth+1] != ' ' && text[sumWidth+1] != '*' {
			return nil, fmt.Errorf("%s:%d: not a digest and a name: write it anew with sha256sum", SumsName, line)
		}
		sum, name := strings.ToLower(text[:sumWidth]), text[sumWidth+2:]
		if _, err := hex.DecodeString(sum); err != nil {
			return nil, fmt.Errorf("%s:%d: not a SHA-256 digest: write it anew with sha256sum", SumsName, line)
		}
		if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			return nil, fmt.Errorf("%s:%d: %q is not a file of this folder: remove the line", SumsName, line, name)
		}
		sums = append(sums, Sum{name, sum})
	}
	return sums, nil
}

// parsed is ParseSums of what mergeSums wrote.
func parsed(data []byte) []Sum {
	sums, err := ParseSums(data)
	if err != nil {
		return nil
	}
	return sums
}

// ReadSums reads the SHA256SUMS file in dir; fs.ErrNotExist where there is none.
func ReadSums(dir string) ([]Sum, error) {
	f, err := os.Open(filepath.Join(dir, SumsName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSums+1))
	if err != nil {
		return nil, err
	}
	sums, err := ParseSums(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return sums, nil
}

// mergeSums writes SHA256SUMS, sorted by name: the digests of files, and those of other files that still exist.
func mergeSums(old []Sum, files []File, exists func(name string) bool) []byte {
	var sums []Sum
	for _, f := range files {
		sums = append(sums, Sum{f.Name, f.SHA256})
	}
	for _, s := range old {
		if !slices.ContainsFunc(sums, func(k Sum) bool { return k.Name == s.Name }) && exists(s.Name) {
			sums = append(sums, s)
		}
	}
	slices.SortFunc(sums, func(a, b Sum) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	for _, s := range sums {
		fmt.Fprintf(&out, "%s  %s\n", s.SHA256, s.Name)
	}
	return out.Bytes()
}

// Verify compares the files named in dir's SHA256SUMS with their digests, only those that want accepts where it is not
// nil. All that differ are joined in the error, each a [*SumError].
func Verify(ctx context.Context, dir string, want func(name string) bool) ([]File, error) {
	sums, err := ReadSums(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	var problems []error
	for _, s := range sums {
		if want != nil && !want(s.Name) {
			continue
		}
		size, got, err := Digest(ctx, filepath.Join(dir, s.Name))
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			var cause *fs.PathError
			if errors.As(err, &cause) {
				err = cause.Err
			}
			problems = append(problems, &SumError{Name: s.Name, Want: s.SHA256, Err: err})
		case got != s.SHA256:
			problems = append(problems, &SumError{Name: s.Name, Want: s.SHA256, Got: got})
		default:
			files = append(files, File{s.Name, size, got})
		}
	}
	return files, errors.Join(problems...)
}

// Digest returns a regular file's size and its SHA-256 in hexadecimal. Holes are hashed without being read.
func Digest(ctx context.Context, name string) (int64, string, error) {
	// A pipe or device in a folder that is checked must not hold the program up.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	return digest(ctx, f)
}

// hashBlock is how much is read or hashed at once, in bytes.
const hashBlock = 1 << 20

func digest(ctx context.Context, f *os.File) (int64, string, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	if !info.Mode().IsRegular() {
		return 0, "", fmt.Errorf("%s is not a regular file", f.Name())
	}
	h := sha256.New()
	buf, zeros := make([]byte, hashBlock), make([]byte, hashBlock)
	size := info.Size()
	for at := int64(0); at < size; {
		data, end := extent(f, at, size)
		if err := hashZeros(ctx, h, zeros, data-at); err != nil {
			return 0, "", err
		}
		for at = data; at < end; {
			if ctx.Err() != nil {
				return 0, "", ctx.Err()
			}
			n, err := f.ReadAt(buf[:min(hashBlock, end-at)], at)
			h.Write(buf[:n])
			at += int64(n)
			if n == 0 {
				return 0, "", fmt.Errorf("at byte %d of %d: %w", at, size, short(err))
			}
		}
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

// short names the reason for a read that gave nothing.
func short(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// extent returns the next run of data at or after at. Where holes cannot be asked for, all is data.
func extent(f *os.File, at, size int64) (data, end int64) {
	fd := int(f.Fd())
	data, err := unix.Seek(fd, at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size
	}
	if err != nil || data < at || data > size {
		return at, size
	}
	end, err = unix.Seek(fd, data, unix.SEEK_HOLE)
	if err != nil || end <= data || end > size {
		end = size
	}
	return data, end
}

func hashZeros(ctx context.Context, h hash.Hash, zeros []byte, n int64) error {
	for n > 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		part := min(n, int64(len(zeros)))
		h.Write(zeros[:part])
		n -= part
	}
	return nil
}
