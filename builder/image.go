package builder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/applbuild/applbuild/builder/containers/gather"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/builder/plan"
	"github.com/applbuild/applbuild/builder/seed"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/distro"
)

// ImageOptions says where a disk goes.
type ImageOptions struct {
	Dir   string // the folder for the outputs
	Force bool   // replace outputs that are there and differ
}

// Built is what Image made or found made.
type Built struct {
	Files    []output.File // by name
	RootHash string        // hexadecimal; empty without verity
	UpToDate bool          // the outputs were there already, byte for byte
}

// build is one image in the making: what its stages share.
type build struct {
	*Builder
	recipe  *recipes.Recipe
	lock    *lock.Lock
	release *distro.Release
	arch    distro.Arch
	clock   time.Time // the modification time of everything made
	seed    seed.Seed
	edits   *edits // what the recipe changes in the base tree
	keys    keys
	volumes []*volume
	tools   *toolsTree

	images   []*containerImage
	runFiles []runFile        // for the containers' runtime, as the recipe has them
	gatherer *gather.Gatherer // nil without images
}

// Image builds the recipe's disk and writes it, with all that goes beside it,
// into a folder: all files or none.
func (b *Builder) Image(ctx context.Context, recipe *recipes.Recipe, o ImageOptions) (*Built, error) {
	if err := b.preflight(ctx, recipe); err != nil {
		return nil, err
	}
	var clash *output.ExistsError
	if err := output.Check(o.Dir, outputNames(recipe)); err != nil && !errors.As(err, &clash) {
		return nil, err
	}
	l, err := b.currentLock(recipe)
	if clash != nil && !o.Force && l == nil {
		return nil, clash
	}
	if err != nil {
		return nil, err
	}
	if l == nil {
		if l, err = b.lockFor(ctx, recipe); err != nil {
			return nil, err
		}
	}
	img, err := b.newBuild(ctx, recipe, l)
	if err != nil {
		return nil, err
	}
	built, err := img.alreadyThere(ctx, o.Dir)
	if built != nil || err != nil {
		return built, err
	}
	if clash != nil && !o.Force {
		return nil, clash
	}
	built, err = img.run(ctx, o)
	if errors.Is(err, store.ErrCorrupt) {
		// The damaged result was discarded when it was found.
		b.settings.Observer.Notice(err.Error() + ": made anew")
		built, err = img.run(ctx, o)
	}
	return built, err
}

func (b *Builder) newBuild(ctx context.Context, recipe *recipes.Recipe, l *lock.Lock) (*build, error) {
	release, err := distro.Lookup(recipe.Distribution, recipe.Release)
	if err != nil {
		return nil, err
	}
	arch, err := distro.LookupArch(recipe.Architecture)
	if err != nil {
		return nil, err
	}
	img := &build{
		Builder: b, recipe: recipe, lock: l, release: release, arch: arch,
		clock: b.settings.Epoch, seed: seed.New(recipe.Seed),
	}
	if img.clock.IsZero() {
		img.clock = l.Newest()
	}
	img.clock = img.clock.UTC().Truncate(time.Second)
	if err := img.checkSettings(); err != nil {
		return nil, err
	}
	if img.edits, err = readEdits(ctx, recipe, l); err != nil {
		return nil, err
	}
	if err := img.readVolumes(ctx); err != nil {
		return nil, err
	}
	if err := img.readImages(ctx); err != nil {
		return nil, err
	}
	if img.keys, err = img.plan(); err != nil {
		return nil, err
	}
	return img, nil
}

// run makes what is missing. Stages that don't need each other run side by
// side: the package scripts use one core, the initrd is compressed on the other.
func (img *build) run(ctx context.Context, o ImageOptions) (*Built, error) {
	if err := img.fetchMissing(ctx); err != nil {
		return nil, err
	}
	if err := img.fetchImages(ctx); err != nil {
		return nil, err
	}
	if err := img.checkSpace(o.Dir); err != nil {
		return nil, err
	}
	var root, boot, layer, oci *store.Result
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if img.writes(recipes.FormatRaw) {
			tools, err := img.toolsTree(groupCtx)
			if err != nil {
				return err
			}
			img.tools = tools
		}
		base, err := img.base(groupCtx)
		if err != nil {
			return err
		}
		if img.writes(recipes.FormatRaw) {
			unpacked, err := img.layers(groupCtx)
			if err != nil {
				return err
			}
			if root, err = img.root(groupCtx, base, unpacked); err != nil {
				return err
			}
		}
		if img.writes(recipes.FormatOCI) {
			if layer, err = img.baseLayer(groupCtx, base); err != nil {
				return err
			}
			oci, err = img.oci(groupCtx, base, layer)
		}
		return err
	})
	if img.bootable() {
		group.Go(func() (err error) {
			boot, err = img.boot(groupCtx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, firstCause(ctx, err)
	}
	var uki *store.Result
	if img.bootable() {
		var err error
		if uki, err = img.uki(ctx, boot, root); err != nil {
			return nil, err
		}
	}
	volumes, err := img.volumeStages(ctx, root)
	if err != nil {
		return nil, err
	}
	return img.disk(ctx, o, results{root: root, boot: boot, uki: uki, volumes: volumes, layer: layer, oci: oci})
}

// results are what the outputs are put together from. What is not to be
// written is nil, and boot and uki where nothing boots.
type results struct {
	root, boot, uki *store.Result
	volumes         []*store.Result
	layer, oci      *store.Result
}

// tree is a result that describes the tree's packages.
func (r results) tree() *store.Result {
	if r.root != nil {
		return r.root
	}
	return r.oci
}

// firstCause prefers the caller's cancellation to what it caused below.
func firstCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// bootable says that the disk gets a kernel.
func (img *build) bootable() bool { return img.recipe.Boot.Loader != recipes.LoaderNone }

// writes says that a format is asked for.
func (img *build) writes(format string) bool { return img.recipe.Output.Has(format) }

// do makes a stage's result, or takes it from the store, and tells the
// observer.
func (img *build) do(ctx context.Context, name string, key plan.Key, make func(context.Context, *store.Draft) error) (*store.Result, error) {
	var result *store.Result
	err := img.stage(name, func() (cached bool, err error) {
		result, cached, err = img.store.Do(ctx, key, make)
		return cached, err
	})
	return result, err
}

// damaged discards a result that was found damaged when it was read, so that
// the next try makes it anew.
func (img *build) damaged(result *store.Result, err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		return errors.Join(err, img.store.Discard(result.Key))
	}
	return err
}

// outputNames are the files that are written for a recipe, SHA256SUMS aside.
func outputNames(recipe *recipes.Recipe) []string {
	stem := outputStem(recipe)
	names := []string{stem + ".manifest.json", stem + ".spdx.json"}
	if recipe.Output.Has(recipes.FormatOCI) {
		names = append(names, ociName(recipe))
	}
	if !recipe.Output.Has(recipes.FormatRaw) {
		return names
	}
	names = append(names, stem+".raw")
	if recipe.Boot.Loader != recipes.LoaderNone {
		names = append(names, stem+".efi")
	}
	if recipe.Root.Verity {
		names = append(names, stem+".roothash")
	}
	return names
}

// DiskName is the name of the disk that a recipe is built into.
func DiskName(recipe *recipes.Recipe) string { return outputStem(recipe) + ".raw" }

func outputStem(recipe *recipes.Recipe) string {
	return fmt.Sprintf("%s_%s_%s", recipe.Name, recipe.Version, recipe.Architecture)
}
