package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/rootfs/tree"
)

const ociRecipe = `packages: [dpkg, dash]
users: [{name: web, uid: 1005}]
files:
  - {path: /srv/index.html, content: "hello\n"}
  - {path: /etc/debian_version, content: "mine\n"}
remove: {documentation: true}
output:
  formats: oci
  oci:
    name: registry.example.com/tiny:1
    entrypoint: [/bin/sh, -c]
    cmd: "echo hello"
    user: web
    ports: 8080
    environment: {MODE: production}
    labels: {org.opencontainers.image.title: tiny}
`

// inspected is what skopeo says of an image.
type inspected struct {
	Digest, Architecture string
	Layers, Env          []string
	Labels               map[string]string
}

func inspectOCI(t *testing.T, archive, name string) (i inspected) {
	t.Helper()
	if err := json.Unmarshal([]byte(asks(t, "skopeo", "inspect", "oci-archive:"+archive+":"+name)), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// A recipe is built into a container image alone: without a disk, and with a
// lower layer that recipes of the same packages have in common.
func TestContainerImage(t *testing.T) {
	d := newRealTiny(t, ociRecipe)
	d.image(t).succeeds(t)
	archive := filepath.Join(d.out, "tiny_0_amd64.oci.tar")
	var names []string
	entries, err := os.ReadDir(d.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"SHA256SUMS", "tiny_0_amd64.manifest.json", "tiny_0_amd64.oci.tar", "tiny_0_amd64.spdx.json"}; !slices.Equal(names, want) {
		t.Errorf("written: %q, want %q", names, want)
	}
	if r := d.image(t).succeeds(t); !strings.Contains(r.stdout, "up to date") {
		t.Errorf("built again: %s", r.stdout)
	}

	first := inspectOCI(t, archive, "registry.example.com/tiny:1")
	if first.Architecture != "amd64" || len(first.Layers) != 2 || !slices.Contains(first.Env, "MODE=production") || first.Labels["org.opencontainers.image.title"] != "tiny" {
		t.Errorf("skopeo sees %+v", first)
	}
	asks(t, "skopeo", "copy", "oci-archive:"+archive, "docker-archive:"+filepath.Join(t.TempDir(), "docker.tar")+":tiny:1")

	again := t.TempDir()
	removeAll(t, filepath.Join(d.store, "stages"))
	d.imageInto(t, again, "--offline").succeeds(t)
	if !same(t, archive, filepath.Join(again, "tiny_0_amd64.oci.tar")) {
		t.Error("the image is another when it is built again")
	}

	text := strings.Replace(ociRecipe, "hello", "another", 2)
	text = strings.Replace(text, "tiny:1", "other:1", 1)
	head, err := os.ReadFile(d.recipe)
	if err != nil {
		t.Fatal(err)
	}
	recipe := writeFile(t, d.dir, "other.yml", strings.Replace(strings.TrimSuffix(string(head), ociRecipe), "name: tiny", "name: other", 1)+text)
	r := applbuild(t, "image", recipe, "--store", d.store, "--output", d.out).succeeds(t)
	if !strings.Contains(r.stdout, "layer (kept)") {
		t.Errorf("the lower layer was made again: %s", r.stdout)
	}
	other := inspectOCI(t, filepath.Join(d.out, "other_0_amd64.oci.tar"), "registry.example.com/other:1")
	if other.Layers[0] != first.Layers[0] || other.Layers[1] == first.Layers[1] {
		t.Errorf("layers of two recipes: %q and %q", first.Layers, other.Layers)
	}

	d.imageInto(t, t.TempDir(), "--set", "output.oci.user=nobody-there").fails(t, "output.oci.user", "nobody-there")
}

// The layers laid over one another are the files of the disk's root.
func TestContainerImageIsTheRoot(t *testing.T) {
	d := newRealTiny(t, ociRecipe)
	d.image(t, "--set", "output.formats=[raw, oci]").succeeds(t)
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, whose files umoci makes")
	}
	dir := t.TempDir()
	layout, bundle, root := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle"), filepath.Join(dir, "root")
	if err := os.Mkdir(layout, 0o755); err != nil {
		t.Fatal(err)
	}
	asks(t, "tar", "-x", "-C", layout, "-f", filepath.Join(d.out, "tiny_0_amd64.oci.tar"))
	asks(t, "umoci", "unpack", "--image", layout+":registry.example.com/tiny:1", bundle)
	asks(t, "unsquashfs", "-quiet", "-no-progress", "-strict-errors", "-dest", root, extract(t, filepath.Join(d.out, "tiny_0_amd64.raw"), "root-x86-64"))
	a, b := treeOf(t, filepath.Join(bundle, "rootfs")), treeOf(t, root)
	found, err := tree.Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range append(found, tree.DiffTimes(a, b)...) {
		t.Errorf("container image and disk: %s", difference)
	}
	if a.Len() < 1000 {
		t.Errorf("the trees have %d files", a.Len())
	}
}

// treeOf reads a folder.
func treeOf(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.FromDir(t.Context(), dir, &b, info.ModTime().AddDate(10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	read, err := tree.Index(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// What wants a disk says that there is none.
func TestContainerImageIsNoDisk(t *testing.T) {
	d := newTiny(t, "packages: [dpkg]\noutput: {formats: oci}\n")
	for _, verb := range []string{"boot", "test", "inspect", "verify"} {
		applbuild(t, verb, d.recipe).fails(t, "output.formats", "no disk", "add raw")
	}
}
