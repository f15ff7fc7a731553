package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
	"golang.org/x/sys/unix"
)

func TestSwapIsRecognised(t *testing.T) {
	fstest.Need(t, "blkid", "swaplabel", "mkswap")
	for label, size := range map[string]int64{"": 1 << 20, "fifteen-letters": 5 << 30} {
		image := filepath.Join(t.TempDir(), "image")
		if err := NewSwap(id, size, SwapLabel(label)).Write(image); err != nil {
			t.Fatal(err)
		}
		if label != "" {
			fstest.WantBlkid(t, image, "swap", label)
		}
		if got := detectFile(t, image); got != KindSwap {
			t.Errorf("Detect says %q", got)
		}
		if got := fstest.Output(t, "swaplabel", image); !strings.Contains(got, id.String()) || !strings.Contains(got, label) {
			t.Errorf("swaplabel says %s", got)
		}
		same := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(same, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(same, size); err != nil {
			t.Fatal(err)
		}
		argv := []string{"mkswap", "-U", id.String(), "-p", "4096"}
		if label != "" {
			argv = append(argv, "-L", label)
		}
		fstest.Output(t, append(argv, same)...)
		if size < 1<<30 && fstest.Digest(t, same) != fstest.Digest(t, image) {
			t.Error("mkswap writes other bytes")
		}
		fstest.Output(t, "cmp", "-n", "1048576", image, same)
	}
}

func TestSwapRefusesWhatCannotBe(t *testing.T) {
	for name, s := range map[string]*Swap{
		"size":  NewSwap(id, 1<<20+1),
		"small": NewSwap(id, 1<<20-4096),
		"large": NewSwap(id, 1<<45),
		"label": NewSwap(id, 1<<20, SwapLabel("sixteen-letters-")),
	} {
		image := filepath.Join(t.TempDir(), "image")
		if err := s.Write(image); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(image); err == nil {
			t.Errorf("%s: an image is left", name)
		}
	}
}

// TestMinimumSizesAreWhatTheProgramsTake makes each kind with the minimum. Of
// xfs a little less is refused.
func TestMinimumSizesAreWhatTheProgramsTake(t *testing.T) {
	fstest.Need(t, "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mkswap")
	for tool, h := range tools(t) {
		for kind, argv := range map[string][]string{
			KindExt4:  {"mke2fs", "-q", "-F", "-t", "ext4"},
			KindXFS:   {"mkfs.xfs", "-q", "-f"},
			KindBtrfs: {"mkfs.btrfs", "-q", "-f"},
			KindSwap:  {"mkswap"},
		} {
			format := func(size int64) error {
				image := filepath.Join(scratch(t, h), "image")
				if err := truncate(image, size); err != nil {
					t.Fatal(err)
				}
				err := run(t.Context(), h, Command{Argv: append(argv, filepath.Base(image)), Env: environment(), Dir: filepath.Dir(image)})
				if err == nil && detectFile(t, image) != kind {
					t.Errorf("%s's %s: Detect says %q", tool, kind, detectFile(t, image))
				}
				return err
			}
			if err := format(MinimumSize(kind)); err != nil {
				t.Errorf("%s's %s: %v", tool, kind, err)
			}
			if err := format(MinimumSize(kind) - 1<<20); err == nil && kind == KindXFS {
				t.Errorf("%s's %s: a MiB less is enough too", tool, kind)
			}
		}
	}
}

func TestDetectKnowsEncryption(t *testing.T) {
	fstest.Need(t, "cryptsetup")
	for _, version := range []string{"luks1", "luks2"} {
		image, key := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "key")
		if err := truncate(image, 32<<20); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		fstest.Output(t, "cryptsetup", "luksFormat", "--batch-mode", "--type", version, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", image, key)
		if got := detectFile(t, image); got != KindLUKS {
			t.Errorf("%s: Detect says %q", version, got)
		}
	}
}

// TestLabelsAreKeptWhole makes each kind with the longest label.
func TestLabelsAreKeptWhole(t *testing.T) {
	needAll(t)
	for kind, write := range map[string]func(label, image string) error{
		KindExt4: func(label, image string) error {
			return NewExt4(host{}, clock, id, hashSeed, Ext4Size(MinimumSize(KindExt4)), Ext4Writable(), Ext4Label(label)).Write(t.Context(), fstest.Memory{}, image)
		},
		KindSwap: func(label, image string) error {
			return NewSwap(id, MinimumSize(KindSwap), SwapLabel(label)).Write(image)
		},
	} {
		image := filepath.Join(t.TempDir(), "image")
		label := strings.Repeat("l", MaxLabel(kind))
		if err := write(label, image); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		fstest.WantBlkid(t, image, kind, label)
		if err := write(label+"l", image); err == nil {
			t.Errorf("%s: no error for a longer label", kind)
		}
	}
}

// TestExt4Grows makes a data partition's file system larger: mounted, as
// systemd-growfs does at boot, and not mounted.
func TestExt4Grows(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	fstest.Need(t, "mke2fs", "debugfs", "e2fsck", "resize2fs", "losetup")
	for _, mounted := range []bool{false, true} {
		image := filepath.Join(t.TempDir(), "image")
		if err := NewExt4(host{}, clock, id, hashSeed, Ext4Size(64<<20), Ext4Writable()).Write(t.Context(), fstest.Zoo(), image); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 8<<30); err != nil {
			t.Fatal(err)
		}
		if mounted {
			if may, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); err != nil || may == 0 {
				t.Log("this machine withholds CAP_SYS_RESOURCE, without which Linux makes no mounted ext4 larger: only tried without a mount")
				continue
			}
			growMounted(t, image)
		} else {
			fstest.Output(t, "resize2fs", image)
		}
		fstest.Output(t, "e2fsck", "-fn", image)
		if s := fstest.Output(t, "dumpe2fs", "-h", image); !strings.Contains(s, "Block count:              2097152") {
			t.Errorf("it has not grown:\n%s", s)
		}
	}
}

func growMounted(t *testing.T, image string) {
	t.Helper()
	dir, umount := fstest.MountWritable(t, "ext4", image)
	defer umount()
	device, err := exec.Command("findmnt", "-no", "SOURCE", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	fstest.Output(t, "resize2fs", strings.TrimSpace(string(device)))
	fstest.Output(t, "dd", "if=/dev/zero", "of="+dir+"/more", "bs=1M", "count=300")
	if err := os.Remove(dir + "/more"); err != nil {
		t.Fatal(err)
	}
	got := fstest.Summarize(t, dir)
	for name, line := range fstest.Zoo().Summary() {
		if got[name] != line {
			t.Errorf("%s: got %s, want %s", name, got[name], line)
		}
	}
}

// TestExt4KeepsRoomToGrow asks for the descriptors of a thousand times the size.
func TestExt4KeepsRoomToGrow(t *testing.T) {
	fstest.Need(t, "mke2fs", "debugfs", "e2fsck", "dumpe2fs")
	image := filepath.Join(t.TempDir(), "image")
	if err := NewExt4(host{}, clock, id, hashSeed, Ext4Size(1<<30), Ext4Writable()).Write(t.Context(), fstest.Memory{}, image); err != nil {
		t.Fatal(err)
	}
	s := fstest.Output(t, "dumpe2fs", "-h", image)
	// A block has the descriptors of 64 groups of 128 MiB: 128 of them 1 TiB.
	for _, line := range []string{"Reserved GDT blocks:      127", "Reserved block count:     0", "Inode count:              65536", "Total journal size:       32M"} {
		if !strings.Contains(s, line) {
			t.Errorf("no %q:\n%s", line, s)
		}
	}
}

func TestExt4TellsThatATreeDoesNotFit(t *testing.T) {
	fstest.Need(t, "mke2fs", "debugfs", "e2fsck")
	writer := NewExt4(host{}, clock, id, hashSeed, Ext4Size(64<<20), Ext4Writable())
	most := int64(0)
	for n := int64(48 << 20); n > 40<<20 && most == 0; n -= 1 << 20 {
		image := filepath.Join(t.TempDir(), "image")
		switch err := writer.Write(t.Context(), fstest.Repeated{n}, image); {
		case err == nil:
			most = n
			fstest.Output(t, "e2fsck", "-fn", image)
		case !strings.Contains(err.Error(), ErrNoSpace.Error()):
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	// The journal has 16 MiB, the inodes 1.
	if most < 44<<20 {
		t.Errorf("only %d bytes fit into 64 MiB", most)
	}
}
