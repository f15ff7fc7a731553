package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplainDpkg(t *testing.T) {
	const failed = "exit status 1"
	for name, c := range map[string]struct {
		output, pkg, script, reason string
	}{
		"postinst": {
			"Setting up faulty (1) ...\nsorry\ndpkg: error processing package faulty (--configure):\n installed faulty package post-installation script subprocess returned error exit status 3\nErrors were encountered while processing:\n faulty\n",
			"faulty", "postinst", "installed faulty package post-installation script subprocess returned error exit status 3",
		},
		"the first of two": {
			"dpkg: error processing package a:amd64 (--configure):\n installed a:amd64 package post-installation script subprocess returned error exit status 3\ndpkg: dependency problems prevent configuration of b:\n b depends on a; however:\n  Package a is not configured yet.\n\ndpkg: error processing package b (--configure):\n dependency problems - leaving unconfigured\n",
			"a:amd64", "postinst", "installed a:amd64 package post-installation script subprocess returned error exit status 3",
		},
		"dependencies": {
			"dpkg: dependency problems prevent configuration of b:\n b depends on a; however:\n  Package a is not installed.\n\ndpkg: error processing package b (--configure):\n dependency problems - leaving unconfigured\n",
			"b", "configuring", "dependency problems - leaving unconfigured",
		},
		"another error": {"dpkg: error: cannot read the database\n", "", "configuring", "cannot read the database"},
		"no output":     {"", "", "configuring", failed},
	} {
		t.Run(name, func(t *testing.T) {
			e := explainDpkg(errors.New(failed), []byte(c.output))
			if e.Package != c.pkg || e.Script != c.script || e.Reason != c.reason {
				t.Errorf("got %q %q %q", e.Package, e.Script, e.Reason)
			}
			if !errors.Is(fmt.Errorf("base: %w", e), ErrScript) {
				t.Error("it does not match ErrScript")
			}
			if strings.Contains(e.Error(), "\n") {
				t.Errorf("%q is more than a line", e.Error())
			}
			if e.Detail() != c.output {
				t.Errorf("detail %q", e.Detail())
			}
		})
	}
}

func TestTail(t *testing.T) {
	var kept tail
	var all bytes.Buffer
	for i := range 40000 {
		fmt.Fprintf(&kept, "line %d\n", i)
		fmt.Fprintf(&all, "line %d\n", i)
	}
	if got := kept.bytes(); len(got) != maxTail || !bytes.HasSuffix(all.Bytes(), got) {
		t.Errorf("%d bytes kept, ending in %q", len(got), got[len(got)-20:])
	}
	if cap(kept.data) > 8*maxTail {
		t.Errorf("%d bytes are held", cap(kept.data))
	}
}

func TestUnreachable(t *testing.T) {
	const quiet = "Ip: Forwarding DefaultTTL OutNoRoutes\nIp: 2 64 0\nIcmp: InMsgs InErrors\nIcmp: 5 0\nUdp: InDatagrams NoPorts InErrors\nUdp: 0 0 0\nUdpLite: InDatagrams NoPorts InErrors\nUdpLite: 0 0 0\n"
	for text, want := range map[string]netUse{
		"":    netNone,
		quiet: netNone,
		strings.Replace(quiet, "Ip: 2 64 0", "Ip: 2 64 3", 1):   netHosts,
		strings.Replace(quiet, "Udp: 0 0 0", "Udp: 0 1 0", 1):   netNames,
		strings.Replace(quiet, "Udp: 0 0 0", "Udp: 1 0 0", 1):   netNone,
		strings.Replace(quiet, "Icmp: 5 0", "Icmp: 5 9", 1):     netNone,
		"Ip: OutNoRoutes\nUdp: NoPorts\n":                       netNone,
		"Ip: 2 64 3\nIp: Forwarding\n":                          netNone,
		"\n\nIp: OutNoRoutes\nIp: 1\n":                          netHosts,
		"Ip: OutNoRoutes\nIp: 0\nIp: OutNoRoutes\nIp: 1\n":      netHosts,
		"Ip: OutNoRoutes\nIp: 1\nUdp: NoPorts\nUdp: 1\n":        netHosts,
		"Udp: NoPorts\nUdp: 0 0\nIp: A OutNoRoutes\nIp: 1 1 1 ": netNone,
	} {
		if got := unreachable([]byte(text)); got != want {
			t.Errorf("%v for %q", got, text)
		}
	}
	for text, want := range map[string]netUse{
		"": netNone,
		"Ip6OutNoRoutes                  \t0\nUdp6NoPorts \t0\n": netNone,
		"Ip6OutNoRoutes                  \t2\nUdp6NoPorts \t0\n": netHosts,
		"Ip6OutNoRoutes                  \t0\nUdp6NoPorts \t2\n": netNames,
		"Ip6InDiscards 7\n": netNone,
	} {
		if got := unreachable6([]byte(text)); got != want {
			t.Errorf("%v for %q", got, text)
		}
	}
}

func TestParseStat(t *testing.T) {
	for stat, want := range map[string]struct {
		name  string
		alive bool
	}{
		"17 (sleep) S 1 17 17 0":     {"sleep", true},
		"17 (gpg-agent) R 1 17 17 0": {"gpg-agent", true},
		"17 (a) Z (b) S 1 17":        {"a) Z (b", true},
		"17 (sleep) Z 1 17 17 0":     {"sleep", false},
		"17 (sleep) X 1 17 17 0":     {"sleep", false},
		"17 (sleep)":                 {"", false},
		"17 ) (":                     {"", false},
		"":                           {"", false},
	} {
		if name, alive := parseStat([]byte(stat)); name != want.name || alive != want.alive {
			t.Errorf("%q: %q %v", stat, name, alive)
		}
	}
}

// TestProcesses reads a folder like /proc.
func TestProcesses(t *testing.T) {
	proc := t.TempDir()
	for pid, files := range map[string][2]string{
		"1":                     {"1 (init) S 0", ""},
		fmt.Sprint(os.Getpid()): {"2 (self) S 1", ""},
		"9000001":               {"9000001 (redis-server) S 1", "A=b\x00DPKG_MAINTSCRIPT_PACKAGE=redis\x00DPKG_MAINTSCRIPT_NAME=postinst\x00"},
		"9000002":               {"9000002 (agent) S 1", "HOME=/"},
		"9000003":               {"9000003 (gone) Z 1", ""},
		"sys":                   {"4 (nothing) S 1", ""},
		"9000004-not-a-number":  {"5 (nothing) S 1", ""},
		"9000005":               {"", ""},
	} {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"stat", "environ"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(files[i]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := processes(proc)
	want := []process{{name: "agent"}, {name: "redis-server", pkg: "redis", script: "postinst"}}
	if len(found) != 2 || found[0] != want[0] || found[1] != want[1] {
		t.Fatalf("got %+v", found)
	}
	if e := explainLeft(found, nil); e.Package != "" || !strings.Contains(e.Error(), "agent, redis-server") {
		t.Errorf("of two packages: %v", e)
	}
	if e := explainLeft(found[1:], nil); e.Package != "redis" || e.Script != "postinst" || !strings.Contains(e.Error(), "redis-server") {
		t.Errorf("of one: %v", e)
	}
}
