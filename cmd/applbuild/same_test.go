package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// The same recipe and lock give the same bytes: as root and as an ordinary user,
// in another folder and store, with another time zone, umask and number of
// processors. With the lock and the packages there, no network is asked.
func TestSameBytes(t *testing.T) {
	d := built.disk(t)
	p := program(t)
	p.asOrdinaryUser(t)
	dir := filepath.Join(p.Dir, "elsewhere")
	store := filepath.Join(dir, "store")
	copyDir(t, d.dir, dir, "store", "out")
	for _, l := range d.lock(t).All() {
		name, err := filepath.Rel(d.store, d.deb(l))
		if err != nil {
			t.Fatal(err)
		}
		copyFile(t, d.deb(l), filepath.Join(store, name))
	}
	give(t, dir, p)
	p.Path = "/bin/sh"
	p.Args = []string{"sh", "-c", `umask 077; exec "$0" "$@"`, programFile(t),
		"image", filepath.Join(dir, "guest.yml"), "--store", store, "--output", filepath.Join(dir, "out"), "--offline", "--locked"}
	p.Env = append(p.Env, "TZ=Asia/Tokyo", "GOMAXPROCS=1", "LC_ALL=POSIX", "APPLBUILD_MIRROR=http://127.0.0.1:1")
	if err := p.Run(); err != nil {
		if strings.Contains(p.output.String(), "sandbox:") && strings.Contains(p.output.String(), "user namespaces") {
			t.Skipf("SKIPPED: this machine lets no ordinary user make a sandbox: %s", p.output.String())
		}
		t.Fatalf("%v\n%s", err, p.output.String())
	}
	for _, ext := range []string{".raw", ".efi", ".roothash", ".manifest.json", ".spdx.json"} {
		if !same(t, d.file(ext), filepath.Join(dir, "out", "guest_1_amd64"+ext)) {
			t.Errorf("%s is another as an ordinary user", ext)
		}
	}
	if t.Failed() {
		t.Logf("%s", differences(t, d.file(".raw"), filepath.Join(dir, "out", "guest_1_amd64.raw")))
	}
	if !same(t, filepath.Join(d.out, "SHA256SUMS"), filepath.Join(dir, "out", "SHA256SUMS")) {
		t.Error("SHA256SUMS is another as an ordinary user")
	}
	if !same(t, lock.PathFor(d.recipe), lock.PathFor(filepath.Join(dir, "guest.yml"))) {
		t.Error("the lock was written anew")
	}
	if entries, err := os.ReadDir(filepath.Join(store, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("scratch that is left: %v (%v)", entries, err)
	}
}

// differences says in which files the roots of two disks differ.
func differences(t testing.TB, a, b string) string {
	t.Helper()
	var dirs, lists []string
	for _, image := range []string{a, b} {
		root, dir := extract(t, image, "root-x86-64"), filepath.Join(t.TempDir(), "tree")
		asks(t, "unsquashfs", "-quiet", "-no-progress", "-dest", dir, root)
		dirs = append(dirs, dir)
		lists = append(lists, writeFile(t, t.TempDir(), "list", asks(t, "unsquashfs", "-llnumeric", root)))
	}
	// diff fails where there is a difference.
	text, _ := exec.Command("diff", "-u0", lists[0], lists[1]).CombinedOutput()
	more, _ := exec.Command("diff", "--recursive", "--brief", "--no-dereference", dirs[0], dirs[1]).CombinedOutput()
	text = append(text, more...)
	return string(text[:min(len(text), 8000)])
}

// copyDir copies a folder but for some of what lies in it.
func copyDir(t testing.TB, from, to string, without ...string) {
	t.Helper()
	args := []string{"-C", from}
	for _, name := range without {
		args = append(args, "--exclude=./"+name)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	pipe := exec.Command("sh", "-c", `to=$1; shift; tar -c "$@" . | tar -x -C "$to"`, "sh", to)
	pipe.Args = append(pipe.Args, args...)
	if out, err := pipe.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Dir(to), filepath.Base(to), string(data))
}

// give makes a folder and all in it belong to the user of a process.
func give(t testing.TB, dir string, p *process) {
	t.Helper()
	c := p.SysProcAttr.Credential
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(c.Uid), int(c.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	hello := func(version string) []byte { return archivetest.Deb(t, "Package: hello\nVersion: "+version+"\n") }
	world := func(version string) []byte { return archivetest.Deb(t, "Package: world\nVersion: "+version+"\n") }
	d := newTiny(t, "packages: [hello, world]\n", func(d *tiny) {
		d.AddDeb("main", hello("1"))
		d.AddDeb("main", world("1"))
	})
	versions := func() string {
		l, err := lock.Read(lock.PathFor(d.recipe))
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, p := range l.Packages {
			list = append(list, p.Name+"="+p.Version)
		}
		return strings.Join(list, " ")
	}
	command := func(args ...string) result {
		return applbuild(t, append([]string{args[0], d.recipe, "--store", d.store}, args[1:]...)...)
	}
	command("image", "-o", d.out, "--locked").fails(t, "tiny.lock.yml", "--locked", "applbuild lock")
	if asked := d.Requests(); len(asked) > 0 {
		t.Errorf("--locked asked the archive for %q", asked)
	}
	command("lock").succeeds(t)
	if got := versions(); got != "hello=1 world=1" {
		t.Errorf("locked: %s", got)
	}

	d.AddDeb("main", hello("2"))
	d.AddDeb("main", world("2"))
	d.Publish()
	d.Requests()
	if r := command("lock").succeeds(t); !strings.Contains(r.stdout, "fits") || len(d.Requests()) > 0 {
		t.Errorf("a lock that fits: %s", r.stdout)
	}
	command("fetch", "--locked").succeeds(t)
	if asked := strings.Join(d.Requests(), " "); strings.Contains(asked, "dists/") || !strings.Contains(asked, "hello_1_all.deb") {
		t.Errorf("fetch with a lock asked for %s", asked)
	}
	command("fetch", "--offline").succeeds(t)

	command("lock", "hello", "--update").succeeds(t)
	if got := versions(); got != "hello=2 world=1" {
		t.Errorf("hello alone updated: %s", got)
	}
	command("lock", "helo", "--update").fails(t, "helo")
	command("lock", "--update").succeeds(t)
	if got := versions(); got != "hello=2 world=2" {
		t.Errorf("updated: %s", got)
	}
	command("fetch", "--locked", "--set", "packages=[hello]").fails(t, "tiny.lock.yml", "--locked")
}

// A locked package that the archive no longer has is named, with what to do.
func TestLockedPackageGone(t *testing.T) {
	d := newTiny(t, "packages: [hello]\n", deb(t, "Package: hello\nVersion: 1\n"))
	applbuild(t, "lock", d.recipe, "--store", d.store).succeeds(t)
	d.Fail("hello_1_all.deb", archivetest.Missing, -1)
	d.refuses(t, "hello_1_all.deb", "no longer", "applbuild lock --update", "snapshot")
}

// A lock that somebody broke is refused, not repaired in silence.
func TestBrokenLock(t *testing.T) {
	for _, text := range []string{"version: 9\n", "versoin: 1\n", "{", ""} {
		d := newTiny(t, "packages: [hello]\n")
		name := writeFile(t, d.dir, "tiny.lock.yml", text)
		d.refuses(t, "tiny.lock.yml", "version control")
		if data, err := os.ReadFile(name); err != nil || string(data) != text {
			t.Errorf("the lock is now %q (%v)", data, err)
		}
	}
}

// fetch brings all that image --offline needs, and image asks for nothing.
func TestFetchThenOffline(t *testing.T) {
	d := newRealTiny(t, "packages: [dpkg, dash]\n")
	applbuild(t, "fetch", d.recipe, "--store", d.store).succeeds(t)
	d.Requests()
	d.Fail("*", archivetest.Forbidden, -1)
	d.image(t, "--offline", "--locked").succeeds(t)
	if asked := d.Requests(); len(asked) > 0 {
		t.Errorf("image --offline asked for %q", asked)
	}
	// Without the stages' results, and with a network that leads nowhere.
	removeAll(t, filepath.Join(d.store, "stages"))
	out := t.TempDir()
	d.imageInto(t, out).succeeds(t)
	if asked := d.Requests(); len(asked) > 0 {
		t.Errorf("image with a lock and a full store asked for %q", asked)
	}
	for _, ext := range []string{".raw", ".manifest.json", ".spdx.json", ".roothash"} {
		if !same(t, filepath.Join(d.out, "tiny_0_amd64"+ext), filepath.Join(out, "tiny_0_amd64"+ext)) {
			t.Errorf("%s is another when it is built again", ext)
		}
	}
}

// The recipes that are shipped, and the one that init writes, come to a lock.
func TestRecipesLock(t *testing.T) {
	long(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, recipes.Files); err != nil {
		t.Fatal(err)
	}
	store := os.Getenv(storeVariable)
	if store == "" {
		store = built.disk(t).store
	}
	starter := filepath.Join(dir, "starter.yml")
	applbuild(t, "init", starter).succeeds(t)
	for _, name := range []string{"debian-minimal.yml", "debian-cloud.yml", "starter.yml"} {
		applbuild(t, "lock", filepath.Join(dir, name), "--store", store, "--architecture", "amd64").succeeds(t)
	}
}
