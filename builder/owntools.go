package builder

import (
	"context"
	"errors"
	"slices"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/plan"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/resolve"
)

// The release that the program's own tools are taken from, whatever an image is
// made of. QEMU's emulation of older ones is wrong (their cmpxchg16b makes
// guests panic), and older readers of file systems know less.
const (
	ownToolsDistribution = "debian"
	ownToolsRelease      = "trixie"
)

// ownTools brings tools that belong to no recipe, such as QEMU. They are pinned
// by a lock of their own in the store, which is made anew when the archive no
// longer has them. stage is what the user sees.
func (b *Builder) ownTools(ctx context.Context, name, stage string, packagesOf func(*distro.Release) []string) (*toolsTree, error) {
	release, err := distro.Lookup(ownToolsDistribution, ownToolsRelease)
	if err != nil {
		return nil, err
	}
	packages := packagesOf(release)
	file := b.store.Path(name + ".lock.yml")
	l, err := lock.Read(file)
	fresh := false
	if err != nil || !locksAll(l, packages) {
		if l, err = b.lockOwnTools(ctx, release, packages, file); err != nil {
			return nil, err
		}
		fresh = true
	}
	recipe := &recipes.Recipe{Distribution: release.Distribution, Release: release.Name}
	var key plan.Key
	for {
		if key, err = b.toolsKey(l.Tools); err != nil {
			return nil, err
		}
		if b.store.HasFolder(key) {
			break
		}
		err = b.fetch(ctx, recipe, l, l.Tools)
		if err == nil {
			break
		}
		if fresh || !errors.Is(err, archive.ErrNotFound) {
			return nil, err
		}
		if l, err = b.lockOwnTools(ctx, release, packages, file); err != nil {
			return nil, err
		}
		fresh = true
	}
	return b.unpackTools(ctx, stage, key, l.Tools)
}

// BootTools brings QEMU for machines of an architecture, as dpkg names it, with
// their firmware and their TPM, and returns the folder of the tree that they are
// in.
func (b *Builder) BootTools(ctx context.Context, arch string) (dir string, err error) {
	tools, err := b.ownTools(ctx, "boot-tools-"+arch, "qemu", func(r *distro.Release) []string { return r.BootPackages(arch) })
	if err != nil {
		return "", err
	}
	return tools.dir, nil
}

// locksAll says whether a lock has all of the tools with these names: one of an
// earlier version of this program may lack some.
func locksAll(l *lock.Lock, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		return !slices.ContainsFunc(l.Tools, func(p lock.Package) bool { return p.Name == name })
	})
}

func (b *Builder) lockOwnTools(ctx context.Context, release *distro.Release, packages []string, file string) (*lock.Lock, error) {
	l := &lock.Lock{
		Version: lock.Version, Distribution: release.Distribution, Release: release.Name, Architecture: b.settings.HostArch,
	}
	locker := &locker{lock: l, sources: map[sourceID]int{}}
	recipe := &recipes.Recipe{Distribution: release.Distribution, Release: release.Name}
	available, err := b.available(ctx, recipe, b.settings.HostArch, locker)
	if err != nil {
		return nil, err
	}
	tools, err := resolve.NewUniverse(b.settings.HostArch, available).Resolve(resolve.Request{Names: packages})
	if err != nil {
		return nil, err
	}
	l.Tools = locker.packages(tools)
	return l, l.Write(file)
}
