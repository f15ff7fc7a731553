package uki

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ErrNoVersion is wrapped by the error for a kernel whose version isn't found in
// its image.
var ErrNoVersion = errors.New("no version found in the kernel image")

// Offsets in a bzImage (Linux, Documentation/arch/x86/boot.rst).
const (
	bootHeaderMagic   = 0x202 // "HdrS"
	bootKernelVersion = 0x20e // u16: offset of the version string, less 0x200
	bootHeaderEnd     = 0x210
)

// Offsets in an EFI zboot image (Linux, drivers/firmware/efi/libstub/zboot-header.S).
const (
	zbootMagic       = 4 // "zimg"
	zbootPayload     = 8 // u32 offset, u32 size
	zbootCompression = 24
	zbootHeaderEnd   = 56
)

const (
	// maxKernel bounds a kernel that is decompressed, in bytes.
	maxKernel = 512 << 20
	// maxVersion bounds a version string: the kernel's own limit is 64.
	maxVersion = 128
)

// openKernel returns the kernel as firmware can load it. Ubuntu's kernels for
// arm64 are compressed as a whole, which no EFI stub can undo.
func openKernel(c Content) (Content, error) {
	magic := make([]byte, min(4, c.Size()))
	if _, err := c.ReadAt(magic, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading kernel: %w", err)
	}
	if bytes.HasPrefix(magic, []byte("MZ")) {
		return c, nil
	}
	z, err := decompressor(magic, io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if z == nil {
		return nil, fmt.Errorf("kernel: %w: it has no EFI entry (CONFIG_EFI_STUB) and is not compressed by gzip or zstd", ErrFormat)
	}
	defer z.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(z, maxKernel+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing kernel: %w", err)
	}
	if n > maxKernel {
		return nil, fmt.Errorf("decompressing kernel: more than %d MiB", maxKernel>>20)
	}
	return bytes.NewReader(b.Bytes()), nil
}

// decompressor returns nil for data that is not compressed in a known way.
func decompressor(magic []byte, r io.Reader) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxKernel))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, nil
}

// KernelVersion returns what `uname -r` will say, read from the kernel's image:
// from the header of an x86 bzImage, else from the "Linux version" banner in
// the image, which may be compressed by gzip or zstd, as a whole or in EFI's
// zboot form. The error wraps [ErrNoVersion] when there is none.
func KernelVersion(kernel Content) (string, error) {
	head := make([]byte, min(bootHeaderEnd, kernel.Size()))
	if _, err := kernel.ReadAt(head, 0); err != nil && err != io.EOF {
		return "", fmt.Errorf("reading kernel: %w", err)
	}
	if len(head) == bootHeaderEnd && string(head[bootHeaderMagic:bootHeaderMagic+4]) == "HdrS" {
		return bzImageVersion(kernel, head)
	}
	var r io.Reader = io.NewSectionReader(kernel, 0, kernel.Size())
	if len(head) >= zbootHeaderEnd && string(head[zbootMagic:zbootMagic+4]) == "zimg" {
		offset := binary.LittleEndian.Uint32(head[zbootPayload:])
		size := binary.LittleEndian.Uint32(head[zbootPayload+4:])
		r = io.NewSectionReader(kernel, int64(offset), int64(size))
		name, _, _ := bytes.Cut(head[zbootCompression:zbootHeaderEnd], []byte{0})
		head = map[string][]byte{"gzip": {0x1f, 0x8b}, "zstd22": {0x28, 0xb5, 0x2f, 0xfd}, "zstd": {0x28, 0xb5, 0x2f, 0xfd}}[string(name)]
		if head == nil {
			return "", fmt.Errorf("%w: its payload is compressed by %q", ErrNoVersion, name)
		}
	}
	z, err := decompressor(head, r)
	if err != nil {
		return "", fmt.Errorf("decompressing kernel: %w", err)
	}
	if z != nil {
		defer z.Close()
		r = z
	}
	return bannerVersion(io.LimitReader(r, maxKernel))
}

func bzImageVersion(kernel Content, head []byte) (string, error) {
	offset := int64(binary.LittleEndian.Uint16(head[bootKernelVersion:]))
	b := make([]byte, maxVersion)
	n, err := kernel.ReadAt(b, offset+0x200)
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading kernel: %w", err)
	}
	if v := versionPrefix(b[:n]); offset != 0 && v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%w: its boot header names none", ErrNoVersion)
}

// bannerVersion looks for the kernel's banner, "Linux version 6.12.1-arm64 (",
// keeping the end of each block for a banner that lies across two.
func bannerVersion(r io.Reader) (string, error) {
	banner := []byte("Linux version ")
	window := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, window[len(window):cap(window)])
		window = window[:len(window)+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return "", fmt.Errorf("reading kernel: %w", err)
		}
		rest := window
		for {
			i := bytes.Index(rest, banner)
			if i < 0 || !last && len(rest)-i < len(banner)+maxVersion {
				break
			}
			rest = rest[i+len(banner):]
			// Format strings ("Linux version %s") begin alike.
			if v := versionPrefix(rest); v != "" && v[0] >= '0' && v[0] <= '9' {
				return v, nil
			}
		}
		if last {
			return "", fmt.Errorf("%w: it has no banner", ErrNoVersion)
		}
		keep := min(len(rest), len(banner)+maxVersion)
		window = append(window[:0], rest[len(rest)-keep:]...)
	}
}

// versionPrefix returns the version that b begins with and a blank ends.
func versionPrefix(b []byte) string {
	end := bytes.IndexFunc(b, func(r rune) bool {
		return !strings.ContainsRune("+-.~_", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if end <= 0 || end >= maxVersion || b[end] != ' ' {
		return ""
	}
	return string(b[:end])
}
