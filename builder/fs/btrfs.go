package fs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Btrfs writes btrfs file systems by itself.
//
// mkfs.btrfs --rootdir takes inode numbers and the order of names from the
// directory it reads, and times and UUIDs from the machine it runs on. What is
// written here is what mkfs.btrfs 6.2 makes by default of an empty disk, with
// files in it: one device, one subvolume, metadata twice, data once, CRC-32C,
// no compression (btrfs documentation, "On-disk Format").
type Btrfs struct {
	clock time.Time
	uuid  uuid.UUID
	label string
	size  int64
}

// BtrfsOption changes how a Btrfs writes.
type BtrfsOption func(*Btrfs)

// BtrfsLabel sets the volume's label, at most 255 bytes.
func BtrfsLabel(label string) BtrfsOption { return func(b *Btrfs) { b.label = label } }

// NewBtrfs returns a writer of file systems of a size in bytes, a multiple of
// 4096. The clock is the file system's creation time and that of a root
// directory the tree does not have. All other UUIDs in it are made of id.
func NewBtrfs(clock time.Time, id uuid.UUID, size int64, opts ...BtrfsOption) *Btrfs {
	b := &Btrfs{clock: clock, uuid: id, size: size}
	for _, o := range opts {
		o(b)
	}
	return b
}

// Write makes a file system of the tree at the path image. Errors match ErrNoSpace.
func (b *Btrfs) Write(ctx context.Context, tree Tree, image string) error {
	if err := b.write(ctx, tree, image); err != nil {
		return fmt.Errorf("btrfs: %w", err)
	}
	return nil
}

func (b *Btrfs) write(ctx context.Context, tree Tree, image string) error {
	if err := checkVolume(KindBtrfs, b.label, b.size, btrfsSector); err != nil {
		return err
	}
	return create(image, func(dir, name string) (err error) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := f.Truncate(b.size); err != nil {
			return err
		}
		v := newBtrfsVolume(f, b)
		files := &btrfsFiles{volume: v, byPath: map[string]*btrfsInode{}}
		files.root(&tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: b.clock})
		if err := readTree(ctx, tree, func(r io.Reader) error { return files.read(ctx, r) }); err != nil {
			return err
		}
		items, err := files.items()
		if err != nil {
			return err
		}
		return v.finish(items)
	})
}

// btrfsInode is a file of the subvolume.
type btrfsInode struct {
	number  uint64
	header  *tar.Header
	size    uint64 // as the inode says it
	bytes   uint64 // allocated
	links   uint32
	entries uint64 // names in it, for a directory
}

// btrfsFiles collects the items of the subvolume while a tree is read.
type btrfsFiles struct {
	volume *btrfsVolume
	inodes []*btrfsInode
	byPath map[string]*btrfsInode
	list   []btrfsItem
	rooted bool // the tree has the root directory
}

// root makes the root directory.
func (s *btrfsFiles) root(h *tar.Header) {
	root := s.inode(h)
	root.links = 1
	s.byPath["."] = root
	s.add(root.number, btrfsInodeRef, root.number, btrfsRef(0, ".."))
}

func (s *btrfsFiles) inode(h *tar.Header) *btrfsInode {
	i := &btrfsInode{number: btrfsFirstFree + uint64(len(s.inodes)), header: h}
	s.inodes = append(s.inodes, i)
	return i
}

func (s *btrfsFiles) add(object uint64, kind byte, offset uint64, data []byte) {
	s.list = append(s.list, btrfsItem{btrfsKey{object, kind, offset}, data})
}

func (s *btrfsFiles) read(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tree: %w", err)
		}
		if err := s.member(h, tr); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// member takes one member of the tree over.
func (s *btrfsFiles) member(h *tar.Header, r io.Reader) error {
	name, err := memberName(h)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir || s.rooted {
			return errors.New("the root is no directory, or in the tree twice")
		}
		s.rooted, s.inodes[0].header = true, h
		return s.xattrs(s.inodes[0])
	}
	dir, base := path.Dir(name), path.Base(name)
	parent := s.byPath[dir]
	switch {
	case parent == nil || parent.header.Typeflag != tar.TypeDir:
		return errors.New("it comes before its directory")
	case s.byPath[name] != nil:
		return errors.New("it is in the tree twice")
	case len(base) > btrfsName || len(h.Linkname) >= btrfsSector:
		return fmt.Errorf("its name or target is longer than the %d or %d bytes that btrfs has for it", btrfsName, btrfsSector-1)
	}
	var i *btrfsInode
	if h.Typeflag == tar.TypeLink {
		if i = s.byPath[path.Clean(h.Linkname)]; i == nil || i.header.Typeflag == tar.TypeDir {
			return fmt.Errorf("its hard link's target %q is not there before it", h.Linkname)
		}
	} else {
		i = s.inode(h)
		if err := s.contents(i, r); err != nil {
			return err
		}
		if err := s.xattrs(i); err != nil {
			return err
		}
	}
	s.byPath[name] = i
	s.link(parent, i, base)
	return nil
}

// link gives an inode a name in a directory.
func (s *btrfsFiles) link(parent, i *btrfsInode, name string) {
	index := btrfsFirstIndex + parent.entries
	parent.entries++
	parent.size += 2 * uint64(len(name))
	i.links++
	entry := btrfsDirEntry(btrfsKey{i.number, btrfsInodeItem, 0}, btrfsType(i.header.Typeflag), name, nil)
	s.add(parent.number, btrfsDirItem, btrfsHash(name), entry)
	s.add(parent.number, btrfsDirIndex, index, entry)
	s.add(i.number, btrfsInodeRef, parent.number, btrfsRef(index, name))
}

// xattrs takes the extended attributes over.
func (s *btrfsFiles) xattrs(i *btrfsInode) error {
	for name, value := range memberXattrs(i.header) {
		if len(name) > btrfsName || len(value) > btrfsLeafRoom-btrfsItemSize-btrfsDirSize-len(name) {
			return fmt.Errorf("the extended attribute %q of %d bytes is larger than btrfs takes", name, len(value))
		}
		s.add(i.number, btrfsXattrItem, btrfsHash(name), btrfsDirEntry(btrfsKey{}, btrfsTypeXattr, name, []byte(value)))
	}
	return nil
}

// contents takes over what a file or symbolic link holds.
func (s *btrfsFiles) contents(i *btrfsInode, r io.Reader) error {
	h := i.header
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeFifo:
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("there is no device %d,%d", h.Devmajor, h.Devminor)
		}
		return nil
	case tar.TypeSymlink:
		i.size, i.bytes = uint64(len(h.Linkname)), uint64(len(h.Linkname))
		s.add(i.number, btrfsExtentData, 0, btrfsInline([]byte(h.Linkname)))
		return nil
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q of a tar member cannot be in a file system", h.Typeflag)
	}
	i.size = uint64(h.Size)
	if h.Size == 0 {
		return nil
	}
	if h.Size <= btrfsInlineMost {
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		i.bytes = i.size
		s.add(i.number, btrfsExtentData, 0, btrfsInline(data))
		return nil
	}
	for at := int64(0); at < h.Size; {
		e, err := s.volume.store(r, h.Size-at, i.number, uint64(at))
		if err != nil {
			return err
		}
		s.add(i.number, btrfsExtentData, uint64(at), btrfsRegular(e))
		i.bytes += uint64(e.length)
		at += e.length
	}
	return nil
}

// items returns the items of the subvolume in the order of their keys. Names
// with one hash, and names of one file in one directory, share an item.
func (s *btrfsFiles) items() ([]btrfsItem, error) {
	for _, i := range s.inodes {
		if i.header.Uid < 0 || i.header.Gid < 0 {
			return nil, fmt.Errorf("%q belongs to %d:%d, which cannot be", i.header.Name, i.header.Uid, i.header.Gid)
		}
		s.add(i.number, btrfsInodeItem, 0, btrfsInodeData(i))
	}
	slices.SortStableFunc(s.list, btrfsItem.compare)
	merged := s.list[:0]
	for _, item := range s.list {
		last := len(merged) - 1
		if last < 0 || merged[last].key != item.key {
			merged = append(merged, item)
			continue
		}
		merged[last].data = slices.Concat(merged[last].data, item.data)
		if len(merged[last].data) > btrfsLeafRoom-btrfsItemSize {
			return nil, fmt.Errorf("%q has more names in one directory, or names and attributes of one hash, than btrfs takes", s.inodes[item.key.object-btrfsFirstFree].header.Name)
		}
	}
	return merged, nil
}
