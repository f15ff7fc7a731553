package fs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

// plain is the zoo without what xfs cannot have.
func plain() (m fstest.Memory) {
	for _, e := range fstest.Zoo() {
		e.PAXRecords, e.ModTime = nil, clock
		e.Mode &^= 0o1000
		if e.Typeflag != tar.TypeLink {
			m = append(m, e)
		}
	}
	return m
}

// xfsTool returns a machine whose mkfs.xfs makes the same bytes each time.
func xfsTool(t *testing.T) host {
	t.Helper()
	fstest.Need(t, "mkfs.xfs")
	for name, h := range tools(t) {
		err := NewXFS(h, clock, id, MinimumSize(KindXFS)).checkVersion(t.Context(), filepath.Join(scratch(t, h), "image"))
		if err == nil {
			return h
		}
		t.Logf("%s: %v", name, err)
	}
	t.Skip("SKIPPED: this machine's mkfs.xfs has no DETERMINISTIC_SEED, which came with xfsprogs 6.18")
	return host{}
}

func TestXFSHasTheTree(t *testing.T) {
	h := xfsTool(t)
	h.umask = 0
	image := filepath.Join(scratch(t, h), "image")
	x := NewXFS(h, clock, id, MinimumSize(KindXFS), XFSLabel("twelve-bytes"))
	if err := x.Write(t.Context(), plain(), image); err != nil {
		t.Fatal(err)
	}
	fstest.Output(t, "xfs_repair", "-n", image)
	fstest.WantBlkid(t, image, "xfs", "twelve-bytes")
	was := fstest.Digest(t, image)
	time.Sleep(1100 * time.Millisecond)
	h.umask, h.extra = 0o077, []string{"HOME=/nonexistent", "USER=other"}
	if err := x.Write(t.Context(), plain(), image); err != nil {
		t.Fatal(err)
	}
	if got := fstest.Digest(t, image); got != was {
		t.Error("the same tree gave other bytes")
	}
	got, want := fstest.Summarize(t, fstest.Mount(t, "xfs", image)), plain().Summary()
	want["."] = fmt.Sprintf("5 0755 0:0 %d", clock.Unix())
	fstest.Compare(t, got, want)
}

// TestXFSGrows has Linux make a file system larger, as systemd-growfs does.
func TestXFSGrows(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	h := xfsTool(t)
	fstest.Need(t, "xfs_growfs")
	image := filepath.Join(scratch(t, h), "image")
	if err := NewXFS(h, clock, id, MinimumSize(KindXFS)).Write(t.Context(), plain(), image); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<30); err != nil {
		t.Fatal(err)
	}
	dir, umount := fstest.MountWritable(t, "xfs", image)
	fstest.Output(t, "xfs_growfs", dir)
	fstest.Output(t, "dd", "if=/dev/zero", "of="+dir+"/more", "bs=1M", "count=400")
	umount()
	fstest.Output(t, "xfs_repair", "-n", image)
}

func TestXFSTellsThatATreeDoesNotFit(t *testing.T) {
	h := xfsTool(t)
	image := filepath.Join(scratch(t, h), "image")
	err := NewXFS(h, clock, id, MinimumSize(KindXFS)).Write(t.Context(), fstest.Repeated{400 << 20}, image)
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}

func TestXFSRefusesWhatItCannotKeep(t *testing.T) {
	attribute := fstest.File("x", 1)
	attribute.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"}
	for name, tree := range map[string]fstest.Memory{
		"hard link":           {fstest.File("y", 1), {Header: tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}}},
		"extended attributes": {attribute},
		"sticky":              {{Header: tar.Header{Name: "x", Typeflag: tar.TypeDir, Mode: 0o1777}}},
		"sticky bit":          {{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1777}}},
		"a name":              {fstest.File(":x", 1)},
		"white space":         {{Header: tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "a b"}}},
	} {
		l, err := unpack(t.Context(), tree, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		err = l.prototype(filepath.Join(t.TempDir(), "prototype"), "contents")
		if !errors.Is(err, ErrXFS) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOldXFSIsRefused(t *testing.T) {
	fstest.Need(t, "mkfs.xfs")
	image := filepath.Join(t.TempDir(), "image")
	err := NewXFS(oldXFS{}, clock, id, MinimumSize(KindXFS)).Write(t.Context(), plain(), image)
	if !errors.Is(err, ErrXFS) || !strings.Contains(err.Error(), "6.13") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(image); err == nil {
		t.Error("an image is left")
	}
}

// oldXFS is the mkfs.xfs of Debian 13.
type oldXFS struct{ Tool }

func (oldXFS) Run(_ context.Context, cmd Command) error {
	_, err := fmt.Fprintln(cmd.Stdout, "mkfs.xfs version 6.13.0")
	return err
}
