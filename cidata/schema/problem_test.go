package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func lines(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestProblemsOfACloudConfigNameThePlaceAndTheRemedy(t *testing.T) {
	for _, test := range []struct{ data, want string }{
		{"users: [default]\n", ""},
		{"", ""},
		{"# nothing\n", `1:1: the cloud-config is empty, write at least one key or leave the file out`},
		{"- a\n", `1:1: the cloud-config is a list, write a mapping (key: value)`},
		{"#!/bin/sh\n  echo a\n", `2:3: the cloud-config is "echo a", write a mapping (key: value)`},
		{"users:\n- name: a\n  ssh_authorized_keys: 1\n", `3:24: users.0.ssh_authorized_keys: 1 is not of type 'array'`},
		{"users:\n- name: a\n  ssh-authorised-keys: [x]\n", `3:3: users.0.ssh-authorised-keys: unknown key, did you mean ssh-authorized-keys?`},
		{"users:\n- nme: a\n", "2:3: users.0: the key \"name\" is missing\n2:3: users.0.nme: unknown key, did you mean name?"},
		{"runmcd: [a]\n", `1:1: runmcd: unknown key, did you mean runcmd?`},
		{"runcmd:\n", `1:1: runcmd: empty is not of type 'array'`},
		{"users: 1\n", `1:8: users: 1 is not of type 'string', 'array', 'object', write it in quotes`},
		{"write_files:\n- path: /a\n  permissions: 0644\n", `3:16: write_files.0.permissions: 0644 (420) is not of type 'string', write it in quotes`},
		{"hostname: yes\n", `1:11: hostname: yes (true) is not of type 'string', write it in quotes`},
		{"timezone: 2024-01-31\n", `1:11: timezone: 2024-01-31 (a date) is not of type 'string', write it in quotes`},
		{"power_state: {mode: rebot}\n", `1:21: power_state.mode: "rebot" is not one of poweroff, reboot, halt, did you mean reboot?`},
		{"ntp: {servers: [a, a]}\n", `1:20: ntp.servers.1: "a" is in the list a second time`},
		{"ssh_keys: {foo: x}\n", `1:12: ssh_keys.foo: unknown key, it does not match ^(ecdsa|ed25519|rsa)_(public|private|certificate)$`},
		{"mounts: [[a, b, c, d, e, f, g]]\n", `1:10: mounts.0: the list has 7 items, write at most 6`},
		{"users: [{name: a, expiredate: '2024-13-01'}]\n", `1:31: users.0.expiredate: "2024-13-01" is no date, write YYYY-MM-DD`},
		{"groups: {1: [a]}\n", `1:10: groups.1: the key is a whole number, write it in quotes`},
		{"hostname: a\nhostname: b\n", `2:1: the key "hostname" is written a second time, only this one counts`},
		{"apt_update: true\n", `1:1: apt_update: deprecated since cloud-init 22.2. Use package_update instead.`},
		{"runcmd: !foo a\n", `1:9: the tag "!foo" is unknown to cloud-init`},
		{"hostname: é\x01\n", `1:12: the character U+0001 is not allowed in YAML`},
		{"hostname: \xff\n", `1:11: the byte 0xff is no UTF-8`},
		{"hostname: a\t# b\n", `1:12: this is no YAML: a tab stands between values, write spaces`},
		{"hostname: a\n---\nhostname: b\n", `2:1: a second document begins, write one in a file`},
		{"hostname: 2024-02-30\n", `1:11: "2024-02-30" is no date that exists: write it in quotes where it is a text`},
		{"runcmd:\n- a\nhostname: [a\n", `3:1: this is no YAML: did not find expected ',' or ']' around here`},
		{"a: &a [b]\nb: &a [c]\n", `2:4: the anchor &a is written a second time`},
		{"a: &a [*a]\n", `1:8: the alias *a stands for something that it is part of`},
		{"? [a]\n: b\n", `1:3: a key is a list, write a text`},
		{"hostname: &a {b: 1}\nfqdn: *a\n", "1:11: fqdn: a mapping is not of type 'string'\n1:11: hostname: a mapping is not of type 'string'"},
	} {
		if got := lines(New().CloudConfig([]byte(test.data))); got != test.want {
			t.Errorf("%q:\n%s\nwant\n%s", test.data, got, test.want)
		}
	}
}

func TestProblemsOfANetworkConfigNameThePlaceAndTheRemedy(t *testing.T) {
	for _, test := range []struct{ data, want string }{
		{"network: {}\n", ""},
		{"version: 2\nethernets: {eth0: {dhcp4: true}}\n", ""},
		{"version: 3\n", `1:10: version: 3 is no version of network configuration, write 2`},
		{"ethernets: {}\n", `1:1: the key "version" is missing, write version: 2`},
		{"network:\n  ethernets: {}\n", `2:3: network: the key "version" is missing, write version: 2`},
		{"network: [a]\n", `1:10: network: a list is no mapping, write one with a version`},
		{"network:\n  version: 2\n  etherents: {}\n", `3:3: network.etherents: unknown key, did you mean ethernets?`},
		{"version: 2\nethernets:\n  eth0: {adresses: [192.0.2.1/24]}\n", `3:10: ethernets.eth0.adresses: unknown key, did you mean addresses?`},
		{"version: 2\nethernets:\n  eth0: {accept-ra: false, macaddress: '52:54:00:12:34:56'}\n", ""},
		{"version: 2\nethernets:\n  eth0: {dhcp4: maybe}\n", `3:17: ethernets.eth0.dhcp4: "maybe" is not one of yes, no, true, false`},
		{"version: 2\nethernets:\n  eth0:\n", `3:3: ethernets.eth0: empty is not of type 'object'`},
		{"version: 1\nconfig:\n- type: phisical\n", `3:9: config.0.type: "phisical" is not one of bond, bridge, physical, nameserver, route, vlan, did you mean physical?`},
		{"version: 1\nconfig:\n- type: bond\n  name: b\n  bond_interfaces: [a]\n  parms: {}\n", `6:3: config.0.parms: unknown key, did you mean params?`},
		{"version: 1\nconfig: [{name: eth0}]\n", `2:10: config.0: the key "type" is missing`},
	} {
		if got := lines(New().NetworkConfig([]byte(test.data))); got != test.want {
			t.Errorf("%q:\n%s\nwant\n%s", test.data, got, test.want)
		}
	}
}

func TestUserDataIsJudgedByItsFirstLine(t *testing.T) {
	for _, test := range []struct {
		data string
		part PartType
		want string
	}{
		{"#cloud-config\nhostname: a\n", CloudConfigPart, ""},
		{"#cloud-config\nhostnme: a\n", CloudConfigPart, `2:1: hostnme: unknown key, did you mean hostname?`},
		{"\n #Cloud-Config\nhostname: a\n", CloudConfigPart, ""},
		{"#!/bin/sh\nexit\n", ScriptPart, ""},
		{"## template: jinja\n#cloud-config\n{% if x %}\n", JinjaPart, ""},
		{"#cloud-config-archive\n- a\n", ArchivePart, ""},
		{"#include-once\nhttp://192.0.2.1/\n", IncludeOncePart, ""},
		{"hostname: a\n", "", `1:1: the first line "hostname: a" says no type of user-data, write #cloud-config`},
		{"\x1f\x8b\x08", "", `1:1: the first line "\x1f\x8b\b" says no type of user-data, write #cloud-config`},
		{"", "", ""},
	} {
		if got := TypeOf([]byte(test.data)); got != test.part {
			t.Errorf("%q is of type %q, want %q", test.data, got, test.part)
		}
		if got := lines(New().UserData([]byte(test.data))); got != test.want {
			t.Errorf("%q:\n%s\nwant\n%s", test.data, got, test.want)
		}
	}
}

func TestWhatIsAcceptedLeavesAFileValid(t *testing.T) {
	for _, problems := range [][]Problem{
		New().CloudConfig([]byte("apt_update: true\n")),
		New().CloudConfig([]byte("hostname: a\nhostname: b\n")),
		New().NetworkConfig([]byte("version: 2\nethernets: {eth0: {dhcp: true}}\n")),
	} {
		if len(problems) != 1 || !problems[0].Accepted || !Valid(problems) {
			t.Errorf("%v, want one that is accepted", problems)
		}
	}
	if problems := New().NetworkConfig([]byte("version: 2\nethernets: {eth0: {dhcp: true}}\n")); !problems[0].Unknown {
		t.Errorf("%v, want an unknown key", problems)
	}
}

// Aliases that stand for aliases, depth and length must cost neither memory nor
// time that the file does not have itself.
func TestHostileFilesAreRefusedAtOnce(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += fmt.Sprintf("%c: &%c [*%s, *%s, *%s, *%s, *%s, *%s, *%s, *%s, *%s, *%s]\n", c, c, p, p, p, p, p, p, p, p, p, p)
	}
	for name, test := range map[string]struct{ data, want string }{
		"aliases":  {bomb, "more than 500000 values"},
		"texts":    {"a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a, ", 100) + "]\n", "bytes of text"},
		"merges":   {"a: &a {<<: *a}\n", "part of"},
		"depth":    {strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "more than 100 deep"},
		"length":   {strings.Repeat("#", maxSize+1), "more than 16777216"},
		"digits":   {"a: " + strings.Repeat("9", 1_000_000), "no whole number"},
		"problems": {"runcmd: [" + strings.Repeat("1, ", 10_000) + "]\n", "runcmd.99: 1 is not of type"},
	} {
		problems := New().CloudConfig([]byte(test.data))
		if Valid(problems) || len(problems) > maxProblems || !strings.Contains(lines(problems), test.want) {
			t.Errorf("%s: %d problems, %.300s; want %s", name, len(problems), lines(problems), test.want)
		}
	}
}

// sane is what holds for the problems of any file.
func sane(t *testing.T, data []byte, problems []Problem) {
	t.Helper()
	if len(problems) > maxProblems {
		t.Fatalf("%d problems", len(problems))
	}
	for _, p := range problems {
		if p.Line < 1 || p.Line > strings.Count(string(data), "\n")+strings.Count(string(data), "\r")+2 || p.Column < 1 || p.Column > len(data)+1 {
			t.Fatalf("%q: a problem outside of the file: %v", data, p)
		}
		if p.Message == "" || strings.ContainsFunc(p.Message, unicode.IsControl) {
			t.Fatalf("%q: the message is %q", data, p.Message)
		}
		if (p.Deprecated || p.Duplicate) && !p.Accepted {
			t.Fatalf("%q: %+v", data, p)
		}
	}
	if !slices.IsSortedFunc(problems, func(a, b Problem) int { return a.Line - b.Line }) {
		t.Fatalf("%q: not sorted: %v", data, problems)
	}
}

func FuzzCloudConfig(f *testing.F) {
	seed(f, "cloud-config")
	c := New()
	f.Fuzz(func(t *testing.T, data []byte) {
		sane(t, data, c.CloudConfig(data))
		sane(t, data, c.UserData(data))
	})
}

func FuzzNetworkConfig(f *testing.F) {
	seed(f, "network-config")
	c := New()
	f.Fuzz(func(t *testing.T, data []byte) { sane(t, data, c.NetworkConfig(data)) })
}

func seed(f *testing.F, kind string) {
	_, files := examples(f)
	short, _ := spelled(f)
	for _, t := range append(files, short...) {
		if t.Type == kind && len(t.Data) < 4096 {
			f.Add(t.Data)
		}
	}
}

func BenchmarkNewAndCloudConfig(b *testing.B) {
	data := readFile(b, "testdata/examples/cloud-config.txt")
	for b.Loop() {
		New().CloudConfig(data)
	}
}

func BenchmarkCloudConfig(b *testing.B) {
	data := readFile(b, "testdata/examples/cloud-config.txt")
	b.SetBytes(int64(len(data)))
	j := New()
	for b.Loop() {
		j.CloudConfig(data)
	}
}
