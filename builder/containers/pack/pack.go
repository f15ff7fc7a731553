// Package pack makes container images of trees: layers, a config and a
// manifest as the OCI image specification (image-spec v1.1: layer.md, config.md
// and manifest.md) has them.
//
// A layer is a tree's canonical archive (see rootfs/tree), compressed. The
// layer above it holds what edits of the tree changed: whatever is new or
// different, with the folders on the way, a whiteout for what is gone, and an
// opaque whiteout for a folder of which all is gone. The layers laid over one
// another are the tree, time stamps included. The same trees are the same
// bytes.
//
// The package reads no image and keeps nothing: see the packages beside it.
package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// whiteout begins the name of an entry that takes another one away, and
// opaque is the one that takes away all that lower layers have in its folder
// (layer.md, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = whiteout + whiteout + ".opq"
)

// A Compression is how a layer is compressed. Every runtime reads Gzip and
// None.
type Compression string

// The compressions of layers.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// writer compresses to w. One stream by one goroutine: how many processors a
// machine has is not to be seen in the bytes.
func (c Compression) writer(w io.Writer) (io.WriteCloser, string, error) {
	switch c {
	case None:
		return uncompressed{w}, containers.TypeOCILayer, nil
	case Gzip:
		z, err := gzip.NewWriterLevel(w, gzip.DefaultCompression)
		return z, containers.TypeOCILayerGzip, err
	case Zstd:
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
		return z, containers.TypeOCILayerZstd, err
	}
	return nil, "", fmt.Errorf("layers are compressed by gzip, zstd or none, not by %q", c)
}

type uncompressed struct{ io.Writer }

func (uncompressed) Close() error { return nil }

// measured counts and hashes what is written.
type measured struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (m *measured) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.hash.Write(p[:n])
	m.size += int64(n)
	return n, err
}

func digest(h hash.Hash) containers.Digest {
	return containers.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// WriteLayer writes a tree as a layer and says what was written. Files without
// a time, and those later than the clock, get the clock.
func WriteLayer(ctx context.Context, w io.Writer, t *tree.Tree, clock time.Time, c Compression) (containers.Layer, error) {
	blob := &measured{w: w, hash: sha256.New()}
	z, mediaType, err := c.writer(blob)
	if err != nil {
		return containers.Layer{}, err
	}
	diff := sha256.New()
	err = t.WriteTar(ctx, io.MultiWriter(diff, z), clock)
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return containers.Layer{}, fmt.Errorf("layer: %w", err)
	}
	return containers.Layer{Digest: digest(blob.hash), DiffID: digest(diff), MediaType: mediaType, Size: blob.size}, nil
}

// Check refuses a tree with a name that would be a whiteout in a layer.
func Check(t *tree.Tree) error {
	return t.Walk(func(e *tree.Entry) error {
		if strings.HasPrefix(path.Base(e.Path), whiteout) {
			return fmt.Errorf("/%s: in a container image a name that begins with %s takes a file away: rename or remove it", e.Path, whiteout)
		}
		return nil
	})
}
