package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/uki"
	"github.com/applbuild/applbuild/builder/vm/oracle"
)

// unused is where the guest writes: behind the disk's only partition, in bytes.
const unused = 65<<20 + 8192

// treeRunner runs programs of a tree by the tree's own loader and libraries.
type treeRunner struct{ oracle.Tree }

func (r treeRunner) Run(ctx context.Context, c Command) error {
	lib := r.Path("usr/lib/x86_64-linux-gnu")
	program := c.Argv[0]
	argv := []string{
		filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib + ":" + filepath.Join(lib, "swtpm"), r.Path("usr/bin/" + program),
	}
	if strings.HasPrefix(program, "qemu-system") {
		argv = append(argv, "-L", r.Path("usr/share/qemu"), "-L", r.Path("usr/share/seabios"))
	}
	c.Argv = append(argv, c.Argv[1:]...)
	c.Env = append(c.Env, "QEMU_MODULE_DIR="+filepath.Join(lib, "qemu"))
	return Host{}.Run(ctx, c)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: %s is missing, which makes the disk to boot", name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// bootDisk makes a disk whose only partition is an ESP with a unified kernel
// image of the tree's kernel and the test's guest.
func bootDisk(t *testing.T, tree oracle.Tree, dir string) string {
	t.Helper()
	guest := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-o", guest, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v: %s", err, out)
	}
	files := map[string]string{"init": guest}
	addModules(t, tree, files)

	efi, err := os.Create(filepath.Join(dir, "boot.efi"))
	if err != nil {
		t.Fatal(err)
	}
	defer efi.Close()
	u := uki.UKI{
		Stub:   content(t, tree.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")),
		Linux:  content(t, tree.Kernel(t)),
		Initrd: []uki.Content{bytes.NewReader(newc(t, files))},
		// No console here: a test tells it from the panic device.
		Cmdline: "test.base", OSRelease: "ID=test\nVERSION_ID=1\n",
	}
	if err := u.Build(efi); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk.raw")
	command(t, "truncate", "-s", "66M", disk)
	command(t, "sh", "-c", "echo 'label: gpt\nstart=1MiB,size=64MiB,type=uefi' | sfdisk -q "+disk)
	command(t, "mkfs.vfat", "--offset", "2048", "-F", "32", disk, "65536")
	command(t, "mmd", "-i", disk+"@@1M", "::EFI", "::EFI/BOOT")
	command(t, "mcopy", "-i", disk+"@@1M", efi.Name(), "::EFI/BOOT/BOOTX64.EFI")
	// What the guest overwrites is not zero.
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 4096), unused); err != nil {
		t.Fatal(err)
	}
	return disk
}

// addModules adds to an initrd's files the kernel's modules that the guest loads.
func addModules(t *testing.T, tree oracle.Tree, files map[string]string) {
	t.Helper()
	for _, pattern := range []string{
		"drivers/misc/pvpanic/*", "drivers/block/virtio_blk", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
		"drivers/input/evdev", "drivers/acpi/button",
	} {
		modules, err := filepath.Glob(tree.Path("usr/lib/modules/*/kernel/" + pattern + ".ko.xz"))
		if err != nil || len(modules) == 0 {
			t.Fatalf("no modules %s in %s (%v)", pattern, tree.Root, err)
		}
		for _, m := range modules {
			files[filepath.Base(m)] = m
		}
	}
}

func content(t *testing.T, path string) uki.Content {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

// newc writes an initrd with files, each executable, in its root.
func newc(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	add := func(name string, mode int, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 0, mode, 0, 0, 1, 0,
			len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		pad()
		b.Write(data)
		pad()
	}
	add("dev", 0o040755, nil)
	for name, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		add(name, 0o100755, data)
	}
	add("TRAILER!!!", 0, nil)
	return b.Bytes()
}

// A guest reports and ends in each way there is; the disk is
// written only where that was asked for.
func TestBoot(t *testing.T) {
	tree := oracle.Find(t)
	disk := bootDisk(t, tree, t.TempDir())
	unwritten, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mode    string
		accel   Accel
		console string // kernel parameter
		bus     Bus
		write   bool
		timeout time.Duration
		exit    Reason
		panic   string
	}{
		{mode: "poweroff", accel: AccelTCG, console: "console=ttyS0", exit: PowerOff},
		{mode: "reset", accel: AccelAuto, console: "console=ttyS0", bus: BusNVMe, exit: Reset},
		{mode: "panic", accel: AccelTCG, console: "console=ttyS0", exit: Panic, panic: "Kernel panic - not syncing: Attempted to kill init!"},
		{mode: "pvpanic", accel: AccelTCG, exit: Panic},
		{mode: "hang", accel: AccelTCG, bus: BusNVMe, write: true, timeout: 30 * time.Second, exit: Timeout},
	} {
		t.Run(test.mode, func(t *testing.T) {
			var console bytes.Buffer
			m := testMachine(t, tree, disk)
			m.Accel = test.accel
			m.Disks[0].Bus, m.Disks[0].Write = test.bus, test.write
			m.CmdlineExtra = strings.TrimSpace("test.mode=" + test.mode + " " + test.console)
			m.Credentials = []Credential{{"test.secret", []byte("a,b")}}
			m.Console = &console
			m.Timeout = orDefault(test.timeout, 2*time.Minute)
			r, err := m.Run(context.Background())
			if err != nil {
				t.Fatalf("%v; console:\n%s", err, console.String())
			}
			t.Logf("%s after %v by %s of QEMU %s (firmware %v, kernel %v)",
				r.Exit, r.Duration, r.Accel, r.QEMU, r.FirmwareAfter, r.KernelAfter)
			if r.Exit != test.exit || !strings.HasPrefix(r.Panic, test.panic) || test.panic == "" && r.Panic != "" {
				t.Errorf("exit %s with panic %q, want %s with %q; console:\n%s",
					r.Exit, r.Panic, test.exit, test.panic, console.String())
			}
			if (r.KernelAfter > 0) != (test.console != "") || r.FirmwareAfter == 0 {
				t.Errorf("firmware seen after %v, kernel after %v", r.FirmwareAfter, r.KernelAfter)
			}
			// Where there is KVM the guest runs by it, or the result says why not.
			kvm := test.accel == AccelAuto && CheckKVM("amd64") == nil
			if (len(r.Warnings) > 0) != (kvm && r.Accel == "tcg") {
				t.Errorf("run by %s with warnings %q; CheckKVM says %v", r.Accel, r.Warnings, CheckKVM("amd64"))
			}
			checkReport(t, r, test.mode, m.CmdlineExtra, test.bus)
			now, err := os.ReadFile(disk)
			if err != nil {
				t.Fatal(err)
			}
			if written := !bytes.Equal(now, unwritten); written != test.write {
				t.Errorf("disk written: %v, want %v", written, test.write)
			}
		})
	}
}

// testMachine is a machine that boots the disk.
func testMachine(t *testing.T, tree oracle.Tree, disk string) *Machine {
	t.Helper()
	return &Machine{
		Arch: "amd64",
		Firmware: Firmware{
			Code: tree.Path("usr/share/OVMF/OVMF_CODE_4M.fd"),
			Vars: tree.Path("usr/share/OVMF/OVMF_VARS_4M.fd"),
		},
		Disks:  []Drive{{Path: disk}},
		Memory: 512 << 20,
		Dir:    t.TempDir(),
		Now:    time.Now,
		Runner: treeRunner{tree},
	}
}

// checkReport compares what the guest saw with what the machine was given.
func checkReport(t *testing.T, r *Result, mode, extra string, bus Bus) {
	t.Helper()
	if !r.Done {
		t.Error("the report is not whole")
	}
	for key, want := range map[string]string{
		"mode":    mode,
		"cmdline": "test.base " + extra,
		"net":     "lo",
	} {
		if got := r.Values(key); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q in the guest, want %q", key, got, want)
		}
	}
	if got, want := r.Values("smbios"), "io.systemd.credential.binary:test.secret=YSxi"; !slices.Contains(got, want) {
		t.Errorf("the guest's SMBIOS strings are %q, want %q among them", got, want)
	}
	if got := slices.Contains(r.Values("disk"), "nvme0n1"); got != (bus == BusNVMe) {
		t.Errorf("the guest's disks are %q with bus %q", r.Values("disk"), bus)
	}
	if mode == "poweroff" {
		if got := r.Values("long"); len(got) != 1 || len(got[0]) != maxLine-len("long=") {
			t.Errorf("a line of 100,000 bytes was not cut to %d", maxLine)
		}
	}
}

// QEMU takes each argument there is, and a person at the terminal can end it.
func TestBootInput(t *testing.T) {
	tree := oracle.Find(t)
	dir := filepath.Join(t.TempDir(), "with,comma")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var disks []string
	for _, name := range []string{"a,b.raw", "c.raw", "d.raw"} {
		disk := filepath.Join(dir, name)
		if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk)
	}
	m := testMachine(t, tree, "")
	m.Firmware.Code = tree.Path("usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
	m.Firmware.SMM = true
	m.Disks = []Drive{
		{Path: disks[0], Serial: "first,one"},
		{Path: disks[1], Bus: BusNVMe, SectorSize: 4096, Write: true},
		{Path: disks[2], ReadOnly: true},
	}
	m.Dir, m.Accel, m.SSHPort, m.CPUs = dir, AccelTCG, freePort(t), 1
	m.CmdlineExtra = "a,b"
	m.Credentials = []Credential{{"one", []byte("1")}, {"two", nil}}
	// At the firmware's first word the person presses the monitor's keys to quit.
	input, keys := io.Pipe()
	defer input.Close()
	m.Input, m.Console = input, writerFunc(func(b []byte) (int, error) {
		go io.WriteString(keys, "\x01x")
		return len(b), nil
	})
	r, err := m.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != Killed {
		t.Errorf("exit %s", r.Exit)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
