package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoPackageLeavesTheTree tries to write beside the tree by names and by
// links, of the package itself and of one before it.
func TestNoPackageLeavesTheTree(t *testing.T) {
	outside := t.TempDir()
	raw := func(name string) entry { e := file("x", "evil"); e.Name = name; return e }
	link := func(name, target string) entry { e := hardlink(name, "x"); e.Linkname = target; return e }
	for what, packages := range map[string][]testPackage{
		"absolute name":           {{name: "p", data: []entry{raw(outside + "/evil")}}},
		"name with ..":            {{name: "p", data: []entry{raw("./../evil")}}},
		"absolute link":           {{name: "p", data: []entry{symlink("l", outside), file("l/evil", "evil")}}},
		"relative link":           {{name: "p", data: []entry{symlink("l", "../../../../../../../.."+outside), file("l/evil", "evil")}}},
		"link of another package": {{name: "a", data: []entry{symlink("l", outside)}}, {name: "b", data: []entry{file("l/evil", "evil")}}},
		"folder over a link":      {{name: "a", data: []entry{symlink("l", outside)}}, {name: "b", data: []entry{dir("l"), file("l/evil", "evil")}}},
		"hard link out":           {{name: "p", data: []entry{link("evil", "../../etc/passwd")}}},
		"hard link by a link":     {{name: "p", data: []entry{symlink("l", "/etc"), link("evil", "l/passwd")}}},
		"file over a link":        {{name: "a", data: []entry{symlink("evil", outside+"/evil")}}, {name: "b", fields: "Replaces: a\n", data: []entry{file("evil", "evil")}}},
		"conffile over a link": {{name: "a", data: []entry{symlink("evil", outside+"/evil")}},
			{name: "b", fields: "Replaces: a\n", members: map[string]string{"conffiles": "/evil\n"}, data: []entry{file("evil", "evil")}}},
		"database through a link": {{name: "a", data: []entry{symlink("var/lib/dpkg/info/b.list", outside+"/evil")}}, {name: "b"}},
	} {
		_, _, err := unpack(t, &Unpacker{}, packages...)
		t.Logf("%s: %v", what, err)
		if found, _ := os.ReadDir(outside); len(found) > 0 {
			t.Fatalf("%s: there is a file outside of the tree", what)
		}
	}
}

func TestAliasedFoldersAreFollowed(t *testing.T) {
	root, db, err := unpack(t, &Unpacker{MergedUsr: []string{"bin", "lib"}},
		testPackage{name: "old", data: []entry{dir("bin"), file("bin/tool", "1"), dir("lib"), file("lib/x", "2")}},
		testPackage{name: "links", data: []entry{dir("usr"), dir("usr/bin"), symlink("bin", "usr/bin")}})
	if err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(root, "bin")); target != "usr/bin" {
		t.Errorf("/bin is %q, %v", target, err)
	}
	wantFile(t, root, "usr/bin/tool", "1")
	wantFile(t, root, "usr/lib/x", "2")
	wantFile(t, root, "var/lib/dpkg/info/old.list", "/.\n/bin\n/bin/tool\n/lib\n/lib/x\n")
	if _, err := OpenDatabase(root, "amd64", clock); err == nil {
		t.Error("a database with packages was opened as a new one")
	}
	if n := len(db.Packages()); n != 2 {
		t.Errorf("%d packages", n)
	}
}

func TestConflictsAreSettledByReplaces(t *testing.T) {
	a := testPackage{name: "a", data: []entry{file("f", "of a")}}
	b := testPackage{name: "b", data: []entry{file("f", "of b"), file("g", "")}}
	replacing := func(p testPackage, fields string) testPackage { p.fields = fields; return p }
	for _, c := range []struct {
		what     string
		packages []testPackage
		content  string // "" for a conflict
		a, b     string // lists
	}{
		{"none replaces", []testPackage{a, b}, "", "", ""},
		{"the later replaces", []testPackage{a, replacing(b, "Replaces: a\n")}, "of b", "/.\n", "/.\n/f\n/g\n"},
		{"the earlier replaces", []testPackage{replacing(b, "Replaces: x, a (<= 1.0)\n"), a}, "of b", "/.\n", "/.\n/f\n/g\n"},
		{"another version", []testPackage{a, replacing(b, "Replaces: a (<< 1.0)\n")}, "", "", ""},
	} {
		root, _, err := unpack(t, &Unpacker{}, c.packages...)
		if c.content == "" {
			if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "b 1.0: /f") || !strings.Contains(err.Error(), "package a (1.0)") {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		wantFile(t, root, "f", c.content)
		wantFile(t, root, "var/lib/dpkg/info/a.list", c.a)
		wantFile(t, root, "var/lib/dpkg/info/b.list", c.b)
	}
}

func TestInstancesOfTwoArchitecturesShareFiles(t *testing.T) {
	instance := func(arch, content string) testPackage {
		return testPackage{name: "lib", arch: arch, fields: "Multi-Arch: same\n",
			data: []entry{file("doc", content), symlink("l", "doc"), file("lib-"+arch, arch)}}
	}
	root, db, err := unpack(t, &Unpacker{}, instance("amd64", "same"), instance("arm64", "same"))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, root, "var/lib/dpkg/info/lib:amd64.list", "/.\n/doc\n/l\n/lib-amd64\n")
	wantFile(t, root, "var/lib/dpkg/info/lib:arm64.list", "/.\n/doc\n/l\n/lib-arm64\n")
	wantFile(t, root, "var/lib/dpkg/arch", "amd64\narm64\n")
	if n := bytes.Count(db.Status(), []byte("Package: lib\n")); n != 2 {
		t.Errorf("%d instances in the status", n)
	}
	if _, _, err := unpack(t, &Unpacker{}, instance("amd64", "one"), instance("arm64", "two")); !errors.Is(err, ErrConflict) {
		t.Errorf("different shared files: %v", err)
	}
	if _, _, err := unpack(t, &Unpacker{}, instance("amd64", ""), instance("amd64", "")); err == nil {
		t.Error("the same package twice was taken")
	}
}

func TestDiversionsAndOverridesAreHeeded(t *testing.T) {
	root, db, err := unpack(t, &Unpacker{}, testPackage{name: "first", data: []entry{dir("etc"), file("etc/passwd", "root:x:0:0::/:\n")}})
	if err != nil {
		t.Fatal(err)
	}
	admin := filepath.Join(root, "var/lib/dpkg")
	os.WriteFile(filepath.Join(admin, "diversions"), []byte("/sh\n/sh.distrib\nowner\n/moved\n/moved.distrib\n:\n"), 0o644)
	os.WriteFile(filepath.Join(admin, "statoverride"), []byte("root #0 4711 /tool\n"), 0o644)
	u := &Unpacker{Root: root, Database: db, IgnoreOwner: os.Getuid() != 0}
	defer u.Close()
	for _, p := range []testPackage{
		{name: "other", data: []entry{file("sh", "other's"), file("moved", "m"), hardlink("sh2", "sh"), file("tool", "t")}},
		{name: "owner", data: []entry{file("sh", "owner's")}},
	} {
		if err := u.Unpack(context.Background(), p.file(t)); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, root, "sh", "owner's")
	wantFile(t, root, "sh.distrib", "other's")
	wantFile(t, root, "sh2", "other's")
	wantFile(t, root, "moved.distrib", "m")
	wantFile(t, root, "var/lib/dpkg/info/other.list", "/.\n/sh\n/moved\n/sh2\n/tool\n")
	wantFile(t, root, "var/lib/dpkg/info/owner.list", "/.\n/sh\n")
	if os.Getuid() == 0 {
		if st, err := os.Stat(filepath.Join(root, "tool")); err != nil || st.Mode() != 0o711|os.ModeSetuid {
			t.Errorf("the overridden file: %v %v", st, err)
		}
	}
	err = u.Unpack(context.Background(), testPackage{name: "third", data: []entry{file("sh.distrib", "")}}.file(t))
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a file at a diverted place: %v", err)
	}
}

func TestConffilesWaitForDpkg(t *testing.T) {
	root, db, err := unpack(t, &Unpacker{}, testPackage{name: "p",
		members: map[string]string{"conffiles": "/etc/c\nremove-on-upgrade /etc/old\n", "postinst": "#!/bin/sh\n", "md5sums": ""},
		data:    []entry{dir("etc"), file("etc/c", "conf"), hardlink("etc/d", "etc/c"), file("etc/plain", "p")}})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, root, "etc/c.dpkg-new", "conf")
	wantFile(t, root, "etc/d", "conf")
	wantFile(t, root, "etc/plain", "p")
	wantFile(t, root, "var/lib/dpkg/info/p.conffiles", "/etc/c\nremove-on-upgrade /etc/old\n")
	want := "Package: p\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1.0\n" +
		"Conffiles:\n /etc/c newconffile\n /etc/old newconffile remove-on-upgrade\nDescription: test\n\n"
	if got := string(db.Status()); got != want {
		t.Errorf("status:\n%s", got)
	}
}

func TestMissingDigestsAreMade(t *testing.T) {
	root, _, err := unpack(t, &Unpacker{},
		testPackage{name: "p", data: []entry{dir("d"), file("d/f", "content"), hardlink("d/g", "d/f"), symlink("l", "d")}},
		testPackage{name: "q", members: map[string]string{"md5sums": "its own\n"}, data: []entry{file("h", "")}})
	if err != nil {
		t.Fatal(err)
	}
	const digest = "9a0364b9e99bb480dd25e1f0284c8555" // of "content"
	wantFile(t, root, "var/lib/dpkg/info/p.md5sums", digest+"  d/f\n"+digest+"  d/g\n")
	wantFile(t, root, "var/lib/dpkg/info/q.md5sums", "its own\n")
}

func TestFilters(t *testing.T) {
	root, _, err := unpack(t, &Unpacker{Filters: []Filter{{"/doc/*", false}, {"/doc/*/copyright", true}}},
		testPackage{name: "p", data: []entry{dir("doc"), dir("doc/p"), file("doc/p/README", ""), file("doc/p/copyright", "c")}})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, root, "doc/p/copyright", "c")
	if _, err := os.Lstat(filepath.Join(root, "doc/p/README")); err == nil {
		t.Error("the excluded file is there")
	}
	wantFile(t, root, "var/lib/dpkg/info/p.list", "/.\n/doc\n/doc/p\n/doc/p/README\n/doc/p/copyright\n")
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "/a/b", true}, {"/a/*", "/a", false}, {"/a/*/c", "/a/b/b/c", true}, {"/a?c", "/a/c", true},
		{"[a-c]x", "bx", true}, {"[!a-c]x", "bx", false}, {"[]]", "]", true}, {"[a", "[a", true},
		{`\*`, "*", true}, {`\*`, "a", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {"", "", true},
	} {
		if got := match(c.pattern, c.s); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestTriggersAreRegistered(t *testing.T) {
	_, _, err := unpack(t, &Unpacker{},
		testPackage{name: "a", fields: "Multi-Arch: same\n", members: map[string]string{"triggers": "interest-noawait /usr/share/x\n interest\tnamed # no comment\n"}},
		testPackage{name: "b", members: map[string]string{"triggers": "# comment\ninterest /usr/share/x\ninterest named2\nactivate ldconfig\n"}})
	if !errors.Is(err, ErrFormat) {
		t.Errorf("a trigger's name with blanks: %v", err)
	}
	root, _, err := unpack(t, &Unpacker{},
		testPackage{name: "a", fields: "Multi-Arch: same\n", members: map[string]string{"triggers": "interest-noawait /usr/share/x\n interest\tnamed\n"}},
		testPackage{name: "b", members: map[string]string{"triggers": "# comment\ninterest /usr/share/x\ninterest-noawait named\nactivate ldconfig\n"}})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, root, "var/lib/dpkg/triggers/File", "/usr/share/x a:amd64/noawait\n/usr/share/x b\n")
	wantFile(t, root, "var/lib/dpkg/triggers/named", "a:amd64\nb/noawait\n")
}

func TestTimesModesAndLinks(t *testing.T) {
	setuid := file("d/su", "su")
	setuid.Mode, setuid.Uid, setuid.Gid = 0o4755, 0, 8
	node := entry{Header: tar.Header{Name: "./d/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}}
	u := &Unpacker{}
	root, _, err := unpack(t, u, testPackage{name: "p", data: []entry{dir("d"), setuid, hardlink("d/zu", "d/su"), symlink("d/l", "/nowhere"), node}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "d/su", "d/l"} {
		st, err := os.Lstat(filepath.Join(root, name))
		if err != nil || !st.ModTime().Equal(clock.Add(-time.Hour)) {
			t.Errorf("%s: time %v, %v", name, st.ModTime(), err)
		}
	}
	var a, b syscall.Stat_t
	if err := syscall.Stat(filepath.Join(root, "d/su"), &a); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Stat(filepath.Join(root, "d/zu"), &b); err != nil || a.Ino != b.Ino {
		t.Errorf("no hard link: %v", err)
	}
	if os.Getuid() == 0 && (a.Mode&0o7777 != 0o4755 || a.Gid != 8) {
		t.Errorf("mode %o, group %d", a.Mode, a.Gid)
	}
	if _, err := os.Lstat(filepath.Join(root, "d/null")); err != nil && len(u.Devices()) != 1 {
		t.Errorf("the device is neither made nor listed: %v", err)
	}
}
