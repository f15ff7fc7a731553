package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/fs/btrfs"
	"github.com/applbuild/applbuild/builder/plan"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Files of the results of the stages volume and root.
const (
	fileVolume = "volume.img"
	filePasswd = "passwd"
	fileGroup  = "group"
)

// volume is a partition that is made with the image because it has contents.
type volume struct {
	Partition recipes.Partition
	Contents  []fileEdit
	Seed      string
	Clock     int64

	index int      // among the recipe's partitions
	key   plan.Key // of its stage
	edits *edits   // the contents
}

// readVolumes reads what the recipe's partitions have from the beginning.
func (img *build) readVolumes(ctx context.Context) error {
	for i, p := range img.recipe.Partitions {
		if len(p.Contents) == 0 {
			continue
		}
		e := &edits{}
		for j, c := range p.Contents {
			at := img.recipe.Position(fmt.Sprintf("%s.contents[%d]", p.At, j)).String()
			file := recipes.File{Path: c.Path, Content: c.Content, Source: c.Source, SourceFile: c.SourceFile, Mode: c.Mode, Owner: c.Owner}
			if err := e.readFile(ctx, file, at); err != nil {
				return fmt.Errorf("%s: partition %s: %s: %w", at, p.Name, c.Path, err)
			}
		}
		img.volumes = append(img.volumes, &volume{
			Partition: p, Contents: e.Files, Seed: img.recipe.Seed, Clock: img.clock.Unix(), index: i, edits: e,
		})
	}
	return nil
}

// names says that an owner of the contents is given by a name that the root's
// accounts say the number of.
func (v *volume) names() bool {
	for _, f := range v.Contents {
		for _, id := range []string{f.Owner.User, f.Owner.Group} {
			if id != "" && id != "root" && (id[0] < '0' || id[0] > '9') {
				return true
			}
		}
	}
	return false
}

// volumeStages makes the partitions that have contents, by the recipe's order.
func (img *build) volumeStages(ctx context.Context, root *store.Result) ([]*store.Result, error) {
	var results []*store.Result
	for _, v := range img.volumes {
		result, err := img.do(ctx, "partition "+v.Partition.Name, v.key, func(ctx context.Context, d *store.Draft) error {
			return img.writeVolume(ctx, v, root, d.File(fileVolume))
		})
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (img *build) writeVolume(ctx context.Context, v *volume, root *store.Result, path string) error {
	t, err := img.accountsOf(ctx, root)
	if err != nil {
		return err
	}
	contents := tree.New()
	for i := range v.edits.Files {
		f := &v.edits.Files[i]
		close, err := f.put(contents, t)
		if err != nil {
			return fmt.Errorf("%s: partition %s: /%s: %w", f.At, v.Partition.Name, f.Path, err)
		}
		defer close()
	}
	source := &treeSource{tree: contents, clock: img.clock, progress: func(int64) {}}
	err = img.volumeWriter(v.Partition)(ctx, source, path)
	if errors.Is(err, fs.ErrNoSpace) {
		return img.recipe.Problem(v.Partition.At+".size", fmt.Sprintf("partition %s of %s is too small for its contents", v.Partition.Name, v.Partition.Size.Min),
			"give it a larger size: "+err.Error(), err)
	}
	if err != nil {
		return fmt.Errorf("partition %s: %w", v.Partition.Name, err)
	}
	return v.edits.unchanged()
}

// accountsOf returns a tree with the root's users and groups.
func (img *build) accountsOf(ctx context.Context, root *store.Result) (*tree.Tree, error) {
	t := tree.New()
	for _, name := range []string{filePasswd, fileGroup} {
		data, err := readResult(ctx, root, name)
		if err != nil {
			return nil, img.damaged(root, err)
		}
		if err := t.WriteFile("etc/"+name, data, 0o644, 0, 0); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// volumeWriter returns what writes a partition's file system.
func (img *build) volumeWriter(p recipes.Partition) func(context.Context, fs.Tree, string) error {
	id := img.seed.UUID("file system of partition " + p.Name)
	size := roundUp(int64(p.Size.Min), disk.Alignment)
	switch p.Filesystem {
	case recipes.Btrfs:
		return btrfs.New(img.clock, id, size, btrfs.Label(p.Label)).Write
	case recipes.XFS:
		return fs.NewXFS(img.tools, img.clock, id, size, fs.XFSLabel(p.Label)).Write
	}
	return fs.NewExt4(img.tools, img.clock, id, img.seed.UUID("hash seed of partition "+p.Name),
		fs.Ext4Size(size), fs.Ext4Label(p.Label), fs.Ext4Writable()).Write
}

// partitionType is the type of a partition on the disk.
func partitionType(p recipes.Partition) string {
	switch {
	case p.Filesystem == recipes.Swap:
		return disk.TypeSwap
	case p.Mount == "/home":
		return disk.TypeHome
	case p.Mount == "/srv":
		return disk.TypeSrv
	}
	return disk.TypeLinux
}
