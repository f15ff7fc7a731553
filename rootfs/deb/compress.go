package deb

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	maxXZDictionary = 512 << 20 // bytes; xz -9 uses 64 MiB
	maxZstdWindow   = 128 << 20 // bytes; dpkg -Z zstd -z 19 uses 8 MiB
	readBuffer      = 256 << 10 // bytes
)

// decompress opens a stream by the suffix of the member's name.
func decompress(r io.Reader, suffix string) (io.ReadCloser, error) {
	switch suffix {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		return gzip.NewReader(bufio.NewReaderSize(r, readBuffer))
	case ".xz":
		return newXZ(r)
	case ".zst":
		return newZstd(r)
	case ".bz2":
		return io.NopCloser(bzip2.NewReader(bufio.NewReaderSize(r, readBuffer))), nil
	case ".lzma":
		z, err := lzma.NewReader(bufio.NewReaderSize(r, readBuffer))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	}
	return nil, formatError("compression %q is not known: gz, xz, zst, bz2 and lzma are", suffix)
}

func newXZ(r io.Reader) (io.ReadCloser, error) {
	z, err := xz.NewReader(bufio.NewReaderSize(r, readBuffer), maxXZDictionary)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

func newZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
