package vm

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Requests of the KVM API (Linux, Documentation/virt/kvm/api.rst).
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmCreateVCPU    = 0xae41
	kvmAPIVersion    = 12
)

// CheckKVM says why guests of an architecture can't run through KVM here, or
// nil. It makes an empty virtual machine to find out: the device may be there
// without working.
func CheckKVM(arch string) error {
	if arch != runtime.GOARCH {
		return fmt.Errorf("kvm: the host is %s, the guest %s", runtime.GOARCH, arch)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("kvm: %w", err)
	}
	defer f.Close()
	version, err := unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("kvm: asking for the version of the interface: %w", err)
	}
	if version != kvmAPIVersion {
		return fmt.Errorf("kvm: the interface has version %d, want %d", version, kvmAPIVersion)
	}
	machine, err := unix.IoctlRetInt(int(f.Fd()), kvmCreateVM)
	if err != nil {
		return fmt.Errorf("kvm: making a virtual machine: %w", err)
	}
	defer unix.Close(machine)
	cpu, err := unix.IoctlRetInt(machine, kvmCreateVCPU)
	if err != nil {
		return fmt.Errorf("kvm: making a virtual CPU: %w", err)
	}
	return unix.Close(cpu)
}

// useKVM decides between KVM and emulation.
func (m *Machine) useKVM() (bool, error) {
	switch m.Accel {
	case AccelTCG:
		return false, nil
	case AccelKVM:
		if err := CheckKVM(m.Arch); err != nil {
			return false, fmt.Errorf("vm: %w: allow emulation or repair /dev/kvm", err)
		}
		return true, nil
	}
	return CheckKVM(m.Arch) == nil, nil
}
