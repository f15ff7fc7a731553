// Package btrfs writes btrfs file systems by itself (btrfs documentation,
// "On-disk Format").
//
// mkfs.btrfs --rootdir takes inode numbers and the order of names from the
// directory it reads, and times and UUIDs from the machine it runs on. What is
// written here is what mkfs.btrfs 6.2 makes by default of an empty disk, with
// files in it: one device, one subvolume, metadata twice, data once, CRC-32C,
// no compression. The same tree and options give the same bytes.
//
// The package does not read or change file systems, and makes no snapshots,
// RAID or compressed files.
package btrfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
	"github.com/applbuild/applbuild/builder/fs/internal/member"
	"github.com/google/uuid"
)

// Writer writes file systems.
type Writer struct {
	clock time.Time
	uuid  uuid.UUID
	label string
	size  int64
}

// Option changes how a Writer writes.
type Option func(*Writer)

// Label sets the volume's label, at most 255 bytes.
func Label(label string) Option { return func(b *Writer) { b.label = label } }

// New returns a writer of file systems of a size in bytes, a multiple of
// 4096. The clock is the file system's creation time and that of a root
// directory the tree does not have. All other UUIDs in it are made of id.
func New(clock time.Time, id uuid.UUID, size int64, opts ...Option) *Writer {
	b := &Writer{clock: clock, uuid: id, size: size}
	for _, o := range opts {
		o(b)
	}
	return b
}

// Write makes a file system of the tree at the path image. Errors match
// fs.ErrNoSpace.
func (b *Writer) Write(ctx context.Context, tree fs.Tree, image string) error {
	if err := b.write(ctx, tree, image); err != nil {
		return fmt.Errorf("btrfs: %w", err)
	}
	return nil
}

func (b *Writer) write(ctx context.Context, tree fs.Tree, image string) error {
	if err := fs.CheckVolume(fs.KindBtrfs, b.label, b.size, sectorSize); err != nil {
		return err
	}
	return imagefile.Create(image, func(dir, name string) (err error) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := f.Truncate(b.size); err != nil {
			return err
		}
		v := newVolume(f, b)
		s := &subvolume{volume: v, byPath: map[string]*inode{}}
		s.root(&tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: b.clock})
		if err := member.Each(ctx, tree, s.member); err != nil {
			return err
		}
		items, err := s.items()
		if err != nil {
			return err
		}
		return v.finish(items)
	})
}
