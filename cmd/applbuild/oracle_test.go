package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder"
)

// partition finds a partition of a disk by its type.
func partition(t testing.TB, image, kind string) builder.PartitionInfo {
	t.Helper()
	in, err := builder.Inspect(context.Background(), image)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range in.Partitions {
		if p.Type == kind {
			return p
		}
	}
	t.Fatalf("%s has no partition of type %s: %+v", image, kind, in.Partitions)
	return builder.PartitionInfo{}
}

// blockOf is the number of the root's block that a byte of the disk is in.
func blockOf(t testing.TB, image string, offset int64) string {
	t.Helper()
	const block = 4096
	return fmt.Sprint((offset - partition(t, image, "root-x86-64").Offset) / block)
}

// extract copies a partition's contents into a file of their own.
func extract(t testing.TB, image, kind string) string {
	t.Helper()
	p := partition(t, image, kind)
	in, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := filepath.Join(t.TempDir(), kind)
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(in, p.Offset, p.Size)); err != nil {
		t.Fatal(err)
	}
	return name
}

// asks runs one of the host's own tools, which must have nothing to complain of,
// and returns what it said.
func asks(t testing.TB, argv ...string) string {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("SKIPPED: %s is missing, which is asked about the disk", argv[0])
	}
	var stdout, stderr strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s%s", strings.Join(argv, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String() + stderr.String()
}

func digestOf(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// same compares two files.
func same(t testing.TB, a, b string) bool {
	t.Helper()
	return digestOf(t, a) == digestOf(t, b)
}

// The tools that others use on disks find nothing wrong with one.
func TestOracles(t *testing.T) {
	d := built.disk(t)
	image := d.file(".raw")
	t.Run("sfdisk", func(t *testing.T) {
		if said := asks(t, "sfdisk", "--verify", image); !strings.Contains(said, "No errors detected") {
			t.Error(said)
		}
	})
	t.Run("sgdisk", func(t *testing.T) {
		if said := asks(t, "sgdisk", "-v", image); !strings.Contains(said, "No problems found") || strings.Contains(said, "Caution") {
			t.Error(said)
		}
	})
	t.Run("fsck.vfat", func(t *testing.T) {
		said := asks(t, "fsck.vfat", "-n", "-v", extract(t, image, "esp"))
		for _, complaint := range []string{"differ", "wrong", "Dirty", "corrupt", "Free cluster summary"} {
			if strings.Contains(said, complaint) {
				t.Error(said)
			}
		}
	})
	t.Run("sha256sum", func(t *testing.T) {
		cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
		cmd.Dir = d.out
		if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != 5 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("systemd-dissect", func(t *testing.T) { dissect(t, image) })
}

// dissect asks systemd what it makes of a disk. It needs root and a loop device.
func dissect(t *testing.T, image string) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which systemd-dissect makes a loop device as")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("SKIPPED: /dev/loop-control is missing, which systemd-dissect needs")
	}
	said := asks(t, "systemd-dissect", "--json=short", image)
	said = said[:strings.LastIndex(said, "}")+1]
	var found struct {
		OSRelease []string
		Bootable  bool `json:"useBootableUefi"`
		Mounts    []struct {
			Designator, FSType string
			Verity             *string
			RW                 string
		}
	}
	if err := json.Unmarshal([]byte(said), &found); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var list []string
	for _, m := range found.Mounts {
		verity := ""
		if m.Verity != nil {
			verity = *m.Verity
		}
		list = append(list, strings.TrimSpace(fmt.Sprint(m.Designator, " ", m.FSType, " ", m.RW, " ", verity)))
	}
	const want = "root squashfs ro yes, esp vfat rw, root-verity DM_verity_hash ro"
	if got := strings.Join(list, ", "); got != want {
		t.Errorf("partitions: %s\nwant: %s", got, want)
	}
	if !found.Bootable || !strings.Contains(strings.Join(found.OSRelease, "\n"), "IMAGE_ID=guest") {
		t.Errorf("bootable %v, os-release %q", found.Bootable, found.OSRelease)
	}
}

// verify says what of a disk is wrong, and where.
func TestVerifyNames(t *testing.T) {
	d := built.disk(t)
	const sector, block = 512, 4096
	at := func(kind string) int64 { return partition(t, d.file(".raw"), kind).Offset }
	info, err := os.Stat(d.file(".raw"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		offset int64
		words  []string
	}{
		{"first GPT header", sector + 40, []string{"primary", "header"}},
		{"last GPT header", info.Size() - sector + 40, []string{"backup", "header"}},
		{"partition table", 2*sector + 8, []string{"primary", "partition"}},
		{"superblock of the root", at("root-x86-64"), []string{"root-1", "block 0"}},
		{"top of the hash tree", at("root-x86-64-verity") + block, []string{"root-1-verity"}},
		{"superblock of the hash tree", at("root-x86-64-verity"), []string{"root-1-verity", "superblock"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := d.copyTo(t, t.TempDir())
			flipAt(t, image, c.offset)
			applbuild(t, "verify", image).fails(t, append(c.words, image)...)
		})
	}
	t.Run("a file beside the disk", func(t *testing.T) {
		dir := t.TempDir()
		copyDir(t, d.out, dir)
		flipAt(t, filepath.Join(dir, "guest_1_amd64.spdx.json"), 100)
		applbuild(t, "verify", filepath.Join(dir, "guest_1_amd64.raw")).fails(t, "guest_1_amd64.spdx.json")
	})
	t.Run("no disk", func(t *testing.T) {
		applbuild(t, "verify", writeFile(t, t.TempDir(), "x.raw", strings.Repeat("x", 1<<20))).fails(t, "x.raw", "GPT")
		applbuild(t, "inspect", writeFile(t, t.TempDir(), "x.raw", "")).fails(t, "x.raw")
	})
}

// veritysetup and each file system's own check agree with every root file system.
func TestRootFileSystems(t *testing.T) {
	d := newRealTiny(t, "packages: [dpkg, dash]\n")
	for _, c := range []struct {
		name, root string
		check      func(t *testing.T, root string)
	}{
		{"squashfs", "{filesystem: squashfs}", checkSquashfs},
		{"squashfs-lz4", "{filesystem: squashfs, compression: lz4}", checkSquashfs},
		{"erofs", "{filesystem: erofs}", func(t *testing.T, root string) { asks(t, "fsck.erofs", "--extract", root) }},
		{"ext4", "{filesystem: ext4}", checkExt4},
		{"ext4-larger", "{filesystem: ext4, size: 256M}", checkExt4},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			r := d.imageInto(t, out, "--set", "root="+c.root).succeeds(t)
			image := filepath.Join(out, "tiny_0_amd64.raw")
			root, hashes := extract(t, image, "root-x86-64"), extract(t, image, "root-x86-64-verity")
			hash, err := os.ReadFile(filepath.Join(out, "tiny_0_amd64.roothash"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(r.stdout, strings.TrimSpace(string(hash))) {
				t.Errorf("the root hash %s is not in what the build printed", hash)
			}
			asks(t, "veritysetup", "verify", root, hashes, strings.TrimSpace(string(hash)))
			c.check(t, root)
			asks(t, "sfdisk", "--verify", image)
			applbuild(t, "verify", image).succeeds(t)
		})
	}
}

// checkSquashfs reads every file: unsquashfs checks what it unpacks.
func checkSquashfs(t *testing.T, root string) {
	asks(t, "unsquashfs", "-s", root)
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which unsquashfs makes all owners as")
	}
	asks(t, "unsquashfs", "-quiet", "-no-progress", "-strict-errors", "-dest", filepath.Join(t.TempDir(), "tree"), root)
}

func checkExt4(t *testing.T, root string) {
	if said := asks(t, "e2fsck", "-f", "-n", root); strings.Contains(said, "Fix?") || strings.Contains(said, "WARNING") {
		t.Error(said)
	}
}
