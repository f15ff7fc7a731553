package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Documentation goes, licences stay, and the kernel is in the unified kernel
// image only.
func TestRemoves(t *testing.T) {
	b := buildOf(t, t.TempDir(), testRecipe, testLock("hello"), "remove={documentation: true, paths: ['/usr/share/locale/*']}")
	for _, c := range []struct {
		name string
		dir  bool
		gone bool
	}{
		{"usr/share/man", true, true}, {"usr/share/doc/hello/README", false, true}, {"usr/share/doc/hello/examples", true, true},
		{"usr/share/doc/hello/copyright", false, false}, {"usr/share/doc/hello", true, false}, {"usr/bin/man", false, false},
		{"usr/share/locale/de", true, true}, {"usr/share/locale", true, false},
		{"boot/vmlinuz", false, true}, {"boot", true, false}, {".", true, false},
	} {
		e := &tree.Entry{Path: c.name, Typeflag: tree.TypeReg}
		if c.dir {
			e.Typeflag = tree.TypeDir
		}
		if got := b.edits.removes(e); got != c.gone {
			t.Errorf("%s: removed %v, want %v", c.name, got, c.gone)
		}
	}
}

// Files of a folder get the modes of a checkout, whatever the umask was when
// they were written.
func TestReadEdits(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"etc/plain": 0o600, "etc/program": 0o700, "etc/sub/open": 0o666} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("plain", filepath.Join(dir, "etc/link")); err != nil {
		t.Fatal(err)
	}
	img := buildOf(t, dir, testRecipe, testLock("hello"), "files=[{path: /etc, source: "+filepath.Join(dir, "etc")+"}]")
	modes := map[string]int64{}
	for _, f := range img.edits.Files {
		modes[f.Path] = f.Mode
	}
	for name, want := range map[string]int64{"etc": 0o755, "etc/plain": 0o644, "etc/program": 0o755, "etc/sub": 0o755, "etc/sub/open": 0o644, "etc/link": 0o777} {
		if modes[name] != want {
			t.Errorf("%s: mode %o, want %o", name, modes[name], want)
		}
	}
	if len(modes) != 6 {
		t.Errorf("%d files: %v", len(modes), modes)
	}
}

// What cannot be copied is named, with where the recipe asks for it.
func TestReadEditsRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kiosk.yml"), []byte(testRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipes.Load(filepath.Join(dir, "kiosk.yml"), recipes.Options{Set: []string{"files=[{path: /etc/null, source: /dev/null}]"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = readEdits(t.Context(), r, testLock("hello"))
	if err == nil || !strings.Contains(err.Error(), "/dev/null is neither file, folder nor link") {
		t.Errorf("%v", err)
	}
}

// A source that is written to between its digest and the tree would be kept
// under a wrong key.
func TestUnchanged(t *testing.T) {
	dir := t.TempDir()
	img := buildOf(t, dir, testRecipe, testLock("hello"))
	if err := img.edits.unchanged(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "motd")
	if err := os.WriteFile(name, []byte("hallo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The clock of a file system may be coarse.
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := img.edits.unchanged(); !errors.Is(err, errChanged) || !strings.Contains(err.Error(), "kiosk.yml:7:") {
		t.Errorf("%v", err)
	}
}
