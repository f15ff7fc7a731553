package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/vm/guest"
)

// marks has the guest report which partitions it has marked before, and mark them.
const marks = `#!/bin/sh
for dir in /data /volatile /release /etc; do
    if [ -e $dir/marker ]; then echo "marked=$dir"; fi
    echo x >$dir/marker
done
sync
. /etc/os-release
echo "version=$IMAGE_VERSION"
`

// What is wiped with an update is empty after the root, its hashes and the kernel
// were replaced by another version's, and not after a reboot; what is kept is kept.
// Only APPLBUILD_SOAK asks for it: TestState has the short form.
func TestUpdateWipes(t *testing.T) {
	if soakNumber(t, soakVariable, 0) == 0 {
		return
	}
	d := built.disk(t)
	writeFile(t, d.dir, "files/marks", marks)
	recipe := writeFile(t, d.dir, "update.yml", `include: guest.yml
name: update
root: {size: 512M}
files:
  - {path: `+guest.Directory+`/40-marks, source: files/marks, mode: "0755"}
partitions:
  - {name: release, size: 32M, wipe: update, keep: false}
`)
	out := t.TempDir()
	for _, version := range []string{"1", "2"} {
		applbuild(t, "image", recipe, "--store", d.store, "--output", out, "--set", "version="+version).succeeds(t)
	}
	image, other := filepath.Join(out, "update_1_amd64.raw"), filepath.Join(out, "update_2_amd64.raw")
	start := func(version string, marked ...string) {
		t.Helper()
		said, r := boot(t, d, image, "--write")
		r.succeeds(t)
		if !slices.Equal(said["version"], []string{version}) || !slices.Equal(said["marked"], marked) || said["failed"] != nil {
			t.Errorf("version %q with marks at %q, want %s with %q; failed units: %q", said["version"], said["marked"], version, marked, said["failed"])
		}
	}
	start("1")
	start("1", "/data", "/volatile", "/release", "/etc")
	for _, kind := range []string{"esp", "root-x86-64", "root-x86-64-verity"} {
		replacePartition(t, image, other, kind)
	}
	start("2", "/data", "/volatile", "/etc")
}

// replacePartition puts a partition of another disk in place of the one of its
// type, with its name.
func replacePartition(t *testing.T, image, other, kind string) {
	t.Helper()
	old, fresh := partition(t, image, kind), partition(t, other, kind)
	if fresh.Size > old.Size {
		t.Fatalf("%s has %d bytes, the other one %d", kind, old.Size, fresh.Size)
	}
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := os.ReadFile(extract(t, other, kind))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, old.Offset); err != nil {
		t.Fatal(err)
	}
	for option, value := range map[string]string{"--part-uuid": strings.ToUpper(fresh.UUID), "--part-label": fresh.Label} {
		if out, err := exec.Command("sfdisk", "-q", option, image, strconv.Itoa(old.Number), value).CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
	}
}
