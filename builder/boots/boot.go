package boots

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// forgetfulGrace is how long a guest whose writes are forgotten may take to
// power off when its boot is interrupted: there is nothing for it to save.
const forgetfulGrace = time.Second

// Options says what to boot and how.
type Options struct {
	Image   string // the disk
	Arch    string // the disk's architecture, as dpkg names it
	Memory  int64  // bytes; 0 is 2 GiB
	CPUs    int    // 0 is 2
	Accel   vm.Accel
	Bus     vm.Bus
	Write   bool // let the guest's writes through to the disk
	Timeout time.Duration

	Disks []vm.Drive // further ones, as they are
	TPM   bool       // a TPM 2.0
	State string     // folder for the firmware's variables and the TPM; see vm.Machine

	Network  vm.Network
	Forwards []vm.Forward
	SSHPort  int // of the host's loopback that leads to the guest's port 22; 0 is none

	CmdlineExtra string
	Credentials  []vm.Credential

	Console io.Writer // takes what the guest prints
	Input   io.Reader // a terminal for the console; nil is none
	Line    func(vm.Line)
	Notice  func(string) // takes what the user should know
	Now     func() time.Time
}

// Boot boots a disk in QEMU with UEFI firmware, out of a tools tree of its own,
// and says how that ended.
func Boot(ctx context.Context, b Builder, o Options) (*vm.Result, error) {
	scratch, err := b.Scratch("boot")
	if err != nil {
		return nil, err
	}
	defer scratch.Remove(context.WithoutCancel(ctx))
	machine, err := NewMachine(ctx, b, o, scratch.Dir)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(machine.Disks, func(d vm.Drive) bool { return d.Write }) {
		machine.Grace = forgetfulGrace
	}
	guest, err := machine.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	if err := vm.CheckKVM(o.Arch); o.Accel == vm.AccelAuto && err != nil {
		o.Notice(fmt.Sprintf("%v: the guest is emulated, which is slower", err))
	}
	for _, f := range guest.Forwards() {
		if !slices.Contains(o.Forwards, f) && f.Host != o.SSHPort {
			o.Notice(fmt.Sprintf("port %d of 127.0.0.1 leads to the guest's port %d", f.Host, f.Guest))
		}
	}
	return guest.Wait(context.WithoutCancel(ctx))
}

// NewMachine returns the machine that boots a disk, to be changed and started by
// the caller. dir is a folder for what lasts as long as a guest of it.
func NewMachine(ctx context.Context, b Builder, o Options, dir string) (*vm.Machine, error) {
	arch, err := distro.LookupArch(o.Arch)
	if err != nil {
		return nil, err
	}
	if o.Image, err = existing(o.Image); err != nil {
		return nil, err
	}
	in, err := builder.Inspect(ctx, o.Image)
	if err != nil {
		return nil, err
	}
	if len(in.Kernels) == 0 {
		return nil, fmt.Errorf("%s: no unified kernel image on the EFI system partition, so it does not boot: build it with a boot loader", o.Image)
	}
	// A disk that says nothing of consoles would be silent here.
	if !strings.Contains(in.Kernels[0].Cmdline+" "+o.CmdlineExtra, "console=") {
		o.CmdlineExtra = strings.TrimSpace(o.CmdlineExtra + " console=" + arch.Console)
	}
	disks := []vm.Drive{{Path: o.Image, Write: o.Write, Bus: o.Bus}}
	for _, d := range o.Disks {
		if d.Path, err = existing(d.Path); err != nil {
			return nil, err
		}
		disks = append(disks, d)
	}
	if o.State != "" {
		if o.State, err = filepath.Abs(o.State); err != nil {
			return nil, err
		}
	}
	tools, err := b.BootTools(ctx, o.Arch)
	if err != nil {
		return nil, fmt.Errorf("QEMU: %w", err)
	}
	firmware, err := firmwareIn(tools, o.Arch)
	if err != nil {
		return nil, err
	}
	return &vm.Machine{
		Arch: o.Arch, Program: "/usr/bin/" + arch.QEMU, Firmware: firmware, Disks: disks,
		Memory: o.Memory, CPUs: o.CPUs, Accel: o.Accel,
		TPM: o.TPM, TPMProgram: "/usr/bin/swtpm", State: o.State,
		Network: o.Network, Forwards: o.Forwards, SSHPort: o.SSHPort,
		CmdlineExtra: o.CmdlineExtra, Credentials: o.Credentials,
		Console: o.Console, Input: o.Input, Line: o.Line, Warn: o.Notice,
		Timeout: o.Timeout, Dir: dir, Now: o.Now,
		Runner: qemuRunner{tools: tools},
	}, nil
}

// existing is the absolute name of a disk's file.
func existing(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		return "", fmt.Errorf("disk: %w", err)
	}
	return name, nil
}

// firmwareIn finds the firmware of an architecture in the tools tree. The code
// is named as QEMU sees it, the variables as this process does.
func firmwareIn(dir, arch string) (vm.Firmware, error) {
	code, vars := "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	if arch == "arm64" {
		code, vars = "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"
		if !fileIn(dir, code) {
			code = "/usr/share/AAVMF/AAVMF_CODE.fd"
		}
	}
	if !fileIn(dir, code) || !fileIn(dir, vars) {
		return vm.Firmware{}, fmt.Errorf("the tools tree has no firmware for %s (%s): its packages ovmf and qemu-efi-aarch64 should bring it", arch, code)
	}
	return vm.Firmware{Code: code, Vars: filepath.Join(dir, vars)}, nil
}

func fileIn(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// qemuRunner runs QEMU in a sandbox that sees the tools and the paths it is
// given, at their own places.
type qemuRunner struct{ tools string }

// Run implements vm.Runner.
func (r qemuRunner) Run(ctx context.Context, c vm.Command) error {
	spec := sandbox.Spec{
		Binds: []sandbox.Bind{{Source: filepath.Join(r.tools, "usr"), Target: "/usr", ReadOnly: true}},
		Argv:  c.Argv, Env: c.Env, Files: c.Files,
		Devices: c.Devices, Network: c.Network,
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr,
		Terminal: c.Stdin != nil,
	}
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		spec.Links = append(spec.Links, sandbox.Link{Path: "/" + name, Target: "usr/" + name})
	}
	for _, p := range c.Paths {
		spec.Binds = append(spec.Binds, sandbox.Bind{Source: p.Name, Target: p.Name, ReadOnly: !p.Write})
	}
	return sandbox.Run(ctx, spec)
}
