package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/uki"
)

// A machine of another architecture boots: Debian's arm64 kernel and stub, with a
// guest of one program, on QEMU and firmware out of the store. Nothing of arm64
// runs on the host, so there is no whole system. Only APPLBUILD_SOAK asks for it:
// 60 MiB of packages are for this test alone.
func TestMachineOfArm64(t *testing.T) {
	if soakNumber(t, soakVariable, 0) == 0 {
		return
	}
	d := built.disk(t)
	dir := stateFolder(t)
	recipe := writeFile(t, dir, "arm.yml", "include: debian-minimal.yml\nname: arm\narchitecture: arm64\n")
	applbuild(t, "fetch", recipe, "--store", d.store).succeeds(t)
	l, err := lock.Read(lock.PathFor(recipe))
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	unpack(t, d, l, tree, func(p lock.Package) bool {
		return p.Name == "systemd-boot-efi" || strings.HasPrefix(p.Name, "linux-image-6")
	})
	image := filepath.Join(dir, "guest_arm64.raw")
	makeGuestDisk(t, image, uki.UKI{
		Stub:  matching(t, tree, "usr/lib/systemd/boot/efi/linuxaa64.efi.stub"),
		Linux: matching(t, tree, "boot/vmlinuz-*"), Initrd: []uki.Content{guestInitrd(t, dir, "arm64")},
		Cmdline: "console=ttyAMA0", OSRelease: "ID=test\n",
	}, "BOOTAA64.EFI")
	report := filepath.Join(dir, "report")
	r := applbuild(t, "boot", image, "--store", d.store, "--kvm", "off", "--bus", "nvme", "--tpm",
		"--append", "test.mode=poweroff", "--timeout", "5m", "--report", report)
	r.succeeds(t)
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mode=poweroff", "cmdline=console=ttyAMA0 test.mode=poweroff", "disk=nvme0n1", "done"} {
		if !slices.Contains(strings.Split(string(text), "\n"), want) {
			t.Errorf("the guest did not report %s:\n%.2000s\n%s", want, text, r.stdout)
		}
	}
	t.Log(r.stderr)
}

// unpack unpacks packages of a lock into a new folder.
func unpack(t *testing.T, d *disk, l *lock.Lock, dir string, wanted func(lock.Package) bool) {
	t.Helper()
	for _, p := range slices.Concat(l.Packages, l.Initrd) {
		if wanted(p) {
			asks(t, "dpkg-deb", "--extract", d.deb(p), dir)
		}
	}
}

// matching reads the only file of a tree that a pattern is for.
func matching(t *testing.T, tree, pattern string) uki.Content {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(tree, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v, want one", pattern, names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(data)
}

// guestInitrd makes an initrd of package vm's guest alone.
func guestInitrd(t *testing.T, dir, arch string) uki.Content {
	t.Helper()
	root := filepath.Join(dir, "initrd")
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(root, "init"), "../../builder/vm/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v: %s", err, out)
	}
	pack := exec.Command("cpio", "--quiet", "-o", "-H", "newc")
	pack.Dir, pack.Stdin = root, strings.NewReader("dev\ninit\n")
	data, err := pack.Output()
	if err != nil {
		t.Fatalf("cpio: %v", err)
	}
	return bytes.NewReader(data)
}

// makeGuestDisk makes a disk whose only partition is an EFI system partition with
// an image that the firmware starts by itself.
func makeGuestDisk(t *testing.T, path string, u uki.UKI, name string) {
	t.Helper()
	var efi bytes.Buffer
	if err := u.Build(&efi); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 130<<20); err != nil {
		t.Fatal(err)
	}
	sfdisk := exec.Command("sfdisk", "-q", path)
	sfdisk.Stdin = strings.NewReader("label: gpt\nstart=1MiB,size=128MiB,type=uefi\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	asks(t, "mkfs.vfat", "--offset", "2048", "-F", "32", path, fmt.Sprint(128<<10))
	asks(t, "mmd", "-i", path+"@@1M", "::EFI", "::EFI/BOOT")
	asks(t, "mcopy", "-i", path+"@@1M", writeFile(t, t.TempDir(), "boot.efi", efi.String()), "::EFI/BOOT/"+name)
}
