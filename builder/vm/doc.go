// Package vm boots a disk in QEMU under UEFI firmware and says how that ended.
//
// A [Machine] is given disks (which are not written unless asked for), firmware
// and a [Runner] that starts QEMU: out of a tree of tools through a sandbox, or
// the host's ([Host]). Its Run blocks until the guest powers off, resets, panics
// or is stopped. The guest reports to the host by lines over a virtio-serial
// port named [ReportPort]; package guest has what an image needs for it.
//
// Start returns a [Guest] to be steered while it runs: its buttons and its power,
// disks that come, go and grow, the network's cable, further ports to talk over.
// QEMU is steered over the QEMU Machine Protocol (docs/interop/qmp-spec in QEMU).
// [Findings] tells from a console's log what went wrong in a boot.
//
// The kernel's command line is in the unified kernel image and can't be given to
// QEMU. What a test may add goes by SMBIOS strings of type 11, which systemd
// reads: credentials (systemd.io, System and Service Credentials), and
// [Machine].CmdlineExtra, which systemd-stub 254 or later appends, though not
// under Secure Boot.
package vm
