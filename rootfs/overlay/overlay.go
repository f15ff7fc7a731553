// Package overlay holds the files that every appliance gets on top of its
// packages: those of the root file system and those of the initrd.
//
// They keep the first boot short (nothing is made again that the image already
// has), let the machine make its own identity (machine-id, SSH host keys) and
// put a writable state over a root that is never written. The package knows
// no tree: it returns plain values for the caller to lay down.
package overlay

import (
	"io/fs"
	"slices"
	"sort"
	"strings"
)

// A File is one file, directory or symbolic link, owned by root.
type File struct {
	Path    string      // without a leading slash
	Mode    fs.FileMode // type (regular, directory or symbolic link) and permissions
	Content []byte      // of a regular file
	Link    string      // target of a symbolic link
}

// Options chooses among the files.
type Options struct {
	// Packages are the names of the image's packages. Some files are for one
	// package only, such as the SSH host keys' unit.
	Packages []string
	// Partitions are those that the machine writes to, in the order of the disk.
	Partitions []Partition
	// Places are where everything else goes that the machine writes.
	Places Places
	// StateSize bounds what is kept in memory, in the notation of tmpfs(5)'s
	// size= option; "" means half of the machine's memory.
	StateSize string
}

// engines are directories that are file systems of their own, for packages
// that put overlays there themselves: the kernel refuses an overlay whose
// upper layer is on another.
var engines = []struct {
	dir      string
	packages []string
}{
	{"var/lib/containerd", []string{"containerd", "containerd.io", "docker.io", "docker-ce"}},
	{"var/lib/containers", []string{"podman", "buildah", "cri-o"}},
	{"var/lib/docker", []string{"docker.io", "docker-ce"}},
}

func (o Options) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(o.Packages, name) })
}

func (o Options) stateSize() string {
	if o.StateSize == "" {
		return "50%"
	}
	return o.StateSize
}

// updated tells systemd that what it would make from /usr at the first boot
// (ld.so.cache, users, hardware database, journal catalogue) is there: see
// ConditionNeedsUpdate= in systemd.unit(5).
const updated = "# Made with the image; its time is that of the image's /usr.\n"

// Files returns what belongs into the root file system, sorted by path. The
// .updated files must have the image's clock as modification time.
func Files(o Options) []File {
	list := []File{
		// Empty, not missing: the machine makes its id at every first boot, and
		// does not take it for the first boot of a system that is to be set up
		// (machine-id(5)): no presets, no questions.
		{Path: "etc/machine-id", Mode: 0o444},
		{Path: "etc/.updated", Mode: 0o644, Content: []byte(updated)},
		{Path: "var/.updated", Mode: 0o644, Content: []byte(updated)},
		// Where systemd-gpt-auto-generator mounts the ESP.
		directory("boot", 0o755),
		directory("efi", 0o755),
		// Where the initrd mounts.
		directory("tmp", fs.ModeSticky|0o777),
		directory("home", 0o755),
		directory("opt", 0o755),
		directory("root", 0o700),
		directory("srv", 0o755),
	}
	list = append(list, o.partitionFiles()...)
	if o.has("cloud-init", "cloud-init-base") {
		list = append(list, file("etc/cloud/cloud.cfg.d/10_applbuild.cfg", cloudConfig))
	}
	if o.has("dbus", "dbus-daemon", "dbus-broker") {
		list = append(list, link("var/lib/dbus/machine-id", "/etc/machine-id"))
	}
	if o.has("openssh-server") {
		const unit = "usr/lib/systemd/system/applbuild-ssh-keys.service"
		list = append(list, file(unit, sshKeysUnit))
		for _, wants := range []string{"ssh.service", "ssh.socket"} {
			list = append(list, link("etc/systemd/system/"+wants+".wants/applbuild-ssh-keys.service", "/"+unit))
		}
	}
	return sorted(list)
}

// Initrd returns what belongs into the initrd, sorted by path.
func Initrd(o Options) []File {
	const units = "usr/lib/systemd/system/"
	list := []File{
		file(units+"applbuild-state.service", stateUnit),
		file(units+"emergency.service", emergencyUnit),
		file(units+"run-applbuild.mount", stateMount, "@SIZE@", o.stateSize()),
		file(units+"systemd-journald.service.d/10-initrd.conf", journaldDropIn),
		file(units+"systemd-udev-trigger.service.d/10-initrd.conf", triggerDropIn),
		file(units+"systemd-udevd.service.d/10-initrd.conf", udevdDropIn),
		link(units+"initrd-fs.target.requires/applbuild-state.service", "../applbuild-state.service"),
		// It would reload all units to look for mounts in the root's fstab; the
		// unit above has them already, so what it starts is started directly.
		link("etc/systemd/system/initrd-parse-etc.service", "/dev/null"),
		link(units+"initrd.target.wants/initrd-cleanup.service", "../initrd-cleanup.service"),
		file("usr/lib/applbuild/state", stateProgram),
	}
	return sorted(list)
}

func link(name, target string) File {
	return File{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

func directory(name string, mode fs.FileMode) File {
	return File{Path: name, Mode: fs.ModeDir | mode}
}

// file fills in the values of a unit or the like.
func file(name, content string, values ...string) File {
	return File{Path: name, Mode: 0o644, Content: []byte(strings.NewReplacer(values...).Replace(content))}
}

func sorted(list []File) []File {
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list
}
