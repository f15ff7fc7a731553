package main

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

func deb(t testing.TB, control string, entries ...any) func(*tiny) {
	return func(d *tiny) { d.AddDeb("main", archivetest.Deb(t, control, entries...)) }
}

// What cannot be built is refused with one line that says what, where and what
// to do, before anything is written.
func TestRefusesRecipe(t *testing.T) {
	for _, c := range []struct {
		name, recipe string
		words        []string
	}{
		{"unknown key", "pakages: [hello]\n", []string{"tiny.yml:9:1", "pakages", "packages"}},
		{"wrong type", "packages: {hello: 1}\n", []string{"tiny.yml:9:11", "packages"}},
		{"unknown unit of a size", "root: {size: 10X}\n", []string{"tiny.yml:9:14", "10X", "use K, M, G or T"}},
		{"contradiction", "root: {filesystem: ext4, compression: zstd}\n", []string{"tiny.yml:9:39", "ext4", "compression: none"}},
		{"twice", "name: other\n", []string{"tiny.yml:9:1", "name"}},
		{"include of itself", "include: tiny.yml\n", []string{"tiny.yml:9:", "tiny.yml"}},
		{"unknown unit to enable", "units: {enable: [sshd]}\n", []string{"tiny.yml:9:", "sshd", "ssh.service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newTiny(t, c.recipe).refuses(t, c.words...)
		})
	}
}

func TestRefusesMissingRecipe(t *testing.T) {
	applbuild(t, "image", filepath.Join(t.TempDir(), "none.yml")).fails(t, "none.yml", "no such file")
}

func TestRefusesWrongUse(t *testing.T) {
	minimal := writeFile(t, t.TempDir(), "minimal.yml", "name: minimal\ndistribution: debian\nrelease: trixie\n")
	for _, c := range []struct {
		args, word string
	}{
		{"image", "one recipe"}, {"image a b", "one recipe"}, {"imagine", "did you mean image"},
		{"image --sett a=b x.yml", "--help"}, {"lock x.yml hello", "--update"},
		{"schema x", "nothing"}, {"boot --kvm maybe x.raw", "auto, on or off"}, {"image --log-format xml " + minimal, "text or json"},
	} {
		r := applbuild(t, strings.Fields(c.args)...)
		r.fails(t, c.word)
		if r.code != exitUsage {
			t.Errorf("%s: exit code %d, want %d", c.args, r.code, exitUsage)
		}
	}
}

func TestRefusesPackages(t *testing.T) {
	hello := deb(t, "Package: hello\nVersion: 1\n")
	t.Run("unknown", func(t *testing.T) {
		newTiny(t, "packages: [helo]\n", hello).refuses(t, "tiny.yml:9:12", "helo", "hello")
	})
	t.Run("unknown version", func(t *testing.T) {
		newTiny(t, "packages: [hello=2]\n", hello).refuses(t, "hello", "2", "1")
	})
	t.Run("unsatisfiable", func(t *testing.T) {
		d := newTiny(t, "packages: [one]\n",
			deb(t, "Package: one\nVersion: 1\nDepends: two\n"),
			deb(t, "Package: two\nVersion: 1\nDepends: three (>= 5)\n"),
			deb(t, "Package: three\nVersion: 4\n"))
		r := d.image(t)
		detail := r.fails(t, "two", "three (>= 5)", "only 4")
		if !strings.Contains(detail, "one (1) needs two") {
			t.Errorf("the chain does not begin with what was asked for:\n%s", detail)
		}
		nothingLeft(t, d.store, d.out)
	})
	t.Run("conflict", func(t *testing.T) {
		d := newTiny(t, "packages: [one, two]\n",
			deb(t, "Package: one\nVersion: 1\nConflicts: two\n"), deb(t, "Package: two\nVersion: 1\n"))
		d.refuses(t, "one", "two")
	})
}

func TestRefusesArchive(t *testing.T) {
	hello := deb(t, "Package: hello\nVersion: 1\n")
	sign := func(s archivetest.Signature) func(*tiny) { return func(d *tiny) { d.Signature = s } }
	for _, c := range []struct {
		name   string
		change func(*tiny)
		words  []string
	}{
		{"bad signature", sign(archivetest.Tampered), []string{"InRelease", "signature"}},
		{"unknown key", sign(archivetest.UnknownKey), []string{"InRelease", "key", "keyring"}},
		{"no signature", sign(archivetest.Unsigned), []string{"InRelease"}},
		{"expired", func(d *tiny) { d.ValidUntil = d.Date.Add(24 * time.Hour) }, []string{"InRelease", "2024"}},
		{"no suite", func(d *tiny) {
			d.Fail("InRelease", archivetest.Missing, -1)
			d.Fail("Release", archivetest.Missing, -1)
		}, []string{"sid", "Release"}},
		{"damaged index", func(d *tiny) {
			for _, form := range []string{"*/Packages*", "Packages*", "dists/sid/main/binary-amd64/by-hash/SHA256/*"} {
				d.Fail(form, archivetest.Damaged, -1)
			}
		}, []string{"Packages"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newTiny(t, "packages: [hello]\n", hello, c.change).refuses(t, append(c.words, "127.0.0.1")...)
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		long(t) // the client tries several times
		d := newTiny(t, "packages: [hello]\n", hello)
		text, err := os.ReadFile(d.recipe)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, d.dir, "tiny.yml", strings.ReplaceAll(string(text), d.URL, "http://127.0.0.1:1/archive"))
		d.refuses(t, "http://127.0.0.1:1/archive")
	})
	t.Run("offline", func(t *testing.T) {
		d := newTiny(t, "packages: [hello]\n", hello)
		d.image(t, "--offline").fails(t, "InRelease", "offline", "applbuild fetch")
		nothingLeft(t, d.store, d.out)
	})
}

// A package that is not what its index says is named; what came of it is not
// kept.
func TestRefusesPackageFile(t *testing.T) {
	hello := deb(t, "Package: hello\nVersion: 1\n", archivetest.Member{Name: "./usr/share/hello", Body: strings.Repeat("hello ", 1000)})
	for _, c := range []struct {
		name  string
		fault archivetest.Fault
		words []string
	}{
		{"wrong digest", archivetest.Damaged, []string{"SHA-256"}},
		{"too short", archivetest.Shorter, nil},
		{"too long", archivetest.Longer, nil},
		{"gone", archivetest.Missing, []string{"lock --update"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newTiny(t, "packages: [hello]\n", hello)
			d.Fail("hello_1_all.deb", c.fault, -1)
			d.refuses(t, append(c.words, "hello_1_all.deb")...)
			d.Heal()
			applbuild(t, "fetch", d.recipe, "--store", d.store).succeeds(t)
		})
	}
}

// No package writes outside its tree.
func TestRefusesHostilePackage(t *testing.T) {
	long(t)
	outside := t.TempDir()
	for _, c := range []struct {
		name    string
		members []any
		words   []string
	}{
		{"parent", []any{archivetest.Member{Name: "./usr/../../escaped", Body: "x"}}, []string{"hostile", "escaped"}},
		{"absolute", []any{archivetest.Member{Name: path.Join(outside, "escaped"), Body: "x"}}, []string{"hostile", "escaped"}},
		{"through a link", []any{
			archivetest.Member{Name: "./srv", Typeflag: '2', Linkname: "../../../../../../../" + outside},
			archivetest.Member{Name: "./srv/escaped", Body: "x"},
		}, []string{"hostile", "escaped"}},
		{"hard link to the host", []any{archivetest.Member{Name: "./escaped", Typeflag: '1', Linkname: "../../../../../../etc/hostname"}}, []string{"hostile", "etc/hostname", "leaves the tree"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newTiny(t, "packages: [hostile]\n", deb(t, "Package: hostile\nVersion: 1\n", c.members...))
			d.refuses(t, c.words...)
			if _, err := os.Lstat(filepath.Join(outside, "escaped")); err == nil {
				t.Error("the package wrote outside its tree")
			}
		})
	}
}
