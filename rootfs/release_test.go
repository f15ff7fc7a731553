package rootfs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
	"github.com/applbuild/applbuild/rootfs/deb822"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// TestUbuntuNoble makes a tree of Ubuntu's own packages, out of an archive that
// the test composes and signs, and compares dpkg's status with that of a tree
// that debootstrap made of them.
func TestUbuntuNoble(t *testing.T) {
	if testing.Short() {
		t.Skip("a tree of real packages takes a minute")
	}
	real := os.Getenv("APPLBUILD_UBUNTU_NOBLE")
	if real == "" {
		t.Skip("SKIPPED: APPLBUILD_UBUNTU_NOBLE does not name a folder with packages of Ubuntu 24.04 and the dpkg status that debootstrap made of them")
	}
	needSandbox(t)
	served := archivetest.New(t, "noble", archivetest.Pockets("noble-updates", "noble-security"))
	served.AddPool(filepath.Join(real, "debs"))
	served.Publish()
	var sources []archive.Source
	for _, suite := range []string{"noble", "noble-updates", "noble-security"} {
		sources = append(sources, archive.Source{
			URI: served.URL, Suite: suite, Components: []string{"main"}, Arch: "amd64", Keyring: served.Keyring, KeyringName: "the test's",
		})
	}
	a, err := readSources(t.Context(), &archive.Client{Dir: t.TempDir(), Now: archivetest.Date}, sources)
	if err != nil {
		t.Fatal(err)
	}
	want := paragraphs(t, filepath.Join(real, "status"))
	var names []string
	for _, p := range want {
		names = append(names, p.Get("Package"))
	}
	b := a.base(t, names...)
	b.Packages = reachable(t, b.Packages)
	got := indexed(t, built(t, b))
	data, err := got.ReadFile("var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	compareStatus(t, readParagraphs(t, bytes.NewReader(data)), want, paragraphs(t, filepath.Join(real, "Packages")))
	checkDpkg(t, b)
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		e, ok := got.Lookup(name)
		if !ok || e.Typeflag != tree.TypeSymlink || e.Linkname != "usr/"+name {
			t.Errorf("/%s is %+v, not a link to usr/%s", name, e, name)
		}
	}
}

// reachable copies packages from a folder of the test to where mapped ids get.
func reachable(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(scratchDir(t), "packages")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(name, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func paragraphs(t *testing.T, file string) []deb822.Paragraph {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readParagraphs(t, f)
}

func readParagraphs(t *testing.T, r io.Reader) []deb822.Paragraph {
	t.Helper()
	var list []deb822.Paragraph
	for reader := deb822.NewReader(r); ; {
		p, err := reader.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// compareStatus compares paragraphs in order, field by field in order. Priority
// and Section may be the package's own where debootstrap, which had dpkg read
// the archive's index, has the index's: so they are after apt, too.
func compareStatus(t *testing.T, got, want, index []deb822.Paragraph) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packages, want %d", len(got), len(want))
	}
	overridden := 0
	for i, p := range want {
		name := p.Get("Package")
		if got[i].Get("Package") != name {
			t.Fatalf("package %d is %s, want %s", i, got[i].Get("Package"), name)
		}
		if len(got[i]) != len(p) {
			t.Errorf("%s: %d fields, want %d", name, len(got[i]), len(p))
			continue
		}
		for j, field := range p {
			mine := got[i][j]
			if mine == field {
				continue
			}
			if mine.Name == field.Name && (field.Name == "Priority" || field.Name == "Section") && field.Value == inIndex(index, name, field.Name) {
				overridden++
				continue
			}
			t.Errorf("%s: field %d:\n%s: %s\nwant\n%s: %s", name, j, mine.Name, mine.Value, field.Name, field.Value)
		}
	}
	t.Logf("%d packages, %d fields as in the index", len(want), overridden)
}

func inIndex(index []deb822.Paragraph, name, field string) string {
	for _, p := range index {
		if p.Get("Package") == name {
			return p.Get(field)
		}
	}
	return ""
}

// TestAliasedUsr makes a tree of Debian 12, whose packages ship files in /bin,
// /lib and /sbin.
func TestAliasedUsr(t *testing.T) {
	if testing.Short() {
		t.Skip("a tree of real packages takes a minute")
	}
	needSandbox(t)
	b := debian(t, "bookworm").base(t)
	b.Aliases = true
	got := indexed(t, built(t, b))
	checkDpkg(t, b)
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		e, ok := got.Lookup(name)
		if !ok || e.Typeflag != tree.TypeSymlink || e.Linkname != "usr/"+name {
			t.Errorf("/%s is %+v, not a link to usr/%s", name, e, name)
		}
	}
	listed := 0
	for _, e := range got.Children("var/lib/dpkg/info") {
		if !strings.HasSuffix(e.Path, ".list") {
			continue
		}
		data, err := got.ReadFile(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		for file := range strings.Lines(string(data)) {
			file = strings.TrimSpace(file)
			if !strings.HasPrefix(file, "/bin/") && !strings.HasPrefix(file, "/lib") && !strings.HasPrefix(file, "/sbin/") {
				continue
			}
			listed++
			// A link may lead to what only a running system has, so its folder is followed, it is not.
			folder, err := got.Resolve(filepath.Dir(file))
			if err != nil {
				t.Errorf("%s lists %s: %v", e.Path, file, err)
				continue
			}
			if _, ok := got.Lookup(folder.Path + "/" + filepath.Base(file)); !ok {
				t.Errorf("%s lists %s, which is not there", e.Path, file)
			}
		}
	}
	if listed == 0 {
		t.Error("no package ships a file in an aliased folder: this tests nothing")
	}
}
