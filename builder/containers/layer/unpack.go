package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/applbuild/applbuild/builder/containers"
)

// A Compression is how a blob was compressed.
type Compression int

// What Unpack understands.
const (
	Plain Compression = iota
	Gzip
	Zstd
)

// Info says what Unpack found out about a layer.
type Info struct {
	Size        int64 // of the uncompressed archive, in bytes
	Entries     int
	Compression Compression
	UIDs, GIDs  []uint32 // all owners in the archive, sorted
	// Repeats says that a path comes twice in the archive. There are no
	// tar-split data for such an archive then.
	Repeats bool
}

// Unpack reads a layer's blob from r, decompresses it and writes the archive
// to w. To split it writes what is needed to make the same archive again out
// of the unpacked files: tar-split's records, compressed with gzip, as
// containers/storage keeps them. The compression is told by the blob's first
// bytes, because media types are not always true.
//
// Nothing written counts before Unpack returned without an error: digests are
// known at the end only. Errors match ErrFormat, ErrDigest, ErrTooLarge, or
// are those of r, w, split or the context.
func Unpack(ctx context.Context, r io.Reader, l containers.Layer, w, split io.Writer, limits Limits) (Info, error) {
	blob := &blobReader{ctx: ctx, r: r, most: l.Size, sum: sha256.New()}
	plain, compression, err := decompress(blob)
	if err != nil {
		return Info{}, fmt.Errorf("layer %s: %w", l.Digest, blob.blame(err, l.Digest))
	}
	defer plain.Close()
	archive := &archiveReader{r: plain, w: w, most: limits.Size, sum: sha256.New()}
	info := Info{Compression: compression}
	if err := info.read(archive, split, limits); err != nil {
		return Info{}, fmt.Errorf("layer %s: %w", l.Digest, blob.blame(err, l.Digest))
	}
	info.Size = archive.size
	if err := blob.finish(l.Digest); err != nil {
		return Info{}, fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	if got := digest(archive.sum); got != l.DiffID {
		return Info{}, fmt.Errorf("layer %s: %w: uncompressed it is %s, the image's config says %s", l.Digest, ErrDigest, got, l.DiffID)
	}
	return info, nil
}

func digest(sum hash.Hash) containers.Digest {
	return containers.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))
}

// A blobReader reads the bytes as they were fetched.
type blobReader struct {
	ctx  context.Context
	r    io.Reader
	most int64 // bytes
	size int64
	sum  hash.Hash
	err  error // of r
}

func (b *blobReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		b.err = err
		return 0, err
	}
	n, err := b.r.Read(p)
	b.sum.Write(p[:n])
	if b.size += int64(n); b.size > b.most {
		b.err = fmt.Errorf("%w: it goes on after the %d bytes that the manifest tells", ErrDigest, b.most)
		return 0, b.err
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// blame returns why a layer could not be read: because its reader failed,
// because it is not the blob that was asked for, or else err.
func (b *blobReader) blame(err error, want containers.Digest) error {
	if b.err != nil {
		return b.err
	}
	if errors.Is(err, ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) {
		if wrong := b.finish(want); wrong != nil {
			return wrong
		}
	}
	return err
}

// finish reads what a decompressor left and compares the digest.
func (b *blobReader) finish(want containers.Digest) error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return err
	}
	if b.size < b.most {
		return fmt.Errorf("%w: it ends after %d bytes of %d", ErrDigest, b.size, b.most)
	}
	if got := digest(b.sum); got != want {
		return fmt.Errorf("%w: its content is %s", ErrDigest, got)
	}
	return nil
}

const (
	blobBuffer = 256 << 10 // bytes
	// zstdWindow is the largest window of zstd, in bytes: that of level 22.
	zstdWindow = 128 << 20
)

var (
	magicGzip = []byte{0x1f, 0x8b, 8}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// What containers/storage knows, the OCI specification does not.
	magicXz    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	magicBzip2 = []byte{'B', 'Z', 'h'}
)

func decompress(blob io.Reader) (io.ReadCloser, Compression, error) {
	in := bufio.NewReaderSize(blob, blobBuffer)
	head, err := in.Peek(len(magicXz))
	if err != nil && err != io.EOF {
		return nil, Plain, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		r, err := gzip.NewReader(in)
		if err != nil {
			return nil, Gzip, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return r, Gzip, nil
	case bytes.HasPrefix(head, magicZstd):
		r, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, Zstd, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return r.IOReadCloser(), Zstd, nil
	case bytes.HasPrefix(head, magicXz), bytes.HasPrefix(head, magicBzip2):
		return nil, Plain, fmt.Errorf("%w: compressed with xz or bzip2; gzip and zstd are understood", ErrFormat)
	}
	return io.NopCloser(in), Plain, nil
}

// An archiveReader reads the uncompressed archive, writes a copy of it and
// ends it where it becomes too large.
type archiveReader struct {
	r    io.Reader
	w    io.Writer
	most int64 // bytes
	size int64
	sum  hash.Hash
	err  error // anything but the end
}

func (a *archiveReader) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.r.Read(p)
	if a.size += int64(n); a.size > a.most {
		a.err = fmt.Errorf("%w: uncompressed it has more than %d bytes, which is the limit", ErrTooLarge, a.most)
		return 0, a.err
	}
	a.sum.Write(p[:n])
	if _, werr := a.w.Write(p[:n]); werr != nil {
		a.err = werr
		return 0, werr
	}
	if err != nil && err != io.EOF {
		a.err = fmt.Errorf("%w: decompressing: %w", ErrFormat, err)
		return n, a.err
	}
	return n, err
}

// read takes an archive apart.
func (info *Info) read(archive *archiveReader, split io.Writer, limits Limits) error {
	// Best speed, as containers/storage does.
	zw, err := gzip.NewWriterLevel(split, gzip.BestSpeed)
	if err != nil {
		return err
	}
	p := &packer{Packer: storage.NewJSONPacker(zw)}
	stream, done, err := asm.NewInputTarStreamWithDone(archive, p, storage.NewDiscardFilePutter())
	if err != nil {
		return err
	}
	listErr := info.list(stream, limits)
	stream.Close()
	splitErr := <-done
	switch {
	case archive.err != nil:
		return archive.err
	case p.err != nil:
		return p.err
	case listErr != nil:
		return listErr
	case splitErr != nil:
		return fmt.Errorf("%w: %w", ErrFormat, splitErr)
	}
	info.Repeats = p.repeats
	return zw.Close()
}

// list reads all of an archive and notes who its files belong to.
func (info *Info) list(r io.Reader, limits Limits) error {
	uids, gids := map[uint32]bool{}, map[uint32]bool{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if info.Entries++; info.Entries > limits.Entries {
			return fmt.Errorf("%w: it has more than %d entries, which is the limit", ErrTooLarge, limits.Entries)
		}
		if !strings.HasPrefix(path.Base(h.Name), whiteoutPrefix) {
			uids[uint32(h.Uid)], gids[uint32(h.Gid)] = true, true
		}
	}
	info.UIDs, info.GIDs = slices.Sorted(maps.Keys(uids)), slices.Sorted(maps.Keys(gids))
	// What comes after the archive's end belongs to it too.
	_, err := io.Copy(io.Discard, r)
	return err
}

// A packer keeps tar-split's records until a path comes a second time, which
// tar-split cannot put together again.
type packer struct {
	storage.Packer
	repeats bool
	err     error // of writing
}

func (p *packer) AddEntry(e storage.Entry) (int, error) {
	if p.repeats {
		return 0, nil
	}
	n, err := p.Packer.AddEntry(e)
	if errors.Is(err, storage.ErrDuplicatePath) {
		p.repeats = true
		return 0, nil
	}
	if err != nil {
		p.err = err
	}
	return n, err
}
