package builder

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/builder/verity"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// What the result of the stage root holds.
const (
	fileRoot       = "root.img"
	fileHashes     = "root.verity"
	filePackages   = "packages.json"
	valueRootHash  = "root hash"
	valueOSRelease = "os-release"
)

const stageRoot = "root"

// root lays the recipe's edits over the base tree, writes it as a file system
// and hashes that for dm-verity. The tree is never on disk a second time: what
// the writer of the file system reads is a merged stream.
// Of container images the layers are a part of it.
func (img *build) root(ctx context.Context, base *store.Result, unpacked map[containers.Digest]*store.Result) (*store.Result, error) {
	return img.do(ctx, stageRoot, img.keys.root, func(ctx context.Context, d *store.Draft) error {
		t, closeTree, err := img.openTree(ctx, base)
		if err != nil {
			return err
		}
		defer closeTree()
		if err := keepInventory(t, img.lock, d); err != nil {
			return err
		}
		closeEdits, err := img.edits.apply(t, img.clock)
		defer closeEdits()
		if err != nil {
			return err
		}
		layers, closeLayers, err := img.openLayers(ctx, unpacked)
		defer closeLayers()
		if err != nil {
			return err
		}
		blobs, closeBlobs, err := img.openBlobs(ctx)
		defer closeBlobs()
		if err != nil {
			return err
		}
		if err := img.layContainers(t, layers, blobs); err != nil {
			return img.problemOf("containers", err)
		}
		if err := img.listContainers(ctx, t, d); err != nil {
			return err
		}
		release, err := t.ReadFile("etc/os-release")
		if err != nil {
			return fmt.Errorf("the tree has no os-release: %w: add the package base-files", err)
		}
		d.Set(valueOSRelease, string(release))
		if err := keepAccounts(t, d); err != nil {
			return err
		}
		source := &treeSource{tree: t, clock: img.clock, progress: func(done int64) {
			img.settings.Observer.StageProgress(stageRoot, done, base.Size(fileBase))
		}}
		if err := img.writeFilesystem(ctx, source, d.File(fileRoot)); err != nil {
			return err
		}
		if err := img.edits.unchanged(); err != nil {
			return err
		}
		if !img.recipe.Root.Verity {
			return nil
		}
		return img.hash(ctx, d)
	})
}

// keepAccounts notes the tree's users and groups for the partitions that have
// contents.
func keepAccounts(t *tree.Tree, d *store.Draft) error {
	for _, name := range []string{filePasswd, fileGroup} {
		data, err := t.ReadFile("etc/" + name)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		if err := writeFile(d, name, data); err != nil {
			return err
		}
	}
	return nil
}

// openTree indexes the base tree's tar and adds the device nodes that no
// namespace may make.
func (img *build) openTree(ctx context.Context, base *store.Result) (*tree.Tree, func() error, error) {
	f, err := base.Open(ctx, fileBase)
	if err != nil {
		return nil, nil, img.damaged(base, err)
	}
	t, err := tree.Index(f, base.Size(fileBase))
	if err == nil {
		err = addDevices(t, base.Values[valueDevices])
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return t, f.Close, nil
}

func addDevices(t *tree.Tree, text string) error {
	var devices []deb.Device
	if err := json.Unmarshal([]byte(text), &devices); err != nil {
		return fmt.Errorf("device nodes: %w", err)
	}
	for _, d := range devices {
		e := &tree.Entry{
			Path: d.Path, Typeflag: tree.TypeChar, Mode: int64(d.Mode), UID: d.UID, GID: d.GID,
			ModTime: d.ModTime, Devmajor: int64(d.Major), Devminor: int64(d.Minor),
		}
		if d.Block {
			e.Typeflag = tree.TypeBlock
		}
		if err := t.Put(e); err != nil {
			return fmt.Errorf("device node: %w", err)
		}
	}
	return nil
}

// treeSource is a tree as the writers of file systems read it.
type treeSource struct {
	tree     *tree.Tree
	clock    time.Time
	progress func(done int64)
}

func (s *treeSource) WriteTar(ctx context.Context, w io.Writer) error {
	return s.tree.WriteTar(ctx, &counter{w: w, tell: s.progress}, s.clock)
}

// counter tells how many bytes went through, every few megabytes.
type counter struct {
	w          io.Writer
	tell       func(int64)
	done, told int64
}

const tellEvery = 4 << 20

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.done += int64(n); c.done-c.told >= tellEvery {
		c.told = c.done
		c.tell(c.done)
	}
	return n, err
}

// writeFilesystem writes the root file system that the recipe asks for.
func (img *build) writeFilesystem(ctx context.Context, source fs.Tree, path string) error {
	r := img.recipe.Root
	id := img.seed.UUID("root file system")
	switch r.Filesystem {
	case recipes.Squashfs:
		return fs.NewSquashfs(img.tools, img.clock, fs.SquashfsCompression(r.Compression.Algorithm, r.Compression.Level)).Write(ctx, source, path)
	case recipes.EROFS:
		return fs.NewErofs(img.tools, img.clock, id, fs.ErofsCompression(r.Compression.Algorithm, r.Compression.Level)).Write(ctx, source, path)
	case recipes.Ext4:
		return fs.NewExt4(img.tools, img.clock, id, img.seed.UUID("ext4 hash seed")).Write(ctx, source, path)
	}
	return fmt.Errorf("root file system %q is unknown", r.Filesystem)
}

// hash writes the verity tree of the root file system beside it.
func (img *build) hash(ctx context.Context, d *store.Draft) error {
	data, err := os.Open(d.File(fileRoot))
	if err != nil {
		return err
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		return err
	}
	hashes, err := d.Create(fileHashes)
	if err != nil {
		return err
	}
	defer hashes.Close()
	result, err := verity.Format(ctx, data, info.Size(), hashes, verity.Params{
		Salt: img.seed.Bytes("root verity salt", 32), UUID: img.seed.UUID("root verity superblock"),
	})
	if err != nil {
		return fmt.Errorf("verity: %w", err)
	}
	d.Set(valueRootHash, hex.EncodeToString(result.RootHash))
	return hashes.Close()
}

// rootUUID names the root partition where no root hash does.
func (img *build) rootUUID() uuid.UUID { return img.seed.UUID("root partition") }
