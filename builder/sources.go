package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/resolve"
)

// sources are the archives that the recipe's packages come from.
func (b *Builder) sources(recipe *recipes.Recipe, arch string) ([]archive.Source, error) {
	release, err := distro.Lookup(recipe.Distribution, recipe.Release)
	if err != nil {
		return nil, &recipes.Error{Position: recipe.Position("release"), What: err.Error(), Do: "choose one of these", Err: err}
	}
	mirrors := b.settings.Mirrors
	if len(recipe.Mirrors) > 0 {
		mirrors = nil
		for _, mirror := range recipe.Mirrors {
			mirrors = append(mirrors, mirror.URI)
		}
	}
	sources, err := release.Sources(distro.SourceOptions{
		Arch: arch, Mirrors: mirrors, Snapshot: recipe.Snapshot.Time,
		HostApt: b.settings.HostApt, HostKeyrings: b.settings.HostKeyrings,
	})
	if err != nil {
		return nil, err
	}
	return sources, ownKeys(sources, recipe.Mirrors)
}

// ownKeys makes a mirror with keys of its own an archive of its own: what it
// serves is signed by these, and a pocket that no mirror was named for is
// looked for there too rather than on a host that the recipe doesn't name.
func ownKeys(sources []archive.Source, mirrors []recipes.Mirror) error {
	var own *recipes.Mirror
	byBase := map[string]*recipes.Mirror{}
	for i := range mirrors {
		byBase[strings.TrimRight(mirrors[i].URI, "/")] = &mirrors[i]
		if own == nil && mirrors[i].KeyringFile != "" {
			own = &mirrors[i]
		}
	}
	if own == nil {
		return nil
	}
	for i, s := range sources {
		mirror, named := byBase[s.URI]
		if !named {
			mirror = own
			sources[i] = archive.Source{URI: strings.TrimRight(own.URI, "/"), Suite: s.Suite, Components: s.Components, Arch: s.Arch, Priority: s.Priority}
		}
		if mirror.KeyringFile == "" {
			continue
		}
		keyring, err := os.ReadFile(mirror.KeyringFile)
		if err != nil {
			return fmt.Errorf("keyring of mirror %s: %w", mirror.URI, err)
		}
		sources[i].Keyring, sources[i].KeyringName = keyring, mirror.KeyringFile
	}
	return nil
}

// ownArchive says that the recipe's packages come from an archive with keys of
// its own.
func ownArchive(recipe *recipes.Recipe) bool {
	return slices.ContainsFunc(recipe.Mirrors, func(m recipes.Mirror) bool { return m.KeyringFile != "" })
}

// update brings the indexes of all sources. An archive of the recipe's own may
// be without the pockets that the distribution has beside its release.
func (b *Builder) update(ctx context.Context, recipe *recipes.Recipe, sources []archive.Source) ([]archive.Index, error) {
	indexes, err := b.client.Update(ctx, sources)
	if !ownArchive(recipe) || !noRelease(err) {
		return indexes, err
	}
	indexes = nil
	for _, source := range sources {
		found, err := b.client.Update(ctx, []archive.Source{source})
		if noRelease(err) && source.Suite != sources[0].Suite {
			b.settings.Observer.Notice(fmt.Sprintf("%s: the archive has no such suite: going on without", source))
			continue
		}
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, found...)
	}
	return indexes, nil
}

// noRelease says that an archive has no such suite at all.
func noRelease(err error) bool {
	var e *archive.Error
	return errors.Is(err, archive.ErrNotFound) && errors.As(err, &e) && strings.HasSuffix(e.URL, "Release")
}

// available brings the indexes of an architecture and reads them.
func (b *Builder) available(ctx context.Context, recipe *recipes.Recipe, arch string, l *locker) ([]*resolve.Package, error) {
	sources, err := b.sources(recipe, arch)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		if source.IgnoreValidUntil {
			b.settings.Observer.Notice(fmt.Sprintf("%s: Valid-Until is not checked: %s", source, source.IgnoreReason))
		}
	}
	var packages []*resolve.Package
	err = b.stage(stageIndex, func() (bool, error) {
		b.fetched.begin(stageIndex, 0)
		indexes, err := b.update(ctx, recipe, sources)
		if err != nil {
			return false, err
		}
		packages, err = readIndexes(indexes)
		for _, index := range indexes {
			l.source(index)
		}
		return false, err
	})
	if err != nil {
		return nil, err
	}
	return packages, nil
}

// readIndexes reads all indexes side by side; the packages stand in the order
// of the indexes.
func readIndexes(indexes []archive.Index) ([]*resolve.Package, error) {
	lists := make([][]*resolve.Package, len(indexes))
	var group errgroup.Group
	for i, index := range indexes {
		group.Go(func() error {
			r, err := index.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			origin := &resolve.Origin{
				URI: index.Source.URI, Suite: index.Source.Suite, Component: index.Component,
				Codename: index.Release.Codename, Archive: index.Release.Suite, Version: index.Release.Version,
				Pin: index.Pin(), Order: i,
			}
			lists[i], err = resolve.ReadPackages(r, origin)
			if err != nil {
				return fmt.Errorf("index of %s %s/%s: %w", index.Source, index.Component, index.Arch, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(lists...), nil
}
