package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/boottest"
	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/vm"
	"github.com/applbuild/applbuild/cidata"
	"github.com/applbuild/applbuild/recipes"
)

// seedDisk is the id of the seed's disk. Names of other disks have no capitals.
const seedDisk = "SEED"

// A testMachine is the machine that a plan is run against. Its disks are copies.
type testMachine struct {
	template vm.Machine
	dir      string // scratch
	consoles string // what the consoles' files begin with

	bus           vm.Bus
	disks         []vm.Drive // the first is booted from
	size          int64      // that the first is to have at the next start; 0 is as it is
	seed          string     // file of the seed, "" for none
	seeds         int
	network       vm.Network
	ports         []int  // of the guest, which lead to it
	cmdline       string // added to the template's
	rootKey       bool   // root gets the public key without a seed
	boots         int
	guest         *testGuest // the last one; nil before the first start
	publicKey     []byte     // a line of authorized_keys
	publicKeyFile string
}

// Start implements boottest.Machine.
func (t *testMachine) Start(ctx context.Context) (boottest.Guest, error) {
	if t.size > 0 {
		if err := growFile(t.disks[0].Path, t.size); err != nil {
			return nil, err
		}
		t.size = 0
	}
	m := t.template
	m.Disks = nil
	for _, d := range t.disks {
		d.Bus = t.bus
		m.Disks = append(m.Disks, d)
	}
	if t.seed != "" {
		m.Disks = append(m.Disks, vm.Drive{ID: seedDisk, Path: t.seed, ReadOnly: true})
	}
	m.CmdlineExtra = strings.TrimSpace(m.CmdlineExtra + " " + t.cmdline)
	m.Ports = []string{boottest.PortName}
	m.Credentials = slices.Clone(m.Credentials)
	if t.rootKey {
		m.Credentials = append(m.Credentials, vm.Credential{Name: "ssh.authorized_keys.root", Value: t.publicKey})
	}
	if m.Network = t.network; m.Network != vm.NetworkNone {
		for _, port := range t.ports {
			m.Forwards = append(m.Forwards, vm.Forward{Guest: port})
		}
	}
	t.boots++
	console, err := os.Create(fmt.Sprintf("%s.boot%d.console", t.consoles, t.boots))
	if err != nil {
		return nil, err
	}
	m.Console = console
	guest, err := m.Start(ctx)
	if err != nil {
		console.Close()
		return nil, err
	}
	t.guest = &testGuest{Guest: guest, console: console, hasCard: m.Network != vm.NetworkNone}
	return t.guest, nil
}

// running is the guest where the machine is on.
func (t *testMachine) running() *testGuest {
	if t.guest == nil {
		return nil
	}
	select {
	case <-t.guest.Done():
		return nil
	default:
		return t.guest
	}
}

// rebuild changes what the machine is made of at its next start.
func (t *testMachine) rebuild(m *recipes.TestMachine) {
	if m.Memory != 0 {
		t.template.Memory = int64(m.Memory)
	}
	if m.CPUs != 0 {
		t.template.CPUs = m.CPUs
	}
	if m.TPM != nil {
		t.template.TPM = *m.TPM
	}
	if m.Bus != "" {
		t.bus = vm.Bus(m.Bus)
	}
	t.size = max(t.size, int64(m.Disk))
}

// addDisk adds a disk: a copy of a file, or else an empty one.
func (t *testMachine) addDisk(ctx context.Context, name, source string, size int64) error {
	path := filepath.Join(t.dir, name+".raw")
	if source != "" {
		if err := copySparse(ctx, path, source); err != nil {
			return fmt.Errorf("disk %s: %w", name, err)
		}
	} else if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := growFile(path, wholeSectors(size)); err != nil {
		return err
	}
	d := vm.Drive{ID: name, Path: path, Write: true}
	if len(t.disks) > 0 {
		d.Serial = name
	}
	t.disks = append(t.disks, d)
	if guest := t.running(); guest != nil {
		d.Bus = t.bus
		return guest.Plug(ctx, d)
	}
	return nil
}

// wholeSectors rounds a disk's size in bytes up to whole sectors.
func wholeSectors(size int64) int64 { return (size + 511) &^ 511 }

// growFile makes a disk's file at least as large as size.
func growFile(path string, size int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() >= size {
		return err
	}
	return os.Truncate(path, size)
}

func (t *testMachine) growDisk(ctx context.Context, name string, size int64) error {
	size = wholeSectors(size)
	for _, d := range t.disks {
		if d.ID != name {
			continue
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return err
		}
		if info.Size() > size {
			return fmt.Errorf("disk %s has %d bytes already, more than %d", name, info.Size(), size)
		}
		if guest := t.running(); guest != nil {
			return guest.Grow(ctx, name, size)
		}
		return os.Truncate(d.Path, size)
	}
	return fmt.Errorf("there is no disk %s", name)
}

// setSeed makes the seed that the machine finds at its next start.
func (t *testMachine) setSeed(s *recipes.CidataStep) error {
	if s.SeedFile == "" {
		t.seed = ""
		return nil
	}
	var settings cidata.Settings
	if s.TestKeyFor != "" {
		settings = cidata.Settings{User: s.TestKeyFor, SSHKeyFiles: []string{t.publicKeyFile}}
	}
	seed, err := loadSeed(s.SeedFile, settings)
	if err != nil {
		return err
	}
	if seed == nil {
		t.seed, err = existing(s.SeedFile)
		return err
	}
	// A machine that runs may still read the one before.
	t.seeds++
	t.seed = filepath.Join(t.dir, "seed"+strconv.Itoa(t.seeds)+".iso")
	f, err := os.Create(t.seed)
	if err != nil {
		return err
	}
	return errors.Join(seed.WriteISO(f), f.Close())
}

// setNetwork joins the network card of the next start to a network. Of a machine
// that runs the cable is pulled or put back.
func (t *testMachine) setNetwork(ctx context.Context, n vm.Network) error {
	was := t.network
	t.network = n
	if guest := t.running(); guest != nil && was != n && guest.hasCard {
		return guest.SetLink(ctx, n != vm.NetworkNone)
	}
	return nil
}

// corrupt flips all bits of a part of a disk.
func (t *testMachine) corrupt(c *recipes.CorruptStep) error {
	if t.running() != nil {
		return errors.New("the machine runs")
	}
	i := 0
	for ; i < len(t.disks) && t.disks[i].ID != c.Disk; i++ {
	}
	if i == len(t.disks) {
		return fmt.Errorf("there is no disk %s", c.Disk)
	}
	f, err := os.OpenFile(t.disks[i].Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	begin, end, err := corruptRange(t.disks[i].Path, c.Partition)
	if err != nil {
		return err
	}
	at, length := begin, int64(c.Length)
	switch {
	case c.Offset != nil:
		at += int64(*c.Offset)
	case c.Block != nil:
		at += int64(*c.Block) * recipes.CorruptBlock
	}
	if at >= end || length > end-at {
		return fmt.Errorf("bytes %d to %d lie behind the end of it, which has %d", at-begin, at-begin+length, end-begin)
	}
	return errors.Join(flip(f, at, length), f.Close())
}

// flip flips all bits of bytes of a file.
func flip(f *os.File, at, length int64) error {
	b := make([]byte, length)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	for i := range b {
		b[i] ^= 0xff
	}
	_, err := f.WriteAt(b, at)
	return err
}

// corruptRange is where a partition, or the whole disk, begins and ends.
func corruptRange(path, partition string) (begin, end int64, err error) {
	if partition == "" {
		info, err := os.Stat(path)
		if err != nil {
			return 0, 0, err
		}
		return 0, info.Size(), nil
	}
	m, err := openImage(path)
	if err != nil {
		return 0, 0, err
	}
	defer m.f.Close()
	var names []string
	for _, matches := range []func(disk.Entry) bool{
		func(e disk.Entry) bool { return e.Label == partition },
		func(e disk.Entry) bool { return disk.TypeName(e.Type) == partition },
		func(e disk.Entry) bool { return typeOfAnyArch(disk.TypeName(e.Type)) == partition },
	} {
		names = nil
		for _, e := range m.table.Partitions {
			if matches(e) {
				return e.Offset, e.Offset + e.Size, nil
			}
			names = append(names, e.Label)
		}
	}
	return 0, 0, fmt.Errorf("there is no partition %s, but %s", partition, strings.Join(names, ", "))
}

// typeOfAnyArch is the name of a partition's type without its architecture: root
// for root-x86-64, root-verity for root-x86-64-verity.
func typeOfAnyArch(name string) string {
	for _, arch := range []string{"-x86-64", "-arm64"} {
		name = strings.Replace(name, arch, "", 1)
	}
	return name
}

// copySparse copies a file and leaves out its holes.
func copySparse(ctx context.Context, to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	for off := int64(0); off < info.Size(); {
		data, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, data+copyStep)
		if _, err := src.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, hole-data); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		off = hole
	}
	return errors.Join(dst.Truncate(info.Size()), dst.Close())
}

// copyStep is how much is copied before an interruption is looked for, in bytes.
const copyStep = 64 << 20

// A testGuest is a boot of a machine under test.
type testGuest struct {
	*vm.Guest
	hasCard bool
	console *os.File
	closed  sync.Once
}

// Port implements boottest.Guest.
func (g *testGuest) Port() io.ReadWriter { return g.Guest.Port(boottest.PortName) }

// Close implements boottest.Guest.
func (g *testGuest) Close() {
	g.Guest.Close()
	g.closed.Do(func() { g.console.Close() })
}

// Dial implements boottest.Guest.
func (g *testGuest) Dial(ctx context.Context, port int) (net.Conn, error) {
	for _, f := range g.Forwards() {
		if f.Guest == port {
			d := net.Dialer{Timeout: 10 * time.Second}
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.Host)))
		}
	}
	return nil, fmt.Errorf("nothing leads to the machine's port %d: it has no network", port)
}

// End implements boottest.Guest.
func (g *testGuest) End() boottest.End {
	result, err := g.Wait(context.Background())
	if result == nil {
		return boottest.End{Kind: "failure", Err: err}
	}
	return boottest.End{Kind: string(result.Exit), Detail: result.Panic, Err: err}
}

// fatal are kinds of findings after which a machine does not come up.
var fatal = map[vm.Kind]bool{
	vm.KernelPanic: true, vm.Emergency: true, vm.FirmwareShell: true, vm.NoBootDevice: true, vm.Stopped: true,
}

// Problems implements boottest.Guest.
func (g *testGuest) Problems() []boottest.Problem {
	var problems []boottest.Problem
	for _, f := range g.Findings() {
		problems = append(problems, boottest.Problem{Kind: string(f.Kind), Text: f.Text, Fatal: fatal[f.Kind]})
	}
	return problems
}

const (
	quotedLines = 15      // of a console, in a result
	maxConsole  = 4 << 20 // bytes of a console that are looked at
)

// escape is a sequence of ECMA-48 that steers a terminal.
var escape = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[()#%][0-9A-Z]|[=>78cM])|\r`)

// Console implements boottest.Guest.
func (g *testGuest) Console() boottest.Console {
	c := boottest.Console{File: g.console.Name(), Last: g.ConsoleTail(quotedLines)}
	f, err := os.Open(c.File)
	if err != nil {
		return c
	}
	defer f.Close()
	if text, err := io.ReadAll(io.LimitReader(f, maxConsole)); err == nil {
		c.Text = escape.ReplaceAllString(string(text), "")
	}
	return c
}
