package boottest

import (
	"errors"
	"strings"
	"testing"
)

// asks returns an asker that answers by the beginning of the command.
func asks(answers map[string]answer) asker {
	return func(command string, _ int) (answer, error) {
		for begin, a := range answers {
			if strings.HasPrefix(command, begin) {
				return a, nil
			}
		}
		return answer{}, errors.New("asked " + command)
	}
}

const (
	statOfFile = "regular file\nwww-data\n33\nroot\n0\n640\n"
	tcpTable   = "  sl  local_address rem_address   st tx_queue\n" +
		"   0: 0100007F:0035 00000000:0000 0A 00000000:00000000\n" +
		"   1: 0F02000A:0016 0202000A:8B1C 01 00000000:00000000\n" +
		"  sl  local_address                         remote_address\n" +
		"   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A\n"
	udpTable   = "   0: 00000000:0044 00000000:0000 07 0\n   1: 0F02000A:007B 01010101:007B 01 0\n"
	mountTable = "21 1 254:0 / / ro,relatime shared:1 - squashfs /dev/mapper/root ro,errors=continue\n" +
		"30 21 0:22 / /boot rw,relatime shared:2 master:3 - autofs systemd-1 rw,fd=50\n" +
		"31 30 253:1 / /boot ro,noexec - vfat /dev/vda1 rw\n" +
		"40 21 253:3 / /data rw,relatime shared:5 - ext4 /dev/vda3 rw\n" +
		"41 21 0:30 / /with\\040blank rw - tmpfs tmpfs rw,size=50%\n" +
		"not a line\n"
)

func TestChecks(t *testing.T) {
	mode := func(m uint32) *uint32 { return &m }
	for _, test := range []struct {
		name   string
		check  check
		answer map[string]answer
		wrong  string // the first line; "" for none
	}{
		{"a command", RunCheck{Command: "a"}, map[string]answer{"a": {}}, ""},
		{"a command that fails", RunCheck{Command: "a"}, map[string]answer{"a": {status: 1}}, "exit status 1, expected 0"},
		{"a command that is to fail", RunCheck{Command: "a", Expect: Expect{Exit: 1}}, map[string]answer{"a": {status: 1}}, ""},
		{"a command that takes too long", RunCheck{Command: "a"}, map[string]answer{"a": {timeout: true}}, "did not end in time and was killed"},
		{"what it says", RunCheck{Command: "a", Expect: Expect{Stdout: Match{Contains: []string{"x", "/y+z/"}}}}, map[string]answer{"a": {stdout: "x yyz"}}, ""},
		{"what it does not say", RunCheck{Command: "a", Expect: Expect{Stderr: Match{Not: []string{"x"}}}}, map[string]answer{"a": {stderr: "x"}}, `stderr: expected not to contain "x"`},
		{"all it says", RunCheck{Command: "a", Expect: Expect{Stdout: Match{Equals: "x"}}}, map[string]answer{"a": {stdout: "x\n"}}, ""},
		{"more than all", RunCheck{Command: "a", Expect: Expect{Stdout: Match{Equals: "x"}}}, map[string]answer{"a": {stdout: "xx"}}, `stdout: expected to be "x"`},
		{"nothing", RunCheck{Command: "a", Expect: Expect{Stdout: Match{Empty: true}}}, map[string]answer{"a": {stdout: "x"}}, "stdout: expected to be empty"},

		{"a unit", UnitCheck{"a.service", "active"}, map[string]answer{"systemctl": {stdout: "LoadState=loaded\nActiveState=active\nSubState=running\n"}}, ""},
		{"a unit that failed", UnitCheck{"a.service", "active"}, map[string]answer{"systemctl": {stdout: "LoadState=loaded\nActiveState=failed\nSubState=failed\n"}, "journalctl": {stdout: "why\n"}}, "a.service is failed (failed), expected active"},
		{"no unit", UnitCheck{"a.service", "active"}, map[string]answer{"systemctl": {stdout: "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"}}, "there is no unit a.service"},
		{"no unit is wanted", UnitCheck{"a.service", "inactive"}, map[string]answer{"systemctl": {stdout: "LoadState=not-found\nActiveState=inactive\n"}}, ""},
		{"no systemd", UnitCheck{"a.service", "active"}, map[string]answer{"systemctl": {status: 1}}, "systemctl failed with status 1"},

		{"a port", PortCheck{"tcp", 53, false}, map[string]answer{"cat /proc/net/tcp": {stdout: tcpTable}}, ""},
		{"a port of IPv6", PortCheck{"tcp", 80, false}, map[string]answer{"cat /proc/net/tcp": {stdout: tcpTable}}, ""},
		{"a connection is no port", PortCheck{"tcp", 22, false}, map[string]answer{"cat /proc/net/tcp": {stdout: tcpTable}}, "nothing listens on tcp port 22"},
		{"a port that is to be closed", PortCheck{"tcp", 53, true}, map[string]answer{"cat /proc/net/tcp": {stdout: tcpTable}}, "something listens on tcp port 53"},
		{"a port of UDP", PortCheck{"udp", 68, false}, map[string]answer{"cat /proc/net/udp": {stdout: udpTable}}, ""},
		{"a peer of UDP", PortCheck{"udp", 123, true}, map[string]answer{"cat /proc/net/udp": {stdout: udpTable}}, ""},

		{"a file", FileCheck{Path: "/a", Kind: "file", User: "www-data", Group: "0", Mode: mode(0o640)}, map[string]answer{"stat": {stdout: statOfFile}}, ""},
		{"another's file", FileCheck{Path: "/a", User: "root", Group: "root"}, map[string]answer{"stat": {stdout: statOfFile}}, "/a belongs to www-data:root (33:0), expected root:root"},
		{"an open file", FileCheck{Path: "/a", Mode: mode(0o600)}, map[string]answer{"stat": {stdout: statOfFile}}, "/a has mode 640, expected 0600"},
		{"no folder", FileCheck{Path: "/a", Kind: "directory"}, map[string]answer{"stat": {stdout: statOfFile}}, "/a is a regular file, expected a directory"},
		{"no file", FileCheck{Path: "/a"}, map[string]answer{"stat": {status: 1, stderr: "stat: cannot statx '/a': No such file or directory"}}, "/a is not there"},
		{"no file is wanted", FileCheck{Path: "/a", Absent: true}, map[string]answer{"stat": {status: 1, stderr: "No such file or directory"}}, ""},
		{"a file is not wanted", FileCheck{Path: "/a", Absent: true}, map[string]answer{"stat": {stdout: statOfFile}}, "/a is there"},
		{"a disk that fails", FileCheck{Path: "/a"}, map[string]answer{"stat": {status: 1, stderr: "Input/output error"}}, "stat failed with status 1"},
		{"contents", FileCheck{Path: "/a", Contents: &Match{Contains: []string{"x"}}}, map[string]answer{"stat": {stdout: statOfFile}, "cat": {stdout: "y"}}, `/a: expected to contain "x"`},

		{"a message", JournalCheck{Has: []string{"a"}, HasNot: []string{"/^c/"}}, map[string]answer{"journalctl": {stdout: "a\nbc\n"}}, ""},
		{"no message", JournalCheck{Unit: "a.service", Has: []string{"x"}}, map[string]answer{"journalctl": {stdout: "a\n"}}, `no message has "x"`},
		{"a bad message", JournalCheck{HasNot: []string{"/^b/"}}, map[string]answer{"journalctl": {stdout: "a\nb\n"}}, "a message has /^b/:"},
		{"too many messages", JournalCheck{HasNot: []string{"x"}}, map[string]answer{"journalctl": {stdout: strings.Repeat("a", maxJournal)}}, "the journal is longer than 8 MiB: name a unit, so that all of it can be looked at"},

		{"a mount", MountCheck{Path: "/data", Filesystem: "ext4", Options: []string{"rw"}, AtLeast: 1 << 30}, map[string]answer{"cat": {stdout: mountTable}, "stat": {stdout: "262144 4096"}}, ""},
		{"a small one", MountCheck{Path: "/data", AtLeast: 1 << 30}, map[string]answer{"cat": {stdout: mountTable}, "stat": {stdout: "262143 4096"}}, "/data has 1073737728 bytes (1024 MiB), expected at least 1073741824"},
		{"the root", MountCheck{Path: "/", Filesystem: "squashfs", Options: []string{"ro"}}, map[string]answer{"cat": {stdout: mountTable}}, ""},
		{"read-only in one way", MountCheck{Path: "/boot", Filesystem: "vfat", Options: []string{"ro", "noexec"}}, map[string]answer{"cat": {stdout: mountTable}}, ""},
		{"not writable", MountCheck{Path: "/boot", Options: []string{"rw"}}, map[string]answer{"cat": {stdout: mountTable}}, "/boot is mounted without rw: ro,noexec"},
		{"another type", MountCheck{Path: "/data", Filesystem: "xfs"}, map[string]answer{"cat": {stdout: mountTable}}, "/dev/vda3 on /data is ext4, expected xfs"},
		{"no mount", MountCheck{Path: "/srv"}, map[string]answer{"cat": {stdout: mountTable}}, "nothing is mounted on /srv"},
		{"no mount is wanted", MountCheck{Path: "/srv", Absent: true}, map[string]answer{"cat": {stdout: mountTable}}, ""},
		{"a mount is not wanted", MountCheck{Path: "/with blank", Absent: true}, map[string]answer{"cat": {stdout: mountTable}}, "tmpfs (tmpfs) is mounted on /with blank"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wrong, err := test.check.ask(asks(test.answer))
			if err != nil {
				t.Fatal(err)
			}
			if first := strings.Join(wrong[:min(len(wrong), 1)], ""); first != test.wrong {
				t.Errorf("got %q of %q, want %q", first, wrong, test.wrong)
			}
		})
	}
}

func TestWordsOfTheShell(t *testing.T) {
	if got := word("it's $HOME"); got != `'it'\''s $HOME'` {
		t.Errorf("word is %s", got)
	}
}

// What a machine writes neither floods a terminal nor steers it.
func TestQuotesAreBounded(t *testing.T) {
	lines := quote("stdout", strings.Repeat("line\x1b[2J\n", 1000))
	if len(lines) > maxQuoteLines+3 || !strings.Contains(strings.Join(lines, "\n"), "more") || strings.Contains(strings.Join(lines, ""), "\x1b") {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	if lines = quote("stdout", strings.Repeat("x", 1<<20)); len(strings.Join(lines, "")) > 2*maxQuoteBytes {
		t.Errorf("a long line is quoted with %d bytes", len(strings.Join(lines, "")))
	}
	if lines = quote("stdout", " \n"); len(lines) != 1 || lines[0] != "stdout is empty" {
		t.Errorf("nothing is quoted as %q", lines)
	}
}

func FuzzMounts(f *testing.F) {
	f.Add(mountTable)
	f.Fuzz(func(t *testing.T, table string) {
		for _, m := range mounts(table) {
			if m.filesystem == "" && m.point == "" && len(m.options) == 0 {
				t.Error("a mount of nothing")
			}
		}
		listens(table, "tcp", 80)
		properties(table)
		fileSystemSize(table)
	})
}
