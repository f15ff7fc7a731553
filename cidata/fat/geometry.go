package fat

import "fmt"

const (
	reservedSectors = 1
	tables          = 2
	leastRootSlots  = 512     // what mkfs.vfat and Windows give
	sizeStep        = 1 << 20 // a volume is a multiple of it
	leastCluster    = 4       // sectors
	mostCluster     = 64
	// doubt is how far from the limits the number of clusters stays, because
	// readers differ in them by a few (the specification recommends 16).
	doubt = 16
)

// geometry is the layout of a volume that is written.
type geometry struct {
	bits         int // 12 or 16
	sectors      uint32
	perCluster   uint32 // sectors
	tableSectors uint32
	rootSlots    int
}

func (g geometry) clusterSize() int { return int(g.perCluster) * sectorSize }

// slots is how many directory entries a folder has.
func (s *source) slots() int {
	n := 2 // "." and ".."; the root has its label, and room for one more
	for _, c := range s.children {
		n += 1 + len(longSlots(c.name, c.short))
	}
	return n
}

// layOut chooses the smallest volume for a tree, and gives its nodes their
// clusters.
func layOut(root *source) (geometry, error) {
	var err error
	root.walk(func(s *source) {
		if s.dir && s.slots()*slotSize > maxFolderBytes || s == root && s.slots() > maxFixedRootSlots {
			err = fmt.Errorf("fat: %w: the folder %q has more or longer names than FAT allows", ErrLimit, "/"+s.name)
		}
	})
	if err != nil {
		return geometry{}, err
	}
	const perSector = sectorSize / slotSize
	rootSlots := max(leastRootSlots, (root.slots()+perSector-1)/perSector*perSector)
	for perCluster := uint32(leastCluster); perCluster <= mostCluster; perCluster *= 2 {
		need := assign(root, int(perCluster)*sectorSize)
		for sectors := (need*perCluster*sectorSize/sizeStep + 1) * sizeStep / sectorSize; ; sectors += sizeStep / sectorSize {
			g, clusters := fit(sectors, perCluster, rootSlots)
			if clusters > maxClusters16-doubt {
				break
			}
			if g.bits != 0 && clusters >= need {
				return g, nil
			}
		}
	}
	return geometry{}, fmt.Errorf("fat: %w: the files do not fit into a FAT16 volume", ErrLimit)
}

// fit divides a volume into tables and clusters. bits is 0 where the number of
// clusters is too near to a limit.
func fit(sectors, perCluster uint32, rootSlots int) (geometry, uint32) {
	g := geometry{sectors: sectors, perCluster: perCluster, rootSlots: rootSlots}
	var clusters uint32
	for _, bits := range []int{12, 16} {
		for g.tableSectors = 1; ; g.tableSectors++ {
			used := reservedSectors + tables*g.tableSectors + uint32(rootSlots*slotSize/sectorSize)
			clusters = (sectors - min(used, sectors)) / perCluster
			if g.tableSectors*sectorSize*8 >= (clusters+firstCluster)*uint32(bits) {
				break
			}
		}
		if bits == 12 && clusters <= maxClusters12-doubt || bits == 16 && clusters > maxClusters12+doubt {
			g.bits = bits
			break
		}
	}
	return g, clusters
}

// assign gives all nodes but the root their clusters of size bytes, one after
// the other, and returns their number.
func assign(root *source, size int) uint32 {
	next := uint32(firstCluster)
	root.walk(func(s *source) {
		n := len(s.data)
		if s.dir {
			n = s.slots() * slotSize
		}
		s.first, s.clusters = 0, 0
		if s == root || n == 0 {
			return
		}
		s.first, s.clusters = next, uint32((n+size-1)/size)
		next += s.clusters
	})
	return next - firstCluster
}
