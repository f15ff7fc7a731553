package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/boots"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/recipes"
)

// errGuest says that a guest ended in another way than by powering off.
var errGuest = errors.New("the guest did not power off")

type bootFlags struct {
	dir, kvm, memory, append, report, bus string
	network, firmware, state              string
	seeds, disks, forwards                []string
	cpus, ssh                             int
	write, tpm                            bool
	timeout                               time.Duration
}

func bootCommand(s *settings) *cobra.Command {
	var f bootFlags
	cmd := &cobra.Command{
		Use:   "boot RECIPE|IMAGE.raw",
		Short: "Boot a disk in QEMU",
		Long: `boot starts a disk in QEMU with UEFI firmware, its console on the terminal. QEMU
and the firmware come out of the store, so the host needs neither; KVM is used where
it works. What the guest writes to the disks is forgotten unless --write is given.

Each start begins with new firmware variables and, with --tpm, an empty TPM, unless
--state names a folder that keeps them; every disk needs a folder of its own.

A network card is there with --network, --ssh or --forward. An isolated one gets its
address by DHCP and can be reached through the forwarded ports, but reaches nothing.

On a terminal, Ctrl-A x ends QEMU. What the guest writes to its virtio port
` + vm.ReportPort + ` is printed, or written to a file with --report.`,
		Args: exactly(1, "one recipe or disk"),
		RunE: func(cmd *cobra.Command, args []string) error { return s.boot(cmd.Context(), args[0], f) },
	}
	s.recipeFlags(cmd.Flags())
	flags := cmd.Flags()
	flags.StringVarP(&f.dir, "output", "o", "", "folder that a recipe's disk was built into (default the recipe's output.dir, else ./out)")
	flags.StringVar(&f.kvm, "kvm", "auto", "run on the processor itself: auto, on or off")
	flags.StringVar(&f.memory, "memory", "2G", "memory of the machine")
	flags.IntVar(&f.cpus, "cpus", vm.DefaultCPUs, "processors of the machine")
	flags.IntVar(&f.ssh, "ssh", 0, "port of this host's loopback that leads to the guest's port 22")
	flags.StringArrayVar(&f.forwards, "forward", nil, "HOST:GUEST: a TCP port of this host's loopback that leads to one of the guest; 0 for HOST takes a free one and prints it (repeatable)")
	flags.StringVar(&f.network, "network", "", "what the guest's network card is joined to: none, user (the host's network) or isolated (default none, with a forwarded port user)")
	flags.StringArrayVar(&f.seeds, "seed", nil, "file to show the guest as a further disk that it cannot write, such as a seed for cloud-init (repeatable)")
	flags.StringArrayVar(&f.disks, "disk", nil, "raw file to show the guest as a further disk (repeatable)")
	flags.BoolVar(&f.tpm, "tpm", false, "give the machine a TPM 2.0")
	flags.StringVar(&f.state, "state", "", "folder that keeps the firmware's variables and the TPM from one boot of the disk to the next")
	flags.StringVar(&f.firmware, "firmware", "uefi", "firmware of the machine: uefi")
	flags.BoolVar(&f.write, "write", false, "keep what the guest writes to the disks")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the guest after this time (default never)")
	flags.StringVar(&f.bus, "bus", string(vm.BusVirtio), "what the disk is attached to: virtio, or nvme as on EC2")
	flags.StringVar(&f.append, "append", "", "words to add to the kernel's command line")
	flags.StringVar(&f.report, "report", "", "file for what the guest reports")
	return cmd
}

func (s *settings) boot(ctx context.Context, what string, f bootFlags) error {
	image, arch, err := s.diskOf(what, f.dir)
	if err != nil {
		return err
	}
	o, err := f.options()
	if err != nil {
		return usageError{err}
	}
	o.Image, o.Arch, o.Console, o.Now = image, arch, s.stdout, time.Now
	report := io.Writer(s.stderr)
	if f.report != "" {
		file, err := os.Create(f.report)
		if err != nil {
			return err
		}
		defer file.Close()
		report = file
	}
	o.Line = func(l vm.Line) { fmt.Fprintf(report, "%s\n", l.Text) }
	return s.withBuilder(ctx, func(b *builder.Builder, p *progress) error {
		restore, err := s.console(&o)
		if err != nil {
			return err
		}
		o.Notice = p.Notice
		result, err := boots.Boot(ctx, b, o)
		restore()
		if err != nil {
			return err
		}
		if !s.quiet {
			fmt.Fprintf(s.stderr, "guest ended by %s after %s (%s, QEMU %s)\n", result.Exit, seconds(result.Duration), result.Accel, result.QEMU)
		}
		if result.Exit != vm.PowerOff && result.Exit != vm.Killed {
			return fmt.Errorf("%w: it ended by %s %s", errGuest, result.Exit, result.Panic)
		}
		return nil
	})
}

// options are what the flags say of the machine.
func (f *bootFlags) options() (boots.Options, error) {
	o := boots.Options{
		CPUs: f.cpus, SSHPort: f.ssh, Write: f.write, TPM: f.tpm, State: f.state,
		CmdlineExtra: f.append, Timeout: f.timeout,
		Bus: vm.Bus(f.bus), Network: vm.Network(f.network),
	}
	if f.timeout == 0 {
		o.Timeout = -1
	}
	if o.Bus != vm.BusVirtio && o.Bus != vm.BusNVMe {
		return o, fmt.Errorf("--bus %s: unknown: use virtio or nvme", f.bus)
	}
	switch f.firmware {
	case "uefi":
	case "bios":
		return o, errors.New("--firmware bios: not supported: these disks start by UEFI only, from the EFI system partition; they have no boot code for a BIOS: use uefi")
	default:
		return o, fmt.Errorf("--firmware %s: unknown: use uefi", f.firmware)
	}
	switch o.Network {
	case "", vm.NetworkNone, vm.NetworkUser, vm.NetworkIsolated:
	default:
		return o, fmt.Errorf("--network %s: unknown: use none, user or isolated", f.network)
	}
	if o.Network == vm.NetworkNone && (f.ssh != 0 || len(f.forwards) > 0) {
		return o, errors.New("--network none: there is nothing to forward a port to: leave out --ssh and --forward, or use user or isolated")
	}
	for _, text := range f.forwards {
		forward, err := parseForward(text)
		if err != nil {
			return o, err
		}
		o.Forwards = append(o.Forwards, forward)
	}
	for _, name := range f.seeds {
		o.Disks = append(o.Disks, vm.Drive{Path: name, ReadOnly: true})
	}
	for _, name := range f.disks {
		o.Disks = append(o.Disks, vm.Drive{Path: name, Write: f.write, Bus: o.Bus})
	}
	size, err := recipes.ParseSize(f.memory)
	if err != nil {
		return o, fmt.Errorf("--memory: %w", err)
	}
	o.Memory = int64(size)
	o.Accel, err = parseAccel(f.kvm)
	return o, err
}

func parseAccel(kvm string) (vm.Accel, error) {
	switch kvm {
	case "auto":
		return vm.AccelAuto, nil
	case "on":
		return vm.AccelKVM, nil
	case "off":
		return vm.AccelTCG, nil
	}
	return 0, fmt.Errorf("--kvm %s: unknown: use auto, on or off", kvm)
}

// parseForward reads HOST:GUEST.
func parseForward(text string) (vm.Forward, error) {
	host, guest, _ := strings.Cut(text, ":")
	h, errHost := strconv.ParseUint(host, 10, 16)
	g, errGuest := strconv.ParseUint(guest, 10, 16)
	if errHost != nil || errGuest != nil || g == 0 {
		return vm.Forward{}, fmt.Errorf("--forward %s: not HOST:GUEST, two TCP ports: use 8080:80, or 0:80 for a free port of the host", text)
	}
	return vm.Forward{Host: int(h), Guest: int(g)}, nil
}

// console joins the guest's serial port to the terminal, where there is one.
func (s *settings) console(o *boots.Options) (restore func(), err error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) || !term.IsTerminal(int(s.stdout.Fd())) {
		return func() {}, nil
	}
	state, err := term.MakeRaw(in)
	if err != nil {
		return nil, err
	}
	o.Input = os.Stdin
	return func() { term.Restore(in, state) }, nil
}

// diskOf finds the disk that a recipe was built into, or takes a disk as it is.
func (s *settings) diskOf(what, dir string) (image, arch string, err error) {
	switch filepath.Ext(what) {
	case ".yml", ".yaml":
	default:
		return what, archOf(what), nil
	}
	recipe, err := s.recipe(what)
	if err != nil {
		return "", "", err
	}
	if err := hasDisk(recipe); err != nil {
		return "", "", err
	}
	image = filepath.Join(outputDir(dir, recipe), builder.DiskName(recipe))
	if _, err := os.Stat(image); err != nil {
		return "", "", fmt.Errorf("%s is not built: %w: run `applbuild image %s`", what, err, what)
	}
	return image, recipe.Architecture, nil
}

// hasDisk refuses a recipe that makes only a container image.
func hasDisk(recipe *recipes.Recipe) error {
	if !recipe.Output.Has(recipes.FormatRaw) {
		return recipe.Problem("output.formats", "the recipe makes a container image and no disk", "add raw", nil)
	}
	return nil
}

// archOf is the architecture in the name of a disk, else this machine's.
func archOf(name string) string {
	stem := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	for _, arch := range []string{"amd64", "arm64"} {
		if strings.HasSuffix(stem, "_"+arch) {
			return arch
		}
	}
	return runtime.GOARCH
}
