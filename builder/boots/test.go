package boots

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/recipes"
)

// TestOptions says what to test and how.
type TestOptions struct {
	Name string // of the test; the consoles' files begin with it
	// Recipe is built for the test; without it Image is the disk, which is left as
	// it is, and Arch its architecture, as dpkg names it.
	Recipe *recipes.Recipe
	Image  string
	Arch   string

	Tests      []recipes.Test // none is a boot
	Accel      vm.Accel
	ConsoleDir string // an existing folder for what the machine prints, a file a boot
	Tell       func(boottest.Result)
	Notice     func(string) // takes what the user should know
	Now        func() time.Time
	Random     io.Reader // for the key of the run
}

// DefaultTestMemory is the memory of a machine under test, in bytes.
const DefaultTestMemory = 1 << 30

// CheckTests finds what is wrong with tests and can be known before anything is
// built: seeds, keys and disks that are not there or not in order.
func CheckTests(tests []recipes.Test) error {
	for i := range tests {
		t := &tests[i]
		switch {
		case t.Cidata != nil && t.Cidata.SeedFile != "":
			if _, err := loadSeed(t.Cidata.SeedFile, cidata.Settings{}); err != nil {
				return err
			}
		case t.SSH != nil && t.SSH.KeyFile != "":
			if _, err := readKey(t.SSH.KeyFile); err != nil {
				return err
			}
		case t.AddDisk != nil && t.AddDisk.SourceFile != "":
			if _, err := existing(t.AddDisk.SourceFile); err != nil {
				return err
			}
		}
	}
	return nil
}

// isISO says that a seed is a ready one.
func isISO(name string) bool { return strings.EqualFold(filepath.Ext(name), ".iso") }

// loadSeed reads the description of a seed; nil for a ready one.
func loadSeed(name string, settings cidata.Settings) (*cidata.Seed, error) {
	if isISO(name) {
		_, err := existing(name)
		return nil, err
	}
	return cidata.Load(name, cidata.LoadOptions{Settings: settings})
}

// maxKey bounds a file with a private key, in bytes.
const maxKey = 64 << 10

func readKey(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	if _, err := ssh.ParsePrivateKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w: name the file of a private key without a passphrase", name, err)
	}
	return key, nil
}

// A Test is a machine that is ready to be tested, off, with a disk of its own.
type Test struct {
	o       TestOptions
	scratch *store.Scratch
	machine *testMachine
	key     ssh.Signer
	plan    boottest.Plan
}

// Prepare builds what is needed for a test. Its files are in the store until Close.
func Prepare(ctx context.Context, b Builder, o TestOptions) (_ *Test, err error) {
	scratch, err := b.Scratch("test")
	if err != nil {
		return nil, err
	}
	t := &Test{o: o, scratch: scratch}
	defer func() {
		if err != nil {
			t.Close(ctx)
		}
	}()
	if o.Recipe != nil {
		if _, err := b.Image(ctx, o.Recipe, builder.ImageOptions{Dir: scratch.Dir}); err != nil {
			return nil, err
		}
		t.o.Image, t.o.Arch = filepath.Join(scratch.Dir, builder.DiskName(o.Recipe)), o.Recipe.Architecture
	}
	credentials, err := agentFor(ctx, t.o.Image)
	if err != nil {
		return nil, err
	}
	machine, err := NewMachine(ctx, b, Options{
		Image: t.o.Image, Arch: t.o.Arch, Accel: o.Accel, Memory: DefaultTestMemory, Credentials: credentials,
		State: filepath.Join(scratch.Dir, "state"), Timeout: -1, Notice: o.Notice, Now: o.Now,
	}, scratch.Dir)
	if err != nil {
		return nil, err
	}
	t.machine = &testMachine{
		template: *machine, dir: scratch.Dir, consoles: filepath.Join(o.ConsoleDir, o.Name),
		network: vm.NetworkIsolated, bus: vm.BusVirtio,
	}
	if err := t.machine.addDisk(ctx, recipes.SystemDisk, machine.Disks[0].Path, 0); err != nil {
		return nil, err
	}
	if o.Recipe != nil {
		// The copy is taken.
		if err := os.Remove(t.o.Image); err != nil {
			return nil, err
		}
	}
	if t.key, err = t.machine.makeKey(o.Random); err != nil {
		return nil, err
	}
	t.plan, err = t.machine.plan(o.Tests)
	return t, err
}

// agentFor returns what brings the agent into the system of a disk.
func agentFor(ctx context.Context, image string) ([]vm.Credential, error) {
	in, err := builder.Inspect(ctx, image)
	if err != nil {
		return nil, err
	}
	osRelease := ""
	if len(in.Kernels) > 0 {
		osRelease = in.Kernels[0].OSRelease
	}
	list, err := boottest.Credentials(osRelease)
	var credentials []vm.Credential
	for _, c := range list {
		credentials = append(credentials, vm.Credential(c))
	}
	return credentials, err
}

// Close frees the test's files.
func (t *Test) Close(ctx context.Context) error { return t.scratch.Remove(context.WithoutCancel(ctx)) }

// Run boots the machine and runs the tests, once. What failed is in the report,
// which is never nil; the error says that there was nothing to judge.
func (t *Test) Run(ctx context.Context) (*boottest.Report, error) {
	if err := vm.CheckKVM(t.o.Arch); t.o.Accel == vm.AccelAuto && err != nil {
		t.o.Notice(fmt.Sprintf("%v: the machine is emulated, and limits of time are %d times as long", err, vm.EmulationFactor))
	}
	runner := boottest.Runner{Machine: t.machine, Now: t.o.Now, Key: t.key, Tell: t.o.Tell}
	return runner.Run(ctx, t.plan)
}

// Needs is how much memory, in bytes, and how many processors the largest
// machine of a list of tests has.
func Needs(tests []recipes.Test) (memory int64, cpus int) {
	memory, cpus = DefaultTestMemory, vm.DefaultCPUs
	for _, t := range tests {
		if t.Machine != nil {
			memory, cpus = max(memory, int64(t.Machine.Memory)), max(cpus, t.Machine.CPUs)
		}
	}
	return memory, cpus
}
