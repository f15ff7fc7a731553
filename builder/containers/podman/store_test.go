package podman

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// machine runs the machine's own programs.
type machine struct{}

func (machine) Run(ctx context.Context, cmd fs.Command) error {
	c := exec.CommandContext(ctx, cmd.Argv[0], cmd.Argv[1:]...)
	c.Env, c.Dir = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, cmd.Env...), cmd.Dir
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	return c.Run()
}

func (m machine) RunOnTree(ctx context.Context, files fs.Tree, cmd fs.Command) error {
	dir, err := os.MkdirTemp("", "tree")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var b bytes.Buffer
	if err := files.WriteTar(ctx, &b); err != nil {
		return err
	}
	if err := tree.Extract(ctx, &b, dir); err != nil {
		return err
	}
	cmd.Argv = slices.Clone(cmd.Argv)
	for i, arg := range cmd.Argv {
		cmd.Argv[i] = strings.ReplaceAll(arg, "{tree}", dir)
	}
	return m.Run(ctx, cmd)
}

// clocked is a tree that is written with a clock.
type clocked struct {
	*tree.Tree
	clock time.Time
}

func (c clocked) WriteTar(ctx context.Context, w io.Writer) error {
	return c.Tree.WriteTar(ctx, w, c.clock)
}

// TestStoreIsTheSameInEachFileSystem mounts the images of root file systems and
// looks for whiteouts, opaque folders, capabilities, devices and hard links.
func TestStoreIsTheSameInEachFileSystem(t *testing.T) {
	need(t, "mksquashfs", "mkfs.erofs", "mke2fs", "debugfs", "mount")
	list, layers := unpacked(t, images(t))
	made := tree.New()
	if err := (Store{Prefix: Prefix, Clock: clock}).Write(made, list, layers); err != nil {
		t.Fatal(err)
	}
	plain := t.TempDir()
	extract(t, made, plain)
	want := summary(t, filepath.Join(plain, Prefix))
	id := uuid.MustParse("11111111-2222-4333-8444-555555555555")
	for kind, w := range map[string]interface {
		Write(ctx context.Context, tree fs.Tree, path string) error
	}{
		"squashfs": fs.NewSquashfs(machine{}, clock),
		"erofs":    fs.NewErofs(machine{}, clock, id),
		"ext4":     fs.NewExt4(machine{}, clock, id, id),
	} {
		t.Run(kind, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			if err := w.Write(t.Context(), clocked{made, clock}, image); err != nil {
				t.Fatal(err)
			}
			at := t.TempDir()
			if out, err := exec.Command("mount", "-t", kind, "-o", "loop,ro", image, at).CombinedOutput(); err != nil {
				t.Skipf("SKIPPED: the kernel has no %s: %v: %s", kind, err, out)
			}
			t.Cleanup(func() {
				if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, out)
				}
			})
			compareFiles(t, summary(t, filepath.Join(at, Prefix)), want)
			if kind != "squashfs" {
				return
			}
			p := podman(t, filepath.Join(at, Prefix))
			if out := run(t, append(p, "images", "-q")...); strings.Count(out, "\n") != len(list) {
				t.Errorf("podman shows\n%s", out)
			}
		})
	}
}

// TestStoreIsTheSameTwice writes a store from images in another order.
func TestStoreIsTheSameTwice(t *testing.T) {
	all := images(t)
	var written []string
	for range 2 {
		list, layers := unpacked(t, all)
		made := tree.New()
		if err := (Store{Prefix: Prefix, Clock: clock}).Write(made, list, layers); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := made.WriteTar(t.Context(), &b, clock); err != nil {
			t.Fatal(err)
		}
		written = append(written, b.String())
		slices.Reverse(all)
	}
	if written[0] != written[1] {
		t.Error("the order of images changes the store")
	}
}

func TestImageHasAllItsNames(t *testing.T) {
	all := images(t)[:1]
	list, layers := unpacked(t, all)
	second := list[0]
	second.Names = []string{"registry.example.com/base:1", "localhost/base:1"}
	second.Index = []byte(`{"schemaVersion":2}`)
	made := tree.New()
	store := Store{Prefix: "store", Clock: clock}
	if err := store.Write(made, []Image{second, list[0]}, layers); err != nil {
		t.Fatal(err)
	}
	data, err := made.ReadFile("store/overlay-images/images.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(`"names":["localhost/base:1","registry.example.com/base:1"]`)) || bytes.Count(data, []byte(`"id"`)) != 1 {
		t.Errorf("images.json: %s", data)
	}
}

func TestImagesThatDoNotGoTogetherAreRefused(t *testing.T) {
	list, layers := unpacked(t, images(t)[:2])
	named := func(i int, names ...string) Image {
		return Image{Image: list[i].Image, Names: names}
	}
	for says, images := range map[string][]Image{
		"stands for both":      {named(0, "localhost/a:1"), named(1, "localhost/a:1")},
		"is no complete name":  {named(0, "busybox")},
		`"localhost/a b:1"`:    {named(0, "localhost/a b:1")},
		`"localhost/untagged"`: {named(0, "localhost/untagged")},
	} {
		err := Store{Prefix: Prefix}.Write(tree.New(), images, layers)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	if err := (Store{Prefix: Prefix}).Write(tree.New(), list, nil); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("without layers: %v", err)
	}
}

// TestStoreOfAnOrdinaryUserHasHisIDs reads owners as the user's containers map
// them.
func TestStoreOfAnOrdinaryUserHasHisIDs(t *testing.T) {
	list, layers := unpacked(t, images(t)[:1])
	made := tree.New()
	if err := (Store{Prefix: "s", Owner: Subordinate(1000, 100000), Private: true}).Write(made, list, layers); err != nil {
		t.Fatal(err)
	}
	diff := "s/overlay/" + ChainID("", list[0].Layers[0].DiffID) + "/diff"
	for path, want := range map[string]string{
		"": "1000:1000", "/bin/su": "1000:1000", "/home/file": "100999:100999", "/srv/second": "1000:1000",
	} {
		e, ok := made.Lookup(diff + path)
		if !ok {
			t.Errorf("%s is missing", path)
		} else if got := fmt.Sprintf("%d:%d", e.UID, e.GID); got != want {
			t.Errorf("%s belongs to %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]string{"s": "0700 1000", "s/overlay-images": "0700 1000", "s/overlay-images/images.json": "0600 1000"} {
		if e, _ := made.Lookup(path); fmt.Sprintf("%04o %d", e.Mode, e.UID) != want {
			t.Errorf("%s has %04o and belongs to %d, want %s", path, e.Mode, e.UID, want)
		}
	}
	if e, _ := layers[list[0].Layers[0].Digest].Tree.Lookup("home/file"); e.UID != 1000 {
		t.Error("the layer's own tree was changed")
	}
}
