package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/boots"
	"github.com/applbuild/applbuild/recipes"
)

// What is wrong with tests is said before anything is built or booted.
func TestTestRefuses(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, dir, "good.yml", "tests:\n  - boot: {}\n")
	bad := writeFile(t, dir, "bad.yml", "tests:\n  - reboot: {}\n")
	gone := writeFile(t, dir, "gone.yml", "tests:\n  - cidata: seed.yml\n")
	secret := writeFile(t, dir, "secret.yml", "tests:\n  - cidata: wrong.yml\n")
	writeFile(t, dir, "wrong.yml", "hostnam: web1\n")
	key := writeFile(t, dir, "key.yml", "tests:\n  - ssh: {user: a, key: good.yml}\n")
	for args, test := range map[string]struct {
		code  int
		words string
	}{
		"":                                  {exitUsage, "takes recipes or disks"},
		"x.raw":                             {exitUsage, "--tests FILE"},
		"x.raw --kvm perhaps":               {exitUsage, "auto, on or off"},
		"x.raw --tests " + good:             {exitFailure, "x.raw"},
		"x.raw --tests " + bad:              {exitFailure, "bad.yml:2:13: tests[0].reboot: the machine is off here"},
		"x.raw --tests " + gone:             {exitFailure, "seed.yml"},
		"x.raw --tests " + secret:           {exitFailure, "wrong.yml:1:1"},
		"x.raw --tests " + key:              {exitFailure, "good.yml"},
		"x.yml":                             {exitFailure, "x.yml: the recipe cannot be read"},
		"x.raw --jobs many --tests " + good: {exitUsage, "--jobs"},
	} {
		r := applbuild(t, append([]string{"test", "--store", filepath.Join(dir, "store")}, strings.Fields(args)...)...)
		r.fails(t, test.words)
		if r.code != test.code {
			t.Errorf("%s: exit code %d, want %d", args, r.code, test.code)
		}
	}
}

func TestMachinesSideBySide(t *testing.T) {
	large := &tested{options: boots.TestOptions{Tests: []recipes.Test{{Machine: &recipes.TestMachine{CPUs: 64}}}}}
	if n := machines([]*tested{large, large}); n != 1 {
		t.Errorf("%d machines of 64 processors run at one time", n)
	}
	small := &tested{options: boots.TestOptions{}}
	if n := machines([]*tested{small}); n != 1 {
		t.Errorf("%d machines run for one test", n)
	}
}

// A disk is tested through a reboot, a power cut and a block that was tampered
// with; it stays as it was.
func TestTestOfADisk(t *testing.T) {
	d := built.disk(t)
	before := digestOf(t, d.file(".raw"))
	dir := t.TempDir()
	tests := writeFile(t, dir, "tests.yml", `tests:
  - machine: {memory: 1G, disk: 3G, bus: nvme, tpm: true}
  - cmdline: systemd.mask=applbuild-report.service # it would power off
  - name: root is read-only
    run: touch /usr/x
    expect: {exit: 1, stderr: Read-only file system}
  - name: fails as it should
    run: "echo this; echo that >&2; exit 3"
    expect: {stdout: other}
  - unit: systemd-logind.service
  - unit: {name: no-such.service, state: inactive}
  - file: {path: /etc/machine-id, kind: file, owner: root, contents: "/^[0-9a-f]{32}\n$/"}
  - mounted: {path: /, filesystem: squashfs, options: ro}
  - journal: {has: Reached target, has_not: Kernel panic}
  - add_disk: {size: 64M, name: more}
  - name: the disk that was added is there
    run: "udevadm settle; lsblk -dno SERIAL,SIZE"
    expect: {stdout: "/more +64M/"}
  - {name: has a TPM, run: grep -x 2 /sys/class/tpm/tpm0/tpm_version_major}
  - network: none
  - {name: the cable is pulled, run: until grep -x 0 /sys/class/net/e*/carrier; do sleep 1; done}
  - reboot: {}
  - {name: has no network card, run: ls /sys/class/net, expect: {stdout: {equals: lo}}}
  - run: test -b /dev/disk/by-partlabel/root-1
  - power_cut: {}
  - corrupt: {partition: root, block: 0, length: 64K}
  - name: a tampered root does not come up
    timeout: 30s
    boot: {fails: true, console: "/verity|[Ff]ailed|emergency/"}
`)
	junit := filepath.Join(dir, "junit.xml")
	r := applbuild(t, "test", d.file(".raw"), "--tests", tests, "--store", d.store, "--kvm", "off", "--junit", junit, "--console", filepath.Join(dir, "consoles"))
	if r.code != exitFailure || strings.Count(r.stdout, "\nFAIL")+strings.Count(r.stdout[:4], "FAIL") != 1 {
		t.Errorf("exit code %d, want %d for one test that fails\n%s%s", r.code, exitFailure, r.stdout, r.stderr)
	}
	for _, want := range []string{
		": fails as it should", "exit status 3, expected 0", `stdout: expected to contain "other"`, `stderr is "that"`,
		"boot 1 has no failed units", "boot 2 has no failed units", ".boot2.console", "1 failed, 0 skipped",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not said in\n%s", want, r.stdout)
		}
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	data, err := os.ReadFile(junit)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, &suites); err != nil || suites.Tests < 15 || suites.Failures != 1 {
		t.Errorf("%+v, %v in\n%s", suites, err, data)
	}
	if after := digestOf(t, d.file(".raw")); after != before {
		t.Error("the disk is another after the tests")
	}
}

// Machines are tested side by side; one that does not come up is told from tests
// that fail.
func TestTestsSideBySide(t *testing.T) {
	d := built.disk(t)
	dir := stateFolder(t)
	up := writeFile(t, dir, "up.yml", `include: debian-minimal.yml
name: up
tests:
  - name: has its name
    run: hostname
    expect: {stdout: {equals: up}}
`)
	down := writeFile(t, dir, "down.yml", `include: debian-minimal.yml
name: down
tests:
  - corrupt: {partition: root, length: 64K}
  - {boot: {}, timeout: 20s}
  - run: "true"
`)
	consoles := filepath.Join(dir, "consoles")
	r := applbuild(t, "test", down, up, "--jobs", "2", "--store", d.store, "--kvm", "off", "--console", consoles)
	r.fails(t, "down: a machine did not come up")
	if r.code != exitNeverUp {
		t.Errorf("exit code %d, want %d\n%s", r.code, exitNeverUp, r.stdout)
	}
	for _, want := range []string{
		"\nok    up: has its name", "\nup: 3 passed, 0 failed, 0 skipped", "\nskip  down: true",
		"console: " + filepath.Join(consoles, "down.boot1.console"),
	} {
		if !strings.Contains("\n"+r.stdout, want) {
			t.Errorf("%q is not said in\n%s", want, r.stdout)
		}
	}
}
