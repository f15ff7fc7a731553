package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func attr(mode uint32) Attr {
	return Attr{Mode: mode, UID: -1, GID: -1, ModTime: time.Unix(1_700_000_000, 0)}
}

// TestPathsAreResolvedAsAfterChroot has links that point out of the tree by
// name and into it as a root directory.
func TestPathsAreResolvedAsAfterChroot(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"etc", "usr", "usr/bin"} {
		if err := r.Mkdir(name, attr(0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"bin": "/usr/bin", "up": "../../../../etc", "loop": "loop"} {
		if err := r.Symlink(target, name, attr(0)); err != nil {
			t.Fatal(err)
		}
	}
	for name, place := range map[string]string{"bin/a": "usr/bin/a", "up/b": "etc/b"} {
		if err := r.WriteFile(name, []byte(name), attr(0o640)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, place))
		if err != nil || string(data) != name {
			t.Errorf("%s: %q, %v", place, data, err)
		}
		if data, err = r.ReadFile(name, 100); err != nil || string(data) != name {
			t.Errorf("%s read back: %q, %v", name, data, err)
		}
		st, err := os.Stat(filepath.Join(dir, place))
		if err != nil || st.Mode() != 0o640 || st.ModTime().Unix() != 1_700_000_000 {
			t.Errorf("%s: %v", place, st)
		}
	}
	if err := r.Mkdir("loop/x", attr(0o755)); err == nil {
		t.Error("a loop of links was followed")
	}
	if _, err := r.Create("../x"); err == nil {
		if _, err := os.Lstat(filepath.Join(dir, "x")); err != nil {
			t.Error("a file was made above the root")
		}
	}
	if _, err := r.Create("bin/.."); err == nil {
		t.Error("a file with the name .. was made")
	}
}

// TestReplacedLinkIsSeen changes a link after a file was made through it.
func TestReplacedLinkIsSeen(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 2 {
		target := fmt.Sprint("d", i)
		if err := r.Mkdir(target, attr(0o755)); err != nil {
			t.Fatal(err)
		}
		if err := r.Mkdir(target+"/sub", attr(0o755)); err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveAll("l"); err != nil {
			t.Fatal(err)
		}
		if err := r.Symlink(target, "l", attr(0)); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteFile("l/sub/f", nil, attr(0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, target, "sub/f")); err != nil {
			t.Error(err)
		}
	}
}

func TestRemoveAllFollowsNoLink(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/l", "a/b/c/l"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if err := r.RemoveAll("a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is still there")
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error("a file behind a link was removed")
	}
}

// TestManyFolders opens more folders than are kept open.
func TestManyFolders(t *testing.T) {
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 3 * maxDirs {
		name := fmt.Sprint(i)
		if err := r.Mkdir(name, attr(0o755)); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteFile(name+"/f", nil, attr(0o644)); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := r.Link(name+"/f", fmt.Sprintf("%d/g", i/2)); i%2 == 0 && err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(r.dirs) > maxDirs {
		t.Errorf("%d folders are open", len(r.dirs))
	}
}
