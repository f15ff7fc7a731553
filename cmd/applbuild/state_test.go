package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

// stateFolder makes a folder with the recipes and tests of testdata/state, beside
// those that they include.
func stateFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, files := range []fs.FS{recipes.Files, os.DirFS("testdata/state")} {
		if err := os.CopyFS(dir, files); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// passes runs boot tests, all of which are to pass.
func passes(t *testing.T, d *disk, args ...string) {
	t.Helper()
	consoles := t.TempDir()
	r := applbuild(t, append([]string{"test", "--store", d.store, "--kvm", "off", "--console", consoles}, args...)...)
	t.Logf("%s", r.stdout)
	if r.code == exitOK {
		return
	}
	t.Errorf("exit code %d\n%s", r.code, r.stderr)
	names, err := filepath.Glob(filepath.Join(consoles, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s:\n%s", filepath.Base(name), text)
	}
}

// Partitions are made, grown, kept, wiped, filled, reset and found damaged as the
// recipe says.
func TestState(t *testing.T) {
	d := built.disk(t)
	passes(t, d, filepath.Join(stateFolder(t), "state.yml"))
}

// foreignDisks makes two disks that belong to somebody else, and has the tests
// expect what sha256sum says of them.
func foreignDisks(t *testing.T, dir string) {
	t.Helper()
	foreign, table := filepath.Join(dir, "foreign.raw"), filepath.Join(dir, "table.raw")
	for _, name := range []string{foreign, table} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	asks(t, "mke2fs", "-q", "-t", "ext4", "-L", "precious", foreign)
	sfdisk := exec.Command("sfdisk", "-q", table)
	sfdisk.Stdin = strings.NewReader("label: gpt\nsize=20M, name=store\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	name := filepath.Join(dir, "other.yml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sums := `"` + digestOf(t, foreign) + `  -\n` + digestOf(t, table) + `  -"`
	writeFile(t, dir, "other.yml", strings.Replace(string(text), "SUMS", sums, 1))
}

// A second disk is used where it is empty, or was taken before; what belongs to
// others is not touched.
func TestStateOnAnotherDisk(t *testing.T) {
	d := built.disk(t)
	dir := stateFolder(t)
	foreignDisks(t, dir)
	recipe := filepath.Join(dir, "other.yml")
	passes(t, d, recipe)
	passes(t, d, recipe, "--tests", filepath.Join(dir, "empty.yml"))
}

// A first boot that is cut short while file systems are made is gone on with at
// the next one. Only APPLBUILD_SOAK says how often: TestPowerCuts is there for
// every run, and TestState leaves by hand what a cut leaves.
func TestStateCutShort(t *testing.T) {
	n, seed := soakNumber(t, soakVariable, 0), soakNumber(t, soakSeedVariable, 1)
	if n == 0 {
		return
	}
	d := built.disk(t)
	dir := stateFolder(t)
	for i := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		// On two idle cores the file systems are made between the 8th and the 15th
		// second, by emulation; a step's time is multiplied for that.
		first, second := 1500+rng.IntN(2000), 1500+rng.IntN(2000)
		tests := writeFile(t, dir, "cut.yml", fmt.Sprintf(`tests:
  - machine: {disk: 2G}
  - power_cut: %dms
  - power_cut: %dms
  - boot: {}
  - file: {path: /home/ops/.profile, contents: from the image, owner: "1000:1000"}
  - file: {path: /site/index.html, contents: Welcome.}
  - file: {path: /tree/leaf, contents: leaf}
  - mounted: {path: /data, filesystem: ext4, at_least: 600M}
  - mounted: {path: /volatile, filesystem: ext4, at_least: 300M}
  - mounted: {path: /cache, filesystem: ext4, options: rw}
  - run: swapon --show=SIZE --noheadings
    expect: {stdout: 64M}
  - reboot: {}
`, first, second))
		t.Logf("cut %d of %d, %s=%d: after %d and %d ms", i+1, n, soakSeedVariable, seed, first, second)
		passes(t, d, filepath.Join(dir, "state.yml"), "--tests", tests)
	}
}
