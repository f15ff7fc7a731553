package distro

import (
	"fmt"
	"strings"
)

// An Arch is a processor architecture under the names that others give it.
type Arch struct {
	Name           string // dpkg's: amd64, arm64
	EFIName        string // of the default loader, EFI/BOOT/BOOT<EFIName>.EFI: X64, AA64 (UEFI, section 3.5.1.1)
	MultiarchTuple string // of library folders: x86_64-linux-gnu
	QEMU           string // the system emulator's program: qemu-system-x86_64
	Kernel         string // uname -m, and what systemd's file names use apart from x64: x86_64, aarch64
	Console        string // the first serial port: ttyS0, ttyAMA0
}

var arches = [...]Arch{
	{Name: "amd64", EFIName: "X64", MultiarchTuple: "x86_64-linux-gnu", QEMU: "qemu-system-x86_64", Kernel: "x86_64", Console: "ttyS0"},
	{Name: "arm64", EFIName: "AA64", MultiarchTuple: "aarch64-linux-gnu", QEMU: "qemu-system-aarch64", Kernel: "aarch64", Console: "ttyAMA0"},
}

// LookupArch returns the architecture that dpkg calls name. The error lists
// those there are.
func LookupArch(name string) (Arch, error) {
	for _, a := range arches {
		if a.Name == name {
			return a, nil
		}
	}
	return Arch{}, fmt.Errorf("unknown architecture %q: use %s", name, strings.Join(ArchNames(), " or "))
}

// ArchNames returns the names LookupArch knows.
func ArchNames() []string {
	names := make([]string, len(arches))
	for i, a := range arches {
		names[i] = a.Name
	}
	return names
}
