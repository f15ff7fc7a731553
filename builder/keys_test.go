package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(SandboxFuncs())
	os.Exit(m.Run())
}

// silent is an Observer for tests.
type silent struct{}

func (silent) StageStarted(string)                {}
func (silent) StageProgress(string, int64, int64) {}
func (silent) StageDone(string, bool, error)      {}
func (silent) Notice(string)                      {}

func testBuilder(t *testing.T) *Builder {
	t.Helper()
	b, err := New(t.Context(), Settings{Store: t.TempDir(), Now: time.Now(), HostArch: "amd64", Observer: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testLock is a lock of a few packages with digests of their own.
func testLock(names ...string) *lock.Lock {
	l := &lock.Lock{
		Version: lock.Version, Distribution: "debian", Release: "trixie", Architecture: "amd64", Kernel: "linux-image-6.12-cloud-amd64",
		Sources: []lock.Source{{URI: "http://ftp.debian.org/debian", Suite: "trixie", Date: time.Unix(1_700_000_000, 0).UTC()}},
	}
	pack := func(name string) lock.Package {
		return lock.Package{Name: name, Version: "1", Arch: "amd64", Path: "pool/" + name, Size: 1, SHA256: fmt.Sprintf("%064x", []byte(name))[:64]}
	}
	for _, name := range append(names, l.Kernel) {
		l.Packages = append(l.Packages, pack(name))
	}
	l.Initrd = []lock.Package{pack("systemd"), pack("systemd-boot-efi")}
	l.Tools = []lock.Package{pack("squashfs-tools")}
	return l
}

const testRecipe = `name: kiosk
distribution: debian
release: trixie
architecture: amd64
packages: [hello]
files:
  - {path: /etc/motd, source: motd}
`

// buildOf plans a recipe that lies in a folder.
func buildOf(t *testing.T, dir, text string, l *lock.Lock, set ...string) *build {
	t.Helper()
	for name, text := range map[string]string{"kiosk.yml": text, "motd": "hello\n"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := recipes.Load(filepath.Join(dir, "kiosk.yml"), recipes.Options{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	img, err := testBuilder(t).newBuild(t.Context(), r, l)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// changed lists the stages that two builds don't share.
func changed(a, b keys) string {
	var list []string
	for _, stage := range []struct {
		name string
		same bool
	}{
		{"tools", a.tools == b.tools}, {"base", a.base == b.base}, {"boot", a.boot == b.boot},
		{"root", a.root == b.root}, {"uki", a.uki == b.uki}, {"disk", a.disk == b.disk},
	} {
		if !stage.same {
			list = append(list, stage.name)
		}
	}
	return strings.Join(list, " ")
}

// A change makes those stages again whose results it changes, and no others.
func TestKeys(t *testing.T) {
	first := buildOf(t, t.TempDir(), testRecipe, testLock("hello"))
	for _, c := range []struct{ set, again string }{
		{"hostname=other", "root uki disk"},
		{"files+=[{path: /etc/issue, content: hi}]", "root uki disk"},
		{"users=[{name: admin}]", "root uki disk"},
		{"root.filesystem=erofs", "boot root uki disk"},
		{"root.corruption=panic", "root uki disk"},
		{"boot.cmdline=quiet", "uki disk"},
		{"boot.loader=systemd-boot", "boot uki disk"},
		{"kernel.modules=[ahci]", "boot uki disk"},
		{"version=2", "root uki disk"},
		{"output.dir=elsewhere", ""},
	} {
		if got := changed(first.keys, buildOf(t, t.TempDir(), testRecipe, testLock("hello"), c.set).keys); got != c.again {
			t.Errorf("%s makes again: %s, want: %s", c.set, got, c.again)
		}
	}
	more := testLock("hello", "world")
	if got := changed(first.keys, buildOf(t, t.TempDir(), testRecipe, more).keys); got != "base root uki disk" {
		t.Errorf("another package makes again: %s", got)
	}
	tools := testLock("hello")
	tools.Tools[0].SHA256 = strings.Repeat("5", 64)
	if got := changed(first.keys, buildOf(t, t.TempDir(), testRecipe, tools).keys); got != "tools root uki disk" {
		t.Errorf("another tool makes again: %s", got)
	}
}

// Where a recipe lies, how it is laid out and in which order a lock lists its
// packages changes nothing; what a file that it names holds does.
func TestKeysOfTheSame(t *testing.T) {
	first := buildOf(t, t.TempDir(), testRecipe, testLock("hello", "world"))
	if got := changed(first.keys, buildOf(t, t.TempDir(), "# The same.\n\n"+testRecipe, testLock("world", "hello")).keys); got != "" {
		t.Errorf("the same recipe elsewhere makes again: %s", got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "motd"), []byte("hullo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := changed(first.keys, buildOf(t, dir, testRecipe, testLock("hello", "world")).keys); got != "root uki disk" {
		t.Errorf("a file's other contents make again: %s", got)
	}
}

func TestCommandLine(t *testing.T) {
	for set, want := range map[string]string{
		"boot.cmdline=console=ttyS0 quiet": "roothash=12 rootfstype=squashfs ro gpt console=ttyS0 quiet",
		"root.corruption=panic":            "roothash=12 systemd.verity_root_options=panic-on-corruption rootfstype=squashfs ro gpt",
		"root.corruption=restart":          "roothash=12 systemd.verity_root_options=restart-on-corruption rootfstype=squashfs ro gpt",
		"root.filesystem=ext4":             "roothash=12 rootfstype=ext4 ro gpt",
	} {
		if got := buildOf(t, t.TempDir(), testRecipe, testLock("hello"), set).commandLine("12"); got != want {
			t.Errorf("%s: %q, want %q", set, got, want)
		}
	}
	plain := buildOf(t, t.TempDir(), testRecipe, testLock("hello"), "root.verity=false").commandLine("")
	if !strings.HasPrefix(plain, "root=PARTUUID=") || strings.Contains(plain, "roothash") {
		t.Errorf("without verity: %q", plain)
	}
}

// What the packages that nobody asked for are, apt learns from this.
func TestAutomatic(t *testing.T) {
	img := buildOf(t, t.TempDir(), testRecipe, testLock("hello", "libc6"), "packages=[hello=1]")
	if got := strings.Join(img.automatic(), " "); got != "libc6 linux-image-6.12-cloud-amd64" {
		t.Errorf("automatic: %s", got)
	}
}

func TestKernelPackages(t *testing.T) {
	for kernel, test := range map[string]struct{ locked, want string }{
		"linux-image-unsigned-6.8.0-31-generic": {
			"linux-modules-6.8.0-31-generic linux-modules-extra-6.8.0-31-generic linux-modules-6.8.0-30-generic linux-image-unsigned-6.8.0-31-generic linux-headers-6.8.0-31-generic linux-base",
			"linux-modules-6.8.0-31-generic linux-modules-extra-6.8.0-31-generic linux-image-unsigned-6.8.0-31-generic",
		},
		"linux-image-7.2.13+deb14-cloud-amd64": {
			"linux-base linux-base-cloud-amd64 linux-base-7.2.13+deb14-cloud-amd64 linux-binary-7.2.13+deb14-cloud-amd64 linux-image-7.2.13+deb14-cloud-amd64 linux-modules-7.2.13+deb14-cloud-amd64",
			"linux-base-7.2.13+deb14-cloud-amd64 linux-binary-7.2.13+deb14-cloud-amd64 linux-image-7.2.13+deb14-cloud-amd64 linux-modules-7.2.13+deb14-cloud-amd64",
		},
	} {
		l := testLock(strings.Fields(test.locked)...)
		l.Kernel = kernel
		var names []string
		for _, p := range kernelPackages(l) {
			if p.Name != "linux-image-6.12-cloud-amd64" { // testLock's own
				names = append(names, p.Name)
			}
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s: %s", kernel, got)
		}
	}
}
