package recipes_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/recipes"
)

// everyTest has each check and each step, in the short forms where there are some.
const everyTest = `tests:
  - machine: {memory: 2G, cpus: 4, bus: virtio, tpm: true, disk: 4G, allow_failed: foo*.service}
  - network: user
  - cidata: {seed: seeds/one.yml, test_key_for: admin}
  - cmdline: systemd.log_level=debug
  - boot: {console: "/Welcome to .*!/"}
  - {name: says who it is, run: hostname, timeout: 1m, expect: {stdout: {equals: kiosk}, stderr: {empty: true}}}
  - unit: ssh.service
  - unit: {name: foo.service, state: failed}
  - port: 22
  - port: {port: 53, protocol: udp, closed: true}
  - file: /etc/hostname
  - file: {path: /etc/motd, contents: Welcome, owner: root, mode: 0644, kind: file}
  - journal: Reached target
  - journal: {unit: ssh.service, has: [one, /two/], has_not: three}
  - mounted: /data
  - mounted: {path: /data, filesystem: ext4, options: [rw, noatime], at_least: 2G}
  - boot_time: 10
  - boot_time: {below: 1.5m, target: basic.target}
  - ssh: {user: admin, run: id -un, expect: {stdout: admin}}
  - ssh: {user: root, key: keys/root}
  - reboot: {}
  - wait: 500ms
  - add_disk: 1G
  - add_disk: {source: disks/foreign.raw}
  - grow_disk: 8G
  - grow_disk: {size: 2G, disk: disk1}
  - power_cut: {}
  - power_cut: 3s
  - corrupt: {partition: root, block: 7}
  - corrupt: {offset: 1M, length: 64K}
  - boot: {fails: true}
  - boot: {}
  - poweroff: {}
`

func TestEveryTestIsRead(t *testing.T) {
	r := load(t, files{"r.yml": head + everyTest})
	if len(r.Tests) != 33 {
		t.Fatalf("%d tests were read", len(r.Tests))
	}
	if m := r.Tests[0].Machine; m.Memory != 2<<30 || !*m.TPM || m.AllowFailed[0] != "foo*.service" {
		t.Errorf("machine: %+v", m)
	}
	if s := r.Tests[2].Cidata; s.SeedFile != "seeds/one.yml" || s.TestKeyFor != "admin" {
		t.Errorf("seed: %+v", s)
	}
	if c := r.Tests[5]; c.Expect.Stdout.Equals != "kiosk" || !c.Expect.Stderr.Empty || time.Duration(c.Timeout) != time.Minute {
		t.Errorf("command: %+v", c)
	}
	if f := r.Tests[11].File; f.Contents.Contains[0] != "Welcome" || f.Owner.Group != "root" || *f.Mode != 0o644 {
		t.Errorf("file: %+v", f)
	}
	if b := r.Tests[17].BootTime; time.Duration(b.Below) != 90*time.Second || r.Tests[16].BootTime.Target != "multi-user.target" {
		t.Errorf("time: %+v", b)
	}
	if d := r.Tests[23].AddDisk; d.Name != "disk2" || d.SourceFile != "disks/foreign.raw" || r.Tests[22].AddDisk.Name != "disk1" {
		t.Errorf("disk: %+v", d)
	}
	if c := r.Tests[29].Corrupt; *c.Offset != 1<<20 || c.Length != 64<<10 || r.Tests[28].Corrupt.Length != 4096 {
		t.Errorf("corrupt: %+v", c)
	}
	if err := validate(t, compiled(t), []byte(head+everyTest)); err != nil {
		t.Errorf("the schema refuses what is read: %v", err)
	}
}

func TestTestsDoNotChangeTheImage(t *testing.T) {
	with, err := load(t, files{"r.yml": head + everyTest}).Digest()
	if err != nil {
		t.Fatal(err)
	}
	without, err := load(t, files{"r.yml": head}).Digest()
	if err != nil || with != without {
		t.Errorf("digests %s with tests and %s without (%v)", with, without, err)
	}
}

func TestIncludedTestsComeFirst(t *testing.T) {
	r := load(t, files{
		"r.yml":          head + "include: base/base.yml\ntests: [{run: \"true\"}, {run: \"true\"}]\n",
		"base/base.yml":  "tests: [{cidata: seed.yml}, {unit: ssh.service}]\n",
		"base/other.yml": "",
	})
	if len(r.Tests) != 4 || r.Tests[0].Cidata == nil || r.Tests[0].Cidata.SeedFile != "base/seed.yml" || r.Tests[3].Run != "true" {
		t.Errorf("tests: %+v", r.Tests)
	}
}

func TestLoadTestsOfAnImage(t *testing.T) {
	f := files{
		"dir/t.yml":   everyTest,
		"bad.yml":     "tests:\n  - {reboot: {}}\n",
		"empty.yml":   "",
		"twice.yml":   "tests: []\ntests: []\n",
		"unknown.yml": "name: kiosk\ntests: []\n",
	}
	tests, err := recipes.LoadTests("dir/t.yml", recipes.Options{ReadFile: f.ReadFile})
	if err != nil || len(tests) != 33 || tests[2].Cidata.SeedFile != "dir/seeds/one.yml" {
		t.Fatalf("%d tests, %v", len(tests), err)
	}
	for name, want := range map[string]string{
		"bad.yml":     "bad.yml:2:14: tests[0].reboot: the machine is off here",
		"empty.yml":   "empty.yml:1:1: tests is missing",
		"twice.yml":   `twice.yml:2:1: key "tests" is written twice`,
		"unknown.yml": `unknown.yml:1:1: unknown key "name"`,
		"gone.yml":    "gone.yml: the tests cannot be read: file does not exist",
	} {
		_, err := recipes.LoadTests(name, recipes.Options{ReadFile: f.ReadFile})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if one := (*recipes.Error)(nil); !errors.As(err, &one) {
			t.Errorf("%s: the error is no *recipes.Error: %v", name, err)
		}
	}
}

func TestPatternsBetweenSlashes(t *testing.T) {
	var got []string
	for _, pattern := range []string{"/a+/", "a/b", "//", "/a", "/a/b/"} {
		if text, is := recipes.RegularExpression(pattern); is {
			got = append(got, text)
		}
	}
	if !slices.Equal(got, []string{"a+", "a/b"}) {
		t.Errorf("regular expressions are %q", got)
	}
}
