package deb

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

var clock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// entries of an archive: a header and the content of a file.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: "./" + name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

func file(name, content string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644}, content: content}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeLink, Linkname: "./" + target, Mode: 0o644}}
}

func tarball(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		h.ModTime = clock.Add(-time.Hour)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A testPackage is what pack makes a package of.
type testPackage struct {
	name    string
	arch    string // "" is amd64
	fields  string // further lines of the control file
	members map[string]string
	data    []entry
}

func (p testPackage) bytes(t testing.TB) []byte {
	t.Helper()
	control := "Package: " + p.name + "\nVersion: 1.0\nArchitecture: " + cmp.Or(p.arch, "amd64") + "\n" + p.fields + "Description: test\n"
	entries := []entry{file("control", control)}
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		entries = append(entries, file(name, p.members[name]))
	}
	data := append([]entry{dir(".")}, p.data...)
	return arArchive(arFile{"debian-binary", []byte("2.0\n")},
		arFile{"control.tar", tarball(t, entries...)}, arFile{"data.tar", tarball(t, data...)})
}

func (p testPackage) file(t testing.TB) *File {
	t.Helper()
	data := p.bytes(t)
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unpack puts packages into a new tree.
func unpack(t *testing.T, u *Unpacker, packages ...testPackage) (string, *Database, error) {
	t.Helper()
	root := t.TempDir()
	db, err := OpenDatabase(root, "amd64", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	u.Root, u.Database, u.Clock = root, db, clock
	u.IgnoreOwner = os.Getuid() != 0
	t.Cleanup(func() { u.Close() })
	var files []*File
	for _, p := range packages {
		files = append(files, p.file(t))
	}
	err = u.UnpackAll(context.Background(), files)
	if err == nil {
		err = db.Save()
	}
	return root, db, err
}

func wantFile(t *testing.T, root, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(root, name))
	if err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", name, got, err, want)
	}
}

func TestMembersOfAllCompressionsAreRead(t *testing.T) {
	plain := tarball(t, dir("."), file("f", strings.Repeat("content", 1000)))
	control := tarball(t, file("control", "Package: p\nVersion: 1\nArchitecture: all\n"))
	compressed := func(open func(w io.Writer) (io.WriteCloser, error), data []byte) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	bzip, err := exec.Command("bzip2", "--version").Output()
	_ = bzip
	suffixes := map[string]func(w io.Writer) (io.WriteCloser, error){
		".gz":   func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		".zst":  func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		".lzma": func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) },
	}
	if err == nil {
		suffixes[".bz2"] = func(w io.Writer) (io.WriteCloser, error) {
			cmd := exec.Command("bzip2")
			cmd.Stdout = w
			in, err := cmd.StdinPipe()
			if err != nil {
				return nil, err
			}
			return &piped{in, cmd}, cmd.Start()
		}
	}
	for suffix, open := range suffixes {
		data, ctl := compressed(open, plain), control
		name := "control.tar"
		if suffix != ".lzma" && suffix != ".bz2" {
			name, ctl = name+suffix, compressed(open, control)
		}
		deb := arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{name, ctl}, arFile{"data.tar" + suffix, data})
		walk := func(deb []byte) error {
			f, err := Open(bytes.NewReader(deb), int64(len(deb)))
			if err != nil {
				return err
			}
			if c, err := f.Control(); err != nil || c.Name() != "p" {
				t.Errorf("%s: control %v, %v", suffix, c, err)
			}
			return f.Walk(context.Background(), func(h *tar.Header, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
		}
		if err := walk(deb); err != nil {
			t.Errorf("%s: %v", suffix, err)
		}
		if suffix == ".bz2" || suffix == ".lzma" {
			continue
		}
		cutShort := arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{name, ctl}, arFile{"data.tar" + suffix, data[:len(data)-6]})
		if err := walk(cutShort); err == nil {
			t.Errorf("%s: a truncated member was taken", suffix)
		}
	}
}

type piped struct {
	io.WriteCloser
	cmd *exec.Cmd
}

func (p *piped) Close() error {
	if err := p.WriteCloser.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

func TestOpenRefuses(t *testing.T) {
	good := testPackage{name: "p"}.bytes(t)
	binary, control, data := arFile{"debian-binary", []byte("2.0\n")}, arFile{"control.tar", nil}, arFile{"data.tar", nil}
	for what, deb := range map[string][]byte{
		"nothing":          {},
		"no ar":            []byte("PK\x03\x04 and so on and on"),
		"truncated":        good[:len(good)-700],
		"trailing garbage": append(bytes.Clone(good), "garbage"...),
		"no debian-binary": arArchive(control, data),
		"other version":    arArchive(arFile{"debian-binary", []byte("3.0\n")}, control, data),
		"no data":          arArchive(binary, control),
		"wrong order":      arArchive(binary, data, control),
		"bad size":         bytes.Replace(good, []byte("4         `\n"), []byte("-4        `\n"), 1),
	} {
		if _, err := Open(bytes.NewReader(deb), int64(len(deb))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestControlRefuses(t *testing.T) {
	for what, p := range map[string]testPackage{
		"name with a slash":      {name: "a/b"},
		"name with dots":         {name: ".."},
		"conffile outside":       {name: "p", members: map[string]string{"conffiles": "/etc/../../x\n"}},
		"relative conffile":      {name: "p", members: map[string]string{"conffiles": "etc/x\n"}},
		"unknown trigger":        {name: "p", members: map[string]string{"triggers": "wish x\n"}},
		"trigger leaving":        {name: "p", members: map[string]string{"triggers": "interest ../x\n"}},
		"trigger of that name":   {name: "p", members: map[string]string{"triggers": "interest Unincorp\n"}},
		"member in a folder":     {name: "p", members: map[string]string{"a/b": ""}},
		"field without a colon":  {name: "p", fields: "what\n"},
		"architecture with dots": {name: "p", fields: "\nPackage: q\n"},
	} {
		if _, err := p.file(t).Control(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

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
	root, _, err := unpack(t, &Unpacker{},
		testPackage{name: "a", fields: "Multi-Arch: same\n", members: map[string]string{"triggers": "interest-noawait /usr/share/x\n interest\tnamed # no comment\n"}},
		testPackage{name: "b", members: map[string]string{"triggers": "# comment\ninterest /usr/share/x\ninterest named2\nactivate ldconfig\n"}})
	if !errors.Is(err, ErrFormat) {
		t.Errorf("a trigger's name with blanks: %v", err)
	}
	root, _, err = unpack(t, &Unpacker{},
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

func FuzzOpen(f *testing.F) {
	f.Add(testPackage{name: "p", members: map[string]string{"conffiles": "/etc/c\n", "triggers": "interest x\n"},
		data: []entry{dir("etc"), file("etc/c", "conf"), hardlink("etc/d", "etc/c"), symlink("l", "/etc")}}.bytes(f))
	f.Add(arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{"control.tar.gz", nil}, arFile{"data.tar.zst", nil}))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if c, err := d.Control(); err == nil {
			(&Package{Control: c, State: StateUnpacked}).appendStatus(nil, available{})
		}
		d.Walk(context.Background(), func(h *tar.Header, r io.Reader) error {
			if h.Name == "" || h.Name[0] == '/' || slices.Contains(strings.Split(h.Name, "/"), "..") {
				t.Fatalf("name %q came through", h.Name)
			}
			_, err := io.CopyN(io.Discard, r, 1<<20)
			if err == io.EOF {
				err = nil
			}
			return err
		})
	})
}

func FuzzDiversions(f *testing.F) {
	f.Add([]byte("/a\n/a.distrib\n:\n"))
	f.Fuzz(func(t *testing.T, data []byte) { parseDiversions(data) })
}
