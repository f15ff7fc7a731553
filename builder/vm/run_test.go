package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A fakeQEMU speaks QEMU's part of the machine protocol. When it is told to let
// the guest go it plays the guest; quit and powerdown end it as QEMU ends.
type fakeQEMU struct {
	major    int
	guest    func(q *fakeQEMU)
	deaf     bool // to system_powerdown
	keeps    bool // its disks
	status   string
	usernet  string // the answer to info usernet
	commands []Command
	requests []string

	qmp     net.Conn
	report  net.Conn
	ports   []net.Conn
	console io.Writer
	stderr  io.Writer
	end     context.CancelFunc
}

func (q *fakeQEMU) Run(ctx context.Context, c Command) error {
	q.commands = append(q.commands, c)
	ctx, q.end = context.WithCancel(ctx)
	defer q.end()
	q.ports = nil
	for i, f := range c.Files {
		conn, err := net.FileConn(f)
		if err != nil {
			return err
		}
		defer conn.Close()
		switch i {
		case qmpFD - 3:
			q.qmp = conn
		case reportFD - 3:
			q.report = conn
		default:
			q.ports = append(q.ports, conn)
		}
	}
	q.console, q.stderr = c.Stdout, c.Stderr
	go func() { <-ctx.Done(); q.qmp.Close() }()
	fmt.Fprintf(q.qmp, `{"QMP":{"version":{"qemu":{"micro":1,"minor":2,"major":%d}}}}`+"\n", q.major)
	requests := bufio.NewScanner(q.qmp)
	for requests.Scan() {
		var request struct {
			Execute string
			ID      int
		}
		if err := json.Unmarshal(requests.Bytes(), &request); err != nil {
			return err
		}
		q.requests = append(q.requests, requests.Text())
		q.answer(request.Execute, request.ID)
	}
	return ctx.Err()
}

func (q *fakeQEMU) answer(command string, id int) {
	said := "{}"
	switch command {
	case "query-status":
		said = fmt.Sprintf(`{"status":%q,"running":false}`, q.status)
	case "human-monitor-command":
		said = strconv.Quote(q.usernet)
	case "quit":
		q.shutdown("host-qmp-quit")
		return
	}
	fmt.Fprintf(q.qmp, `{"return":%s,"id":%d}`+"\n", said, id)
	switch {
	case command == "device_del" && !q.keeps:
		fmt.Fprintln(q.qmp, `{"event":"DEVICE_DELETED","data":{"device":"dev-more","path":"/machine/peripheral/dev-more"}}`)
	case command == "system_reset":
		q.shutdown("host-qmp-system-reset")
	case command == "cont" && q.guest != nil:
		q.guest(q)
	case command == "system_powerdown" && !q.deaf:
		q.shutdown("guest-shutdown")
	}
}

func (q *fakeQEMU) shutdown(reason string) {
	fmt.Fprintf(q.qmp, `{"event":"SHUTDOWN","data":{"guest":true,"reason":%q}}`+"\n", reason)
	q.end()
}

func fakeMachine(t *testing.T, r Runner) *Machine {
	t.Helper()
	dir := t.TempDir()
	vars := filepath.Join(dir, "vars")
	if err := os.WriteFile(vars, []byte("variables"), 0o400); err != nil {
		t.Fatal(err)
	}
	return &Machine{
		Arch: "amd64", Accel: AccelTCG, Dir: dir, Now: time.Now, Runner: r, Timeout: 10 * time.Second,
		Firmware: Firmware{Code: "/code", Vars: vars},
	}
}

func TestRunReasons(t *testing.T) {
	for _, test := range []struct {
		name  string
		qemu  fakeQEMU
		limit time.Duration
		exit  Reason
		panic string
		err   string
		warn  bool
	}{
		{name: "power-off", exit: PowerOff, qemu: fakeQEMU{guest: func(q *fakeQEMU) { q.shutdown("guest-shutdown") }}},
		{name: "reset", exit: Reset, qemu: fakeQEMU{guest: func(q *fakeQEMU) { q.shutdown("guest-reset") }}},
		{name: "quit by its user", exit: Killed, qemu: fakeQEMU{guest: func(q *fakeQEMU) { q.shutdown("host-ui") }}},
		{name: "panic device", exit: Panic, qemu: fakeQEMU{guest: func(q *fakeQEMU) {
			fmt.Fprintln(q.qmp, `{"event":"GUEST_PANICKED","data":{"action":"pause"}}`)
		}}},
		{name: "panic on the console", exit: Panic, panic: "Kernel panic - not syncing: VFS", qemu: fakeQEMU{guest: func(q *fakeQEMU) {
			fmt.Fprint(q.console, "[    1.0] Kernel panic - ", "not syncing: VFS\r\n")
		}}},
		{name: "panic, then reset", exit: Panic, panic: "Kernel panic - not syncing: VFS", qemu: fakeQEMU{guest: func(q *fakeQEMU) {
			fmt.Fprint(q.console, "Kernel panic - not syncing: VFS\n")
			q.shutdown("guest-reset")
		}}},
		{name: "hangs", exit: Timeout, limit: 50 * time.Millisecond},
		{name: "old", exit: PowerOff, warn: true, qemu: fakeQEMU{major: 7, guest: func(q *fakeQEMU) { q.shutdown("guest-shutdown") }}},
		{name: "paused", exit: Timeout, limit: 100 * time.Millisecond, qemu: fakeQEMU{status: "paused", guest: func(q *fakeQEMU) {
			fmt.Fprintln(q.qmp, `{"event":"STOP"}`)
		}}},
		{name: "broken", err: "vm: QEMU failed (emulation failure)", qemu: fakeQEMU{status: "internal-error", guest: func(q *fakeQEMU) {
			fmt.Fprintln(q.stderr, "emulation failure\nRAX=0")
			fmt.Fprintln(q.qmp, `{"event":"STOP"}`)
		}}},
		{name: "crashes", err: "before the guest did: cannot allocate memory", qemu: fakeQEMU{guest: func(q *fakeQEMU) {
			fmt.Fprintln(q.stderr, "cannot allocate memory")
			q.end()
		}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := test.qemu
			q.major = orDefault(q.major, 10)
			m := fakeMachine(t, &q)
			m.Timeout = orDefault(test.limit, m.Timeout)
			r, err := m.Run(context.Background())
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Exit != test.exit || r.Panic != test.panic || r.Accel != "tcg" || (len(r.Warnings) > 0) != test.warn {
				t.Errorf("%+v, want exit %s, panic %q", r, test.exit, test.panic)
			}
			left, _ := filepath.Glob(filepath.Join(m.Dir, "vm-*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// All that the guest reported before it powered off arrives.
func TestRunReport(t *testing.T) {
	q := &fakeQEMU{major: 10, guest: func(q *fakeQEMU) {
		fmt.Fprint(q.report, "\x1b[2Jnoise\nstate=running\r\nunit=a\nunit=b=c\ndone\n")
		q.shutdown("guest-shutdown")
	}}
	m := fakeMachine(t, q)
	var lines []string
	m.Line = func(l Line) { lines = append(lines, l.Text) }
	r, err := m.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Done || !slices.Equal(r.Values("unit"), []string{"a", "b=c"}) || !slices.Equal(r.Values("state"), []string{"running"}) {
		t.Errorf("report %q, done %v", r.Report, r.Done)
	}
	if len(lines) != 5 {
		t.Errorf("called for %q", lines)
	}
}

func TestRunContext(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprint("deaf=", deaf), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			reason := errors.New("enough")
			q := &fakeQEMU{major: 10, deaf: deaf, guest: func(*fakeQEMU) { cancel(reason) }}
			m := fakeMachine(t, q)
			m.Grace = 50 * time.Millisecond
			r, err := m.Run(ctx)
			if !errors.Is(err, reason) || r == nil || r.Exit != Killed {
				t.Errorf("%+v, %v; want killed and %v", r, err, reason)
			}
		})
	}
}

// A runner that cannot start QEMU is quoted.
func TestRunNoQEMU(t *testing.T) {
	m := fakeMachine(t, runnerFunc(func(context.Context, Command) error { return errors.New("no such program") }))
	if _, err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("error %v", err)
	}
	m = fakeMachine(t, Host{})
	m.Program = "/nonexistent/qemu"
	if _, err := m.Run(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want one of a file that does not exist", err)
	}
}

type runnerFunc func(context.Context, Command) error

func (f runnerFunc) Run(ctx context.Context, c Command) error { return f(ctx, c) }

// A KVM that gives up on the firmware's first instructions is replaced.
func TestRunKVMGivesUp(t *testing.T) {
	if err := CheckKVM("amd64"); err != nil {
		t.Skipf("SKIPPED: KVM is missing: %v", err)
	}
	q := &fakeQEMU{major: 10, status: "internal-error"}
	q.guest = func(q *fakeQEMU) {
		if len(q.commands) == 1 {
			fmt.Fprintln(q.qmp, `{"event":"STOP"}`)
			return
		}
		q.shutdown("guest-shutdown")
	}
	m := fakeMachine(t, q)
	m.Accel = AccelAuto
	r, err := m.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != PowerOff || r.Accel != "tcg" || len(r.Warnings) != 1 {
		t.Errorf("%+v", r)
	}
	if got := q.commands[0].Devices; !slices.Equal(got, []string{"/dev/kvm"}) || len(q.commands[1].Devices) != 0 {
		t.Errorf("devices %v, then %v", got, q.commands[1].Devices)
	}
	m.Accel = AccelKVM
	q.commands = nil
	if _, err := m.Run(context.Background()); !errors.Is(err, errKVM) {
		t.Errorf("error %v with KVM asked for", err)
	}
}

func TestArguments(t *testing.T) {
	m := fakeMachine(t, Host{})
	m.Disks = []Drive{
		{Path: "/a,b.raw"}, {Path: "/w.qcow2", Format: "qcow2", Write: true, Bus: BusNVMe, SectorSize: 4096},
		{Path: "/seed.iso", ReadOnly: true, Serial: "seed"},
	}
	m.SSHPort, m.Memory, m.CPUs, m.Firmware.SMM = 2222, 1<<30, 3, true
	m.CmdlineExtra = "a,b"
	m.Credentials = []Credential{{"name", []byte("value")}}
	p, err := lookupPlatform("amd64")
	if err != nil {
		t.Fatal(err)
	}
	argv, err := m.argv(p, setting{dir: m.Dir, vars: "/run/vars", forwards: m.forwards()})
	if err != nil {
		t.Fatal(err)
	}
	got := " " + strings.Join(argv, " ") + " "
	for _, want := range []string{
		"qemu-system-x86_64 ", " -cpu max ", " -accel tcg,thread=multi ", ",smm=on ", " -m 1024M ", " -smp 3 ",
		" -drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,file=/a,,b.raw,snapshot=on -device virtio-blk-pci,id=dev-disk0,drive=disk0,bootindex=0 ",
		"format=qcow2,cache=writeback,discard=unmap,file=/w.qcow2 -device nvme,id=dev-disk1,drive=disk1,serial=disk1,logical_block_size=4096,physical_block_size=4096 ",
		"file=/seed.iso,readonly=on -device virtio-blk-pci,id=dev-disk2,drive=disk2,serial=seed ",
		" -netdev user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22 ",
		" type=11,value=io.systemd.stub.kernel-cmdline-extra=a,,b ",
		" type=11,value=io.systemd.credential.binary:name=dmFsdWU= ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in%s", want, got)
		}
	}
	for number, want := range map[string]int{",bootindex=": 1, " -tpmdev ": 0, "pcie-root-port": 0} {
		if strings.Count(got, number) != want {
			t.Errorf("%q is %d times in%s", number, strings.Count(got, number), got)
		}
	}
	m.SSHPort, m.Input = 0, strings.NewReader("")
	argv, err = m.argv(p, setting{kvm: true, dir: m.Dir, vars: "/run/vars"})
	if err != nil {
		t.Fatal(err)
	}
	got = " " + strings.Join(argv, " ") + " "
	for _, want := range []string{" -nic none ", " -accel kvm -cpu host ", "id=console,mux=on,signal=off -mon chardev=console "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in%s", want, got)
		}
	}
}

// A machine of arm64 has what one of amd64 has, by its own names.
func TestArgumentsArm64(t *testing.T) {
	m := fakeMachine(t, Host{})
	m.Arch, m.Slots, m.TPM, m.Network = "arm64", 2, true, NetworkIsolated
	m.Ports, m.Forwards = []string{"a", "b"}, []Forward{{8080, 80}}
	m.Disks = []Drive{{Path: "/over", Format: "qcow2", Backing: "/base", Write: true, ID: "system"}}
	m.Credentials = []Credential{{"large", slices.Repeat([]byte("secret"), 9_000)}}
	p, err := lookupPlatform(m.Arch)
	if err != nil {
		t.Fatal(err)
	}
	argv, err := m.argv(p, setting{dir: m.Dir, vars: "/run/vars", forwards: m.forwards()})
	if err != nil {
		t.Fatal(err)
	}
	got := " " + strings.Join(argv, " ") + " "
	for _, want := range []string{
		"qemu-system-aarch64 ", " -machine virt ", " -device pvpanic-pci ",
		" -device pcie-root-port,id=slot0,chassis=1,slot=1 -device pcie-root-port,id=slot1,chassis=2,slot=2 ",
		" -chardev socket,id=port0,fd=5 -device virtserialport,bus=ports.0,chardev=port0,name=a ",
		" -chardev socket,id=port1,fd=6 -device virtserialport,bus=ports.0,chardev=port1,name=b ",
		" -chardev socket,id=tpm,fd=7 -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-tis-device,tpmdev=tpm0 ",
		" -drive if=none,id=system,format=qcow2,cache=writeback,discard=unmap,file=/over -device virtio-blk-pci,id=dev-system,drive=system,bootindex=0 ",
		" -netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-net-pci,id=nic0,netdev=net0,romfile= ",
		" -smbios type=11,path=" + m.Dir + "/smbios-0 ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in%s", want, got)
		}
	}
	b, err := os.ReadFile(filepath.Join(m.Dir, "smbios-0"))
	if err != nil || !strings.HasPrefix(string(b), "io.systemd.credential.binary:large=c2VjcmV0") || len(b) < 72_000 {
		t.Errorf("the large credential's file has %d bytes: %v", len(b), err)
	}
	if paths := m.paths("/dir"); !slices.Equal(paths, []Path{{"/dir", true}, {"/over", true}, {"/base", false}}) {
		t.Errorf("QEMU sees %v", paths)
	}
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*Machine){
		"architecture":  func(m *Machine) { m.Arch = "riscv64" },
		"runner":        func(m *Machine) { m.Runner = nil },
		"firmware":      func(m *Machine) { m.Firmware.Vars = "" },
		"absolute path": func(m *Machine) { m.Disks = []Drive{{Path: "x"}} },
		"both":          func(m *Machine) { m.Disks = []Drive{{Path: "/x", Write: true, ReadOnly: true}} },
		"bus":           func(m *Machine) { m.Disks = []Drive{{Path: "/x", Bus: "scsi"}} },
		"all creden": func(m *Machine) {
			m.Credentials = []Credential{{"a", make([]byte, 100_000)}, {"b", make([]byte, 100_000)}}
		},
		"credential":    func(m *Machine) { m.Credentials = []Credential{{Name: "a=b"}} },
		"folder":        func(m *Machine) { m.Dir = "." },
		"state":         func(m *Machine) { m.State = "state" },
		"bridge":        func(m *Machine) { m.Network = "bridge" },
		"ports are 1":   func(m *Machine) { m.Forwards = []Forward{{Host: 80}} },
		"without a net": func(m *Machine) { m.Network, m.SSHPort = NetworkNone, 2222 },
		"two ports of":  func(m *Machine) { m.SSHPort, m.Forwards = 2222, []Forward{{2222, 80}} },
		"port \"a b\"":  func(m *Machine) { m.Ports = []string{"a b"} },
		"each name":     func(m *Machine) { m.Ports = []string{ReportPort} },
		"at most 16":    func(m *Machine) { m.Ports = make([]string, 17) },
		"to plug":       func(m *Machine) { m.Slots = MaxSlots + 1 },
		"called disk1":  func(m *Machine) { m.Disks = []Drive{{Path: "/x", ID: "disk1"}, {Path: "/y"}} },
		"a letter":      func(m *Machine) { m.Disks = []Drive{{Path: "/x", ID: "1"}} },
		"qcow2":         func(m *Machine) { m.Disks = []Drive{{Path: "/x", Backing: "/y"}} },
	} {
		m := fakeMachine(t, Host{})
		change(m)
		if _, err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte("state=running\ndone\n"))
	f.Add(bytes.Repeat([]byte("x"), 3*maxLine))
	f.Add([]byte("\r\n\n=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines := make(chan Line)
		go readLines(bytes.NewReader(b), func() time.Duration { return 0 }, lines)
		n := 0
		for l := range lines {
			if n++; len(l.Text) > maxLine || strings.Contains(l.Text, "\n") {
				t.Fatalf("line of %d bytes", len(l.Text))
			}
			cutReport(l.Text)
		}
		if whole := bytes.Count(b, []byte{'\n'}); n < whole || n > whole+1 {
			t.Fatalf("%d lines of %d", n, whole)
		}
	})
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("Linux version 6\nKernel panic - not syncing: x\n"), 7)
	f.Add(bytes.Repeat([]byte("x"), 2*maxLine), 100)
	f.Fuzz(func(t *testing.T, b []byte, block int) {
		var got bytes.Buffer
		c := newConsole(&got, func() time.Duration { return 1 })
		block = max(1, block)
		for chunk := range slices.Chunk(b, block) {
			if n, err := c.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		if !bytes.Equal(got.Bytes(), b) || len(c.line) > maxLine {
			t.Fatalf("passed on %d of %d bytes, kept %d", got.Len(), len(b), len(c.line))
		}
	})
}
