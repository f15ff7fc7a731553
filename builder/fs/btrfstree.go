package fs

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/google/uuid"
)

// btrfsBlock is a node of a tree: a leaf with items, or one with children.
type btrfsBlock struct {
	level    byte
	first    btrfsKey
	items    []btrfsItem
	children []int // which blocks of its tree
}

// btrfsPack puts items into leaves and builds the nodes above them. The root
// is the last. It depends on the sizes of the items only.
func btrfsPack(items []btrfsItem) []btrfsBlock {
	var blocks []btrfsBlock
	leaf, room := btrfsBlock{}, btrfsLeafRoom
	for _, item := range items {
		n := btrfsItemSize + len(item.data)
		if n > room {
			blocks = append(blocks, leaf)
			leaf, room = btrfsBlock{}, btrfsLeafRoom
		}
		if len(leaf.items) == 0 {
			leaf.first = item.key
		}
		leaf.items = append(leaf.items, item)
		room -= n
	}
	blocks = append(blocks, leaf)
	for from, level := 0, byte(1); len(blocks)-from > 1; level++ {
		to := len(blocks)
		for ; from < to; from += btrfsLeafRoom / btrfsPtrSize {
			node := btrfsBlock{level: level, first: blocks[from].first}
			for i := from; i < min(to, from+btrfsLeafRoom/btrfsPtrSize); i++ {
				node.children = append(node.children, i)
			}
			blocks = append(blocks, node)
		}
		from = to
	}
	return blocks
}

// btrfsTree is a tree and where its blocks begin.
type btrfsTree struct {
	owner  uint64
	start  int64
	blocks []btrfsBlock
}

func (t *btrfsTree) address(block int) uint64 { return uint64(t.start + int64(block)*btrfsNode) }

// root returns the address and level of the tree's root.
func (t *btrfsTree) root() (uint64, byte) {
	last := len(t.blocks) - 1
	return t.address(last), t.blocks[last].level
}

// btrfsTrees are all trees of a file system.
type btrfsTrees struct {
	volume *btrfsVolume
	chunks []btrfsChunk // that of the system first, that of metadata last
	all    []*btrfsTree
}

// put lays a tree's blocks into a chunk.
func (t *btrfsTrees) put(c *btrfsChunk, owner uint64, items []btrfsItem) {
	tree := &btrfsTree{owner: owner, start: c.start + c.used, blocks: btrfsPack(items)}
	c.used += int64(len(tree.blocks)) * btrfsNode
	t.all = append(t.all, tree)
}

func (t *btrfsTrees) tree(owner uint64) *btrfsTree {
	return t.all[slices.IndexFunc(t.all, func(tree *btrfsTree) bool { return tree.owner == owner })]
}

// build lays out all trees. Those come last whose contents depend on where
// the others are: the root tree, free space, and extents, the last of which also has
// items of its own blocks. Their numbers of blocks are found first.
func (t *btrfsTrees) build(files []btrfsItem) {
	system, meta := &t.chunks[0], &t.chunks[len(t.chunks)-1]
	t.put(system, btrfsChunkTree, t.chunkItems())
	t.put(meta, btrfsFSTree, files)
	t.put(meta, btrfsCRCTree, t.crcItems())
	t.put(meta, btrfsDevTree, t.devItems())
	t.put(meta, btrfsUUIDTree, t.uuidItems())
	t.put(meta, btrfsRelocTree, t.relocItems())
	t.put(meta, btrfsFreeSpaceTree, t.freeItems())
	t.put(meta, btrfsRootTree, t.rootItems())
	t.put(meta, btrfsExtentTree, nil)
	extents := t.tree(btrfsExtentTree)
	for {
		was := len(extents.blocks)
		extents.blocks = btrfsPack(t.extentItems())
		meta.used += int64(len(extents.blocks)-was) * btrfsNode
		if len(extents.blocks) == was {
			break
		}
	}
	extents.blocks = btrfsPack(t.extentItems())
	t.tree(btrfsFreeSpaceTree).blocks = btrfsPack(t.freeItems())
	t.tree(btrfsRootTree).blocks = btrfsPack(t.rootItems())
}

// chunkItems describe the device and the chunks.
func (t *btrfsTrees) chunkItems() []btrfsItem {
	items := []btrfsItem{{btrfsKey{btrfsDevItems, btrfsDevItem, 1}, t.device()}}
	for _, c := range t.chunks {
		items = append(items, btrfsItem{btrfsKey{btrfsFirstChunk, btrfsChunkItem, uint64(c.start)}, t.chunk(c)})
	}
	return sorted(items)
}

func sorted(items []btrfsItem) []btrfsItem {
	slices.SortFunc(items, btrfsItem.compare)
	return items
}

// device describes the only device.
func (t *btrfsTrees) device() []byte {
	used := int64(0)
	for _, c := range t.chunks {
		used += c.length * int64(len(c.copies))
	}
	id := t.volume.derived("device")
	var f fields
	f.u64(1, uint64(t.volume.options.size), uint64(used))
	f.u32(btrfsSector, btrfsSector, btrfsSector)
	f.zeros(3*8 + 4 + 2)
	f.u8(id[:]...)
	f.u8(t.volume.options.uuid[:]...)
	return f
}

func (t *btrfsTrees) chunk(c btrfsChunk) []byte {
	const stripe = 64 << 10
	id := t.volume.derived("device")
	var f fields
	f.u64(uint64(c.length), btrfsExtentTree, stripe, c.kind)
	f.u32(stripe, stripe, btrfsSector)
	f.u16(uint16(len(c.copies)))
	f.u16(1)
	for _, at := range c.copies {
		f.u64(1, uint64(at))
		f.u8(id[:]...)
	}
	return f
}

// devItems say which chunk has which part of the device.
func (t *btrfsTrees) devItems() (items []btrfsItem) {
	id := t.volume.derived("chunk tree")
	for _, c := range t.chunks {
		for _, at := range c.copies {
			var f fields
			f.u64(btrfsChunkTree, btrfsFirstChunk, uint64(c.start), uint64(c.length))
			f.u8(id[:]...)
			items = append(items, btrfsItem{btrfsKey{1, btrfsDevExtent, uint64(at)}, f})
		}
	}
	return sorted(items)
}

// crcItems are the checksums of all contents.
func (t *btrfsTrees) crcItems() (items []btrfsItem) {
	for i, c := range t.volume.data {
		at := c.start
		for sums := range slices.Chunk(t.volume.crcs[i], btrfsCRCsMost*4) {
			items = append(items, btrfsItem{btrfsKey{btrfsCRCs, btrfsExtentCRC, uint64(at)}, sums})
			at += btrfsCRCsMost * btrfsSector
		}
	}
	return items
}

// uuidItems find the subvolume by its UUID.
func (t *btrfsTrees) uuidItems() []btrfsItem {
	id := t.volume.derived("subvolume")
	key := btrfsKey{binary.LittleEndian.Uint64(id[:]), btrfsSubvolKey, binary.LittleEndian.Uint64(id[8:])}
	var f fields
	f.u64(btrfsFSTree)
	return []btrfsItem{{key, f}}
}

// relocItems are an empty subvolume that Linux wants for moving extents.
func (t *btrfsTrees) relocItems() []btrfsItem {
	return []btrfsItem{
		{btrfsKey{btrfsFirstFree, btrfsInodeItem, 0}, btrfsDirectory(t.volume.options.clock)},
		{btrfsKey{btrfsFirstFree, btrfsInodeRef, btrfsFirstFree}, btrfsRef(0, "..")},
	}
}

// freeItems say what is free in the chunks: their ends. There are as many
// whatever the trees take, as no chunk of trees is ever full.
func (t *btrfsTrees) freeItems() (items []btrfsItem) {
	for _, c := range t.chunks {
		var f fields
		rest := c.length - c.used
		f.u32(min(uint32(rest/btrfsSector), 1), 0)
		items = append(items, btrfsItem{btrfsKey{uint64(c.start), btrfsFreeSpaceInfo, uint64(c.length)}, f})
		if rest > 0 {
			items = append(items, btrfsItem{btrfsKey{uint64(c.start + c.used), btrfsFreeSpaceExtent, uint64(rest)}, nil})
		}
	}
	return sorted(items)
}

// rootItems say where the other trees are. Trees that are not there yet count
// with their sizes only.
func (t *btrfsTrees) rootItems() []btrfsItem {
	clock := t.volume.options.clock
	items := []btrfsItem{
		{btrfsKey{btrfsFSTree, btrfsInodeRef, btrfsRootTreeDir}, btrfsRef(0, "default")},
		{btrfsKey{btrfsRootTreeDir, btrfsInodeItem, 0}, btrfsDirectory(clock)},
		{btrfsKey{btrfsRootTreeDir, btrfsInodeRef, btrfsRootTreeDir}, btrfsRef(0, "..")},
		{btrfsKey{btrfsRootTreeDir, btrfsDirItem, btrfsHash("default")},
			btrfsDirEntry(btrfsKey{btrfsFSTree, btrfsRootItem, 1<<64 - 1}, 2, "default", nil)},
	}
	placed := map[uint64]*btrfsTree{}
	for _, tree := range t.all {
		placed[tree.owner] = tree
	}
	for _, owner := range []uint64{btrfsExtentTree, btrfsDevTree, btrfsFSTree, btrfsCRCTree, btrfsUUIDTree, btrfsFreeSpaceTree, btrfsRelocTree} {
		data := make([]byte, btrfsRootSize)
		if tree := placed[owner]; tree != nil {
			data = t.rootItem(tree)
		}
		items = append(items, btrfsItem{btrfsKey{owner, btrfsRootItem, 0}, data})
	}
	return sorted(items)
}

func (t *btrfsTrees) rootItem(tree *btrfsTree) []byte {
	address, level := tree.root()
	directory := uint64(0)
	if tree.owner == btrfsFSTree || tree.owner == btrfsRelocTree {
		directory = btrfsFirstFree
	}
	var f fields
	inode := fields(btrfsInodeFields(3, btrfsNode, 1, 0, 0, 0o40755, 0, t.volume.options.clock))
	f.u8(inode...)
	f.u64(btrfsGeneration, directory, address, 0, uint64(len(tree.blocks))*btrfsNode, 0, 0)
	f.u32(1)
	f.key(btrfsKey{})
	f.u8(0, level)
	f.u64(btrfsGeneration)
	var id uuid.UUID
	if tree.owner == btrfsFSTree {
		id = t.volume.derived("subvolume")
	}
	f.u8(id[:]...)
	f.zeros(2*16 + 4*8)
	for range 2 { // change, creation
		f.time(t.volume.options.clock)
	}
	f.zeros(btrfsRootSize - len(f))
	return f
}

// extentItems say what every used part of a chunk is used for.
func (t *btrfsTrees) extentItems() (items []btrfsItem) {
	for _, c := range t.chunks {
		var f fields
		f.u64(uint64(c.used), btrfsFirstChunk, c.kind)
		items = append(items, btrfsItem{btrfsKey{uint64(c.start), btrfsGroupItem, uint64(c.length)}, f})
	}
	for _, e := range t.volume.extents {
		var f fields
		f.u64(1, btrfsGeneration, btrfsExtentIsData)
		f.u8(btrfsExtentDataRef)
		f.u64(btrfsFSTree, e.inode, e.offset)
		f.u32(1)
		items = append(items, btrfsItem{btrfsKey{uint64(e.start), btrfsExtentItem, uint64(e.length)}, f})
	}
	for _, tree := range t.all {
		for i, b := range tree.blocks {
			var f fields
			f.u64(1, btrfsGeneration, btrfsExtentIsTree)
			f.u8(btrfsTreeBlockRef)
			f.u64(tree.owner)
			items = append(items, btrfsItem{btrfsKey{tree.address(i), btrfsMetadataItem, uint64(b.level)}, f})
		}
	}
	return sorted(items)
}

// write writes a tree's blocks to every copy of its chunk.
func (t *btrfsTrees) write(tree *btrfsTree) error {
	c := t.chunks[len(t.chunks)-1]
	if tree.owner == btrfsChunkTree {
		c = t.chunks[0]
	}
	for i := range tree.blocks {
		b := t.block(tree, i)
		for _, at := range c.copies {
			if _, err := t.volume.disk.WriteAt(b, at+int64(tree.address(i))-c.start); err != nil {
				return err
			}
		}
	}
	return nil
}

// block returns the bytes of a tree's block.
func (t *btrfsTrees) block(tree *btrfsTree, n int) []byte {
	b := tree.blocks[n]
	id := t.volume.derived("chunk tree")
	var f fields
	f.zeros(32)
	f.u8(t.volume.options.uuid[:]...)
	f.u64(tree.address(n), btrfsWritten|btrfsBackrefRev)
	f.u8(id[:]...)
	f.u64(btrfsGeneration, tree.owner)
	f.u32(uint32(len(b.items) + len(b.children)))
	f.u8(b.level)
	for _, child := range b.children {
		f.key(tree.blocks[child].first)
		f.u64(tree.address(child), btrfsGeneration)
	}
	end := btrfsLeafRoom
	for _, item := range b.items {
		end -= len(item.data)
		f.key(item.key)
		f.u32(uint32(end), uint32(len(item.data)))
	}
	f.zeros(btrfsNode - len(f))
	for end, i := btrfsNode, 0; i < len(b.items); i++ {
		end -= len(b.items[i].data)
		copy(f[end:], b.items[i].data)
	}
	return sealed(f)
}

// sealed puts the checksum at a block's beginning.
func sealed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[32:], castagnoli))
	return b
}

// superblock returns the superblock's copy for a place on the disk.
func (t *btrfsTrees) superblock(at int64) []byte {
	root, rootLevel := t.tree(btrfsRootTree).root()
	chunks, chunkLevel := t.tree(btrfsChunkTree).root()
	used := int64(0)
	for _, c := range t.chunks {
		used += c.used
	}
	v := t.volume
	var bootstrap fields
	bootstrap.key(btrfsKey{btrfsFirstChunk, btrfsChunkItem, uint64(v.system.start)})
	bootstrap.u8(t.chunk(t.chunks[0])...)
	var f fields
	f.zeros(32)
	f.u8(v.options.uuid[:]...)
	f.u64(uint64(at), btrfsWritten)
	f.text("_BHRfS_M")
	f.u64(btrfsGeneration, root, chunks, 0, 0, uint64(v.options.size), uint64(used), btrfsRootTreeDir, 1)
	f.u32(btrfsSector, btrfsNode, btrfsNode, btrfsSector, uint32(len(bootstrap)))
	f.u64(btrfsGeneration, 0, btrfsROFeatures, btrfsFeatures)
	f.u16(0)
	f.u8(rootLevel, chunkLevel, 0)
	f.u8(t.device()...)
	f.text(v.options.label)
	f.zeros(256 - len(v.options.label))
	f.u64(0, btrfsGeneration) // of the free space cache, which is none, and of the UUIDs' tree
	f.zeros(0x32b - len(f))   // for features that are not there
	f.u8(bootstrap...)
	f.zeros(btrfsSector - len(f))
	return sealed(f)
}
