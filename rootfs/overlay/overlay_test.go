package overlay

import (
	"io/fs"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var filled = regexp.MustCompile(`@[A-Z]+@`)

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
			if filled.Match(f.Content) {
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

var twoPartitions = []Partition{
	{Name: "volatile", Filesystem: "ext4", Label: "volatile", Mount: "/volatile", Min: 256 << 20, Max: 32 << 30, Weight: 500, Grow: true, Wipe: WipeBoot, Owner: "root:root", Mode: 0o755},
	{Name: "data", Filesystem: "ext4", Label: "data", Mount: "/data", Min: 512 << 20, Weight: 1000, Grow: true, Keep: true, Wipe: WipeNever, Owner: "root:root", Mode: 0o755,
		Directories: []Directory{{Path: "/www", Owner: "www-data", Mode: 0o2775}, {Path: "/a b%", Mode: 0o700}}},
}

func TestStateGoesWhereItIsSaid(t *testing.T) {
	everything := Options{Packages: []string{"podman"}, Partitions: twoPartitions,
		Places: Places{Etc: "data", Var: "data", Home: "data", Log: "volatile", Containers: "volatile"}}
	for _, test := range []struct {
		name string
		o    Options
		want string
	}{
		{"all in memory", Options{Packages: []string{"podman"}}, `class memory
bind class memory etc
bind class memory home
bind class memory opt
bind class memory root
bind class memory srv
bind class memory var
bind own memory var/lib/containers
`},
		{"on two partitions", everything, `partition volatile ext4 volatile /volatile 268435456 forget boot system grow
partition data ext4 data /data 536870912 keep never system grow
settle data
class data
class volatile
bind at data data
bind class data etc
bind class data home
bind class data opt
bind class data root
bind class data srv
bind class data var
bind own volatile var/lib/containers
bind class volatile var/log
bind at volatile volatile
`},
		{"a partition in place of a folder", Options{Partitions: []Partition{{Name: "home", Filesystem: "xfs", Label: "home", Mount: "/home", Min: 1 << 30, Keep: true, Wipe: WipeNever, Other: true},
			{Name: "swap", Filesystem: "swap", Label: "swap", Min: 1 << 30, Wipe: WipeNever}}}, `partition home xfs home /home 1073741824 keep never other fixed
partition swap swap swap - 1073741824 forget never system fixed
class memory
bind class memory etc
bind at home home
bind class memory opt
bind class memory root
bind class memory srv
bind class memory var
`},
	} {
		if got := string(find(t, Files(test.o), "usr/lib/applbuild/state.conf").Content); got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
	for _, f := range Files(Options{}) {
		if strings.Contains(f.Path, "settle") {
			t.Errorf("%s: for a first boot that leaves nothing", f.Path)
		}
	}
}

func TestPartitionsAreDefinedForSystemd(t *testing.T) {
	list := Files(Options{Partitions: append(slices.Clone(twoPartitions),
		Partition{Name: "swap", Filesystem: "swap", Label: "swap", Min: 1 << 30, Max: 1 << 30, Weight: 1000, Wipe: WipeNever},
		Partition{Name: "ebs", Filesystem: "xfs", Label: "ebs", Mount: "/ebs", Min: 1 << 30, Other: true})})
	for name, want := range map[string]string{
		"usr/lib/repart.d/50-volatile.conf": "[Partition]\nType=linux-generic\nLabel=volatile\nSizeMinBytes=268435456\nWeight=500\nSizeMaxBytes=34359738368\n",
		"usr/lib/repart.d/51-data.conf":     "[Partition]\nType=linux-generic\nLabel=data\nSizeMinBytes=536870912\nWeight=1000\n",
		"usr/lib/repart.d/52-swap.conf":     "[Partition]\nType=swap\nLabel=swap\nSizeMinBytes=1073741824\nWeight=0\nSizeMaxBytes=1073741824\n",
		"usr/lib/tmpfiles.d/applbuild-partitions.conf": "d /volatile 0755 root root\nd /data 0755 root root\nd \"/data/a b%%\" 0700 root root\n" +
			"d /data/www 2775 www-data www-data\nd /ebs 0000 root root\n",
	} {
		if got := string(find(t, list, name).Content); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	if slices.ContainsFunc(list, func(f File) bool { return strings.Contains(f.Path, "repart.d/53") }) {
		t.Error("another disk is a partition of this one")
	}
	for _, name := range []string{"data", "ebs"} {
		if f := find(t, list, name); !f.Mode.IsDir() {
			t.Errorf("/%s is no folder to mount on", name)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	for size, want := range map[string]string{"": "size=50%", "512M": "size=512M"} {
		mount := string(find(t, Initrd(Options{StateSize: size}), "usr/lib/systemd/system/run-applbuild.mount").Content)
		if !strings.Contains(mount, want) {
			t.Errorf("%q:\n%s", size, mount)
		}
	}
}

func TestProgramsAreShell(t *testing.T) {
	for _, program := range []string{stateProgram, settleScript} {
		cmd := exec.Command("/bin/sh", "-n")
		cmd.Stdin = strings.NewReader(program)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// A partition is full where the machine could not start on it: for want of blocks,
// of which ext4 keeps a 50th for itself, or of files.
func TestFullIsWithoutRoomForAStart(t *testing.T) {
	_, rest, found := strings.Cut(stateProgram, "\nfull() {")
	body, _, ended := strings.Cut(rest, "\n}\n")
	if !found || !ended {
		t.Fatal("the program has no function full")
	}
	for stat, want := range map[string]bool{
		// Free blocks, bytes of a block, free files, files, blocks.
		"100000 4096 5000 65536 300000": false,
		"6144 4096 5000 65536 300000":   false,
		"6143 4096 5000 65536 300000":   true,
		"0 4096 5000 65536 300000":      true,
		"100000 4096 512 65536 300000":  false,
		"100000 4096 511 65536 300000":  true,
		"100000 4096 0 65536 300000":    true,
		"8847 1024 5000 8192 32768":     false,
		"8846 1024 5000 8192 32768":     true,
		"100000 4096 0 0 300000":        false, // btrfs counts no files
		"2047 4096 0 0 0":               true,
	} {
		cmd := exec.Command("/bin/sh", "-euc", "mib=1048576\nstat() { echo "+stat+"; }\nfull() {"+body+"\n}\nfull /data && echo full || echo room")
		out, err := cmd.CombinedOutput()
		if got := string(out) == "full\n"; err != nil || got != want {
			t.Errorf("%s: %s(%v), want full: %v", stat, out, err, want)
		}
	}
}
