package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// realPackages lists .deb files for tests: Ubuntu's, and those of a folder
// that the environment names.
func realPackages(t *testing.T) map[string][]string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: real packages are unpacked in the long run only, not under -short")
	}
	sets := map[string][]string{}
	for set, folder := range map[string]string{
		"noble": filepath.Join(os.Getenv("APPLBUILD_UBUNTU_NOBLE"), "debs"),
		"other": os.Getenv("APPLBUILD_TEST_DEBS"),
	} {
		names, _ := filepath.Glob(filepath.Join(folder, "*.deb"))
		if filepath.IsAbs(folder) && len(names) > 0 {
			sets[set] = names
		}
	}
	if len(sets) == 0 {
		t.Skip("SKIPPED: no real packages: set APPLBUILD_UBUNTU_NOBLE to the folder of noble's packages, or APPLBUILD_TEST_DEBS to a folder of .deb files")
	}
	return sets
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is needed to make files of all owners")
	}
}

func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: the program %s is missing", name)
	}
	return path
}

// withoutPreinst copies a package without its preinst script, so that dpkg
// unpacks it without running anything.
func withoutPreinst(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(from, err)
	}
	c, err := f.Control()
	if err != nil {
		t.Fatal(from, err)
	}
	var control bytes.Buffer
	tw := tar.NewWriter(&control)
	members := append([]Member{{Name: "control", Mode: 0o644, Data: c.text}}, c.Members...)
	for _, m := range members {
		if m.Name == "preinst" {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + m.Name, Mode: m.Mode, Size: int64(len(m.Data)), Format: tar.FormatGNU}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	deb := arArchive(
		arFile{"debian-binary", []byte("2.0\n")},
		arFile{"control.tar", control.Bytes()},
		arFile{f.data.name, data[f.data.offset : f.data.offset+f.data.size]})
	if err := os.WriteFile(to, deb, 0o644); err != nil {
		t.Fatal(err)
	}
}

type arFile struct {
	name string
	data []byte
}

func arArchive(files ...arFile) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, f := range files {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d%s", f.name, 0, 0, 0, "100644", len(f.data), arTrailer)
		b.Write(f.data)
		if len(f.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func openFile(t *testing.T, name string) *File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(f, st.Size())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// TestUnpackEqualsDpkg has the same packages unpacked by dpkg itself and
// compares every file, dpkg's database included.
func TestUnpackEqualsDpkg(t *testing.T) {
	sets := realPackages(t)
	needRoot(t)
	needTool(t, "dpkg")
	for set, names := range sets {
		t.Run(set, func(t *testing.T) {
			stripped := t.TempDir()
			var debs []string
			for _, name := range names {
				to := filepath.Join(stripped, filepath.Base(name))
				withoutPreinst(t, name, to)
				debs = append(debs, to)
			}
			clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			ours, theirs := t.TempDir(), t.TempDir()
			unpackOurs(t, ours, debs, clock)
			unpackDpkg(t, theirs, debs)
			compareTrees(t, ours, theirs, clock)
		})
	}
}

var mergedFolders = []string{"bin", "lib", "lib64", "sbin"}

func unpackOurs(t *testing.T, dir string, debs []string, clock time.Time) {
	t.Helper()
	db, err := OpenDatabase(dir, "amd64", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	u := &Unpacker{Root: dir, Database: db, MergedUsr: mergedFolders, Clock: clock}
	defer u.Close()
	var files []*File
	for _, name := range debs {
		files = append(files, openFile(t, name))
	}
	start := time.Now()
	if err := u.UnpackAll(context.Background(), files); err != nil {
		t.Fatal(err)
	}
	if err := db.Save(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packages unpacked in %v", len(debs), time.Since(start))
	if list := u.Devices(); len(list) > 0 {
		t.Errorf("as root these devices should have been made: %v", list)
	}
}

func unpackDpkg(t *testing.T, dir string, debs []string) {
	t.Helper()
	for _, name := range mergedFolders {
		if err := os.MkdirAll(filepath.Join(dir, "usr", name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(dir, "var/lib/dpkg", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--root=" + dir, "--log=/dev/null", "--path-include=*", "--force-unsafe-io",
		"--force-depends", "--force-breaks", "--force-conflicts", "--unpack"}, debs...)
	start := time.Now()
	if out, err := exec.Command("dpkg", args...).CombinedOutput(); err != nil {
		t.Fatalf("dpkg --unpack: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	t.Logf("dpkg took %v", time.Since(start))
}

func readTree(t *testing.T, dir string, clock time.Time, ignore ...string) *tree.Tree {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "tree.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := tree.FromDir(context.Background(), dir, f, clock, tree.Ignore(ignore...)); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	read, err := tree.Index(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// compareTrees fails the test for each difference that has no reason.
func compareTrees(t *testing.T, ours, theirs string, clock time.Time) {
	t.Helper()
	ignore := []string{
		"var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", // dpkg makes them when it runs
		"var/lib/dpkg/triggers/Lock", "var/lib/dpkg/triggers/Unincorp",
		"var/lib/dpkg/status-old", "var/lib/dpkg/available", // what was there before: nothing
	}
	a, b := readTree(t, ours, clock, ignore...), readTree(t, theirs, clock, ignore...)
	differences, err := tree.Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range tree.DiffTimes(a, b) {
		// dpkg sets a folder's time and then makes files in it; its own
		// database and the links made beforehand are as new as the test.
		e, _ := a.Lookup(d.Path)
		if e.IsDir() || strings.HasPrefix(d.Path, "var/lib/dpkg/") || slices.Contains(mergedFolders, d.Path) {
			continue
		}
		differences = append(differences, d)
	}
	for i, d := range differences {
		if i == 40 {
			t.Errorf("and %d more", len(differences)-i)
			break
		}
		t.Error(d)
		if d.What == tree.DiffContent || d.What == tree.DiffSize {
			out, _ := exec.Command("diff", filepath.Join(ours, d.Path), filepath.Join(theirs, d.Path)).Output()
			t.Logf("%.2000s", out)
		}
	}
}
