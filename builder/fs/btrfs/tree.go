package btrfs

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/google/uuid"
)

// block is a node of a tree: a leaf with items, or one with children.
type block struct {
	level    byte
	first    key
	items    []item
	children []int // which blocks of its tree
}

// pack puts items into leaves and builds the nodes above them. The root
// is the last. It depends on the sizes of the items only.
func pack(items []item) []block {
	var blocks []block
	leaf, room := block{}, leafRoom
	for _, it := range items {
		n := itemSize + len(it.data)
		if n > room {
			blocks = append(blocks, leaf)
			leaf, room = block{}, leafRoom
		}
		if len(leaf.items) == 0 {
			leaf.first = it.key
		}
		leaf.items = append(leaf.items, it)
		room -= n
	}
	blocks = append(blocks, leaf)
	for from, level := 0, byte(1); len(blocks)-from > 1; level++ {
		to := len(blocks)
		for ; from < to; from += leafRoom / ptrSize {
			node := block{level: level, first: blocks[from].first}
			for i := from; i < min(to, from+leafRoom/ptrSize); i++ {
				node.children = append(node.children, i)
			}
			blocks = append(blocks, node)
		}
		from = to
	}
	return blocks
}

// btree is a tree and where its blocks begin.
type btree struct {
	owner  uint64
	start  int64
	blocks []block
}

func (t *btree) address(block int) uint64 { return uint64(t.start + int64(block)*nodeSize) }

// root returns the address and level of the tree's root.
func (t *btree) root() (uint64, byte) {
	last := len(t.blocks) - 1
	return t.address(last), t.blocks[last].level
}

// forest are all trees of a file system.
type forest struct {
	volume *volume
	chunks []chunk // that of the system first, that of metadata last
	all    []*btree
}

// put lays a tree's blocks into a chunk.
func (t *forest) put(c *chunk, owner uint64, items []item) {
	tree := &btree{owner: owner, start: c.start + c.used, blocks: pack(items)}
	c.used += int64(len(tree.blocks)) * nodeSize
	t.all = append(t.all, tree)
}

func (t *forest) tree(owner uint64) *btree {
	return t.all[slices.IndexFunc(t.all, func(tree *btree) bool { return tree.owner == owner })]
}

// build lays out all trees. Those come last whose contents depend on where
// the others are: the root tree, free space, and extents, the last of which also has
// items of its own blocks. Their numbers of blocks are found first.
func (t *forest) build(files []item) {
	system, meta := &t.chunks[0], &t.chunks[len(t.chunks)-1]
	t.put(system, chunkTree, t.chunkItems())
	t.put(meta, fsTree, files)
	t.put(meta, crcTree, t.crcItems())
	t.put(meta, devTree, t.devItems())
	t.put(meta, uuidTree, t.uuidItems())
	t.put(meta, relocTree, t.relocItems())
	t.put(meta, freeSpaceTree, t.freeItems())
	t.put(meta, rootTree, t.rootItems())
	t.put(meta, extentTree, nil)
	extents := t.tree(extentTree)
	for {
		was := len(extents.blocks)
		extents.blocks = pack(t.extentItems())
		meta.used += int64(len(extents.blocks)-was) * nodeSize
		if len(extents.blocks) == was {
			break
		}
	}
	extents.blocks = pack(t.extentItems())
	t.tree(freeSpaceTree).blocks = pack(t.freeItems())
	t.tree(rootTree).blocks = pack(t.rootItems())
}

// chunkItems describe the device and the chunks.
func (t *forest) chunkItems() []item {
	items := []item{{key{devObject, kindDevItem, 1}, t.device()}}
	for _, c := range t.chunks {
		items = append(items, item{key{firstChunk, kindChunkItem, uint64(c.start)}, t.chunk(c)})
	}
	return sorted(items)
}

func sorted(items []item) []item {
	slices.SortFunc(items, item.compare)
	return items
}

// device describes the only device.
func (t *forest) device() []byte {
	used := int64(0)
	for _, c := range t.chunks {
		used += c.length * int64(len(c.copies))
	}
	id := t.volume.derived("device")
	var f fields
	f.u64(1, uint64(t.volume.options.size), uint64(used))
	f.u32(sectorSize, sectorSize, sectorSize)
	f.zeros(3*8 + 4 + 2)
	f.u8(id[:]...)
	f.u8(t.volume.options.uuid[:]...)
	return f
}

func (t *forest) chunk(c chunk) []byte {
	const stripe = 64 << 10
	id := t.volume.derived("device")
	var f fields
	f.u64(uint64(c.length), extentTree, stripe, c.kind)
	f.u32(stripe, stripe, sectorSize)
	f.u16(uint16(len(c.copies)))
	f.u16(1)
	for _, at := range c.copies {
		f.u64(1, uint64(at))
		f.u8(id[:]...)
	}
	return f
}

// devItems say which chunk has which part of the device.
func (t *forest) devItems() (items []item) {
	id := t.volume.derived("chunk tree")
	for _, c := range t.chunks {
		for _, at := range c.copies {
			var f fields
			f.u64(chunkTree, firstChunk, uint64(c.start), uint64(c.length))
			f.u8(id[:]...)
			items = append(items, item{key{1, kindDevExtent, uint64(at)}, f})
		}
	}
	return sorted(items)
}

// crcItems are the checksums of all contents.
func (t *forest) crcItems() (items []item) {
	for i, c := range t.volume.data {
		at := c.start
		for sums := range slices.Chunk(t.volume.crcs[i], maxCRCs*4) {
			items = append(items, item{key{crcObject, kindExtentCRC, uint64(at)}, sums})
			at += maxCRCs * sectorSize
		}
	}
	return items
}

// uuidItems find the subvolume by its UUID.
func (t *forest) uuidItems() []item {
	id := t.volume.derived("subvolume")
	at := key{binary.LittleEndian.Uint64(id[:]), kindSubvolKey, binary.LittleEndian.Uint64(id[8:])}
	var f fields
	f.u64(fsTree)
	return []item{{at, f}}
}

// relocItems are an empty subvolume that Linux wants for moving extents.
func (t *forest) relocItems() []item {
	return []item{
		{key{firstFree, kindInodeItem, 0}, emptyDir(t.volume.options.clock)},
		{key{firstFree, kindInodeRef, firstFree}, nameRef(0, "..")},
	}
}

// freeItems say what is free in the chunks: their ends. There are as many
// whatever the trees take, as no chunk of trees is ever full.
func (t *forest) freeItems() (items []item) {
	for _, c := range t.chunks {
		var f fields
		rest := c.length - c.used
		f.u32(min(uint32(rest/sectorSize), 1), 0)
		items = append(items, item{key{uint64(c.start), kindFreeSpaceInfo, uint64(c.length)}, f})
		if rest > 0 {
			items = append(items, item{key{uint64(c.start + c.used), kindFreeSpaceExtent, uint64(rest)}, nil})
		}
	}
	return sorted(items)
}

// rootItems say where the other trees are. Trees that are not there yet count
// with their sizes only.
func (t *forest) rootItems() []item {
	clock := t.volume.options.clock
	items := []item{
		{key{fsTree, kindInodeRef, rootTreeDir}, nameRef(0, "default")},
		{key{rootTreeDir, kindInodeItem, 0}, emptyDir(clock)},
		{key{rootTreeDir, kindInodeRef, rootTreeDir}, nameRef(0, "..")},
		{key{rootTreeDir, kindDirItem, nameHash("default")},
			dirEntry(key{fsTree, kindRootItem, 1<<64 - 1}, 2, "default", nil)},
	}
	placed := map[uint64]*btree{}
	for _, tree := range t.all {
		placed[tree.owner] = tree
	}
	for _, owner := range []uint64{extentTree, devTree, fsTree, crcTree, uuidTree, freeSpaceTree, relocTree} {
		data := make([]byte, rootSize)
		if tree := placed[owner]; tree != nil {
			data = t.rootItem(tree)
		}
		items = append(items, item{key{owner, kindRootItem, 0}, data})
	}
	return sorted(items)
}

func (t *forest) rootItem(tree *btree) []byte {
	address, level := tree.root()
	directory := uint64(0)
	if tree.owner == fsTree || tree.owner == relocTree {
		directory = firstFree
	}
	var f fields
	inode := fields(inodeFields(3, nodeSize, 1, 0, 0, 0o40755, 0, t.volume.options.clock))
	f.u8(inode...)
	f.u64(generation, directory, address, 0, uint64(len(tree.blocks))*nodeSize, 0, 0)
	f.u32(1)
	f.key(key{})
	f.u8(0, level)
	f.u64(generation)
	var id uuid.UUID
	if tree.owner == fsTree {
		id = t.volume.derived("subvolume")
	}
	f.u8(id[:]...)
	f.zeros(2*16 + 4*8)
	for range 2 { // change, creation
		f.time(t.volume.options.clock)
	}
	f.zeros(rootSize - len(f))
	return f
}

// extentItems say what every used part of a chunk is used for.
func (t *forest) extentItems() (items []item) {
	for _, c := range t.chunks {
		var f fields
		f.u64(uint64(c.used), firstChunk, c.kind)
		items = append(items, item{key{uint64(c.start), kindGroupItem, uint64(c.length)}, f})
	}
	for _, e := range t.volume.extents {
		var f fields
		f.u64(1, generation, extentIsData)
		f.u8(kindExtentDataRef)
		f.u64(fsTree, e.inode, e.offset)
		f.u32(1)
		items = append(items, item{key{uint64(e.start), kindExtentItem, uint64(e.length)}, f})
	}
	for _, tree := range t.all {
		for i, b := range tree.blocks {
			var f fields
			f.u64(1, generation, extentIsTree)
			f.u8(kindTreeBlockRef)
			f.u64(tree.owner)
			items = append(items, item{key{tree.address(i), kindMetadataItem, uint64(b.level)}, f})
		}
	}
	return sorted(items)
}

// write writes a tree's blocks to every copy of its chunk.
func (t *forest) write(tree *btree) error {
	c := t.chunks[len(t.chunks)-1]
	if tree.owner == chunkTree {
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
func (t *forest) block(tree *btree, n int) []byte {
	b := tree.blocks[n]
	id := t.volume.derived("chunk tree")
	var f fields
	f.zeros(32)
	f.u8(t.volume.options.uuid[:]...)
	f.u64(tree.address(n), headerWritten|headerBackrefRev)
	f.u8(id[:]...)
	f.u64(generation, tree.owner)
	f.u32(uint32(len(b.items) + len(b.children)))
	f.u8(b.level)
	for _, child := range b.children {
		f.key(tree.blocks[child].first)
		f.u64(tree.address(child), generation)
	}
	end := leafRoom
	for _, it := range b.items {
		end -= len(it.data)
		f.key(it.key)
		f.u32(uint32(end), uint32(len(it.data)))
	}
	f.zeros(nodeSize - len(f))
	for end, i := nodeSize, 0; i < len(b.items); i++ {
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
func (t *forest) superblock(at int64) []byte {
	root, rootLevel := t.tree(rootTree).root()
	chunks, chunkLevel := t.tree(chunkTree).root()
	used := int64(0)
	for _, c := range t.chunks {
		used += c.used
	}
	v := t.volume
	var bootstrap fields
	bootstrap.key(key{firstChunk, kindChunkItem, uint64(v.system.start)})
	bootstrap.u8(t.chunk(t.chunks[0])...)
	var f fields
	f.zeros(32)
	f.u8(v.options.uuid[:]...)
	f.u64(uint64(at), headerWritten)
	f.text("_BHRfS_M")
	f.u64(generation, root, chunks, 0, 0, uint64(v.options.size), uint64(used), rootTreeDir, 1)
	f.u32(sectorSize, nodeSize, nodeSize, sectorSize, uint32(len(bootstrap)))
	f.u64(generation, 0, roFeatures, features)
	f.u16(0)
	f.u8(rootLevel, chunkLevel, 0)
	f.u8(t.device()...)
	f.text(v.options.label)
	f.zeros(256 - len(v.options.label))
	f.u64(0, generation)    // of the free space cache, which is none, and of the UUIDs' tree
	f.zeros(0x32b - len(f)) // for features that are not there
	f.u8(bootstrap...)
	f.zeros(sectorSize - len(f))
	return sealed(f)
}
