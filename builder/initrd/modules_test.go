package initrd

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const testKernel = "6.12.0-test"

// composed is a kernel with modules packed in each way, two of them built in.
func composed(t *testing.T) *pool {
	p := &pool{files: make(map[string]*entry)}
	dir := "usr/lib/modules/" + testKernel + "/"
	add := func(name string, content []byte) {
		p.files[dir+name] = &entry{path: dir + name, mode: 0o644, content: content, from: "linux-modules"}
	}
	module := func(modinfo string) []byte {
		return elfFile(elfSpec{modinfo: strings.ReplaceAll(modinfo, "|", "\x00") + "\x00"})
	}
	add("kernel/drivers/md/dm-mod.ko.xz", packXZ(t, module("depends=|alias=devname:mapper/control|alias=char-major-10-236|license=GPL")))
	add("kernel/drivers/md/dm-bufio.ko.zst", packZstd(t, module("depends=dm-mod")))
	add("kernel/lib/reed_solomon/reed_solomon.ko", module("depends="))
	add("kernel/drivers/md/dm-verity.ko.gz", packGzip(t, module("depends=dm-mod,dm-bufio,reed_solomon|alias=dm-verity-target")))
	add("kernel/fs/squashfs/squashfs.ko", module("depends=|alias=fs-squashfs"))
	add("kernel/fs/overlayfs/overlay.ko", module("alias=fs-overlay"))
	add("kernel/drivers/block/virtio_blk.ko", module("depends=virtio_ring,virtio|alias=virtio:d00000002v*"))
	add("kernel/drivers/virtio/virtio.ko", module("alias=pci:v00001AF4d000010[4-5]*sv*"))
	add("kernel/fs/ext4/ext4.ko", module("depends=jbd2|softdep=pre: crc32c|alias=fs-ext4"))
	add("kernel/fs/jbd2/jbd2.ko", module("depends="))
	add("kernel/crypto/crc32c_generic.ko", module("alias=crc32c|alias=crypto-crc32c"))
	add("kernel/drivers/misc/orphan.ko", module("depends=nowhere"))
	add("kernel/drivers/misc/torn.ko", []byte("\x7fELF"))
	add("kernel/arch/x86/crypto/sha256-ssse3.ko", module("depends="))
	add("modules.builtin", []byte("kernel/drivers/virtio/virtio_ring.ko\nkernel/drivers/nvme/host/nvme.ko\n"))
	add("modules.builtin.modinfo", []byte("nvme.license=GPL\x00nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\x00"))
	add("modules.order", []byte("kernel/fs/squashfs/squashfs.ko\nkernel/drivers/md/dm-mod.ko\n"+
		"kernel/drivers/virtio/virtio.ko\nkernel/fs/overlayfs/overlay.ko\nkernel/fs/jbd2/jbd2.ko\nkernel/crypto/crc32c_generic.ko\n"))
	return p
}

func packGzip(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	feed(t, w, data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packXZ(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, w, data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packZstd(t *testing.T, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func feed(t *testing.T, w io.Writer, data []byte) {
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func TestModulesComeWithWhatTheyNeed(t *testing.T) {
	for _, c := range []struct {
		choose string
		want   []string // in the order of loading
	}{
		{"dm-verity", []string{"dm_mod", "dm_bufio", "reed_solomon", "dm_verity"}},
		{"dm_verity", []string{"dm_mod", "dm_bufio", "reed_solomon", "dm_verity"}},
		{"virtio_blk", []string{"virtio", "virtio_blk"}},
		{"ext4", []string{"jbd2", "ext4"}},
		{"nvme", nil}, // built in
	} {
		set := newModuleSet(composed(t), testKernel)
		ok, err := set.choose(c.choose)
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", c.choose, ok, err)
		}
		if !slices.Equal(set.names, c.want) {
			t.Errorf("%s: %v, want %v", c.choose, set.names, c.want)
		}
	}
}

func TestModulesThatCannotBeLoadedAreNamed(t *testing.T) {
	set := newModuleSet(composed(t), testKernel)
	if ok, err := set.choose("absent"); ok || err != nil {
		t.Errorf("a module the kernel has not: %v, %v", ok, err)
	}
	if _, err := set.choose("orphan"); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "misc/orphan.ko: needs the module nowhere") {
		t.Errorf("a module without what it needs: %v", err)
	}
	if _, err := set.choose("torn"); err == nil || !strings.Contains(err.Error(), "misc/torn.ko: ELF: ") {
		t.Errorf("a damaged module: %v", err)
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	bomb := make([]byte, 1<<20+1)
	for name, data := range map[string][]byte{
		"m.ko.gz": packGzip(t, bomb), "m.ko.zst": packZstd(t, bomb),
	} {
		if _, err := decompress(name, data, 1<<20); err == nil {
			t.Errorf("%s: %d bytes were taken", name, len(bomb))
		}
	}
	for _, name := range []string{"m.ko.gz", "m.ko.zst", "m.ko.xz"} {
		if _, err := decompress(name, []byte("not compressed"), 1<<20); err == nil {
			t.Errorf("%s: was taken as compressed", name)
		}
	}
}

// TestIndexIsWhatDepmodWrites compares with the files that depmod makes of the
// same modules, and asks modprobe, which only reads the binary indexes.
func TestIndexIsWhatDepmodWrites(t *testing.T) {
	depmod, err := exec.LookPath("depmod")
	if err != nil {
		t.Skip("depmod (kmod) is not installed: the module index is not compared with its files")
	}
	set := newModuleSet(composed(t), testKernel)
	// depmod finds what a module needs by its symbols, which composed modules
	// have not: so these need nothing. Real ones are compared in the test of
	// real packages.
	for _, name := range []string{"dm_mod", "squashfs", "overlay", "virtio", "jbd2", "crc32c_generic", "nvme"} {
		if ok, err := set.choose(name); err != nil || !ok {
			t.Fatal(name, ok, err)
		}
	}
	list, err := set.entries()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := t.TempDir(), t.TempDir()
	for _, e := range list {
		base := filepath.Base(e.path)
		toDepmod := !strings.HasPrefix(base, "modules.") || base == "modules.builtin" || base == "modules.builtin.modinfo"
		lay(t, ours, e)
		if toDepmod {
			lay(t, theirs, e)
		}
	}
	lay(t, theirs, set.builtinFiles["modules.order"])
	if out, err := exec.Command(depmod, "--basedir", theirs, testKernel).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	modules := "lib/modules/" + testKernel
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.devname", "modules.builtin.bin", "modules.dep.bin"} {
		a, b := text(t, filepath.Join(ours, modules, name)), text(t, filepath.Join(theirs, modules, name))
		if !strings.HasSuffix(name, ".bin") {
			a, b = sortedLines(a), sortedLines(b)
		}
		if a != b {
			t.Errorf("%s:\n%q\ndepmod writes\n%q", name, a, b)
		}
	}
	for _, query := range []string{
		"dm-mod", "dm_mod", "overlay", "fs-squashfs", "nvme", "crypto-crc32c", "crc32c", "pci:v00001AF4d00001041sv00001AF4",
		"char-major-10-236",
		"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "absent",
	} {
		if a, b := modprobe(t, ours, query), modprobe(t, theirs, query); a != b {
			t.Errorf("modprobe %s:\n%s\nwith depmod's index:\n%s", query, a, b)
		}
	}
}

func modprobe(t *testing.T, dir, query string) string {
	cmd := exec.Command("modprobe", "--dirname", dir, "--set-version", testKernel, "--config", os.DevNull, "--show-depends", query)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	result := strings.ReplaceAll(string(out), dir, "")
	if err != nil {
		return result + err.Error()
	}
	return result
}

// lay writes an entry below dir, with lib for usr/lib as depmod has it.
func lay(t *testing.T, dir string, e *entry) {
	t.Helper()
	name := filepath.Join(dir, strings.TrimPrefix(e.path, "usr/"))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, e.content, fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// sortedLines drops comments and puts lines in order.
func sortedLines(s string) string {
	var list []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return strings.Join(list, "")
}
