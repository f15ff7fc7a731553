package boots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/recipes"
)

// addDisk adds a disk: a copy of a file, or else an empty one.
func (t *testMachine) addDisk(ctx context.Context, name, source string, size int64) error {
	path := filepath.Join(t.dir, name+".raw")
	if source != "" {
		if err := copySparse(ctx, path, source); err != nil {
			return fmt.Errorf("disk %s: %w", name, err)
		}
	} else if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := growFile(path, wholeSectors(size)); err != nil {
		return err
	}
	d := vm.Drive{ID: name, Path: path, Write: true}
	if len(t.disks) > 0 {
		d.Serial = name
	}
	t.disks = append(t.disks, d)
	if guest := t.running(); guest != nil {
		d.Bus = t.started.Disks[0].Bus
		return guest.Plug(ctx, d)
	}
	return nil
}

// wholeSectors rounds a disk's size in bytes up to whole sectors.
func wholeSectors(size int64) int64 { return (size + 511) &^ 511 }

// growFile makes a disk's file at least as large as size.
func growFile(path string, size int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() >= size {
		return err
	}
	return os.Truncate(path, size)
}

func (t *testMachine) growDisk(ctx context.Context, name string, size int64) error {
	size = wholeSectors(size)
	for _, d := range t.disks {
		if d.ID != name {
			continue
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return err
		}
		if info.Size() > size {
			return fmt.Errorf("disk %s has %d bytes already, more than %d", name, info.Size(), size)
		}
		if guest := t.running(); guest != nil {
			return guest.Grow(ctx, name, size)
		}
		return os.Truncate(d.Path, size)
	}
	return fmt.Errorf("there is no disk %s", name)
}

// corrupt flips all bits of a part of a disk.
func (t *testMachine) corrupt(c *recipes.CorruptStep) error {
	if t.running() != nil {
		return errors.New("the machine runs")
	}
	i := 0
	for ; i < len(t.disks) && t.disks[i].ID != c.Disk; i++ {
	}
	if i == len(t.disks) {
		return fmt.Errorf("there is no disk %s", c.Disk)
	}
	f, err := os.OpenFile(t.disks[i].Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	begin, end, err := corruptRange(f, c.Partition)
	if err != nil {
		return err
	}
	at, length := begin, int64(c.Length)
	switch {
	case c.Offset != nil:
		at += int64(*c.Offset)
	case c.Block != nil:
		at += int64(*c.Block) * recipes.CorruptBlock
	}
	if at >= end || length > end-at {
		return fmt.Errorf("bytes %d to %d lie behind the end of it, which has %d", at-begin, at-begin+length, end-begin)
	}
	return errors.Join(flip(f, at, length), f.Close())
}

// flip flips all bits of bytes of a file.
func flip(f *os.File, at, length int64) error {
	b := make([]byte, length)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	for i := range b {
		b[i] ^= 0xff
	}
	_, err := f.WriteAt(b, at)
	return err
}

// corruptRange is where a partition, or the whole disk, begins and ends.
func corruptRange(f *os.File, partition string) (begin, end int64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || partition == "" {
		return 0, size, err
	}
	table, err := disk.Read(f, size)
	if err != nil {
		return 0, 0, err
	}
	var names []string
	for _, matches := range []func(disk.Entry) bool{
		func(e disk.Entry) bool { return e.Label == partition },
		func(e disk.Entry) bool { return disk.TypeName(e.Type) == partition },
		func(e disk.Entry) bool { return typeOfAnyArch(disk.TypeName(e.Type)) == partition },
	} {
		names = nil
		for _, e := range table.Partitions {
			if matches(e) {
				return e.Offset, e.Offset + e.Size, nil
			}
			names = append(names, e.Label)
		}
	}
	return 0, 0, fmt.Errorf("there is no partition %s, but %s", partition, strings.Join(names, ", "))
}

// typeOfAnyArch is the name of a partition's type without its architecture: root
// for root-x86-64, root-verity for root-x86-64-verity.
func typeOfAnyArch(name string) string {
	for _, arch := range []string{"-x86-64", "-arm64"} {
		name = strings.Replace(name, arch, "", 1)
	}
	return name
}

// copySparse copies a file and leaves out its holes.
func copySparse(ctx context.Context, to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	for off := int64(0); off < info.Size(); {
		data, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, data+copyStep)
		if _, err := src.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, hole-data); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		off = hole
	}
	return errors.Join(dst.Truncate(info.Size()), dst.Close())
}

// copyStep is how much is copied before an interruption is looked for, in bytes.
const copyStep = 64 << 20
