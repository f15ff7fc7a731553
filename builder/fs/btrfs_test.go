package fs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repeated is a tree with large files that take no memory here.
type repeated []int64

func (l repeated) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for i, n := range l {
		if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, Mode: 0o644, Size: n, ModTime: clock, Format: tar.FormatPAX}); err != nil {
			return err
		}
		block := make([]byte, 1<<20)
		for at := int64(0); at < n; at += int64(len(block)) {
			// Most of it is zeros, which stay holes of the image.
			copy(block, fmt.Sprintf("file %d at %d", i, at))
			if _, err := tw.Write(block[:min(n-at, int64(len(block)))]); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// TestBtrfsOfManyShapesIsRight makes trees with more than one leaf, level,
// chunk and extent, and things that share an item.
func TestBtrfsOfManyShapesIsRight(t *testing.T) {
	need(t, "btrfs")
	a, b := "name-1371838", "name-2000402"
	if btrfsHash(a) != btrfsHash(b) {
		t.Fatal("the hashes of the two names are not the same")
	}
	trees := map[string]struct {
		tree Tree
		size int64
	}{
		"nothing":           {memory{}, MinimumSize(KindBtrfs)},
		"root":              {memory{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9}}}, 256 << 20},
		"names of one hash": {memory{file(a, 1), file(b, 2)}, 256 << 20},
		"chunks":            {repeated{100 << 20, 3, 300<<20 + 5, 4096, 2049, 2048}, 2 << 30},
		"no room to spare":  {repeated{234 << 20}, 256 << 20},
	}
	if !testing.Short() {
		trees["large"] = struct {
			tree Tree
			size int64
		}{repeated{2<<30 + 1, 600 << 20}, 300 << 30}
	}
	var many, links memory
	data := noise(2500)
	for i := range 6000 {
		many = append(many, file(fmt.Sprintf("%0230d", i), 0))
		many[i].data = data[:i%len(data)]
		many[i].PAXRecords = map[string]string{"SCHILY.xattr.user.large": strings.Repeat("v", i%4000)}
	}
	links = memory{file("x", 10)}
	for i := range 700 {
		links = append(links, member{Header: tar.Header{Name: fmt.Sprintf("link-%d", i), Typeflag: tar.TypeLink, Linkname: "x"}})
	}
	trees["many"] = struct {
		tree Tree
		size int64
	}{many, 512 << 20}
	trees["links"] = struct {
		tree Tree
		size int64
	}{links, 256 << 20}
	for name, c := range trees {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			if err := NewBtrfs(clock, id, c.size).Write(t.Context(), c.tree, image); err != nil {
				t.Fatal(err)
			}
			output(t, "btrfs", "check", "--check-data-csum", image)
			if m, ok := c.tree.(memory); ok && !testing.Short() {
				got, want := summarize(t, mount(t, "btrfs", image)), m.summary()
				want["."] = fmt.Sprintf("5 0755 0:0 %d", clock.Unix())
				if name == "root" {
					want["."] = want["./"]
					delete(want, "./")
				}
				compare(t, got, want)
			}
		})
	}
}

// TestBtrfsRestoresTheContents reads the files back without a mount.
func TestBtrfsRestoresTheContents(t *testing.T) {
	need(t, "btrfs")
	image, to := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := NewBtrfs(clock, id, 256<<20).Write(t.Context(), zoo(), image); err != nil {
		t.Fatal(err)
	}
	output(t, "btrfs", "restore", "-S", "-i", image, to)
	for _, e := range zoo() {
		if e.Typeflag != tar.TypeReg {
			continue
		}
		got, err := os.ReadFile(filepath.Join(to, e.Name))
		if err != nil || string(got) != string(e.data) {
			t.Errorf("%q: %d bytes, %v, want %d", e.Name, len(got), err, len(e.data))
		}
	}
}

// TestBtrfsIsWrittenOn fills a mounted file system, empties and checks it.
func TestBtrfsIsWrittenOn(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	need(t, "btrfs", "losetup")
	for _, size := range []int64{MinimumSize(KindBtrfs), 1 << 30} {
		image := filepath.Join(t.TempDir(), "image")
		if err := NewBtrfs(clock, id, size).Write(t.Context(), zoo(), image); err != nil {
			t.Fatal(err)
		}
		dir, umount := mountWritable(t, "btrfs", image)
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
			if err := os.WriteFile(fmt.Sprintf("%s/new-%d", dir, i), noise(i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		output(t, "btrfs", "scrub", "start", "-B", dir)
		umount()
		output(t, "btrfs", "check", "--check-data-csum", image)
	}
}

// TestBtrfsGrows has Linux make a file system larger, as systemd-growfs does.
func TestBtrfsGrows(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	need(t, "btrfs")
	image := filepath.Join(t.TempDir(), "image")
	if err := NewBtrfs(clock, id, 256<<20).Write(t.Context(), zoo(), image); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<30); err != nil {
		t.Fatal(err)
	}
	dir, umount := mountWritable(t, "btrfs", image)
	output(t, "btrfs", "filesystem", "resize", "max", dir)
	output(t, "dd", "if=/dev/urandom", "of="+dir+"/more", "bs=1M", "count=400")
	umount()
	output(t, "btrfs", "check", "--check-data-csum", image)
}

func TestBtrfsRefusesTrees(t *testing.T) {
	link := member{Header: tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}}
	links := memory{file("y", 1)}
	for i := range 900 {
		links = append(links, member{Header: tar.Header{Name: fmt.Sprintf("another-name-%d", i), Typeflag: tar.TypeLink, Linkname: "y"}})
	}
	attribute := file("x", 1)
	attribute.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 17000)}
	for name, tree := range map[string]memory{
		"parent":           {file("../x", 1)},
		"absolute":         {file("/x", 1)},
		"twice":            {file("x", 1), file("x", 1)},
		"root twice":       {dir("./"), dir("./")},
		"no directory":     {file("a/x", 1)},
		"file as parent":   {file("a", 1), file("a/x", 1)},
		"long name":        {file(strings.Repeat("n", 256), 1)},
		"link to nothing":  {link},
		"link to a folder": {dir("y"), link},
		"too many links":   links,
		"large attribute":  {attribute},
		"device":           {{Header: tar.Header{Name: "x", Typeflag: tar.TypeChar, Devmajor: 5000}}},
	} {
		folder := t.TempDir()
		if err := NewBtrfs(clock, id, 256<<20).Write(t.Context(), tree, filepath.Join(folder, "image")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := filepath.Glob(folder + "/*"); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestBtrfsTellsThatATreeDoesNotFit(t *testing.T) {
	for _, tree := range []repeated{{400 << 20}, {250 << 20}, {30 << 20, 224 << 20}} {
		err := NewBtrfs(clock, id, 256<<20).Write(t.Context(), tree, filepath.Join(t.TempDir(), "image"))
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("%v: got %v", tree, err)
		}
	}
}

// mountWritable mounts an image and returns where, and what ends it.
func mountWritable(t *testing.T, kind, image string) (dir string, umount func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting an image needs root")
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount %s: %v: %s", kind, err, out)
	}
	mounted := true
	umount = func() {
		if !mounted {
			return
		}
		mounted = false
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
		// The loop device goes a moment after the mount.
		for range 50 {
			if out, _ := exec.Command("losetup", "-j", image).Output(); len(out) == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}
