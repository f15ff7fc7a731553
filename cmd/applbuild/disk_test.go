package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/vm/guest"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// storeVariable names a store to keep between runs of the tests; without it
// each run begins with an empty one.
const storeVariable = "APPLBUILD_TEST_STORE"

// built is the disk that most tests look at: built once, when the first test
// asks.
var built onceBuilt

type onceBuilt struct {
	once sync.Once
	made disk
}

// A disk is a recipe and what was built of it.
type disk struct {
	dir, store, out, recipe string
	first                   result // of the build
}

// bigFile is a file of the disk that nothing reads before the report asks for
// it. Its contents don't compress, so they are found again in the file system.
const bigFile = "usr/share/applbuild-test/big"

// bigContents are the same in every run.
func bigContents() []byte {
	source := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 1<<20)
	source.Read(data)
	return data
}

// What the report says beside package guest's own lines.
var reportPrograms = map[string]string{
	"10-state": `for dir in /etc /var /home /root /opt /srv /tmp; do
    if echo x >$dir/applbuild-test && [ "$(cat $dir/applbuild-test)" = x ]; then echo "writable=$dir"; fi
done
for dir in / /usr; do
    if echo x 2>/dev/null >$dir/applbuild-test; then echo "writable=$dir"; fi
done
echo "machine-id=$(cat /etc/machine-id)"
echo "target=$(systemctl is-active multi-user.target)"
findmnt -n -o FSTYPE /etc | sed 's/^/etc=/'
`,
	"20-read": `if cat /` + bigFile + ` >/dev/null 2>&1; then echo big=read; else echo big=failed; fi
dmesg | grep -i verity | sed 's/^/kernel=/'
`,
	"30-machine": `for disk in /sys/block/vd*; do echo "disk=${disk##*/} $(cat $disk/size) $(cat $disk/ro)"; done
if [ -c /dev/tpm0 ]; then echo tpm=there; fi
for card in /sys/class/net/e*; do if [ -e "$card" ]; then echo "card=$(cat $card/operstate)"; fi; done
`,
}

// disk returns recipes/debian-minimal.yml's disk with the report in it, or skips
// the test.
func (o *onceBuilt) disk(t testing.TB) *disk {
	t.Helper()
	long(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED: these disks are built on amd64 only")
	}
	if err := sandbox.Check(t.Context(), sandbox.Range); err != nil {
		t.Skipf("SKIPPED, NO SANDBOX HERE: %v", err)
	}
	o.once.Do(func() { o.build(t) })
	if o.made.first.code != exitOK || o.made.recipe == "" {
		t.Fatalf("debian-minimal could not be built:\n%s", o.made.first.stderr)
	}
	return &o.made
}

func (o *onceBuilt) build(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "applbuild-test-disk-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	d := disk{dir: dir, store: filepath.Join(dir, "store"), out: filepath.Join(dir, "out"), recipe: filepath.Join(dir, "guest.yml")}
	if kept := os.Getenv(storeVariable); kept != "" {
		d.store = kept
	}
	o.made = d
	if err := os.CopyFS(dir, recipes.Files); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "guest.yml", guestRecipe(t, dir))
	o.made.first = applbuild(t, "image", d.recipe, "--store", d.store, "--output", d.out)
}

// guestRecipe is debian-minimal with the report.
func guestRecipe(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("include: debian-minimal.yml\nname: guest\nunits:\n  enable: [" + guest.Unit + "]\nfiles:\n")
	file := func(name, mode, text string) {
		source := filepath.Join("files", name)
		writeFile(t, dir, source, text)
		fmt.Fprintf(&b, "  - {path: %s, source: %s, mode: \"%s\"}\n", name, source, mode)
	}
	for _, f := range guest.Files() {
		file(f.Path, fmt.Sprintf("%04o", f.Mode), f.Text)
	}
	for _, name := range slices.Sorted(maps.Keys(reportPrograms)) {
		file(guest.Directory+"/"+name, "0755", "#!/bin/sh\n"+reportPrograms[name])
	}
	file("/"+bigFile, "0644", string(bigContents()))
	return b.String()
}

// remove takes the disk away after the last test.
func (o *onceBuilt) remove() {
	if o.made.dir != "" {
		sandbox.RemoveAll(context.Background(), o.made.dir)
	}
}

// file is the path of an output.
func (d *disk) file(ext string) string { return filepath.Join(d.out, "guest_1_amd64"+ext) }

// deb is the path of a package in the store.
func (d *disk) deb(p lock.Package) string {
	return (&archive.Client{Dir: filepath.Join(d.store, "archive")}).Path(p.SHA256)
}

// lock reads the lock beside the recipe.
func (d *disk) lock(t testing.TB) *lock.Lock {
	t.Helper()
	l, err := lock.Read(lock.PathFor(d.recipe))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// image builds the disk with changes into another folder.
func (d *disk) image(t testing.TB, out string, args ...string) result {
	t.Helper()
	return applbuild(t, append([]string{"image", d.recipe, "--store", d.store, "--output", out}, args...)...)
}

// copyTo copies the disk alone into a folder.
func (d *disk) copyTo(t testing.TB, dir string) string {
	t.Helper()
	data, err := os.ReadFile(d.file(".raw"))
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "guest_1_amd64.raw", string(data))
}

// flip changes one bit of a byte of the big file where it lies in a disk, and
// returns the byte's offset in bytes.
func flip(t testing.TB, image string) int64 {
	t.Helper()
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	const inside = 500_000
	at := bytes.Index(data, bigContents()[inside:inside+64])
	if at < 0 {
		t.Fatalf("%s: the contents of %s are not to be found", image, bigFile)
	}
	flipAt(t, image, int64(at))
	return int64(at)
}

// flipAt changes one bit of a byte of a file.
func flipAt(t testing.TB, name string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var one [1]byte
	if _, err := f.ReadAt(one[:], offset); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := f.WriteAt(one[:], offset); err != nil {
		t.Fatal(err)
	}
}
