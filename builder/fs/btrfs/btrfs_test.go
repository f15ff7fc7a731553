package btrfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

// zoo makes a file system with the label data of one of everything.
func zoo(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := New(fstest.Clock, fstest.ID, 256<<20, Label("data")).Write(t.Context(), fstest.Zoo(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

func TestCheckerFindsNothingWrong(t *testing.T) {
	fstest.Need(t, "btrfs")
	image := zoo(t)
	fstest.Output(t, "btrfs", "check", "--check-data-csum", image)
	fstest.WantBlkid(t, image, "btrfs", "data")
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := fs.Detect(f); got != fs.KindBtrfs {
		t.Errorf("Detect: got %q", got)
	}
}

func TestMountedImageHasTheTree(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	got, want := fstest.Summarize(t, fstest.Mount(t, "btrfs", zoo(t))), fstest.Zoo().Summary()
	want["."] = fmt.Sprintf("5 0755 0:0 %d", fstest.Clock.Unix())
	fstest.Compare(t, got, want)
}

// TestSameTreeSameBytes makes an image twice, the second time in another
// folder and second.
func TestSameTreeSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the clock to go on")
	}
	first := fstest.Digest(t, zoo(t))
	time.Sleep(1100 * time.Millisecond)
	if fstest.Digest(t, zoo(t)) != first {
		t.Error("the same tree gave other bytes")
	}
}

func TestErrorsLeaveNoImage(t *testing.T) {
	wrong := errors.New("this tree is broken")
	image := filepath.Join(t.TempDir(), "image")
	w := New(fstest.Clock, fstest.ID, 256<<20)
	if err := w.Write(t.Context(), fstest.Broken{Err: wrong}, image); !errors.Is(err, wrong) {
		t.Errorf("got error %v, want one that is %v", err, wrong)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Write(ctx, fstest.Zoo(), image); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended: got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Dir(image) + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLabelIsKeptWhole makes a file system with the longest label.
func TestLabelIsKeptWhole(t *testing.T) {
	fstest.Need(t, "blkid")
	image := filepath.Join(t.TempDir(), "image")
	label := strings.Repeat("l", fs.MaxLabel(fs.KindBtrfs))
	write := func(label string) error {
		return New(fstest.Clock, fstest.ID, fs.MinimumSize(fs.KindBtrfs), Label(label)).Write(t.Context(), fstest.Memory{}, image)
	}
	if err := write(label); err != nil {
		t.Fatal(err)
	}
	fstest.WantBlkid(t, image, "btrfs", label)
	if err := write(label + "l"); err == nil {
		t.Error("no error for a longer label")
	}
}

// TestTreesOfManyShapesAreRight makes trees with more than one leaf, level, chunk
// and extent, and things that share an item.
func TestTreesOfManyShapesAreRight(t *testing.T) {
	fstest.Need(t, "btrfs")
	a, b := "name-1371838", "name-2000402"
	if nameHash(a) != nameHash(b) {
		t.Fatal("the hashes of the two names are not the same")
	}
	trees := map[string]struct {
		tree fs.Tree
		size int64
	}{
		"nothing":           {fstest.Memory{}, fs.MinimumSize(fs.KindBtrfs)},
		"root":              {fstest.Memory{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9}}}, 256 << 20},
		"names of one hash": {fstest.Memory{fstest.File(a, 1), fstest.File(b, 2)}, 256 << 20},
		"chunks":            {fstest.Repeated{100 << 20, 3, 300<<20 + 5, 4096, 2049, 2048}, 2 << 30},
		"no room to spare":  {fstest.Repeated{234 << 20}, 256 << 20},
	}
	if !testing.Short() {
		trees["large"] = struct {
			tree fs.Tree
			size int64
		}{fstest.Repeated{2<<30 + 1, 600 << 20}, 300 << 30}
	}
	var many, links fstest.Memory
	data := fstest.Noise(2500)
	for i := range 6000 {
		many = append(many, fstest.File(fmt.Sprintf("%0230d", i), 0))
		many[i].Data = data[:i%len(data)]
		many[i].PAXRecords = map[string]string{"SCHILY.xattr.user.large": strings.Repeat("v", i%4000)}
	}
	links = fstest.Memory{fstest.File("x", 10)}
	for i := range 700 {
		links = append(links, fstest.Member{Header: tar.Header{Name: fmt.Sprintf("link-%d", i), Typeflag: tar.TypeLink, Linkname: "x"}})
	}
	trees["many"] = struct {
		tree fs.Tree
		size int64
	}{many, 512 << 20}
	trees["links"] = struct {
		tree fs.Tree
		size int64
	}{links, 256 << 20}
	for name, c := range trees {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			if err := New(fstest.Clock, fstest.ID, c.size).Write(t.Context(), c.tree, image); err != nil {
				t.Fatal(err)
			}
			fstest.Output(t, "btrfs", "check", "--check-data-csum", image)
			if m, ok := c.tree.(fstest.Memory); ok && !testing.Short() {
				got, want := fstest.Summarize(t, fstest.Mount(t, "btrfs", image)), m.Summary()
				want["."] = fmt.Sprintf("5 0755 0:0 %d", fstest.Clock.Unix())
				if name == "root" {
					want["."] = want["./"]
					delete(want, "./")
				}
				fstest.Compare(t, got, want)
			}
		})
	}
}

// TestContentsAreRestored reads the files back without a mount.
func TestContentsAreRestored(t *testing.T) {
	fstest.Need(t, "btrfs")
	image, to := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := New(fstest.Clock, fstest.ID, 256<<20).Write(t.Context(), fstest.Zoo(), image); err != nil {
		t.Fatal(err)
	}
	fstest.Output(t, "btrfs", "restore", "-S", "-i", image, to)
	for _, e := range fstest.Zoo() {
		if e.Typeflag != tar.TypeReg {
			continue
		}
		got, err := os.ReadFile(filepath.Join(to, e.Name))
		if err != nil || string(got) != string(e.Data) {
			t.Errorf("%q: %d bytes, %v, want %d", e.Name, len(got), err, len(e.Data))
		}
	}
}

// TestFileSystemIsWrittenOn fills a mounted file system, empties and checks it.
func TestFileSystemIsWrittenOn(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	fstest.Need(t, "btrfs", "losetup")
	for _, size := range []int64{fs.MinimumSize(fs.KindBtrfs), 1 << 30} {
		image := filepath.Join(t.TempDir(), "image")
		if err := New(fstest.Clock, fstest.ID, size).Write(t.Context(), fstest.Zoo(), image); err != nil {
			t.Fatal(err)
		}
		dir, umount := fstest.MountWritable(t, "btrfs", image)
		if out, err := exec.Command("dd", "if=/dev/zero", "of="+dir+"/fill", "bs=1M").CombinedOutput(); err == nil || !strings.Contains(string(out), "No space left") {
			t.Errorf("filling it: %v: %s", err, out)
		}
		if info, err := os.Stat(dir + "/fill"); err != nil || info.Size() < size/2 {
			t.Errorf("of %d bytes only %v are there for files: %v", size, info.Size(), err)
		}
		if err := os.Remove(dir + "/fill"); err != nil {
			t.Error(err)
		}
		for i := range 2000 {
			if err := os.WriteFile(fmt.Sprintf("%s/new-%d", dir, i), fstest.Noise(i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fstest.Output(t, "btrfs", "scrub", "start", "-B", dir)
		umount()
		fstest.Output(t, "btrfs", "check", "--check-data-csum", image)
	}
}

// TestFileSystemGrows has Linux make a file system larger, as systemd-growfs does.
func TestFileSystemGrows(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	fstest.Need(t, "btrfs")
	image := filepath.Join(t.TempDir(), "image")
	if err := New(fstest.Clock, fstest.ID, 256<<20).Write(t.Context(), fstest.Zoo(), image); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<30); err != nil {
		t.Fatal(err)
	}
	dir, umount := fstest.MountWritable(t, "btrfs", image)
	fstest.Output(t, "btrfs", "filesystem", "resize", "max", dir)
	fstest.Output(t, "dd", "if=/dev/urandom", "of="+dir+"/more", "bs=1M", "count=400")
	umount()
	fstest.Output(t, "btrfs", "check", "--check-data-csum", image)
}

func TestTreesThatCannotBeAreRefused(t *testing.T) {
	link := fstest.Member{Header: tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}}
	links := fstest.Memory{fstest.File("y", 1)}
	for i := range 900 {
		links = append(links, fstest.Member{Header: tar.Header{Name: fmt.Sprintf("another-name-%d", i), Typeflag: tar.TypeLink, Linkname: "y"}})
	}
	attribute := fstest.File("x", 1)
	attribute.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 17000)}
	for name, tree := range map[string]fstest.Memory{
		"parent":           {fstest.File("../x", 1)},
		"absolute":         {fstest.File("/x", 1)},
		"twice":            {fstest.File("x", 1), fstest.File("x", 1)},
		"root twice":       {fstest.Dir("./"), fstest.Dir("./")},
		"no directory":     {fstest.File("a/x", 1)},
		"file as parent":   {fstest.File("a", 1), fstest.File("a/x", 1)},
		"long name":        {fstest.File(strings.Repeat("n", 256), 1)},
		"link to nothing":  {link},
		"link to a folder": {fstest.Dir("y"), link},
		"too many links":   links,
		"large attribute":  {attribute},
		"device":           {{Header: tar.Header{Name: "x", Typeflag: tar.TypeChar, Devmajor: 5000}}},
	} {
		folder := t.TempDir()
		if err := New(fstest.Clock, fstest.ID, 256<<20).Write(t.Context(), tree, filepath.Join(folder, "image")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := filepath.Glob(folder + "/*"); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestTreeThatDoesNotFitIsTold(t *testing.T) {
	for _, tree := range []fstest.Repeated{{400 << 20}, {250 << 20}, {30 << 20, 224 << 20}} {
		err := New(fstest.Clock, fstest.ID, 256<<20).Write(t.Context(), tree, filepath.Join(t.TempDir(), "image"))
		if !errors.Is(err, fs.ErrNoSpace) {
			t.Errorf("%v: got %v", tree, err)
		}
	}
}
