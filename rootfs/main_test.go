package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/resolve"
	"github.com/applbuild/applbuild/rootfs/sandbox"
	"github.com/applbuild/applbuild/rootfs/tree"
)

func TestMain(m *testing.M) {
	sandbox.Main(SandboxFuncs())
	if file := os.Getenv(orderVariable); file != "" {
		os.Exit(carryOut(file))
	}
	os.Exit(m.Run())
}

// testClock is the time of the trees made by tests.
var testClock = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// needSandbox skips a test where no tree can be made, and says why.
func needSandbox(t testing.TB) {
	t.Helper()
	if err := sandbox.Check(t.Context(), sandbox.Range); err != nil {
		t.Skipf("SKIPPED, NO SANDBOX HERE: %v", err)
	}
}

// cacheDir is a folder that all runs of tests share, so that packages are
// fetched once.
func cacheDir(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "applbuild-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// realArchive is a release of Debian as the host's own mirror has it.
type realArchive struct {
	client   *archive.Client
	packages []*resolve.Package
}

// archives are read once in a run, by release.
var archives sync.Map

// debian reads the indexes of a release of Debian.
func debian(t testing.TB, name string) *realArchive {
	t.Helper()
	type answer func() (*realArchive, error)
	found, _ := archives.LoadOrStore(name, answer(sync.OnceValues(func() (*realArchive, error) {
		return readArchive(context.Background(), filepath.Join(cacheDir(t), "archive"), name)
	})))
	a, err := found.(answer)()
	if errors.Is(err, archive.ErrUnreachable) {
		t.Skipf("SKIPPED: Debian's archive cannot be reached, so no real tree is made: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func readArchive(ctx context.Context, dir, name string) (*realArchive, error) {
	release, err := distro.Lookup("debian", name)
	if err != nil {
		return nil, err
	}
	sources, err := release.Sources(distro.SourceOptions{
		Arch: "amd64", HostApt: os.DirFS("/etc/apt"), HostKeyrings: os.DirFS("/usr/share/keyrings"),
	})
	if err != nil {
		return nil, err
	}
	return readSources(ctx, &archive.Client{Dir: dir, Now: time.Now()}, sources)
}

func readSources(ctx context.Context, client *archive.Client, sources []archive.Source) (*realArchive, error) {
	a := &realArchive{client: client}
	indexes, err := client.Update(ctx, sources)
	if err != nil {
		return nil, err
	}
	for i, x := range indexes {
		r, err := x.Open()
		if err != nil {
			return nil, err
		}
		packages, err := resolve.ReadPackages(r, &resolve.Origin{
			URI: x.Source.URI, Suite: x.Source.Suite, Component: x.Component, Pin: x.Pin(), Order: i,
		})
		r.Close()
		if err != nil {
			return nil, err
		}
		a.packages = append(a.packages, packages...)
	}
	return a, nil
}

// base prepares the base tree of the named packages and the essential ones:
// resolved, and fetched into the cache.
func (a *realArchive) base(t testing.TB, names ...string) *Base {
	t.Helper()
	resolved, err := resolve.NewUniverse("amd64", a.packages).Resolve(resolve.Request{Names: names, Essential: true})
	if err != nil {
		t.Fatal(err)
	}
	b := &Base{Arch: "amd64", Clock: testClock, Packages: filepath.Join(a.client.Dir, "packages")}
	var items []archive.Item
	for _, p := range resolved {
		url, err := archive.Source{URI: p.Origin.URI}.URL(p.Filename)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, archive.Item{URL: url, Name: p.Name, Size: p.Size, SHA256: p.SHA256})
		file, err := filepath.Rel(b.Packages, a.client.Path(p.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		b.Debs = append(b.Debs, Deb{Name: p.Name, File: file, Size: p.Size, Auto: !slices.Contains(names, p.Name)})
	}
	if err := a.client.Fetch(t.Context(), items); err != nil {
		if errors.Is(err, archive.ErrUnreachable) {
			t.Skipf("SKIPPED: Debian's archive cannot be reached: %v", err)
		}
		t.Fatal(err)
	}
	return b
}

// scratchDir is a folder that mapped ids can reach, removed with the test.
func scratchDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "applbuild-rootfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sandbox.RemoveAll(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// built makes the tree and returns its tar.
func built(t testing.TB, b *Base) *os.File {
	t.Helper()
	if b.Scratch == "" {
		b.Scratch = scratchDir(t)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "tree.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	start := time.Now()
	devices, err := b.Build(t.Context(), out)
	if err != nil {
		var script *ScriptError
		if errors.As(err, &script) {
			t.Log(script.Detail())
		}
		t.Fatal(err)
	}
	if len(devices) > 0 {
		t.Logf("device nodes: %v", devices)
	}
	t.Logf("%d packages, made in %v", len(b.Debs), time.Since(start).Round(time.Millisecond))
	return out
}

// indexed reads a tar as a tree.
func indexed(t testing.TB, f *os.File) *tree.Tree {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found, err := tree.Index(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// digestOf is the SHA-256 of a file's bytes.
func digestOf(t testing.TB, f *os.File) [sha256.Size]byte {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, info.Size())); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
