package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers/units"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// ErrNoSpace says that a file system is too full for what is to be written.
var ErrNoSpace = errors.New("not enough space")

// outOfSpace says that a file system filled up, whether a program of the tools
// tree met it or this one.
func outOfSpace(err error) bool {
	return err != nil && !errors.Is(err, ErrNoSpace) && (errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), unix.ENOSPC.Error()) ||
		strings.Contains(err.Error(), "No space left on device"))
}

// full is the error for a folder whose file system filled up.
func full(dir, flag string) error {
	return fmt.Errorf("%w: no space left on device for %s: make room, or name another folder with %s", ErrNoSpace, dir, flag)
}

// preflight refuses, before anything is fetched, what this host cannot build.
func (b *Builder) preflight(ctx context.Context, recipe *recipes.Recipe) error {
	release, err := distro.Lookup(recipe.Distribution, recipe.Release)
	if err != nil {
		return recipe.Problem("release", err.Error(), "choose one of these", err)
	}
	if !release.MakesPartitions() && slices.ContainsFunc(recipe.Partitions, func(p recipes.Partition) bool { return p.Disk == recipes.DiskSystem }) {
		return recipe.Problem("partitions", release.Name+" has no systemd-repart, which makes partitions at the first boot",
			"drop data and volatile with filesystem: none, put them on another disk, or use a later release", nil)
	}
	if recipe.Architecture != b.settings.HostArch && !emulates(recipe.Architecture) {
		return recipe.Problem("architecture", fmt.Sprintf("this machine is %s and runs no programs of %s", b.settings.HostArch, recipe.Architecture),
			"install qemu-user-static (binfmt), or build on such a machine", nil)
	}
	if err := checkContainers(recipe); err != nil {
		return err
	}
	return sandbox.Check(ctx, sandbox.Range)
}

// checkContainers refuses containers that the release cannot run, or whose images
// are not on the disk.
func checkContainers(recipe *recipes.Recipe) error {
	c := recipe.Containers
	if c == nil {
		return nil
	}
	_, err := units.Packages(units.Wanted{Runtime: c.Runtime, Distribution: recipe.Distribution, Release: recipe.Release})
	if err != nil {
		return recipe.Problem("containers.runtime", err.Error(), "", err)
	}
	return checkRunFiles(recipe)
}

// emulates says whether the kernel runs another architecture's programs
// through an interpreter (binfmt_misc) that works inside a sandbox.
func emulates(arch string) bool {
	a, err := distro.LookupArch(arch)
	if err != nil {
		return false
	}
	_, err = os.Stat("/proc/sys/fs/binfmt_misc/qemu-" + a.Kernel)
	return err == nil
}

// currentLock is the lock beside the recipe where it fits, else nil.
func (b *Builder) currentLock(recipe *recipes.Recipe) (*lock.Lock, error) {
	l, err := b.packageLock(recipe)
	if l == nil || err != nil {
		return nil, err
	}
	if fits, err := b.lockFits(recipe, l); !fits || err != nil {
		return nil, err
	}
	return l, nil
}

// packageLock is the lock beside the recipe where its packages fit, else nil.
func (b *Builder) packageLock(recipe *recipes.Recipe) (*lock.Lock, error) {
	release, err := distro.Lookup(recipe.Distribution, recipe.Release)
	if err != nil {
		return nil, err
	}
	inputs, err := b.inputsOf(recipe, release).digest()
	if err != nil {
		return nil, err
	}
	l, err := lock.Read(lock.PathFor(recipe.File()))
	if errors.Is(err, lock.ErrMissing) || err == nil && l.Inputs != inputs {
		return nil, nil
	}
	return l, err
}

// fetchMissing brings the packages of the stages that are to be made.
func (img *build) fetchMissing(ctx context.Context) error {
	var packages []lock.Package
	if !img.store.Has(img.keys.base) {
		packages = append(packages, img.lock.Packages...)
	}
	if img.bootable() && !img.store.Has(img.keys.boot) {
		packages = append(packages, img.lock.Initrd...)
		packages = append(packages, kernelPackages(img.lock)...)
	}
	if img.writes(recipes.FormatRaw) && !img.store.HasFolder(img.keys.tools) {
		packages = append(packages, img.lock.Tools...)
	}
	if len(packages) == 0 {
		return nil
	}
	seen := map[string]bool{}
	unique := packages[:0:0]
	for _, p := range packages {
		if !seen[p.SHA256] {
			seen[p.SHA256] = true
			unique = append(unique, p)
		}
	}
	return img.fetch(ctx, img.recipe, img.lock, unique)
}

// Space that a build takes for each byte of a package file: unpacked tree and
// its tar in the store, the disk in the output folder.
const (
	storePerByte  = 9
	outputPerByte = 2
)

// checkSpace refuses a build that would run out of space half-way.
func (img *build) checkSpace(dir string) error {
	var size int64
	for _, p := range img.lock.Packages {
		size += p.Size
	}
	if !img.store.Has(img.keys.base) {
		if err := spaceFor(img.store.Dir(), size*storePerByte, "name another folder with --store, or make room"); err != nil {
			return err
		}
	}
	return spaceFor(dir, size*outputPerByte, "name another folder with --output, or make room")
}

// spaceFor checks the file system that a folder is, or will be, on. need is in
// bytes.
func spaceFor(dir string, need int64, do string) error {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.ENOENT) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return fmt.Errorf("space on %s: %w", dir, err)
		}
		if free := int64(st.Bavail) * st.Bsize; free < need {
			return fmt.Errorf("%w: %s has %d MiB free, the build may take %d: %s", ErrNoSpace, dir, free>>20, need>>20, do)
		}
		return nil
	}
}
