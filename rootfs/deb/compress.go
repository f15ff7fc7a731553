package deb

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"

	"github.com/applbuild/applbuild/rootfs/xz"
)

const (
	maxXZDictionary = 128 << 20 // bytes; xz -9 uses 64 MiB, dpkg 8 MiB
	maxZstdWindow   = 128 << 20 // bytes; dpkg uses 8 MiB
	readBuffer      = 256 << 10 // bytes
)

// Decoders open one stream after the other with the memory of the one
// before: a window of xz or zstd is megabytes, and most packages are small.
// The reader that open returned last is void with the next call.
type decoders struct {
	in   *bufio.Reader
	xz   *xz.Reader
	zstd *zstd.Decoder
}

// open decompresses a stream by the suffix of the member's name.
func (d *decoders) open(r io.Reader, suffix string) (io.Reader, error) {
	if d.in == nil {
		d.in = bufio.NewReaderSize(r, readBuffer)
	} else {
		d.in.Reset(r)
	}
	switch suffix {
	case "":
		return r, nil
	case ".gz":
		return gzip.NewReader(d.in)
	case ".xz":
		if d.xz == nil {
			var err error
			d.xz, err = xz.NewReader(r, xz.MaxDictionary(maxXZDictionary))
			return d.xz, err
		}
		return d.xz, d.xz.Reset(r)
	case ".zst":
		if d.zstd == nil {
			var err error
			d.zstd, err = zstd.NewReader(d.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
			return d.zstd, err
		}
		return d.zstd, d.zstd.Reset(d.in)
	case ".bz2":
		return bzip2.NewReader(d.in), nil
	case ".lzma":
		return lzma.ReaderConfig{DictCap: maxXZDictionary}.NewReader(d.in)
	}
	return nil, formatError("compression %q is not known: gz, xz, zst, bz2 and lzma are", suffix)
}

// openMember opens a member of the package whose name begins with prefix.
func (d *decoders) openMember(f *File, m member, prefix string) (io.Reader, error) {
	r, err := d.open(io.NewSectionReader(f.r, m.offset, m.size), m.name[len(prefix):])
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, m.name, err)
	}
	return r, nil
}

// close gives back what the garbage collector does not.
func (d *decoders) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}
