package main

import (
	"archive/tar"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/manifest"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// A recipe's container images get from a registry onto the disk. All of this is
// built in one store: the packages are installed once.
func TestContainers(t *testing.T) {
	h := newHub(t)
	digest := string(h.push(t, "shop/web", "1", "amd64", shopLayers(t)...))
	name := h.host() + "/shop/web:1"
	d := newStall(t, "", "  images: [\""+name+"\"]\n  run: [{name: web, image: \""+name+"\", command: /usr/bin/su}]\n")
	d.image(t).succeeds(t)
	t.Run("AreOnTheDisk", func(t *testing.T) { containersAreOnTheDisk(t, d, h, name, digest) })
	t.Run("AreTheSameBytesFromAnotherPull", func(t *testing.T) { containersAreTheSameBytes(t, d, h) })
	t.Run("TagsArePinned", func(t *testing.T) { containerTagsArePinned(t, d, h, name, digest) })
	t.Run("NeedNoCredentialsAfterwards", func(t *testing.T) { credentialsStayOut(t, d.store) })
	t.Run("StayInTheirLayers", func(t *testing.T) { layersAreRefused(t, d.store) })
	t.Run("AreFetchedAgainWhenDamaged", func(t *testing.T) { damagedLayersComeAgain(t, d.store) })
}

func containersAreOnTheDisk(t *testing.T, d *tiny, h *hub, name, digest string) {
	if said := applbuild(t, "containers", d.file(".raw"), "--store", d.store).succeeds(t).stdout; !strings.Contains(said, name) || !strings.Contains(said, digest) {
		t.Errorf("containers says %s", said)
	}
	check := func(what string, list []manifest.Container) {
		t.Helper()
		if len(list) != 1 || list[0].Names[0] != name || list[0].Digest != digest || len(list[0].Layers) != 2 || list[0].Platform != "linux/amd64" ||
			list[0].Source != h.host() || list[0].Runtime != "podman" || list[0].Labels["org.opencontainers.image.title"] != "shop" {
			t.Errorf("%s: %+v", what, list)
		}
	}
	var list []manifest.Container
	var inspected, written struct{ Containers []manifest.Container }
	for _, c := range []struct {
		args []string
		into any
	}{
		{[]string{"containers", "--json"}, &list}, {[]string{"inspect", "--json"}, &inspected},
	} {
		said := applbuild(t, append(c.args, d.file(".raw"), "--store", d.store)...).succeeds(t).stdout
		if err := json.Unmarshal([]byte(said), c.into); err != nil {
			t.Errorf("%s: %v\n%s", c.args, err, said)
		}
	}
	check("containers --json", list)
	check("inspect --json", inspected.Containers)
	if err := json.Unmarshal([]byte(readText(t, d.file(".manifest.json"))), &written); err != nil {
		t.Error(err)
	}
	check("the manifest", written.Containers)
	if spdx := readText(t, d.file(".spdx.json")); !strings.Contains(spdx, "shop/web") || !strings.Contains(spdx, strings.TrimPrefix(digest, "sha256:")) {
		t.Error("the bill of materials does not name the image")
	}

	root := extract(t, d.file(".raw"), "root-x86-64")
	const store = "usr/lib/containers/storage/"
	files := asks(t, "unsquashfs", "-llnumeric", root)
	images := asks(t, "unsquashfs", "-cat", root, store+"overlay-images/images.json")
	if !strings.Contains(images, name) || !strings.Contains(images, digest) {
		t.Errorf("podman's list of images: %s", images)
	}
	for _, end := range []string{"/diff/srv/index.html", "/diff/srv/old.html", "/diff/usr/bin/su", "/diff/usr/bin/also", "etc/containers/storage.conf", "/web.container"} {
		if !strings.Contains(files, end+"\n") {
			t.Errorf("%s is not on the disk", end)
		}
	}
	removed := false
	for line := range strings.Lines(files) {
		switch {
		case strings.HasSuffix(line, "/diff/srv/old.html\n") && line[0] == 'c':
			removed = true
		case strings.HasSuffix(line, "/diff/usr/bin/su\n") && !strings.HasPrefix(line, "-rwsr-xr-x"):
			t.Errorf("not setuid: %s", line)
		case strings.Contains(line, "/.wh."):
			t.Errorf("a whiteout as it was in the archive: %s", line)
		}
	}
	if !removed {
		t.Error("no device stands for the file that a layer removes")
	}
	var links []string
	dir := filepath.Join(t.TempDir(), "tree")
	asks(t, "unsquashfs", "-quiet", "-no-progress", "-dest", dir, root, store)
	for _, name := range []string{"su", "also"} {
		found, err := filepath.Glob(filepath.Join(dir, store, "overlay/*/diff/usr/bin", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s is in %q (%v)", name, found, err)
		}
		links = append(links, found[0])
	}
	if one, err := os.Stat(links[0]); err != nil || one.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Errorf("%q are not one file with two names (%v)", links, err)
	}

	if r := d.image(t).succeeds(t); !strings.Contains(r.stdout, "up to date") {
		t.Errorf("built again: %s", r.stdout)
	}
	h.set(status(500))
	defer h.set(nil)
	out := t.TempDir()
	d.imageInto(t, out, "--offline", "--locked").succeeds(t)
	if h.requests() > 0 || !same(t, d.file(".raw"), filepath.Join(out, "tiny_0_amd64.raw")) {
		t.Errorf("offline, with %d requests, or another disk", h.requests())
	}
}

// Two pulls give the same disk and lock, though one is through a registry that
// delays, breaks off, refuses and ignores ranges.
func containersAreTheSameBytes(t *testing.T, d *tiny, h *hub) {
	other := *d
	other.dir, other.store, other.out = t.TempDir(), t.TempDir(), t.TempDir()
	other.recipe = filepath.Join(other.dir, "tiny.yml")
	copyDir(t, d.dir, other.dir, "store", "out", "tiny.lock.yml")
	h.set(h.chaos(1))
	defer h.set(nil)
	applbuild(t, "fetch", other.recipe, "--store", other.store).succeeds(t)
	h.set(status(500))
	other.image(t, "--offline", "--locked").succeeds(t)
	if d.lockText(t) != other.lockText(t) {
		t.Errorf("the locks differ:\n%s\n%s", d.lockText(t), other.lockText(t))
	}
	for _, ext := range []string{".raw", ".manifest.json", ".spdx.json", ".roothash"} {
		if !same(t, d.file(ext), other.file(ext)) {
			t.Errorf("%s is another from another pull", ext)
		}
	}
}

// What a tag stands for stays until the lock is told to move.
func containerTagsArePinned(t *testing.T, d *tiny, h *hub, name, before string) {
	after := string(h.push(t, "shop/web", "1", "amd64", layerOf(t, file("srv/index.html", "new\n"))))
	old := d.lockText(t)
	packages := func(text string) string {
		part, _, found := strings.Cut(text, "containers:")
		if !found {
			t.Errorf("the lock has no containers:\n%s", text)
		}
		return part
	}
	out := t.TempDir()
	d.imageInto(t, out).succeeds(t)
	if !same(t, d.file(".raw"), filepath.Join(out, "tiny_0_amd64.raw")) || d.lockText(t) != old {
		t.Error("the disk moved with the tag")
	}
	lockIt := func(args ...string) result {
		t.Helper()
		return applbuild(t, append([]string{"lock", d.recipe, "--store", d.store}, args...)...).succeeds(t)
	}
	if r := lockIt(); !strings.Contains(r.stdout, "fits") || !strings.Contains(r.stderr, name) || !strings.Contains(r.stderr, after) || !strings.Contains(r.stderr, "lock --update") {
		t.Errorf("lock says %s%s", r.stdout, r.stderr)
	}

	d.AddDeb("main", archivetest.Deb(t, "Package: hello\nVersion: 2\n"))
	d.Publish()
	lockIt("--update", "hello")
	if l := readLock(t, d); l.Containers[0].Digest != before || packages(d.lockText(t)) == packages(old) {
		t.Errorf("hello alone was to move: %+v", l.Containers)
	}
	old = d.lockText(t)
	d.AddDeb("main", archivetest.Deb(t, "Package: hello\nVersion: 3\n"))
	d.Publish()
	d.Requests()
	lockIt("--update", name)
	if l := readLock(t, d); l.Containers[0].Digest != after || packages(d.lockText(t)) != packages(old) {
		t.Errorf("the image alone was to move: %s", d.lockText(t))
	}
	if asked := d.Requests(); len(asked) > 0 {
		t.Errorf("the archive was asked for %q", asked)
	}
	applbuild(t, "lock", d.recipe, "--store", d.store, "--update", h.host()+"/shop/other:1").fails(t, "shop/other:1", "the recipe names")
}

func readLock(t testing.TB, d *tiny) *lock.Lock {
	t.Helper()
	l, err := lock.Read(lock.PathFor(d.recipe))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func readText(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Credentials are used, and are nowhere afterwards.
func credentialsStayOut(t *testing.T, store string) {
	const user, password = "merchant", "open-sesame-4711"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	leaks := func(where, text string) {
		for _, secret := range []string{password, basic} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has the password", where)
			}
		}
	}
	for _, c := range []struct{ name, auth, tokens string }{
		{"auth file", `{"auths":{"HOST":{"auth":"` + basic + `"}}}`, ""},
		{"token file", `{}`, "HOST basic " + user + ":" + password + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			h.push(t, "shop/secret", "1", "amd64", layerOf(t, file("srv/"+c.name, "x")))
			h.set(h.password(user, password))
			d := newStall(t, store, "  images: [\""+h.host()+"/shop/secret:1\"]\n")
			dir := t.TempDir()
			t.Setenv("REGISTRY_AUTH_FILE", writeFile(t, dir, "auth.json", strings.ReplaceAll(c.auth, "HOST", h.host())))
			var args []string
			if c.tokens != "" {
				args = []string{"--registry-token-file", writeFile(t, dir, "tokens", strings.ReplaceAll(c.tokens, "HOST", h.host()))}
			}
			r := d.image(t, args...).succeeds(t)
			leaks("the output", r.stdout+r.stderr)
			leaks("the lock", d.lockText(t))
			walk(t, d.out, leaks)

			h.set(h.password(user, "another"))
			removeAll(t, filepath.Join(d.dir, "tiny.lock.yml"))
			r = d.imageInto(t, t.TempDir(), args...)
			r.fails(t, "tiny.yml:11:", "registry "+h.host(), "access denied")
			leaks("the refusal", r.stdout+r.stderr)
		})
	}
	walk(t, store, leaks)
}

// walk shows every file below a folder, by name.
func walk(t testing.TB, dir string, show func(name, text string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			show(name, readText(t, name))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A layer that leaves its tree, or is not what its image says, is refused where
// it is unpacked.
func layersAreRefused(t *testing.T, store string) {
	for _, c := range []struct {
		name  string
		layer []byte
		words []string
	}{
		{"parent", layerOf(t, file("../../etc/passwd", "x")), []string{"../../etc/passwd", "leads out of the layer"}},
		{"hard link to nothing", layerOf(t, member{tar.Header{Name: "srv/link", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}, ""}), []string{"etc/passwd"}},
		{"no archive", []byte(strings.Repeat("no archive ", 200)), []string{"malformed layer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t)
			h.push(t, "shop/web", "1", "amd64", c.layer)
			d := newStall(t, store, "  images: [\""+h.host()+"/shop/web:1\"]\n")
			r := d.image(t)
			r.fails(t, append(c.words, "tiny.yml:11:", h.host()+"/shop/web:1")...)
			oneClearLine(t, d, r)
			nothingLeft(t, d.store, d.out)
		})
	}
}

// A layer that the store's disk has damaged is noticed and fetched once more.
func damagedLayersComeAgain(t *testing.T, store string) {
	h := newHub(t)
	page := layerOf(t, file("srv/index.html", "about to be damaged\n"))
	h.push(t, "shop/web", "1", "amd64", page)
	d := newStall(t, store, "  images: [\""+h.host()+"/shop/web:1\"]\n")
	applbuild(t, "fetch", d.recipe, "--store", d.store).succeeds(t)
	found, err := filepath.Glob(filepath.Join(store, "containers", "*", containers.DigestOf(gzipped(t, page)).Hex()))
	if err != nil || len(found) != 1 {
		t.Fatalf("the layer is in %q (%v)", found, err)
	}
	flipAt(t, found[0], 20)
	r := d.image(t).succeeds(t)
	if notice := strings.Count(r.stderr, "damaged in the store"); notice != 1 {
		t.Errorf("a damaged layer was told of %d times: %s", notice, r.stderr)
	}
}
