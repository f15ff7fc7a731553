package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	copyBuffer = 1 << 20 // bytes read at a time
	holeSize   = 4096    // bytes; zeros are left out in blocks of this size
	copyRange  = 64 << 20
)

var zeros [holeSize]byte

// copyContent copies a content to dst at an offset in bytes, leaving out what
// is a hole or zeros. dst must have a hole there.
func copyContent(ctx context.Context, dst *os.File, at int64, c Content) error {
	src, ok := c.(FileContent)
	if !ok {
		return copyReader(ctx, dst, at, c, 0, c.Size())
	}
	fd := int(src.Fd())
	for off := int64(0); off < src.size; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return src.checkSize()
		}
		if err != nil {
			return fmt.Errorf("find data in %s: %w", src.Name(), err)
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find holes in %s: %w", src.Name(), err)
		}
		end = min(end, src.size)
		if err := copyFile(ctx, dst, at, src, data, end); err != nil {
			return err
		}
		off = end
	}
	return src.checkSize()
}

// checkSize refuses a file that has shrunk since File was called: a hole at
// its end and an end before it look the same to SEEK_DATA.
func (c FileContent) checkSize() error {
	info, err := c.Stat()
	if err != nil {
		return err
	}
	if info.Size() < c.size {
		return fmt.Errorf("%s: %w: it had %d bytes and now has %d", c.Name(), io.ErrUnexpectedEOF, c.size, info.Size())
	}
	return nil
}

// copyFile copies the bytes from off to end inside the kernel where the file
// systems can, and through memory elsewhere.
func copyFile(ctx context.Context, dst *os.File, at int64, src FileContent, off, end int64) error {
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := off, at+off
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(end-off, copyRange)), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			// Other file systems, a file that has become shorter, or a kernel
			// without the call: reading says which.
			return copyReader(ctx, dst, at, src, off, end)
		}
		off += int64(n)
	}
	return nil
}

// copyReader copies the bytes from off to end, leaving out blocks of zeros.
func copyReader(ctx context.Context, dst *os.File, at int64, src io.ReaderAt, off, end int64) error {
	buf := make([]byte, min(copyBuffer, end-off))
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), end-off)]
		if err := readFull(src, b, off); err != nil {
			return fmt.Errorf("read content at byte %d: %w", off, err)
		}
		if err := writeSparse(dst, b, at+off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// writeSparse writes the runs of blocks in b that are not all zeros.
func writeSparse(dst *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		zero := 0
		for zero < len(b) && isZero(b[zero:min(zero+holeSize, len(b))]) {
			zero = min(zero+holeSize, len(b))
		}
		b, at = b[zero:], at+int64(zero)
		data := 0
		for data < len(b) && !isZero(b[data:min(data+holeSize, len(b))]) {
			data = min(data+holeSize, len(b))
		}
		if data > 0 {
			if _, err := dst.WriteAt(b[:data], at); err != nil {
				return err
			}
		}
		b, at = b[data:], at+int64(data)
	}
	return nil
}

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
