package builder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

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
	b       *Builder
	o       TestOptions
	scratch *store.Scratch
	machine *testMachine
	key     ssh.Signer
	plan    boottest.Plan
}

// PrepareTest builds what is needed for a test. Its files are in the store until
// Close.
func (b *Builder) PrepareTest(ctx context.Context, o TestOptions) (_ *Test, err error) {
	scratch, err := b.store.Scratch("test")
	if err != nil {
		return nil, err
	}
	t := &Test{b: b, o: o, scratch: scratch}
	defer func() {
		if err != nil {
			t.Close(ctx)
		}
	}()
	if o.Recipe != nil {
		if _, err := b.Image(ctx, o.Recipe, ImageOptions{Dir: scratch.Dir}); err != nil {
			return nil, err
		}
		t.o.Image, t.o.Arch = filepath.Join(scratch.Dir, DiskName(o.Recipe)), o.Recipe.Architecture
	}
	credentials, err := agentFor(ctx, t.o.Image)
	if err != nil {
		return nil, err
	}
	machine, err := b.Machine(ctx, BootOptions{
		Image: t.o.Image, Arch: t.o.Arch, Accel: o.Accel, Memory: DefaultTestMemory, Credentials: credentials,
		State: filepath.Join(scratch.Dir, "state"), Timeout: -1, Now: o.Now,
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
	in, err := Inspect(ctx, image)
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
		t.b.settings.Observer.Notice(fmt.Sprintf("%v: the machine is emulated, and limits of time are %d times as long", err, vm.EmulationFactor))
	}
	runner := boottest.Runner{Machine: t.machine, Now: t.o.Now, Key: t.key, Tell: t.o.Tell}
	return runner.Run(ctx, t.plan)
}

// TestNeeds is how much memory, in bytes, and how many processors the largest
// machine of a list of tests has.
func TestNeeds(tests []recipes.Test) (memory int64, cpus int) {
	memory, cpus = DefaultTestMemory, vm.DefaultCPUs
	for _, t := range tests {
		if t.Machine != nil {
			memory, cpus = max(memory, int64(t.Machine.Memory)), max(cpus, t.Machine.CPUs)
		}
	}
	return memory, cpus
}

// makeKey makes the key of the run, and a file with its public half for seeds.
func (t *testMachine) makeKey(random io.Reader) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	public := bytes.TrimSuffix(ssh.MarshalAuthorizedKey(signer.PublicKey()), []byte("\n"))
	t.publicKey = append(public, " applbuild-test\n"...)
	t.publicKeyFile = filepath.Join(t.dir, "test-key.pub")
	return signer, os.WriteFile(t.publicKeyFile, t.publicKey, 0o600)
}

// plan turns a recipe's tests into a plan.
func (t *testMachine) plan(tests []recipes.Test) (boottest.Plan, error) {
	if len(tests) == 0 {
		return boottest.Plan{{Name: "boots", Action: boottest.Boot{}}}, nil
	}
	var plan boottest.Plan
	for i := range tests {
		test := &tests[i]
		step := boottest.Step{Name: test.Name, Limit: time.Duration(test.Timeout)}
		if step.Name == "" {
			step.Name = describe(test)
		}
		var err error
		if step.Action, err = checkAction(test); err != nil {
			return nil, err
		}
		if step.Action == nil {
			step.Action, step.Quiet = t.stepAction(test)
		}
		plan = append(plan, step)
		if test.Machine != nil && test.Machine.AllowFailed != nil {
			plan = append(plan, boottest.Step{Name: step.Name, Action: boottest.AllowFailed{Units: test.Machine.AllowFailed}})
		}
		if test.AddDisk != nil {
			t.template.Slots++
		}
		if s := test.SSH; s != nil {
			if !slices.Contains(t.ports, s.Port) {
				t.ports = append(t.ports, s.Port)
			}
			t.rootKey = t.rootKey || s.User == "root" && s.KeyFile == ""
		}
	}
	return plan, nil
}

// checkAction is the action of a check, nil for a step.
func checkAction(t *recipes.Test) (boottest.Action, error) {
	switch {
	case t.Run != "":
		return boottest.RunCheck{Command: t.Run, Expect: expect(t.Expect)}, nil
	case t.Unit != nil:
		return boottest.UnitCheck{Unit: t.Unit.Name, State: t.Unit.State}, nil
	case t.Port != nil:
		return boottest.PortCheck{Protocol: t.Port.Protocol, Port: t.Port.Port, Closed: t.Port.Closed}, nil
	case t.File != nil:
		c := boottest.FileCheck{Path: t.File.Path, Absent: t.File.Absent, Kind: t.File.Kind, User: t.File.Owner.User, Group: t.File.Owner.Group}
		if t.File.Contents != nil {
			m := match(t.File.Contents)
			c.Contents = &m
		}
		if t.File.Mode != nil {
			mode := uint32(*t.File.Mode)
			c.Mode = &mode
		}
		return c, nil
	case t.Journal != nil:
		return boottest.JournalCheck{Unit: t.Journal.Unit, Has: t.Journal.Has, HasNot: t.Journal.HasNot}, nil
	case t.Mounted != nil:
		return boottest.MountCheck{
			Path: t.Mounted.Path, Absent: t.Mounted.Absent, Filesystem: t.Mounted.Filesystem,
			Options: t.Mounted.Options, AtLeast: int64(t.Mounted.AtLeast),
		}, nil
	case t.BootTime != nil:
		return boottest.TimeCheck{Unit: t.BootTime.Target, Below: time.Duration(t.BootTime.Below)}, nil
	case t.SSH != nil:
		c := boottest.SSHCheck{User: t.SSH.User, Port: t.SSH.Port, Command: t.SSH.Run, Expect: expect(t.SSH.Expect)}
		if t.SSH.KeyFile == "" {
			return c, nil
		}
		var err error
		c.Key, err = readKey(t.SSH.KeyFile)
		return c, err
	}
	return nil, nil
}

func expect(e *recipes.Expect) boottest.Expect {
	if e == nil {
		return boottest.Expect{}
	}
	return boottest.Expect{Exit: e.Exit, Stdout: match(e.Stdout), Stderr: match(e.Stderr)}
}

func match(m *recipes.TextMatch) boottest.Match {
	if m == nil {
		return boottest.Match{}
	}
	return boottest.Match{Contains: m.Contains, Not: m.Not, Equals: m.Equals, Empty: m.Empty}
}

// stepAction is the action of a step. One that only says how the machine is to be
// is quiet.
func (t *testMachine) stepAction(test *recipes.Test) (action boottest.Action, quiet bool) {
	change := func(quiet bool, apply func(context.Context) error) (boottest.Action, bool) {
		return boottest.Change{Apply: apply}, quiet
	}
	now := func(apply func()) (boottest.Action, bool) {
		return change(true, func(context.Context) error { apply(); return nil })
	}
	switch {
	case test.Machine != nil:
		return now(func() { t.rebuild(test.Machine) })
	case test.Boot != nil:
		return bootAction(test.Boot), false
	case test.Reboot != nil:
		return boottest.Reboot(bootAction(test.Reboot)), false
	case test.PowerCut != nil:
		return boottest.PowerCut{After: time.Duration(test.PowerCut.After)}, false
	case test.Poweroff != nil:
		return boottest.Poweroff{}, false
	case test.AddDisk != nil:
		d := test.AddDisk
		return change(false, func(ctx context.Context) error { return t.addDisk(ctx, d.Name, d.SourceFile, int64(d.Size)) })
	case test.GrowDisk != nil:
		return change(false, func(ctx context.Context) error { return t.growDisk(ctx, test.GrowDisk.Disk, int64(test.GrowDisk.Size)) })
	case test.Corrupt != nil:
		return change(false, func(context.Context) error { return t.corrupt(test.Corrupt) })
	case test.Cidata != nil:
		return change(true, func(context.Context) error { return t.setSeed(test.Cidata) })
	case test.Network != "":
		return change(true, func(ctx context.Context) error { return t.setNetwork(ctx, vm.Network(test.Network)) })
	case test.Cmdline != "":
		return now(func() { t.cmdline = strings.TrimSpace(t.cmdline + " " + test.Cmdline) })
	}
	return boottest.Wait{Time: time.Duration(test.Wait)}, true
}

func bootAction(b *recipes.BootStep) boottest.Boot {
	action := boottest.Boot{Fails: b.Fails}
	if b.Console != nil {
		m := match(b.Console)
		action.Console = &m
	}
	return action
}

// describe is the name of a test that has none.
func describe(t *recipes.Test) string {
	switch {
	case t.Run != "":
		line, _, more := strings.Cut(strings.TrimSpace(t.Run), "\n")
		if more || len(line) > 60 {
			line = strings.ToValidUTF8(line[:min(len(line), 60)], "") + "…"
		}
		return line
	case t.Unit != nil:
		return t.Unit.Name + " is " + t.Unit.State
	case t.Port != nil:
		return fmt.Sprintf("%s port %d is %s", t.Port.Protocol, t.Port.Port, either(t.Port.Closed, "closed", "open"))
	case t.File != nil:
		return t.File.Path + either(t.File.Absent, " is not there", " is as expected")
	case t.Journal != nil:
		return "journal" + either(t.Journal.Unit != "", " of "+t.Journal.Unit, "") + " is as expected"
	case t.Mounted != nil:
		return t.Mounted.Path + either(t.Mounted.Absent, " is not mounted", " is mounted")
	case t.BootTime != nil:
		return t.BootTime.Target + " is reached in time"
	case t.SSH != nil:
		return t.SSH.User + " logs in by SSH"
	case t.AddDisk != nil:
		return "disk " + t.AddDisk.Name + " is added"
	case t.GrowDisk != nil:
		return fmt.Sprintf("disk %s grows to %s", t.GrowDisk.Disk, t.GrowDisk.Size)
	case t.Corrupt != nil:
		return fmt.Sprintf("%s is corrupted", either(t.Corrupt.Partition != "", t.Corrupt.Partition, "disk "+t.Corrupt.Disk))
	}
	return describeStep(t)
}

func describeStep(t *recipes.Test) string {
	switch {
	case t.Machine != nil:
		return "machine"
	case t.Boot != nil:
		return either(t.Boot.Fails, "does not boot", "boots")
	case t.Reboot != nil:
		return either(t.Reboot.Fails, "reboots and does not come up", "reboots")
	case t.PowerCut != nil:
		return "power is cut"
	case t.Poweroff != nil:
		return "powers off"
	case t.Cidata != nil:
		return "cidata"
	case t.Network != "":
		return "network " + t.Network
	case t.Cmdline != "":
		return "command line"
	}
	return "wait"
}

func either(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
