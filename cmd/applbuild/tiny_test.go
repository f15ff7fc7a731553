package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// A tiny distribution: an archive of a few packages and a recipe for it. It is
// served as Debian's sid, which has one suite only.
type tiny struct {
	*archivetest.Archive
	dir, store, out, recipe string
}

// newTiny makes an archive whose tools are empty packages: enough for whatever
// goes wrong before a tool runs. add adds to it before it is published.
func newTiny(t testing.TB, recipe string, add ...func(*tiny)) *tiny {
	t.Helper()
	d := emptyTiny(t, recipe)
	for _, name := range []string{"squashfs-tools", "erofs-utils", "e2fsprogs", "dosfstools", "mtools"} {
		d.AddDeb("main", archivetest.Deb(t, "Package: "+name+"\nVersion: 1\n"))
	}
	return d.publish(t, add)
}

// newRealTiny makes an archive of trixie's own packages: the tools, and what
// it takes to configure packages. They come from the disk that is built once.
func newRealTiny(t testing.TB, recipe string, add ...func(*tiny)) *tiny {
	t.Helper()
	disk := built.disk(t)
	d := emptyTiny(t, recipe)
	d.addPackages(t, disk, append(disk.lock(t).Tools, smallest(disk.lock(t))...))
	return d.publish(t, add)
}

// addLocked adds packages of the disk that is built once, by name.
func (d *tiny) addLocked(t testing.TB, names ...string) {
	t.Helper()
	disk := built.disk(t)
	var set []lock.Package
	for _, p := range disk.lock(t).Packages {
		if slices.Contains(names, p.Name) {
			set = append(set, p)
		}
	}
	d.addPackages(t, disk, set)
}

func (d *tiny) addPackages(t testing.TB, disk *disk, set []lock.Package) {
	t.Helper()
	pool := t.TempDir()
	for _, p := range set {
		if err := os.Symlink(disk.deb(p), filepath.Join(pool, p.Name+".deb")); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	d.AddPool(pool)
}

// smallest are the packages of a lock in which dpkg and shell scripts run.
func smallest(l *lock.Lock) []lock.Package {
	var set []lock.Package
	for _, p := range l.Packages {
		switch p.Name {
		case "base-files", "base-passwd", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "findutils",
			"gcc-14-base", "grep", "libacl1", "libattr1", "libbz2-1.0", "libc-bin", "libc6", "libdebconfclient0",
			"libgcc-s1", "libgmp10", "liblzma5", "libmd0", "libpcre2-8-0", "libselinux1", "libssl3t64", "libsystemd0",
			"libzstd1", "mawk", "openssl-provider-legacy", "sed", "tar", "zlib1g", "libcap2":
			set = append(set, p)
		}
	}
	return set
}

func emptyTiny(t testing.TB, recipe string) *tiny {
	t.Helper()
	d := &tiny{Archive: archivetest.New(t, "sid"), dir: t.TempDir()}
	d.Date = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) // before whatever clock a machine has
	d.Extra = "Version: 0\n"
	d.store, d.out = filepath.Join(d.dir, "store"), filepath.Join(d.dir, "out")
	d.recipe = writeFile(t, d.dir, "tiny.yml", `name: tiny
distribution: debian
release: sid
architecture: amd64
boot: none
mirrors:
  - uri: `+d.URL+`
    keyring: keyring.gpg
`+recipe)
	return d
}

func (d *tiny) publish(t testing.TB, add []func(*tiny)) *tiny {
	t.Helper()
	for _, a := range add {
		a(d)
	}
	writeFile(t, d.dir, "keyring.gpg", string(d.Keyring))
	d.Publish()
	return d
}

// image builds the disk.
func (d *tiny) image(t testing.TB, args ...string) result {
	t.Helper()
	return d.imageInto(t, d.out, args...)
}

// imageInto builds the disk into another folder.
func (d *tiny) imageInto(t testing.TB, out string, args ...string) result {
	t.Helper()
	return applbuild(t, append([]string{"image", d.recipe, "--store", d.store, "--output", out}, args...)...)
}

// refuses builds what cannot be built and checks that nothing is left of it.
func (d *tiny) refuses(t testing.TB, words ...string) (detail string) {
	t.Helper()
	detail = d.image(t).fails(t, words...)
	nothingLeft(t, d.store, d.out)
	return detail
}
