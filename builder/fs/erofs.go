package fs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
	"github.com/google/uuid"
)

// Erofs writes erofs images with mkfs.erofs. From erofs-utils 1.7 on it reads
// the tree as it comes; earlier ones need a TreeTool.
type Erofs struct {
	tool        Tool
	clock       time.Time
	uuid        uuid.UUID
	compression string
	level       int
	cluster     int
}

// ErofsOption changes how an Erofs writes.
type ErofsOption func(*Erofs)

// ErofsCompression sets the compression: lz4hc (which is the default), lz4,
// zstd (erofs-utils 1.8, Linux 6.10) or none. Level 0 is the program's own.
func ErofsCompression(name string, level int) ErofsOption {
	return func(e *Erofs) { e.compression, e.level = name, level }
}

// ErofsClusterSize sets the size in bytes that data is compressed into at
// most, a multiple of 4096 up to 1 MiB. 64 KiB is the default.
func ErofsClusterSize(n int) ErofsOption { return func(e *Erofs) { e.cluster = n } }

// NewErofs returns a writer. The clock is the image's creation time and that
// of a root directory the tree does not have.
func NewErofs(tool Tool, clock time.Time, id uuid.UUID, opts ...ErofsOption) *Erofs {
	e := &Erofs{tool: tool, clock: clock, uuid: id, compression: "lz4hc", cluster: 64 << 10}
	for _, o := range opts {
		o(e)
	}
	return e
}

// Write makes an image of the tree at path. Errors match ErrNoTree where the
// program is too old for a Tool that is no TreeTool. The size is a multiple
// of 4096 bytes.
func (e *Erofs) Write(ctx context.Context, tree Tree, path string) error {
	flags, err := e.flags()
	if err != nil {
		return fmt.Errorf("erofs: %w", err)
	}
	options, err := help(ctx, e.tool, path, "mkfs.erofs", "--help")
	if err != nil {
		return fmt.Errorf("erofs: %w", err)
	}
	rooted := rootedTree{tree, e.clock}
	err = imagefile.Create(path, func(dir, name string) error {
		// -T sets the times of all files too in early versions. This sets the
		// creation time, and holds back files that are newer.
		cmd := Command{Env: environment("SOURCE_DATE_EPOCH=" + strconv.FormatInt(e.clock.Unix(), 10)), Dir: dir}
		if strings.Contains(options, "--tar=") {
			cmd.Argv = append(append([]string{"mkfs.erofs"}, flags...), "--tar=f", name)
			return feed(ctx, e.tool, rooted, cmd)
		}
		tt, ok := e.tool.(TreeTool)
		if !ok {
			return ErrNoTree
		}
		cmd.Argv = append(append([]string{"mkfs.erofs"}, flags...), name, "{tree}")
		return explain(cmd, func(cmd Command) error { return tt.RunOnTree(ctx, rooted, cmd) })
	})
	if err != nil {
		return fmt.Errorf("erofs: %w", err)
	}
	return nil
}

func (e *Erofs) flags() ([]string, error) {
	if e.cluster < 4096 || e.cluster > 1<<20 || e.cluster%4096 != 0 {
		return nil, fmt.Errorf("cluster size %d is not a multiple of 4096 up to 1048576", e.cluster)
	}
	flags := []string{"--quiet", "--preserve-mtime", "-U" + e.uuid.String()}
	most := map[string]int{"none": 0, "lz4": 0, "lz4hc": 12, "zstd": 22}
	top, ok := most[e.compression]
	if !ok {
		return nil, fmt.Errorf("unknown compression %q; use lz4hc, lz4, zstd or none", e.compression)
	}
	if e.level < 0 || e.level > top {
		return nil, fmt.Errorf("compression %s has no level %d; its levels are 0 to %d", e.compression, e.level, top)
	}
	if e.compression == "none" {
		return flags, nil
	}
	z := "-z" + e.compression
	if e.level > 0 {
		z += "," + strconv.Itoa(e.level)
	}
	return append(flags, z, "-C"+strconv.Itoa(e.cluster)), nil
}

// rootedTree is a tree with an entry for the root directory before all
// others, which says 0:0, 0755 and the clock unless the tree has one itself.
type rootedTree struct {
	tree  Tree
	clock time.Time
}

func (t rootedTree) WriteTar(ctx context.Context, w io.Writer) error {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	h := &tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: t.clock.Truncate(time.Second), Format: tar.FormatUSTAR}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	return t.tree.WriteTar(ctx, w)
}
