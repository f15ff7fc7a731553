package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/resolve"
)

// ErrLock says that --locked was asked for and the lock is missing or doesn't
// fit the recipe.
var ErrLock = errors.New("lock does not fit")

// lockRules is raised when the same recipe and indexes come to another lock.
const lockRules = 1

// stageLock is the stage that resolves packages.
const stageLock = "lock"

// kernelImage is the name of a package that holds a kernel itself, as opposed
// to one that depends on the newest.
var kernelImage = regexp.MustCompile(`^linux-image-(unsigned-)?[0-9]`)

// lockInputs is what a lock depends on beside the archive.
type lockInputs struct {
	Rules                               int
	Distribution, Release               string
	Architecture, HostArch, Snapshot    string
	Recommends                          bool
	Mirrors, Packages, Initrd, ToolTree []string
}

func (b *Builder) inputsOf(recipe *recipes.Recipe, release *distro.Release) lockInputs {
	in := lockInputs{
		Rules: lockRules, Distribution: release.Distribution, Release: release.Name,
		Architecture: recipe.Architecture, HostArch: b.settings.HostArch, Recommends: recipe.Recommends,
		Packages: wanted(recipe, release),
		ToolTree: release.ToolPackages(b.settings.HostArch),
	}
	for _, p := range recipe.Partitions {
		if len(p.Contents) > 0 {
			in.ToolTree = append(in.ToolTree, release.FilesystemPackages(p.Filesystem)...)
		}
	}
	sort.Strings(in.ToolTree)
	in.ToolTree = slices.Compact(in.ToolTree)
	if !recipe.Snapshot.IsZero() {
		in.Snapshot = recipe.Snapshot.UTC().Format("20060102T150405Z")
	}
	for _, mirror := range recipe.Mirrors {
		in.Mirrors = append(in.Mirrors, mirror.URI)
	}
	if recipe.Boot.Loader != recipes.LoaderNone {
		in.Initrd = bootPackages(recipe, release)
	}
	return in
}

func (in lockInputs) digest() (string, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// wanted is what the recipe asks for by name: its packages, what its containers'
// runtime needs, and the kernel.
func wanted(recipe *recipes.Recipe, release *distro.Release) []string {
	names := append(slices.Clone(recipe.Packages), runtimePackages(recipe)...)
	if recipe.Kernel.None() {
		return names
	}
	kernel := recipe.Kernel.Package
	if kernel == "" {
		kernel = release.Kernel(recipe.Architecture)
	}
	if recipe.Kernel.Version != "" {
		kernel += "=" + recipe.Kernel.Version
	}
	return append(names, kernel)
}

// bootPackages are the packages that the initrd and the boot stub are taken
// from.
func bootPackages(recipe *recipes.Recipe, release *distro.Release) []string {
	names := slices.Concat(release.InitrdPackages(recipe.Architecture), release.StubPackages(recipe.Architecture))
	for _, filesystem := range partitionFilesystems(recipe) {
		names = append(names, release.FilesystemPackages(filesystem)...)
	}
	sort.Strings(names)
	return slices.Compact(names)
}

// lockFor returns the lock beside the recipe, made anew where it is missing or
// no longer fits.
func (b *Builder) lockFor(ctx context.Context, recipe *recipes.Recipe) (*lock.Lock, error) {
	l, err := b.currentLock(recipe)
	if l != nil || err != nil {
		return l, err
	}
	if b.settings.Locked {
		return nil, fmt.Errorf("%w: %s is missing or not what %s asks for now, and --locked forbids making it: run `applbuild lock %s`", ErrLock, lock.PathFor(recipe.File()), recipe.File(), recipe.File())
	}
	return b.newLock(ctx, recipe, LockOptions{})
}

// LockOptions says how far a lock may move.
type LockOptions struct {
	// Update makes the lock anew though it fits.
	Update bool
	// Only names the packages and container images of the lock that move; all
	// others stay at their versions while the archive has them. None means that
	// all move.
	Only []string
}

// Relock makes the lock beside the recipe where it is missing or doesn't fit,
// or is to be updated. changed says that it was written.
func (b *Builder) Relock(ctx context.Context, recipe *recipes.Recipe, o LockOptions) (l *lock.Lock, changed bool, err error) {
	if !o.Update {
		if l, err = b.currentLock(recipe); err != nil {
			return nil, false, err
		}
		if l != nil {
			return l, false, b.tellMoved(ctx, recipe, l)
		}
	}
	l, err = b.newLock(ctx, recipe, o)
	return l, err == nil, err
}

// newLock resolves the recipe's packages, the initrd's and the tools', pins its
// container images, and writes the lock beside the recipe. Packages that fit
// stay while only images are to move or missing, and the other way round.
func (b *Builder) newLock(ctx context.Context, recipe *recipes.Recipe, o LockOptions) (*lock.Lock, error) {
	images, packages, err := onlyImages(recipe, o)
	if err != nil {
		return nil, err
	}
	old, err := oldLock(recipe)
	all := o.Update && len(o.Only) == 0
	switch {
	case err != nil && !all:
		return nil, err
	case err != nil:
		old = &lock.Lock{} // a new one takes the place of one that is broken
	}
	var l *lock.Lock
	if !all {
		if l, err = b.packageLock(recipe); err != nil {
			return nil, err
		}
	}
	if l == nil || len(packages) > 0 {
		if l, err = b.resolveLock(ctx, recipe, LockOptions{Update: o.Update, Only: packages}); err != nil {
			return nil, err
		}
	}
	l.Containers, err = b.pinImages(ctx, recipe, old, func(ref string) bool {
		return o.Update && (len(o.Only) == 0 || slices.Contains(images, ref))
	})
	if err != nil {
		return nil, err
	}
	return l, l.Write(lock.PathFor(recipe.File()))
}

func (b *Builder) resolveLock(ctx context.Context, recipe *recipes.Recipe, o LockOptions) (*lock.Lock, error) {
	release, err := distro.Lookup(recipe.Distribution, recipe.Release)
	if err != nil {
		return nil, err
	}
	in := b.inputsOf(recipe, release)
	inputs, err := in.digest()
	if err != nil {
		return nil, err
	}
	l := &lock.Lock{
		Version: lock.Version, Inputs: inputs, Distribution: in.Distribution, Release: in.Release, Architecture: in.Architecture,
	}
	locker := &locker{lock: l, sources: map[sourceID]int{}}
	available, err := b.available(ctx, recipe, recipe.Architecture, locker)
	if err != nil {
		return nil, err
	}
	hostAvailable := available
	if b.settings.HostArch != recipe.Architecture {
		if hostAvailable, err = b.available(ctx, recipe, b.settings.HostArch, locker); err != nil {
			return nil, err
		}
	}
	err = b.stage(stageLock, func() (bool, error) {
		names, err := held(recipe, in.Packages, available, o)
		if err != nil {
			return false, err
		}
		target := resolve.NewUniverse(recipe.Architecture, available)
		host := target
		if b.settings.HostArch != recipe.Architecture {
			host = resolve.NewUniverse(b.settings.HostArch, hostAvailable)
		}
		image, err := target.Resolve(resolve.Request{Names: names, Essential: true, Recommends: recipe.Recommends})
		if err != nil {
			return false, positioned(recipe, err)
		}
		initrd, err := target.Resolve(resolve.Request{Names: in.Initrd})
		if err != nil {
			return false, fmt.Errorf("packages of the initrd: %w", err)
		}
		tools, err := host.Resolve(resolve.Request{Names: in.ToolTree})
		if err != nil {
			return false, fmt.Errorf("packages of the tools tree: %w", err)
		}
		l.Packages, l.Initrd, l.Tools = locker.packages(image), locker.packages(initrd), locker.packages(tools)
		l.Kernel, err = kernelOf(recipe, image)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// held turns the recipe's names into requests that keep what the old lock has,
// but for the packages that are to move.
func held(recipe *recipes.Recipe, names []string, available []*resolve.Package, o LockOptions) ([]string, error) {
	if len(o.Only) == 0 {
		return names, nil
	}
	old, err := lock.Read(lock.PathFor(recipe.File()))
	if err != nil {
		return nil, err
	}
	for _, name := range o.Only {
		if !slices.ContainsFunc(old.Packages, func(p lock.Package) bool { return p.Name == name }) {
			return nil, fmt.Errorf("%s is not in the lock: name a package that is, or none to move all", name)
		}
	}
	type version struct{ name, version, arch string }
	have := map[version]bool{}
	for _, p := range available {
		have[version{p.Name, p.Version, p.Arch}] = true
	}
	requests := slices.Clone(names)
	for _, p := range old.Packages {
		if !slices.Contains(o.Only, p.Name) && have[version{p.Name, p.Version, p.Arch}] {
			requests = append(requests, p.Name+"="+p.Version)
		}
	}
	return requests, nil
}

// positioned says where in the recipe an unknown package stands.
func positioned(recipe *recipes.Recipe, err error) error {
	var unknown *resolve.UnknownPackageError
	if !errors.As(err, &unknown) {
		return err
	}
	for i, name := range recipe.Packages {
		if name == unknown.Name || strings.HasPrefix(name, unknown.Name+"=") || strings.HasPrefix(name, unknown.Name+"/") {
			return fmt.Errorf("%s: %w", recipe.Position(fmt.Sprintf("packages[%d]", i)), err)
		}
	}
	if recipe.Kernel.Package == unknown.Name {
		return fmt.Errorf("%s: %w", recipe.Position("kernel"), err)
	}
	return err
}

// kernelOf finds the one package that holds the kernel.
func kernelOf(recipe *recipes.Recipe, packages []*resolve.Package) (string, error) {
	if recipe.Kernel.None() {
		return "", nil
	}
	var found []string
	for _, p := range packages {
		if kernelImage.MatchString(p.Name) {
			found = append(found, p.Name)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && recipe.Boot.Loader == recipes.LoaderNone:
		return "", nil
	case len(found) == 0:
		return "", fmt.Errorf("%s: package %s brings no kernel image (linux-image-VERSION): name a kernel package, or kernel: none", recipe.Position("kernel"), recipe.Kernel.Package)
	}
	return "", fmt.Errorf("%s: the packages bring %d kernels (%s): leave one", recipe.Position("packages"), len(found), strings.Join(found, ", "))
}

type sourceID struct{ uri, suite string }

// locker translates what was resolved into a lock.
type locker struct {
	lock    *lock.Lock
	sources map[sourceID]int
}

// source enters an index's source once and returns its place.
func (l *locker) source(index archive.Index) {
	id := sourceID{index.Source.URI, index.Source.Suite}
	if _, ok := l.sources[id]; ok {
		return
	}
	l.sources[id] = len(l.lock.Sources)
	l.lock.Sources = append(l.lock.Sources, lock.Source{
		URI: index.Source.URI, Suite: index.Source.Suite, Components: index.Source.Components,
		Codename: index.Release.Codename, Origin: index.Release.Origin,
		Date: index.Release.Date.UTC(), SHA256: index.Release.SHA256,
	})
}

func (l *locker) packages(resolved []*resolve.Package) []lock.Package {
	packages := make([]lock.Package, 0, len(resolved))
	for _, p := range resolved {
		packages = append(packages, lock.Package{
			Name: p.Name, Version: p.Version, Arch: p.Arch,
			Source: l.sources[sourceID{p.Origin.URI, p.Origin.Suite}],
			Path:   p.Filename, Size: p.Size, SHA256: p.SHA256,
		})
	}
	return packages
}
