// Package initrd assembles the initial RAM file system of an appliance from
// its distribution's packages, in process: no script of a package is run and
// no program of the host is called.
//
// The archive holds systemd as its init, udev, dm-verity's user space, mount
// and the kernel modules that stand between the firmware and the root file
// system, each with the shared libraries it loads. It is a cpio archive in
// the "newc" format (SVR4 without checksums, see the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst), compressed by
// zstd, and the same for the same input and clock.
//
// It is not a general initrd: it has no shell, no network, no interactive
// rescue mode, and mounts a root that is named on the kernel's command line
// by roothash= (systemd-veritysetup-generator(8)) or root=.
package initrd
