// Package builder turns a recipe into a disk: recipe → lock → packages → tree
// → root file system → unified kernel image → disk.
//
// Image reads top to bottom as the list of stages; each stage's result is kept
// in the store by content key and made only once. The leaf packages below know
// no recipe; this one translates. It reads neither clock nor environment and
// prints nothing: see Settings and Observer.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// archiveDir is the folder of the store that downloads lie in.
const archiveDir = "archive"

// Settings is what a build takes from its surroundings rather than from its
// recipe. None of it changes the bytes that are built, but Epoch.
type Settings struct {
	// Store is the folder for packages and stage results.
	Store string
	// Now is compared with the dates of Release files.
	Now time.Time
	// Epoch is the time that everything built is dated with; zero stands for
	// the newest date among the lock's Release files.
	Epoch time.Time
	// HostArch is the architecture that runs the tools, as dpkg names it.
	HostArch string
	// Mirrors are base URIs to fetch from where the recipe names none.
	Mirrors []string
	// HostApt and HostKeyrings are the host's /etc/apt and
	// /usr/share/keyrings; they may be nil.
	HostApt, HostKeyrings fs.FS
	// Proxy chooses a proxy for each request; nil is none.
	Proxy func(*http.Request) (*url.URL, error)
	// Program tells this build of the program from others: results that another
	// one left in the store are not taken for this one's.
	Program string
	// Registries says how container images are pulled.
	Registries RegistrySettings
	// Offline forbids the network.
	Offline bool
	// Locked refuses a lock that is missing or doesn't fit.
	Locked bool
	// Observer is told what happens.
	Observer Observer
}

// Builder builds images. It is safe for use by several goroutines.
type Builder struct {
	settings Settings
	store    *store.Store
	client   *archive.Client
	fetched  fetchProgress
}

// New opens the store and makes a builder.
func New(ctx context.Context, settings Settings) (*Builder, error) {
	st, err := store.Open(ctx, settings.Store, store.WithRemover(sandbox.RemoveAll))
	if err != nil {
		return nil, err
	}
	b := &Builder{settings: settings, store: st}
	b.fetched.observer = settings.Observer
	b.client = &archive.Client{
		Dir:      st.Path(archiveDir),
		Now:      settings.Now,
		Offline:  settings.Offline,
		Proxy:    settings.Proxy,
		Progress: b.fetched.event,
	}
	return b, nil
}

// SandboxFuncs are the functions that run inside a sandbox: cmd hands them to
// sandbox.Main before anything else.
func SandboxFuncs() map[string]sandbox.Func { return sandboxFuncs() }

// Scratch makes a folder in the store for somebody's work. The caller removes it.
func (b *Builder) Scratch(purpose string) (*store.Scratch, error) { return b.store.Scratch(purpose) }

// stage runs work under a stage's name and tells the observer.
func (b *Builder) stage(name string, work func() (cached bool, err error)) error {
	b.settings.Observer.StageStarted(name)
	cached, err := work()
	b.settings.Observer.StageDone(name, cached, err)
	if outOfSpace(err) {
		return fmt.Errorf("%s: %w", name, full(b.store.Dir(), "--store"))
	}
	var placed *recipes.Error
	if err == nil || errors.As(err, &placed) {
		return err // it says itself what part of the recipe is meant
	}
	return fmt.Errorf("%s: %w", name, err)
}
