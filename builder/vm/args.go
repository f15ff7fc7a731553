package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Numbers of the file descriptors that QEMU gets. Those of the machine's ports
// follow, in their order, and then the TPM's.
const (
	qmpFD    = 3
	reportFD = 4
	portFD   = 5
)

// MaxSlots is how many disks can be plugged at one time.
const MaxSlots = 8

// maxPorts bounds the virtio-serial ports: a device has 31.
const maxPorts = 16

// A platform is what differs between architectures.
type platform struct {
	program string
	machine string
	panic   string // the device that tells the host of a panic
	tpm     string // the TPM's interface
}

func lookupPlatform(arch string) (platform, error) {
	switch arch {
	case "amd64":
		// The 64-bit entry point has room for large credentials.
		return platform{"qemu-system-x86_64", "q35,vmport=off,graphics=off,smbios-entry-point-type=64", "pvpanic", "tpm-crb"}, nil
	case "arm64":
		return platform{"qemu-system-aarch64", "virt", "pvpanic-pci", "tpm-tis-device"}, nil
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
	case m.State != "" && !filepath.IsAbs(m.State):
		return fmt.Errorf("vm: folder %q for the machine's state: an absolute path is needed", m.State)
	case m.Slots < 0 || m.Slots > MaxSlots:
		return fmt.Errorf("vm: %d disks to plug: want at most %d", m.Slots, MaxSlots)
	case len(m.Ports) > maxPorts:
		return fmt.Errorf("vm: %d ports: want at most %d", len(m.Ports), maxPorts)
	}
	names := map[string]bool{ReportPort: true}
	for _, name := range m.Ports {
		if name == "" || len(name) > 64 || names[name] || strings.Trim(name, nameLetters+".") != "" {
			return fmt.Errorf("vm: port %q: want letters, digits, . - and _, each name once", name)
		}
		names[name] = true
	}
	ids := map[string]bool{}
	for i := range m.Disks {
		if err := m.Disks[i].check(); err != nil {
			return err
		}
		if id := m.diskID(i); ids[id] {
			return fmt.Errorf("vm: two disks are called %s", id)
		}
		ids[m.diskID(i)] = true
	}
	return m.checkNetwork()
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (d *Drive) check() error {
	letter := d.ID == "" || strings.ContainsAny(d.ID[:1], nameLetters[:52])
	switch {
	case !filepath.IsAbs(d.Path):
		return fmt.Errorf("vm: disk %q: want an absolute path", d.Path)
	case d.Backing != "" && (!filepath.IsAbs(d.Backing) || d.Format != "qcow2"):
		return fmt.Errorf("vm: disk %s upon %q: want format qcow2 and an absolute path", d.Path, d.Backing)
	case d.Write && d.ReadOnly:
		return fmt.Errorf("vm: disk %s is both read-only and to be written", d.Path)
	case !letter || len(d.ID) > 20 || strings.Trim(d.ID, nameLetters) != "":
		return fmt.Errorf("vm: disk %s: id %q: want at most 20 letters, digits, - and _, a letter first", d.Path, d.ID)
	}
	return nil
}

// diskID is the name of a disk by its place.
func (m *Machine) diskID(i int) string { return orDefault(m.Disks[i].ID, fmt.Sprintf("disk%d", i)) }

// A setting is what a start of the machine adds to it.
type setting struct {
	kvm      bool
	dir      string // for what is too long for a command line
	vars     string // the machine's own variable store
	forwards []Forward
}

// argv returns QEMU's command line.
func (m *Machine) argv(p platform, s setting) ([]string, error) {
	machine, accel, cpu := p.machine, "tcg,thread=multi", "max"
	if s.kvm {
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
		"-drive", "if=pflash,unit=1,format=raw,file=" + quote(s.vars),
		"-device", p.panic,
		"-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
		"-device", "virtio-serial-pci,id=ports",
	}
	if m.Firmware.SMM {
		argv = append(argv, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	argv = append(argv, m.characterArgs(p)...)
	for i := range m.Disks {
		a, err := m.diskArgs(i)
		if err != nil {
			return nil, err
		}
		argv = append(argv, a...)
	}
	for i := range m.Slots {
		argv = append(argv, "-device", fmt.Sprintf("pcie-root-port,id=slot%d,chassis=%d,slot=%d", i, i+1, i+1))
	}
	argv = append(argv, m.networkArgs(s.forwards)...)
	strs, err := m.smbios(s.dir)
	if err != nil {
		return nil, err
	}
	argv = append(argv, strs...)
	return append(argv, m.Args...), nil
}

// characterArgs are the console, the virtio-serial ports and the TPM.
func (m *Machine) characterArgs(p platform) []string {
	argv := []string{"-chardev", "stdio,id=console,signal=off"}
	if m.Input != nil {
		argv = []string{"-chardev", "stdio,id=console,mux=on,signal=off", "-mon", "chardev=console"}
	}
	argv = append(argv, "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=report,fd=%d", reportFD),
		"-device", "virtserialport,bus=ports.0,chardev=report,name="+ReportPort)
	for i, name := range m.Ports {
		argv = append(argv, "-chardev", fmt.Sprintf("socket,id=port%d,fd=%d", i, portFD+i),
			"-device", fmt.Sprintf("virtserialport,bus=ports.0,chardev=port%d,name=%s", i, name))
	}
	if m.TPM {
		argv = append(argv, "-chardev", fmt.Sprintf("socket,id=tpm,fd=%d", portFD+len(m.Ports)),
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", p.tpm+",tpmdev=tpm0")
	}
	return argv
}

func (m *Machine) diskArgs(i int) ([]string, error) {
	d, id := &m.Disks[i], m.diskID(i)
	cache := "unsafe" // what is written is forgotten with the machine
	if d.Write {
		cache = "writeback"
	}
	drive := fmt.Sprintf("if=none,id=%s,format=%s,cache=%s,discard=unmap,file=%s",
		id, quote(orDefault(d.Format, "raw")), cache, quote(d.Path))
	switch {
	case d.ReadOnly:
		drive += ",readonly=on"
	case !d.Write:
		drive += ",snapshot=on"
	}
	device, err := d.device(id)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		device = append(device, [2]string{"bootindex", "0"})
	}
	words := []string{device[0][1]}
	for _, p := range device[1:] {
		words = append(words, p[0]+"="+quote(p[1]))
	}
	return []string{"-drive", drive, "-device", strings.Join(words, ",")}, nil
}

// device returns the properties of the device that shows a drive to the guest,
// its driver first.
func (d *Drive) device(id string) ([][2]string, error) {
	var driver string
	serial := d.Serial
	switch d.Bus {
	case BusVirtio, "":
		driver = "virtio-blk-pci"
	case BusNVMe:
		driver = "nvme"
		serial = orDefault(serial, id) // NVMe has no disk without one
	default:
		return nil, fmt.Errorf("vm: disk %s: bus %q: want virtio or nvme", d.Path, d.Bus)
	}
	properties := [][2]string{{"driver", driver}, {"id", "dev-" + id}, {"drive", id}}
	if serial != "" {
		properties = append(properties, [2]string{"serial", serial})
	}
	if d.SectorSize != 0 {
		size := strconv.Itoa(d.SectorSize)
		properties = append(properties, [2]string{"logical_block_size", size}, [2]string{"physical_block_size", size})
	}
	return properties, nil
}

// longString is from how many bytes on a string for SMBIOS is handed over in a
// file: an argument of a program has at most 128 KiB, all of them together 2 MiB.
const longString = 4 << 10

// maxStrings bounds the strings for SMBIOS, in bytes. Linux maps no more than 256
// KiB of the tables at once, and finds none of them where there is more. With
// 147,000 bytes a start under emulation takes minutes before the kernel, with
// 80,000 no longer than with none (OVMF and systemd-stub of Debian 13).
const maxStrings = 80_000

// smbios returns the strings that systemd reads in the guest.
func (m *Machine) smbios(dir string) ([]string, error) {
	var argv []string
	total := 0
	add := func(s string) error {
		if total += len(s); total > maxStrings {
			return fmt.Errorf("all credentials need %d bytes: want at most %d, which is %d before their encoding; put the rest on a disk",
				total, maxStrings, maxStrings/4*3)
		}
		if len(s) < longString {
			argv = append(argv, "-smbios", "type=11,value="+quote(s))
			return nil
		}
		name := filepath.Join(dir, fmt.Sprintf("smbios-%d", len(argv)/2))
		argv = append(argv, "-smbios", "type=11,path="+quote(name))
		return os.WriteFile(name, []byte(s), 0o600)
	}
	for _, c := range m.Credentials {
		if c.Name == "" || len(c.Name) > 255 || strings.ContainsAny(c.Name, "/:=,\x00\n ") || c.Name[0] == '.' {
			return nil, fmt.Errorf("vm: credential %q: the name must be one of a file, without / : = or blanks", c.Name)
		}
		if err := add("io.systemd.credential.binary:" + c.Name + "=" + base64.StdEncoding.EncodeToString(c.Value)); err != nil {
			return nil, fmt.Errorf("vm: credential %s: %w", c.Name, err)
		}
	}
	if m.CmdlineExtra != "" {
		if err := add("io.systemd.stub.kernel-cmdline-extra=" + m.CmdlineExtra); err != nil {
			return nil, fmt.Errorf("vm: words for the kernel's command line: %w", err)
		}
	}
	return argv, nil
}

// paths lists what QEMU must see of the host.
func (m *Machine) paths(dirs ...string) []Path {
	var paths []Path
	for _, dir := range dirs {
		paths = append(paths, Path{Name: dir, Write: true})
	}
	for _, d := range m.Disks {
		paths = append(paths, Path{Name: d.Path, Write: d.Write})
		if d.Backing != "" {
			paths = append(paths, Path{Name: d.Backing})
		}
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
