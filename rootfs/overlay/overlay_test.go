package overlay

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
)

func find(t *testing.T, list []File, name string) File {
	t.Helper()
	i := slices.IndexFunc(list, func(f File) bool { return f.Path == name })
	if i < 0 {
		t.Fatalf("%s is not among the files", name)
	}
	return list[i]
}

func TestFilesAreWellFormed(t *testing.T) {
	o := Options{Packages: []string{"openssh-server", "dbus", "podman", "docker.io"}}
	for _, list := range [][]File{Files(o), Initrd(o)} {
		if !slices.IsSortedFunc(list, func(a, b File) int { return strings.Compare(a.Path, b.Path) }) {
			t.Error("not sorted by path")
		}
		seen := make(map[string]bool)
		for _, f := range list {
			if seen[f.Path] {
				t.Errorf("%s: twice", f.Path)
			}
			seen[f.Path] = true
			if f.Path != path.Clean(f.Path) || path.IsAbs(f.Path) {
				t.Errorf("%s: not a clean relative path", f.Path)
			}
			if (f.Mode.Type() == fs.ModeSymlink) != (f.Link != "") {
				t.Errorf("%s: mode %v with link %q", f.Path, f.Mode, f.Link)
			}
			if strings.Contains(string(f.Content), "@") && !strings.Contains(string(f.Content), "sshd@") {
				t.Errorf("%s: a value was not filled in:\n%s", f.Path, f.Content)
			}
		}
	}
}

func TestUnitsRunProgramsByTheirPath(t *testing.T) {
	o := Options{Packages: []string{"openssh-server"}}
	for _, f := range slices.Concat(Files(o), Initrd(o)) {
		for line := range strings.Lines(string(f.Content)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if strings.HasPrefix(key, "Exec") && value != "" && !strings.HasPrefix(strings.TrimLeft(value, "-"), "/usr/bin/") {
				t.Errorf("%s: %s", f.Path, line)
			}
		}
	}
}

func TestMachineMakesItsOwnIdentity(t *testing.T) {
	list := Files(Options{Packages: []string{"openssh-server", "dbus"}})
	if id := find(t, list, "etc/machine-id"); len(id.Content) != 0 || id.Mode != 0o444 {
		t.Errorf("machine-id: %v, %q; it must be empty, not missing", id.Mode, id.Content)
	}
	if id := find(t, list, "var/lib/dbus/machine-id"); id.Link != "/etc/machine-id" {
		t.Errorf("D-Bus's machine-id: %q", id.Link)
	}
	find(t, list, "etc/systemd/system/ssh.service.wants/applbuild-ssh-keys.service")
	find(t, list, "etc/systemd/system/ssh.socket.wants/applbuild-ssh-keys.service")
	for _, f := range Files(Options{}) {
		if strings.Contains(f.Path, "ssh") || strings.Contains(f.Path, "dbus") {
			t.Errorf("%s: for a package that the image has not", f.Path)
		}
	}
}

func TestStateCoversEveryWritablePlace(t *testing.T) {
	o := Options{Packages: []string{"podman"}, StateSize: "512M"}
	list := Initrd(o)
	fstab := string(find(t, list, "usr/lib/applbuild/state.fstab").Content)
	var order []string
	for line := range strings.Lines(fstab) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			t.Fatalf("fstab: %q", line)
		}
		order = append(order, fields[1])
	}
	want := []string{
		"/run/applbuild/root", "/sysroot/etc", "/sysroot/home", "/sysroot/opt", "/sysroot/root", "/sysroot/srv",
		"/sysroot/var", "/sysroot/var/lib/containers", "/sysroot/tmp",
	}
	if !slices.Equal(order, want) {
		t.Errorf("mounted are %v, want %v", order, want)
	}
	if mount := string(find(t, list, "usr/lib/systemd/system/run-applbuild.mount").Content); !strings.Contains(mount, "size=512M") {
		t.Errorf("the state is not bounded:\n%s", mount)
	}
	unit := string(find(t, list, "usr/lib/systemd/system/applbuild-state.service").Content)
	if want := "RuntimeDirectory=applbuild/upper applbuild/work applbuild/root applbuild/own/var/lib/containers\n"; !strings.Contains(unit, want) {
		t.Errorf("without %s:\n%s", want, unit)
	}
	if plain := string(find(t, Initrd(Options{}), "usr/lib/applbuild/state.fstab").Content); strings.Contains(plain, "var/lib") || !strings.Contains(plain, "size=50%") {
		t.Errorf("without container engines:\n%s", plain)
	}
}
