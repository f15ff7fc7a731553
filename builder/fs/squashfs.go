package fs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
)

// Squashfs writes squashfs 4.0 images with mksquashfs 4.5 or later.
type Squashfs struct {
	tool        Tool
	clock       time.Time
	compression string
	level       int
	blockSize   int
	processors  int
}

// SquashfsOption changes how a Squashfs writes.
type SquashfsOption func(*Squashfs)

// SquashfsCompression sets the compression: zstd (which is the default), lz4,
// lz4hc, xz, gzip or none. Level 0 is the program's own; it counts for zstd
// (1 to 22) and gzip (1 to 9) only.
func SquashfsCompression(name string, level int) SquashfsOption {
	return func(s *Squashfs) { s.compression, s.level = name, level }
}

// SquashfsBlockSize sets the size of data blocks in bytes, a power of two
// from 4096 to 1 MiB. 128 KiB is the default.
func SquashfsBlockSize(n int) SquashfsOption { return func(s *Squashfs) { s.blockSize = n } }

// SquashfsProcessors limits how many cores compress. The image is the same
// for any number; 0 is all.
func SquashfsProcessors(n int) SquashfsOption { return func(s *Squashfs) { s.processors = n } }

// NewSquashfs returns a writer. The clock is the image's creation time and
// that of its root directory; no file may be newer.
func NewSquashfs(tool Tool, clock time.Time, opts ...SquashfsOption) *Squashfs {
	s := &Squashfs{tool: tool, clock: clock, compression: "zstd", blockSize: 128 << 10}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Write makes an image of the tree at path. The root directory belongs to 0:0
// and has mode 0755, whatever the tree says. POSIX ACLs are left out, as
// squashfs has none. The size is a multiple of 4096 bytes.
func (s *Squashfs) Write(ctx context.Context, tree Tree, path string) error {
	flags, err := s.flags()
	if err != nil {
		return fmt.Errorf("squashfs: %w", err)
	}
	// Since 4.7 -help lists sections only; before, any unknown option lists all.
	options, err := help(ctx, s.tool, path, "mksquashfs", "-help-all")
	if err != nil {
		return fmt.Errorf("squashfs: %w", err)
	}
	if !strings.Contains(options, "-tar") {
		return errors.New("squashfs: this mksquashfs cannot read tar archives; use version 4.5 or later")
	}
	if strings.Contains(options, "-root-uid") {
		flags = append(flags, "-root-uid", "0", "-root-gid", "0")
	}
	if !strings.Contains(options, "-xattrs-include") {
		// Versions before 4.6 take "/", "./" and "../" off the beginning of a
		// symbolic link's target that stands in a PAX header.
		tree = gnuLinks{tree}
	}
	err = imagefile.Create(path, func(dir, name string) error {
		return feed(ctx, s.tool, tree, Command{
			Argv: append([]string{"mksquashfs", "-", name}, flags...),
			// Versions differ in what -root-time does with archives. This sets it
			// and the creation time, and holds back files that are newer.
			Env: environment("SOURCE_DATE_EPOCH=" + strconv.FormatInt(s.clock.Unix(), 10)),
			Dir: dir,
		})
	})
	if err != nil {
		return fmt.Errorf("squashfs: %w", err)
	}
	return nil
}

// flags returns the arguments that every version takes.
func (s *Squashfs) flags() ([]string, error) {
	if s.blockSize < 4096 || s.blockSize > 1<<20 || s.blockSize&(s.blockSize-1) != 0 {
		return nil, fmt.Errorf("block size %d is not a power of two from 4096 to 1048576", s.blockSize)
	}
	compression, err := s.compressionFlags()
	if err != nil {
		return nil, err
	}
	// Errors that mksquashfs would pass over are errors here.
	flags := []string{"-tar", "-noappend", "-no-progress", "-quiet", "-no-recovery", "-exit-on-error",
		"-no-exports", "-root-mode", "0755", "-b", strconv.Itoa(s.blockSize)}
	if s.processors > 0 {
		flags = append(flags, "-processors", strconv.Itoa(s.processors))
	}
	return append(flags, compression...), nil
}

func (s *Squashfs) compressionFlags() ([]string, error) {
	most := 0
	var flags []string
	switch s.compression {
	case "zstd":
		flags, most = []string{"-comp", "zstd"}, 22
	case "gzip":
		flags, most = []string{"-comp", "gzip"}, 9
	case "xz", "lz4":
		flags = []string{"-comp", s.compression}
	case "lz4hc":
		flags = []string{"-comp", "lz4", "-Xhc"}
	case "none":
		flags = []string{"-noI", "-noD", "-noF", "-noX"}
	default:
		return nil, fmt.Errorf("unknown compression %q; use zstd, lz4, lz4hc, xz, gzip or none", s.compression)
	}
	switch {
	case s.level == 0:
		return flags, nil
	case s.level < 0 || s.level > most:
		return nil, fmt.Errorf("compression %s has no level %d; its levels are 0 to %d", s.compression, s.level, most)
	}
	return append(flags, "-Xcompression-level", strconv.Itoa(s.level)), nil
}
