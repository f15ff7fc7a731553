package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/cidata/fat"
)

// need skips a test whose program is missing; tools maps programs to the
// Debian packages that have them.
func need(t *testing.T, programs ...string) {
	t.Helper()
	packages := map[string]string{"fsck.vfat": "dosfstools", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "mformat": "mtools",
		"blkid": "util-linux", "cloud-localds": "cloud-image-utils", "mount": "mount"}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is missing, which checks volumes or makes them: install %s", p, packages[p])
		}
	}
}

// run runs a program in dir and returns what it prints.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, &stderr)
	}
	return string(out)
}

// image puts a volume into a file.
func image(t *testing.T, files []fat.File, opts ...fat.Option) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.img")
	if err := os.WriteFile(path, write(t, files, opts...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// folder puts files into a folder.
func folder(t *testing.T, files []fat.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, clock, clock); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// modest is the seed without the names that mtools cannot read, or for which
// it makes no room.
func modest() []fat.File {
	return slices.DeleteFunc(seed(), func(f fat.File) bool { return len(f.Path) > 200 || strings.Contains(f.Path, "😀") })
}

func TestOtherToolsReadTheSameFiles(t *testing.T) {
	need(t, "fsck.vfat", "mcopy", "blkid")
	trees := map[string][]fat.File{"seed": seed(), "empty": nil,
		"FAT16":            append(seed(), fat.File{Path: "large", Data: bytes.Repeat([]byte("0123456789abcdef"), 1<<20)}),
		"large root":       many("", 700),
		"large folder":     many("folder/", 700),
		"FAT12, nearly 16": {{Path: "f", Data: make([]byte, 4060*2048)}},
		"FAT16, nearly 12": {{Path: "f", Data: make([]byte, 4090*2048)}},
	}
	for n := range 5 {
		trees["random "+string(rune('a'+n))] = randomFiles(rand.New(rand.NewPCG(uint64(n), 11)))
	}
	for name, files := range trees {
		t.Run(name, func(t *testing.T) {
			img := image(t, files, fat.Serial(0xcafe0123))
			if out := run(t, "", "fsck.vfat", "-n", "-v", img); strings.Contains(strings.ToLower(out), "differ") {
				t.Errorf("fsck.vfat: %s", out)
			}
			out := run(t, "", "blkid", "-p", "-o", "export", img)
			for _, line := range []string{"LABEL=CIDATA", "LABEL_FATBOOT=CIDATA", "TYPE=vfat", "UUID=CAFE-0123"} {
				if !strings.Contains(out, line+"\n") {
					t.Errorf("blkid does not print %q:\n%s", line, out)
				}
			}
			dir := t.TempDir()
			if len(files) > 0 {
				run(t, dir, "mcopy", "-s", "-n", "-m", "-i", img, "::*", ".")
			}
			if err := os.Rename(filepath.Join(dir, "a/__"), filepath.Join(dir, "a/😀")); err != nil && slices.ContainsFunc(files, func(f fat.File) bool { return f.Path == "a/😀" }) {
				t.Error(err) // mtools has no name beyond 16 bits
			}
			same(t, os.DirFS(dir), files)
			if info, err := os.Stat(filepath.Join(dir, "user-data")); name == "seed" && (err != nil || info.ModTime().Unix() != time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()) {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

func TestTheLargestSeedIsASoundVolume(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: it takes half a gigabyte of memory")
	}
	need(t, "fsck.vfat")
	files := append(many("folder/", fat.MaxEntries/2), fat.File{Path: "large", Data: make([]byte, fat.MaxBytes-fat.MaxEntries)})
	img := image(t, files)
	run(t, "", "fsck.vfat", "-n", img)
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, b)
	if info, err := m.Stat("large"); err != nil || info.Size() != int64(len(files[len(files)-1].Data)) || m.Kind() != "FAT16" {
		t.Errorf("%v, %v, %s", info, err, m.Kind())
	}
}

func TestAFolderOfTooManyNamesIsRefused(t *testing.T) {
	var files []fat.File
	for i := range 4000 { // of 18 entries each: more than 65536
		files = append(files, fat.File{Path: fmt.Sprintf("folder/%0220d", i)})
	}
	if err := fat.Write(io.Discard, files); !errors.Is(err, fat.ErrLimit) {
		t.Error(err)
	}
}

// many are files of long names in one folder.
func many(folder string, n int) []fat.File {
	var files []fat.File
	for i := range n {
		files = append(files, fat.File{Path: fmt.Sprintf("%sa file with a long name %d", folder, i), Data: []byte{byte(i)}})
	}
	return files
}

func TestLinuxMountsTheVolume(t *testing.T) {
	need(t, "mount")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: run as an ordinary user, who cannot mount")
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(kinds), "vfat") {
		t.Skip("SKIPPED: this machine's kernel has no vfat")
	}
	dir := t.TempDir()
	run(t, "", "mount", "-t", "vfat", "-o", "ro,loop,utf8", image(t, seed()), dir)
	defer run(t, "", "umount", dir)
	same(t, os.DirFS(dir), seed())
}

func TestVolumesOfOtherToolsAreRead(t *testing.T) {
	need(t, "mkfs.vfat", "mcopy", "mformat")
	for name, c := range map[string]struct {
		kind string
		size int64
		make []string
	}{
		"FAT12":                    {"FAT12", 1 << 20, []string{"mkfs.vfat", "-F", "12", "-n", "CIDATA"}},
		"FAT12, as large as it is": {"FAT12", 4141 * 512, []string{"mkfs.vfat", "-F", "12", "-s", "1", "-n", "CIDATA"}},
		"FAT16":                    {"FAT16", 16 << 20, []string{"mkfs.vfat", "-F", "16", "-n", "CIDATA"}},
		"FAT32":                    {"FAT32", 40 << 20, []string{"mkfs.vfat", "-F", "32", "-n", "CIDATA"}},
		"FAT32, small":             {"FAT32", 4 << 20, []string{"mkfs.vfat", "-F", "32", "-n", "CIDATA"}},
		"sectors of 4096 bytes":    {"FAT16", 64 << 20, []string{"mkfs.vfat", "-F", "16", "-S", "4096", "-n", "CIDATA"}},
		"clusters of 64 sectors":   {"FAT12", 32 << 20, []string{"mkfs.vfat", "-F", "12", "-s", "64", "-n", "CIDATA"}},
		"one table":                {"FAT12", 1 << 20, []string{"mkfs.vfat", "-F", "12", "-f", "1", "-r", "128", "-n", "CIDATA"}},
		"a floppy disk":            {"FAT12", 1440 << 10, []string{"mformat", "-f", "1440", "-v", "CIDATA", "-i"}},
	} {
		t.Run(name, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "seed.img")
			if err := os.WriteFile(img, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(img, c.size); err != nil {
				t.Fatal(err)
			}
			run(t, "", c.make[0], append(c.make[1:], img)...)
			files := modest()
			if name == "FAT32, small" {
				files = nil // mtools takes it for FAT16
			} else {
				fill(t, img, files)
			}
			b, err := os.ReadFile(img)
			if err != nil {
				t.Fatal(err)
			}
			m := open(t, b)
			same(t, m, files)
			if m.Label() != "CIDATA" || m.Kind() != c.kind {
				t.Errorf("label %q, %s", m.Label(), m.Kind())
			}
			if info, err := m.Stat("USER-DATA"); files != nil && (err != nil || info.Name() != "user-data" || !info.ModTime().Equal(clock)) {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// fill copies files into a volume, so that some lie in pieces.
func fill(t *testing.T, img string, files []fat.File) {
	t.Helper()
	dir := folder(t, files)
	run(t, dir, "mcopy", "-i", img, "network-config", "::first")
	run(t, dir, "mcopy", "-i", img, "user-data", "::second")
	run(t, dir, "mcopy", "-i", img, "network-config", "::third")
	run(t, dir, "mdel", "-i", img, "::second")
	run(t, dir, "mdel", "-i", img, "::first")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		run(t, dir, "mcopy", "-s", "-m", "-i", img, e.Name(), "::")
	}
	run(t, dir, "mdel", "-i", img, "::third")
}

func TestASeedOfCloudLocaldsIsRead(t *testing.T) {
	need(t, "cloud-localds", "mkfs.vfat", "mcopy")
	dir := folder(t, seed())
	run(t, dir, "cloud-localds", "-f", "vfat", "-N", "network-config", "seed.img", "user-data", "meta-data")
	b, err := os.ReadFile(filepath.Join(dir, "seed.img"))
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, b)
	same(t, m, seed()[:3])
	if m.Label() != "cidata" {
		t.Errorf("label %q", m.Label())
	}
}
