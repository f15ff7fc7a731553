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
	ext4InodeRatio = 16384 // bytes for an inode of a file system that is to be written
	ext4Growth     = 1024  // how many times its size a file system can become
)

// ext4Reserve is what a file system has besides what its tree needs.
type ext4Reserve struct {
	inodes  int64 // at least
	journal int64 // blocks
	grows   bool  // has room for the descriptors of more groups
}

// ext4Journal returns the blocks of the journal of a file system of a size in
// bytes. Below 1 GiB it is larger than mke2fs makes it, as the file system is to
// grow and the journal does not.
func ext4Journal(size int64) int64 {
	for _, step := range []struct{ below, journal int64 }{
		{64 << 20, 4 << 20}, {1 << 30, 16 << 20}, {2 << 30, 32 << 20}, {16 << 30, 64 << 20}, {32 << 30, 128 << 20}, {64 << 30, 256 << 20}, {128 << 30, 512 << 20},
	} {
		if size < step.below {
			return step.journal / ext4Block
		}
	}
	return 1 << 30 / ext4Block
}

// need computes the least blocks and inodes of a file system that the entries
// fit into, and a little more.
func (l *listing) need(reserve ext4Reserve) (blocks, inodes int64) {
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
	inodes = max(inodes+inodes/64, reserve.inodes)
	blocks += blocks/200 + ext4Spare + reserve.journal
	return withMetadata(blocks, inodes, reserve.grows), inodes
}

// withMetadata adds to blocks of contents those of superblocks, descriptors,
// bitmaps and inode tables.
func withMetadata(contents, inodes int64, grows bool) int64 {
	total := contents
	for {
		groups := (total + ext4Group - 1) / ext4Group
		perGroup := (inodes + groups - 1) / groups
		perGroup = (perGroup + 15) / 16 * 16
		table := perGroup * ext4Inode / ext4Block
		descriptors := (groups*ext4Descriptor + ext4Block - 1) / ext4Block
		next := contents + groups*(1+descriptors+2+table)
		if grows {
			next += backups(groups) * min(ext4Block/4, (groups*ext4Growth*ext4Descriptor+ext4Block-1)/ext4Block)
		}
		if rest := next % ext4Group; rest > 0 && rest < ext4LastGroup && next > ext4Group {
			next += ext4LastGroup - rest
		}
		if next <= total {
			return total
		}
		total = next
	}
}

// backups returns how many of the groups have a superblock: the first two and
// those whose numbers are powers of 3, 5 and 7.
func backups(groups int64) int64 {
	n := min(groups, 2)
	for _, base := range []int64{3, 5, 7} {
		for g := base; g < groups; g *= base {
			n++
		}
	}
	return n
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
