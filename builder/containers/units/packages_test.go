package units_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/units"
)

func TestPackagesOfARuntime(t *testing.T) {
	for _, test := range []struct {
		wanted units.Wanted
		want   string
	}{
		{units.Wanted{Runtime: units.Podman, Distribution: "debian", Release: "trixie"}, "podman crun netavark aardvark-dns nftables"},
		{units.Wanted{Runtime: units.Podman, Distribution: "debian", Release: "trixie", Rootless: true}, "podman crun netavark aardvark-dns nftables uidmap passt dbus-user-session"},
		{units.Wanted{Runtime: units.Podman, Distribution: "ubuntu", Release: "noble", Rootless: true}, "podman crun netavark aardvark-dns iptables uidmap slirp4netns dbus-user-session"},
		{units.Wanted{Runtime: units.Docker, Distribution: "debian", Release: "bookworm", Compose: true}, "docker.io docker-compose"},
		{units.Wanted{Runtime: units.Docker, Distribution: "debian", Release: "trixie", Compose: true}, "docker.io docker-cli docker-compose"},
		{units.Wanted{Runtime: units.Docker, Distribution: "ubuntu", Release: "noble", Compose: true}, "docker.io docker-compose-v2"},
		{units.Wanted{Runtime: units.Containerd, Distribution: "ubuntu", Release: "jammy"}, "containerd runc"},
	} {
		got, err := units.Packages(test.wanted)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %q, %v; want %s", test.wanted, got, err, test.want)
		}
	}
	for _, wanted := range []units.Wanted{{Runtime: units.Podman, Distribution: "ubuntu", Release: "jammy"}, {Runtime: "runc"}} {
		if _, err := units.Packages(wanted); !errors.Is(err, units.ErrUnit) {
			t.Errorf("%+v: %v", wanted, err)
		}
	}
	if !units.ComposeIsPlugin("debian", "trixie") || units.ComposeIsPlugin("debian", "bookworm") || !units.ComposeIsPlugin("ubuntu", "noble") {
		t.Error("compose is taken for what it is not")
	}
}

// TestDebianHasThePackages asks the archive of the machine, where that is
// Debian 12.
func TestDebianHasThePackages(t *testing.T) {
	release, err := exec.Command("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
	if err != nil || strings.TrimSpace(string(release)) != "bookworm" {
		t.Skip("the archive to ask is that of Debian 12: run this test there")
	}
	if exec.Command("apt-cache", "show", "podman").Run() != nil {
		t.Skip("apt's lists are missing: run apt-get update")
	}
	args := []string{"show", "--no-all-versions"}
	for _, runtime := range []string{units.Podman, units.Docker, units.Containerd} {
		list, err := units.Packages(units.Wanted{Runtime: runtime, Distribution: "debian", Release: "bookworm", Rootless: true, Compose: true})
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, list...)
	}
	out, err := exec.Command("apt-cache", args...).CombinedOutput()
	for _, name := range args[2:] {
		if !strings.Contains("\n"+string(out), "\nPackage: "+name+"\n") {
			t.Errorf("there is no package %s (%v)", name, err)
		}
	}
}
