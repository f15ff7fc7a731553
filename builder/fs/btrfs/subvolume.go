package btrfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
)

// inode is a file of the subvolume.
type inode struct {
	number  uint64
	header  *tar.Header
	size    uint64 // as the inode says it
	bytes   uint64 // allocated
	links   uint32
	entries uint64 // names in it, for a directory
}

// subvolume collects the items of the subvolume while a tree is read.
type subvolume struct {
	volume *volume
	inodes []*inode
	byPath map[string]*inode
	list   []item
	rooted bool // the tree has the root directory
}

// root makes the root directory.
func (s *subvolume) root(h *tar.Header) {
	root := s.inode(h)
	root.links = 1
	s.byPath["."] = root
	s.add(root.number, kindInodeRef, root.number, nameRef(0, ".."))
}

func (s *subvolume) inode(h *tar.Header) *inode {
	i := &inode{number: firstFree + uint64(len(s.inodes)), header: h}
	s.inodes = append(s.inodes, i)
	return i
}

func (s *subvolume) add(object uint64, kind byte, offset uint64, data []byte) {
	s.list = append(s.list, item{key{object, kind, offset}, data})
}

// member takes one member of the tree over.
func (s *subvolume) member(h *tar.Header, r io.Reader) error {
	name, err := member.Name(h)
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
	case len(base) > maxName || len(h.Linkname) >= sectorSize:
		return fmt.Errorf("its name or target is longer than the %d or %d bytes that btrfs has for it", maxName, sectorSize-1)
	}
	var i *inode
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
func (s *subvolume) link(parent, i *inode, name string) {
	index := firstIndex + parent.entries
	parent.entries++
	parent.size += 2 * uint64(len(name))
	i.links++
	entry := dirEntry(key{i.number, kindInodeItem, 0}, entryType(i.header.Typeflag), name, nil)
	s.add(parent.number, kindDirItem, nameHash(name), entry)
	s.add(parent.number, kindDirIndex, index, entry)
	s.add(i.number, kindInodeRef, parent.number, nameRef(index, name))
}

// xattrs takes the extended attributes over.
func (s *subvolume) xattrs(i *inode) error {
	for name, value := range member.Xattrs(i.header) {
		if len(name) > maxName || len(value) > leafRoom-itemSize-dirSize-len(name) {
			return fmt.Errorf("the extended attribute %q of %d bytes is larger than btrfs takes", name, len(value))
		}
		s.add(i.number, kindXattrItem, nameHash(name), dirEntry(key{}, typeXattr, name, []byte(value)))
	}
	return nil
}

// contents takes over what a file or symbolic link holds.
func (s *subvolume) contents(i *inode, r io.Reader) error {
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
		s.add(i.number, kindExtentData, 0, inlineExtent([]byte(h.Linkname)))
		return nil
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q of a tar member cannot be in a file system", h.Typeflag)
	}
	i.size = uint64(h.Size)
	if h.Size == 0 {
		return nil
	}
	if h.Size <= maxInline {
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		i.bytes = i.size
		s.add(i.number, kindExtentData, 0, inlineExtent(data))
		return nil
	}
	for at := int64(0); at < h.Size; {
		e, err := s.volume.store(r, h.Size-at, i.number, uint64(at))
		if err != nil {
			return err
		}
		s.add(i.number, kindExtentData, uint64(at), regularExtent(e))
		i.bytes += uint64(e.length)
		at += e.length
	}
	return nil
}

// items returns the items of the subvolume in the order of their keys. Names
// with one hash, and names of one file in one directory, share an item.
func (s *subvolume) items() ([]item, error) {
	for _, i := range s.inodes {
		if i.header.Uid < 0 || i.header.Gid < 0 {
			return nil, fmt.Errorf("%q belongs to %d:%d, which cannot be", i.header.Name, i.header.Uid, i.header.Gid)
		}
		s.add(i.number, kindInodeItem, 0, inodeData(i))
	}
	slices.SortStableFunc(s.list, item.compare)
	merged := s.list[:0]
	for _, it := range s.list {
		last := len(merged) - 1
		if last < 0 || merged[last].key != it.key {
			merged = append(merged, it)
			continue
		}
		merged[last].data = slices.Concat(merged[last].data, it.data)
		if len(merged[last].data) > leafRoom-itemSize {
			return nil, fmt.Errorf("%q has more names in one directory, or names and attributes of one hash, than btrfs takes", s.inodes[it.key.object-firstFree].header.Name)
		}
	}
	return merged, nil
}
