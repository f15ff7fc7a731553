package fs

import (
	"archive/tar"
	"path"
)

// Sizes of ext4 as it is made here, in bytes unless said otherwise (Linux
// kernel, Documentation/filesystems/ext4).
const (
	ext4Block      = 4096
	ext4Inode      = 256
	ext4Descriptor = 64
	ext4Group      = 32768          // blocks in a group
	ext4Reserved   = 11             // inodes up to and with lost+found's
	ext4LostFound  = 4              // blocks
	ext4DirRoom    = ext4Block - 12 // for entries in a block, before its checksum
	ext4Dots       = 24             // the entries . and ..
	ext4Name       = 255            // the longest name
	ext4FastLink   = 59             // the longest symbolic link kept in an inode
	ext4InodeXattr = 256 - 128 - 32 - 4
	ext4Extent     = 32768 // blocks in an extent at most
	ext4Extents    = 4     // in an inode
	ext4Leaf       = 340   // extents in a block
	ext4LastGroup  = 1024  // blocks; mke2fs drops a last group that is too small
	ext4Spare      = 64    // blocks; mke2fs wants 50 in a group besides its tables
)

// need computes the least blocks and inodes of a file system that the entries
// fit into, and a little more.
func (l *listing) need() (blocks, inodes int64) {
	inodes = ext4Reserved + 1
	dirs := map[string]*dirSize{".": {used: ext4Dots}}
	for _, e := range l.entries {
		h := e.header
		if h.Name != "." {
			dirs[path.Dir(h.Name)].add(path.Base(h.Name))
		}
		if h.Typeflag == tar.TypeLink {
			continue
		}
		inodes++
		switch h.Typeflag {
		case tar.TypeReg:
			blocks += fileBlocks(h.Size)
		case tar.TypeDir:
			if h.Name != "." {
				dirs[h.Name] = &dirSize{used: ext4Dots}
			}
		case tar.TypeSymlink:
			if len(h.Linkname) > ext4FastLink {
				blocks++
			}
		}
		if xattrBytes(e.xattrs) > ext4InodeXattr {
			blocks++
		}
	}
	for _, d := range dirs {
		blocks += d.full + 1
	}
	blocks += ext4LostFound
	inodes += inodes / 64
	blocks += blocks/200 + ext4Spare
	return withMetadata(blocks, inodes), inodes
}

// withMetadata adds to blocks of contents those of superblocks, descriptors,
// bitmaps and inode tables.
func withMetadata(contents, inodes int64) int64 {
	total := contents
	for {
		groups := (total + ext4Group - 1) / ext4Group
		perGroup := (inodes + groups - 1) / groups
		perGroup = (perGroup + 15) / 16 * 16
		table := perGroup * ext4Inode / ext4Block
		descriptors := (groups*ext4Descriptor + ext4Block - 1) / ext4Block
		next := contents + groups*(1+descriptors+2+table)
		if rest := next % ext4Group; rest > 0 && rest < ext4LastGroup && next > ext4Group {
			next += ext4LastGroup - rest
		}
		if next <= total {
			return total
		}
		total = next
	}
}

// fileBlocks returns the blocks of a file's contents and of the tree of its
// extents. Descriptors and bitmaps between groups may cut an extent.
func fileBlocks(size int64) int64 {
	n := (size + ext4Block - 1) / ext4Block
	extents := 1 + 2*(n/ext4Extent+1)
	if n > ext4Extent/4 && extents >= ext4Extents-1 {
		n += 1 + extents/ext4Leaf
	}
	return n
}

// xattrBytes returns what attributes take in an inode: an entry and its name
// without the prefix, and the value, each rounded up.
func xattrBytes(xattrs []xattr) (n int) {
	for _, x := range xattrs {
		n += 16 + len(x.name)/4*4 + 4 + (x.size+3)/4*4
	}
	if n > 0 {
		n += 4
	}
	return n
}

// dirSize counts the blocks of a directory.
type dirSize struct {
	full int64 // blocks before the last
	used int   // bytes in the last
}

func (d *dirSize) add(name string) {
	n := 8 + (len(name)+3)/4*4
	if d.used+n > ext4DirRoom {
		d.full++
		d.used = 0
	}
	d.used += n
}
