package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/recipes"
)

// errGuest says that a guest ended in another way than by powering off.
var errGuest = errors.New("the guest did not power off")

type bootFlags struct {
	dir, kvm, memory, append, report, bus string
	cpus, ssh                             int
	write                                 bool
	timeout                               time.Duration
}

func bootCommand(s *settings) *cobra.Command {
	var f bootFlags
	cmd := &cobra.Command{
		Use:   "boot RECIPE|IMAGE.raw",
		Short: "Boot a disk in QEMU",
		Long: `boot starts a disk in QEMU with UEFI firmware, its console on the terminal. QEMU
and the firmware come out of the store, so the host needs neither; KVM is used where
it works. What the guest writes to the disk is forgotten unless --write is given.

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
	flags.BoolVar(&f.write, "write", false, "keep what the guest writes to the disk")
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
	o := builder.BootOptions{
		Image: image, Arch: arch, CPUs: f.cpus, SSHPort: f.ssh, Write: f.write,
		CmdlineExtra: f.append, Timeout: f.timeout, Console: s.stdout, Now: time.Now,
	}
	if f.timeout == 0 {
		o.Timeout = -1
	}
	if o.Bus = vm.Bus(f.bus); o.Bus != vm.BusVirtio && o.Bus != vm.BusNVMe {
		return usageError{fmt.Errorf("--bus %s: unknown: use virtio or nvme", f.bus)}
	}
	size, err := recipes.ParseSize(f.memory)
	if err != nil {
		return usageError{fmt.Errorf("--memory: %w", err)}
	}
	o.Memory = int64(size)
	switch f.kvm {
	case "auto":
	case "on":
		o.Accel = vm.AccelKVM
	case "off":
		o.Accel = vm.AccelTCG
	default:
		return usageError{fmt.Errorf("--kvm %s: unknown: use auto, on or off", f.kvm)}
	}
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
		result, err := b.Boot(ctx, o)
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

// console joins the guest's serial port to the terminal, where there is one.
func (s *settings) console(o *builder.BootOptions) (restore func(), err error) {
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
	image = filepath.Join(outputDir(dir, recipe), builder.DiskName(recipe))
	if _, err := os.Stat(image); err != nil {
		return "", "", fmt.Errorf("%s is not built: %w: run `applbuild image %s`", what, err, what)
	}
	return image, recipe.Architecture, nil
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
