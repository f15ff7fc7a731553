package initrd

import (
	"path"
	"slices"
	"strings"
)

// A pick is a file that the initrd takes from the packages. With several
// paths, the first that is there is taken: releases differ.
type pick struct {
	paths    []string
	optional bool // a release may not have it, and the boot does without
}

func required(paths ...string) pick { return pick{paths: paths} }
func optional(paths ...string) pick { return pick{paths: paths, optional: true} }

// programs are picked for every root.
var programs = []pick{
	required("usr/lib/systemd/systemd"),
	optional("usr/lib/systemd/systemd-executor"), // from 255
	required("usr/lib/systemd/systemd-journald"),
	required("usr/lib/systemd/systemd-modules-load"),
	required("usr/lib/systemd/systemd-shutdown"),
	required("usr/lib/systemd/systemd-udevd"),
	required("usr/lib/systemd/system-generators/systemd-fstab-generator"),
	required("usr/bin/systemctl"),
	required("usr/bin/journalctl"), // shows in an emergency what went wrong
	required("usr/bin/udevadm"),
	required("usr/bin/kmod"),
	required("usr/sbin/modprobe", "usr/bin/modprobe"),
	required("usr/bin/mount"),
	required("usr/bin/umount"),
	optional("usr/lib/udev/ata_id"),
	optional("usr/lib/udev/scsi_id"),
	// The names of the root's partitions and of device mapper's devices.
	required("usr/lib/udev/rules.d/50-udev-default.rules"),
	required("usr/lib/udev/rules.d/60-block.rules"),
	required("usr/lib/udev/rules.d/60-persistent-storage.rules"),
	required("usr/lib/udev/rules.d/80-drivers.rules"),
	required("usr/lib/udev/rules.d/99-systemd.rules"),
	optional("usr/lib/modprobe.d/systemd.conf"),
	optional("usr/lib/modprobe.d/aliases.conf", "etc/modprobe.d/aliases.conf"),
}

// verityPrograms are picked for a root behind dm-verity. dmsetup and the rules
// that call it announce that /dev/mapper/root is complete; without them it
// never appears.
var verityPrograms = []pick{
	required("usr/lib/systemd/systemd-veritysetup"),
	required("usr/lib/systemd/system-generators/systemd-veritysetup-generator"),
	required("usr/sbin/dmsetup"),
	required("usr/lib/udev/rules.d/55-dm.rules"),
	required("usr/lib/udev/rules.d/60-persistent-storage-dm.rules"),
	required("usr/lib/udev/rules.d/95-dm-notify.rules"),
}

// statePrograms are what the program runs that mounts the machine's state.
var statePrograms = []pick{
	required("usr/bin/dash"),
	required("usr/bin/cat"), required("usr/bin/chmod"), required("usr/bin/cp"), required("usr/bin/dd"),
	required("usr/bin/head"), required("usr/bin/mkdir"), required("usr/bin/rm"), required("usr/bin/sleep"),
	required("usr/bin/stat"),
}

// partitionPrograms are picked where that program has partitions to make.
var partitionPrograms = []pick{
	required("usr/sbin/blkid"),
	optional("usr/bin/systemd-repart", "usr/sbin/systemd-repart"), // jammy has none
	required("usr/lib/systemd/systemd-growfs"),
}

// makers make and check the file system of a partition.
var makers = map[string][]pick{
	"ext4":  {required("usr/sbin/mke2fs"), required("usr/sbin/e2fsck")},
	"xfs":   {required("usr/sbin/mkfs.xfs")},
	"btrfs": {required("usr/bin/mkfs.btrfs", "usr/sbin/mkfs.btrfs")},
	"swap":  {required("usr/sbin/mkswap"), required("usr/sbin/swapon")},
}

// rootPrograms are picked for one file system of the root.
var rootPrograms = map[string][]pick{
	"squashfs": nil,
	"erofs":    nil,
	"ext4": {
		required("usr/lib/systemd/systemd-fsck"),
		required("usr/sbin/fsck"),
		required("usr/sbin/e2fsck"),
		required("usr/sbin/fsck.ext4"),
	},
	"btrfs": {
		required("usr/lib/udev/rules.d/64-btrfs.rules"),
	},
}

// units are picked from usr/lib/systemd/system, and of the links in *.wants
// those that lead to one of them. All are optional: a release without a unit
// does not need it, and what would be missed has a program above.
var units = []string{
	"basic.target", "sysinit.target", "sockets.target", "slices.target", "paths.target", "timers.target",
	"local-fs-pre.target", "local-fs.target", "swap.target", "remote-fs-pre.target", "remote-fs.target",
	"initrd.target", "initrd-fs.target", "initrd-root-device.target", "initrd-root-fs.target", "initrd-usr-fs.target",
	"initrd-cleanup.service", "initrd-switch-root.service", "initrd-switch-root.target",
	"initrd-udevadm-cleanup-db.service",
	"emergency.target", "rescue.target", "shutdown.target", "umount.target", "final.target",
	"poweroff.target", "reboot.target", "halt.target", "kexec.target", "ctrl-alt-del.target",
	"systemd-poweroff.service", "systemd-reboot.service", "systemd-halt.service",
	"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
	"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udevd-varlink.socket",
	"systemd-udev-trigger.service", "systemd-udev-settle.service",
	"systemd-modules-load.service", "modprobe@.service",
	"systemd-fsck@.service", "systemd-fsck-root.service",
	"veritysetup-pre.target", "veritysetup.target",
}

// dlopenFeatures are the features of dlopen notes whose libraries are taken.
var dlopenFeatures = []string{"kmod", "mount", "blkid", "cryptsetup", "apparmor", "selinux", "audit", "seccomp", "acl", "crypt"}

// dlopenLibraries are opened while they run by programs that carry no notes
// (systemd before 257), and are only taken when the packages have them.
var dlopenLibraries = []string{"libkmod.so.2", "libmount.so.1", "libblkid.so.1"}

// kernelModules are taken where the kernel has them: the machines an appliance
// meets, virtual and real.
var kernelModules = []string{
	// virtio: QEMU, Google, Oracle, …
	"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_rng",
	"nvme",                                 // EC2 and real machines
	"xen_blkfront",                         // EC2's older ones
	"hv_vmbus", "hv_storvsc", "pci_hyperv", // Azure
	"vmw_pvscsi", "mptspi", // VMware
	"ahci", "ata_piix", "sd_mod", // SATA and what QEMU has by default
	"usb_storage", "uas", "xhci_pci", "ehci_pci", // disks on USB
	"mmc_block", "sdhci_pci", "sdhci_acpi", "sdhci_iproc", // boards
	"pcie_brcmstb",
	// What the programs need.
	"autofs4", "efivarfs",
}

// hashModules speed verity up; the plain one is enough.
var hashModules = []string{
	"sha256", "sha256_generic", "libsha256", "sha256_ssse3", "sha256_x86_64", "sha256_arm64", "sha256_ce", "sha2_ce",
}

// rootModules are needed for one file system of the root or of a partition; the first of each
// must be there, the others are taken where the kernel has them.
var rootModules = map[string][]string{
	"squashfs": {"squashfs"},
	"erofs":    {"erofs"},
	"ext4":     {"ext4", "crc32c", "crc32c_generic", "crc32c_intel", "crc32c_cryptoapi"},
	"xfs":      {"xfs", "crc32c", "crc32c_generic", "crc32c_intel", "crc32c_cryptoapi"},
	"btrfs":    {"btrfs", "crc32c", "crc32c_generic", "crc32c_intel", "crc32c_cryptoapi", "blake2b_generic", "xxhash_generic"},
}

// An arch is where an architecture's packages put their libraries.
type arch struct {
	tuple string // Debian's multiarch directory
}

var arches = map[string]arch{
	"amd64": {tuple: "x86_64-linux-gnu"},
	"arm64": {tuple: "aarch64-linux-gnu"},
}

// libraryDirs are searched in this order, as the program loader of Debian and
// Ubuntu does.
func (a arch) libraryDirs() []string {
	return []string{"usr/lib/" + a.tuple, "usr/lib", "usr/lib64"}
}

// isLibrary says whether a path may be a shared library that programs of the
// initrd load.
func (a arch) isLibrary(p string) bool {
	dir, base := path.Split(p)
	if !strings.Contains(base, ".so") {
		return false
	}
	dir = strings.TrimSuffix(dir, "/")
	return slices.Contains(a.libraryDirs(), dir) ||
		dir == "usr/lib/systemd" || dir == "usr/lib/"+a.tuple+"/systemd"
}
