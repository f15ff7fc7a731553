package vm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// What goes wrong in a boot is found on the console, with the line that says so,
// and what only looks like it is not.
func TestFindings(t *testing.T) {
	for _, test := range []struct {
		line string
		want Kind // "" for none
		text string
	}{
		{"[    2.310512] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", KernelPanic, ""},
		{"[    2.310512][    T1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300", KernelPanic, ""},
		{"[    2.541992] ---[ end Kernel panic - not syncing: dm-verity device has corrupted block ]---", KernelPanic, ""},
		{"[   41.004211] BUG: unable to handle page fault for address: ffffc90000a53000", KernelOops, ""},
		{"[   41.004211] BUG: kernel NULL pointer dereference, address: 0000000000000010", KernelOops, ""},
		{"[   41.004999] Oops: 0002 [#1] PREEMPT SMP NOPTI", KernelOops, ""},
		{"[   41.004999] Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP", KernelOops, ""},
		{"[    8.124444] general protection fault, probably for non-canonical address 0x1: 0000 [#1] PREEMPT SMP", KernelOops, ""},
		{"[    8.124444] kernel BUG at mm/slub.c:4130!", KernelOops, ""},
		{"[    8.124444] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008", KernelOops, ""},
		{"[    8.124444] Internal error: Oops: 0000000096000004 [#1] SMP", KernelOops, ""},
		{"<4>[   60.011122] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [systemd-udevd:211]", KernelStall, ""},
		{"[   60.011122] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", KernelStall, ""},
		{"[  242.665731] INFO: task mount:312 blocked for more than 120 seconds.", KernelStall, ""},
		{"[   77.101222] Out of memory: Killed process 812 (python3) total-vm:3120044kB, anon-rss:1800000kB", OutOfMemory, ""},
		{"[   77.101222] Memory cgroup out of memory: Killed process 812 (python3) total-vm:312kB", OutOfMemory, ""},
		{"[   77.100870] podman invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0", OutOfMemory, ""},
		{"[   12.888123] device-mapper: verity: 254:3: data block 2184 is corrupted", CorruptBlock, ""},
		{"You are in emergency mode. After logging in, type \"journalctl -xb\" to view", Emergency, ""},
		{"Press Enter for emergency shell or wait 1 minute 30 seconds for reboot.", Emergency, ""},
		{"Cannot open access to console, the root account is locked.", Emergency, ""},
		{"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39memergency.service\x1b[0m - Emergency Shell.\r", Emergency, "[  OK  ] Started emergency.service - Emergency Shell."},
		{"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39memergency.target\x1b[0m - Emergency Mode.\r", Emergency, "[  OK  ] Reached target emergency.target - Emergency Mode."},
		{"(initramfs) ", Emergency, "(initramfs)"},
		{"[    5.481213] systemd[1]: sysinit.target: Found ordering cycle on systemd-tmpfiles-setup.service/start", OrderingCycle, ""},
		{"[    5.481899] systemd[1]: sysinit.target: Job volatile.mount/start deleted to break ordering cycle starting with sysinit.target/start", OrderingCycle, ""},
		{"[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for \x1b[0;1;39mlocal-fs.target\x1b[0m - Local File Systems.\r", DependencyFailed, "[DEPEND] Dependency failed for local-fs.target - Local File Systems."},
		{"\x1b[K[\x1b[0;1;31m*\x1b[0m\x1b[0;31m*    \x1b[0m] A start job is running for data (1min 12s / 1min 30s)\r\x1b[K[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount \x1b[0;1;39mdata.mount\x1b[0m - /data.\r", UnitFailed, "[FAILED] Failed to mount data.mount - /data."},
		{"[   14.231881] systemd[1]: ssh.service: Failed with result 'exit-code'.", UnitFailed, ""},
		{"[   14.232441] systemd[1]: Failed to start ssh.service - OpenBSD Secure Shell server.", UnitFailed, ""},
		{"\x1b[0m\x1b[37m\x1b[40m\x1b[1m\x1b[33m\x1b[40mUEFI Interactive Shell v2.2\x1b[0m", FirmwareShell, "UEFI Interactive Shell v2.2"},
		{"\x1b[2J\x1b[01;01HShell> ", FirmwareShell, "Shell>"},
		{"BdsDxe: No bootable option or device was found.\r", NoBootDevice, "BdsDxe: No bootable option or device was found."},
		{"applbuild: the machine stops here\r", Stopped, "applbuild: the machine stops here"},

		{"BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x3,0x0): Not Found", "", ""},
		{"[    1.002030] x86/fpu: DEBUG: xsave", "", ""},
		{"[   33.120001] traps: app[733] general protection fault ip:401136 sp:7ffc error:0 in app[401000+1000]", "", ""},
		{"[    2.119911] systemd[1]: systemd 257.9-1~deb13u1 running in system mode (+PAM -APPARMOR)", "", ""},
		{"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.", "", ""},
		{"[    0.000000] Command line: panic=1 oops=panic", "", ""},
		{"login: DEBUG: not syncing", "", ""},
		{"", "", ""},
	} {
		found, err := Findings(strings.NewReader("before\n" + test.line + "\nafter\n"))
		if err != nil {
			t.Fatal(err)
		}
		if test.want == "" {
			if len(found) != 0 {
				t.Errorf("%q is taken for %v", test.line, found)
			}
			continue
		}
		want := Finding{test.want, 2, orDefault(test.text, test.line)}
		if !slices.Equal(found, []Finding{want}) {
			t.Errorf("%q: found %v, want %v", test.line, found, want)
		}
	}
}

// A guest cannot make the log's findings large, and its prompt, which ends
// without a line's end, counts.
func TestFindingsBounds(t *testing.T) {
	flood := strings.Repeat("Kernel panic - not syncing: "+strings.Repeat("é", 5000)+"\n", 300)
	found, err := Findings(iotest.OneByteReader(strings.NewReader(flood)))
	if err != nil || len(found) != maxFindings {
		t.Errorf("%d findings of a flood, %v", len(found), err)
	}
	for _, f := range found {
		if len(f.Text) > maxText+len("…") {
			t.Fatalf("a line of %d bytes is quoted", len(f.Text))
		}
	}
	found, err = Findings(strings.NewReader("\x1b[2JShell> "))
	if err != nil || !slices.Equal(found, []Finding{{FirmwareShell, 1, "Shell>"}}) {
		t.Errorf("a prompt: %v, %v", found, err)
	}
}

// The console's end is kept as a terminal shows it.
func TestConsoleTail(t *testing.T) {
	c := newConsole(nil, func() time.Duration { return 1 })
	for i := range 3 * maxKept {
		c.Write([]byte("line " + strings.Repeat("x", i%3) + "\r\n"))
	}
	c.Write([]byte("10%\r50%\r\x1b[Kdone\r\n\x1b[1mlogin: "))
	if got := c.tail(3); !slices.Equal(got, []string{"line xx", "done", "login:"}) {
		t.Errorf("the console ends with %q", got)
	}
	if got := c.tail(1 << 20); len(got) != maxKept {
		t.Errorf("%d lines are kept", len(got))
	}
	if got := c.tail(-1); len(got) != 0 {
		t.Errorf("%d lines for none", len(got))
	}
}

func FuzzFindings(f *testing.F) {
	f.Add([]byte("[    2.3] Kernel panic - not syncing: x\r\n\x1b[2JShell> "))
	f.Add([]byte("\x1b[\x1b]\x1b\\\xff\x80\x9b31m"))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := Findings(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range found {
			if strings.ContainsFunc(finding.Text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
				t.Errorf("control characters in %q", finding.Text)
			}
			if finding.Line < 1 || finding.Line > 1+bytes.Count(b, []byte{'\n'}) {
				t.Errorf("line %d", finding.Line)
			}
		}
	})
}
