package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Numbers of the file descriptors that QEMU gets.
const (
	qmpFD    = 3
	reportFD = 4
)

// A platform is what differs between architectures.
type platform struct {
	program string
	machine string
	panic   string // the device that tells the host of a panic
}

func lookupPlatform(arch string) (platform, error) {
	switch arch {
	case "amd64":
		return platform{"qemu-system-x86_64", "q35,vmport=off,graphics=off", "pvpanic"}, nil
	case "arm64":
		return platform{"qemu-system-aarch64", "virt", "pvpanic-pci"}, nil
	}
	return platform{}, fmt.Errorf("vm: architecture %q: want amd64 or arm64", arch)
}

func (m *Machine) check() error {
	switch {
	case m.Runner == nil || m.Now == nil:
		return errors.New("vm: a runner and a clock are needed")
	case m.Firmware.Code == "" || m.Firmware.Vars == "":
		return errors.New("vm: firmware (code and variables) is needed: the package is ovmf for amd64, qemu-efi-aarch64 for arm64")
	case m.Dir == "" || !filepath.IsAbs(m.Dir):
		return fmt.Errorf("vm: folder %q: an absolute path of an existing folder is needed", m.Dir)
	}
	for _, d := range m.Disks {
		if !filepath.IsAbs(d.Path) {
			return fmt.Errorf("vm: disk %q: want an absolute path", d.Path)
		}
		if d.Write && d.ReadOnly {
			return fmt.Errorf("vm: disk %s is both read-only and to be written", d.Path)
		}
	}
	return nil
}

// argv returns QEMU's command line. vars is the machine's own variable store.
func (m *Machine) argv(p platform, kvm bool, vars string) ([]string, error) {
	machine, accel, cpu := p.machine, "tcg,thread=multi", "max"
	if kvm {
		accel, cpu = "kvm", "host"
	}
	if m.Firmware.SMM {
		machine += ",smm=on"
	}
	argv := []string{
		orDefault(m.Program, p.program),
		"-no-user-config", "-nodefaults", "-display", "none",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(orDefault(m.CPUs, DefaultCPUs)),
		"-m", strconv.FormatInt(orDefault(m.Memory, DefaultMemory)>>20, 10) + "M",
		// A guest that resets has ended, one that panics stays for us to see.
		"-action", "reboot=shutdown,shutdown=poweroff,panic=pause",
		// The guest waits for the first command, so that no event is missed.
		"-S", "-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD), "-mon", "chardev=qmp,mode=control",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + quote(m.Firmware.Code),
		"-drive", "if=pflash,unit=1,format=raw,file=" + quote(vars),
		"-device", p.panic,
		"-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
		"-device", "virtio-serial-pci,id=ports",
		"-chardev", fmt.Sprintf("socket,id=report,fd=%d", reportFD),
		"-device", "virtserialport,bus=ports.0,chardev=report,name=" + ReportPort,
	}
	if m.Firmware.SMM {
		argv = append(argv, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if m.Input != nil {
		argv = append(argv, "-chardev", "stdio,id=console,mux=on,signal=off", "-mon", "chardev=console")
	} else {
		argv = append(argv, "-chardev", "stdio,id=console,signal=off")
	}
	argv = append(argv, "-serial", "chardev:console")

	for i, d := range m.Disks {
		a, err := d.argv(i)
		if err != nil {
			return nil, err
		}
		argv = append(argv, a...)
	}
	if m.SSHPort == 0 {
		argv = append(argv, "-nic", "none")
	} else {
		argv = append(argv, "-netdev", fmt.Sprintf("user,id=net0,hostfwd=tcp:127.0.0.1:%d-:22", m.SSHPort),
			// Without a boot ROM the firmware has nothing to try.
			"-device", "virtio-net-pci,netdev=net0,romfile=")
	}
	strs, err := m.smbios()
	if err != nil {
		return nil, err
	}
	argv = append(argv, strs...)
	return append(argv, m.Args...), nil
}

func (d *Drive) argv(i int) ([]string, error) {
	drive := fmt.Sprintf("if=none,id=disk%d,format=%s,cache=unsafe,discard=unmap,file=%s",
		i, quote(orDefault(d.Format, "raw")), quote(d.Path))
	switch {
	case d.ReadOnly:
		drive += ",readonly=on"
	case !d.Write:
		drive += ",snapshot=on"
	}
	var device string
	serial := d.Serial
	switch d.Bus {
	case BusVirtio, "":
		device = "virtio-blk-pci"
	case BusNVMe:
		device = "nvme"
		serial = orDefault(serial, fmt.Sprintf("disk%d", i)) // NVMe has no disk without one
	default:
		return nil, fmt.Errorf("vm: disk %s: bus %q: want virtio or nvme", d.Path, d.Bus)
	}
	device += fmt.Sprintf(",drive=disk%d,bootindex=%d", i, i)
	if serial != "" {
		device += ",serial=" + quote(serial)
	}
	if d.SectorSize != 0 {
		device += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", d.SectorSize, d.SectorSize)
	}
	return []string{"-drive", drive, "-device", device}, nil
}

// smbios returns the strings that systemd reads in the guest.
func (m *Machine) smbios() ([]string, error) {
	var argv []string
	for _, c := range m.Credentials {
		if c.Name == "" || len(c.Name) > 255 || strings.ContainsAny(c.Name, "/:=,\x00\n ") || c.Name[0] == '.' {
			return nil, fmt.Errorf("vm: credential %q: the name must be one of a file, without / : = or blanks", c.Name)
		}
		argv = append(argv, "-smbios", "type=11,value=io.systemd.credential.binary:"+c.Name+"="+
			base64.StdEncoding.EncodeToString(c.Value))
	}
	if m.CmdlineExtra != "" {
		argv = append(argv, "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra="+quote(m.CmdlineExtra))
	}
	return argv, nil
}

// paths lists what QEMU must see of the host.
func (m *Machine) paths(dir string) []Path {
	paths := []Path{{Name: dir, Write: true}}
	for _, d := range m.Disks {
		paths = append(paths, Path{Name: d.Path, Write: d.Write})
	}
	return paths
}

// quote escapes a value inside an option list of QEMU's.
func quote(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
