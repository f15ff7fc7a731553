package builder

import (
	"fmt"
	"slices"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/overlay"
)

// partitionFilesystems are the file systems of the recipe's partitions, sorted.
func partitionFilesystems(r *recipes.Recipe) []string {
	var list []string
	for _, p := range r.Partitions {
		list = append(list, p.Filesystem)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// overlayOptions says what the overlay has to provide for.
func overlayOptions(r *recipes.Recipe, l *lock.Lock) overlay.Options {
	var o overlay.Options
	for _, p := range l.Packages {
		o.Packages = append(o.Packages, p.Name)
	}
	for _, p := range r.Partitions {
		made := overlay.Partition{
			Name: p.Name, Filesystem: p.Filesystem, Label: p.Label, Mount: p.Mount,
			Min: int64(p.Size.Min), Max: int64(p.Size.Max), Weight: p.Size.Weight, Grow: *p.Grow,
			Keep: *p.Keep, Wipe: overlay.Wipe(p.Wipe), Other: p.Disk == recipes.DiskOther,
			Owner: ownerText(p.Owner), Mode: uint32(*p.Mode),
		}
		for _, d := range p.Directories {
			made.Directories = append(made.Directories, overlay.Directory{Path: d.Path, Owner: ownerText(d.Owner), Mode: uint32(*d.Mode)})
		}
		o.Partitions = append(o.Partitions, made)
	}
	holder := func(place string) string {
		return map[string]string{recipes.StatePersistent: recipes.PartitionData, recipes.StateVolatile: recipes.PartitionVolatile}[place]
	}
	s := r.State
	o.Places = overlay.Places{Etc: holder(s.Etc), Var: holder(s.Var), Home: holder(s.Home), Log: holder(s.Log), Containers: holder(s.Containers)}
	return o
}

// ownerText writes an owner as USER:GROUP.
func ownerText(o recipes.Owner) string {
	if o.Group == "" {
		return o.User
	}
	return o.User + ":" + o.Group
}

// enlarge makes the disk as large as it must be for the partitions that are made
// at the machine's first boot, and as the recipe wants it.
func (img *build) enlarge(layout *disk.Layout) error {
	plan, err := layout.Plan()
	if err != nil {
		return err
	}
	need := plan.Size
	for _, p := range img.recipe.Partitions {
		if p.Disk == recipes.DiskSystem && len(p.Contents) == 0 {
			need += roundUp(int64(p.Size.Min), disk.Alignment)
		}
	}
	if need > plan.Size {
		need += disk.Alignment // for what systemd-repart aligns otherwise
	}
	wanted := int64(img.recipe.Disk.Size)
	if wanted > 0 && need > wanted {
		return img.recipe.Problem("disk.size", fmt.Sprintf("%s is too small: the partitions need %d bytes, %d more", img.recipe.Disk.Size, need, need-wanted),
			"use a larger size, or smaller partitions", disk.ErrTooSmall)
	}
	layout.Size = roundUp(max(need, wanted), disk.Alignment)
	return nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
