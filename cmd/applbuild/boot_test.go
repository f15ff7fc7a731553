package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A guestReport is what a guest said through its virtio port: values by key.
type guestReport map[string][]string

// boot boots a disk under emulation, which is the same everywhere, and returns
// what the guest reported.
func boot(t testing.TB, d *disk, image string, args ...string) (guestReport, result) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "report")
	r := applbuild(t, append([]string{"boot", image, "--store", d.store, "--kvm", "off", "--timeout", "5m", "--report", name}, args...)...)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("no report: %v\n%s", err, r.stderr)
	}
	said := guestReport{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		said[key] = append(said[key], value)
	}
	if t.Failed() {
		t.Logf("report:\n%s", data)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("report:\n%s\nconsole:\n%s\n%s", data, r.stdout, r.stderr)
		}
	})
	return said, r
}

// The disk boots: multi-user is reached with no failed unit, the root is the
// verified device, what must be writable is, and the guest powers off.
func TestBoot(t *testing.T) {
	d := built.disk(t)
	before := digestOf(t, d.file(".raw"))
	said, r := boot(t, d, d.file(".raw"))
	r.succeeds(t)
	for key, want := range map[string][]string{
		"state":          {"running"},
		"target":         {"active"},
		"failed":         nil,
		"program-failed": nil,
		"writable":       {"/etc", "/var", "/home", "/root", "/opt", "/srv", "/tmp"},
		"etc":            {"overlay"},
		"big":            {"read"},
		"done":           {""},
	} {
		if !slices.Equal(said[key], want) {
			t.Errorf("%s is %q, want %q", key, said[key], want)
		}
	}
	if len(said["root"]) != 1 || !regexp.MustCompile(`^/dev/mapper/root squashfs ro(,|$)`).MatchString(said["root"][0]) {
		t.Errorf("the root is %q", said["root"])
	}
	if !slices.ContainsFunc(said["verity"], func(line string) bool {
		return strings.Join(strings.Fields(line), " ") == "status: verified"
	}) {
		t.Errorf("veritysetup status root: %q", said["verity"])
	}
	if len(said["machine-id"]) != 1 || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(said["machine-id"][0]) {
		t.Errorf("the machine's id is %q", said["machine-id"])
	}
	if id := asks(t, "unsquashfs", "-cat", extract(t, d.file(".raw"), "root-x86-64"), "etc/machine-id"); len(strings.TrimSpace(id)) == 32 {
		t.Errorf("the image has a machine's id: %s", id)
	}
	if !strings.Contains(strings.Join(said["time"], " "), "Startup finished in") {
		t.Errorf("systemd-analyze: %q", said["time"])
	}
	t.Logf("%s", said["time"])
	if !strings.Contains(r.stderr, "powered off") && !strings.Contains(r.stderr, "poweroff") {
		t.Errorf("how the guest ended: %s", r.stderr)
	}
	if after := digestOf(t, d.file(".raw")); after != before {
		t.Error("the disk is another after the boot")
	}
}

// A machine that cannot be is refused before anything is fetched.
func TestBootRefuses(t *testing.T) {
	for args, word := range map[string]string{
		"--firmware bios":                 "start by UEFI only",
		"--firmware coreboot":             "use uefi",
		"--network bridge":                "none, user or isolated",
		"--network none --ssh 2222":       "nothing to forward",
		"--forward 80":                    "use 8080:80",
		"--forward 8080:0":                "use 8080:80",
		"--forward 8080:http":             "use 8080:80",
		"--forward 70000:80":              "use 8080:80",
		"--kvm perhaps":                   "auto, on or off",
		"--bus ide":                       "virtio or nvme",
		"--network isolated --memory 1QB": "--memory",
	} {
		r := applbuild(t, append([]string{"boot", "x.raw"}, strings.Fields(args)...)...)
		r.fails(t, word)
		if r.code != exitUsage {
			t.Errorf("%s: exit code %d, want %d", args, r.code, exitUsage)
		}
	}
}

// One bit of a file on the root is changed. verify names the block; a guest that
// reads the file gets an error, one that is to panic does.
func TestOneBitFlipped(t *testing.T) {
	d := built.disk(t)
	t.Run("verify", func(t *testing.T) {
		image := d.copyTo(t, t.TempDir())
		applbuild(t, "verify", image).succeeds(t)
		at := flip(t, image)
		block := blockOf(t, image, at)
		detail := applbuild(t, "verify", image)
		detail.fails(t, "root-1", "block "+block)
	})
	t.Run("error", func(t *testing.T) {
		image := d.copyTo(t, t.TempDir())
		flip(t, image)
		said, r := boot(t, d, image)
		r.succeeds(t)
		if !slices.Equal(said["big"], []string{"failed"}) || said["state"] == nil || said["done"] == nil {
			t.Errorf("big is %q in state %q", said["big"], said["state"])
		}
		if !strings.Contains(strings.Join(said["kernel"], "\n"), "corrupt") {
			t.Errorf("the kernel says %q", said["kernel"])
		}
	})
	t.Run("panic", func(t *testing.T) {
		out := t.TempDir()
		d.image(t, out, "--set", "root.corruption=panic").succeeds(t)
		image := filepath.Join(out, "guest_1_amd64.raw")
		flip(t, image)
		said, r := boot(t, d, image)
		r.fails(t, "panic")
		if said["big"] != nil || said["done"] != nil {
			t.Errorf("the guest went on: %q", said)
		}
	})
}

// blankFile makes a file of zeros.
func blankFile(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blank")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

// Other root file systems boot, and systemd-boot starts the kernel as well. The
// machine has what it is given: a seed and a disk, a TPM, a network.
func TestBootVariants(t *testing.T) {
	d := built.disk(t)
	for _, c := range []struct{ filesystem, loader string }{{"erofs", "systemd-boot"}, {"ext4", "uki"}} {
		t.Run(c.filesystem+" by "+c.loader, func(t *testing.T) {
			out := t.TempDir()
			d.image(t, out, "--set", "root.filesystem="+c.filesystem, "--set", "boot.loader="+c.loader).succeeds(t)
			image := filepath.Join(out, "guest_1_amd64.raw")
			applbuild(t, "verify", image).succeeds(t)
			seed, disk, state := writeFile(t, out, "seed.iso", strings.Repeat("x", 4096)), blankFile(t, 8<<20), filepath.Join(out, "state")
			said, r := boot(t, d, image, "--tpm", "--state", state, "--network", "isolated", "--forward", "0:22", "--seed", seed, "--disk", disk)
			r.succeeds(t)
			if want := []string{"vdb 8 1", "vdc 16384 0"}; len(said["disk"]) != 3 || !slices.Equal(said["disk"][1:], want) {
				t.Errorf("the disks are %q, want %q after the first", said["disk"], want)
			}
			if !slices.Equal(said["tpm"], []string{"there"}) || len(said["card"]) != 1 {
				t.Errorf("the TPM is %q, the network card %q", said["tpm"], said["card"])
			}
			if !regexp.MustCompile(`port [0-9]+ of 127.0.0.1 leads to the guest's port 22`).MatchString(r.stderr) {
				t.Errorf("the forwarded port is not told: %s", r.stderr)
			}
			for _, name := range []string{"vars.fd", "tpm"} {
				if _, err := os.Stat(filepath.Join(state, name)); err != nil {
					t.Errorf("the machine's state: %v", err)
				}
			}
			if !slices.Equal(said["state"], []string{"running"}) || said["done"] == nil || !slices.Equal(said["big"], []string{"read"}) {
				t.Errorf("state %q, failed %q, big %q", said["state"], said["failed"], said["big"])
			}
			if len(said["root"]) != 1 || !strings.HasPrefix(said["root"][0], "/dev/mapper/root "+c.filesystem+" ro") {
				t.Errorf("the root is %q", said["root"])
			}
		})
	}
}
