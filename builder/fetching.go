package builder

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
)

// Names of the stages that fetch.
const (
	stageIndex = "index"
	stageFetch = "fetch"
)

// Fetch brings everything the lock names into the store, making the lock where
// it is missing.
func (b *Builder) Fetch(ctx context.Context, recipe *recipes.Recipe) error {
	l, err := b.lockFor(ctx, recipe)
	if err != nil {
		return err
	}
	if err := b.fetch(ctx, recipe, l, l.All()); err != nil {
		return err
	}
	return b.fetchLocked(ctx, recipe, l)
}

// fetch brings packages of a lock into the store. Where the mirrors in use are
// not those the lock was made with, theirs are asked first: the digests say
// whether the bytes are right.
func (b *Builder) fetch(ctx context.Context, recipe *recipes.Recipe, l *lock.Lock, packages []lock.Package) error {
	items := make([]archive.Item, 0, len(packages))
	var missing int64
	bases := b.currentBases(recipe, l)
	for _, p := range packages {
		item := archive.Item{URL: l.URL(p), Size: p.Size, SHA256: p.SHA256, Name: p.Name}
		if base := bases[p.Source]; base != l.Sources[p.Source].URI && base != "" {
			item.URL, item.Alternates = lock.JoinURL(base, p.Path), []string{item.URL}
		}
		if !b.client.Have(item) {
			missing += p.Size
		}
		items = append(items, item)
	}
	return b.stage(stageFetch, func() (bool, error) {
		b.fetched.begin(stageFetch, missing)
		return missing == 0, explainFetch(b.client.Fetch(ctx, items))
	})
}

// explainFetch adds what to do where an archive no longer has what the lock
// names.
func explainFetch(err error) error {
	if errors.Is(err, archive.ErrNotFound) {
		return fmt.Errorf("%w: the archive no longer has this locked package: run `applbuild lock --update`, or set snapshot: in the recipe to a day on which it had", err)
	}
	return err
}

// currentBases gives, for each source of the lock, the base URI at which its
// suite is found now.
func (b *Builder) currentBases(recipe *recipes.Recipe, l *lock.Lock) []string {
	bases := make([]string, len(l.Sources))
	sources, err := b.sources(recipe, recipe.Architecture)
	if err != nil {
		return bases
	}
	for i, locked := range l.Sources {
		for _, source := range sources {
			if source.Suite == locked.Suite {
				bases[i] = source.URI
				break
			}
		}
	}
	return bases
}

// fetchProgress adds up the transfers of a stage.
type fetchProgress struct {
	observer Observer

	mu    sync.Mutex
	stage string
	total int64
	known map[string]int64
	bytes map[string]int64
}

// begin names the stage that transfers from now on belong to. total is in
// bytes, 0 where the files' own sizes are to be added up.
func (f *fetchProgress) begin(stage string, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stage, f.total = stage, total
	f.known, f.bytes = map[string]int64{}, map[string]int64{}
}

func (f *fetchProgress) event(e archive.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage == "" {
		return
	}
	if e.Err != nil {
		f.observer.Notice(fmt.Sprintf("%s: %v: trying again in %s", e.URL, e.Err, e.Wait))
	}
	if e.Cached {
		return
	}
	f.known[e.URL], f.bytes[e.URL] = e.Total, e.Bytes
	var done, known int64
	for url, n := range f.bytes {
		done += n
		known += f.known[url]
	}
	f.observer.StageProgress(f.stage, done, max(f.total, known))
}
