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
	// State is where what the machine writes goes to.
	State State
	// StateSize bounds a state in memory, in the notation of tmpfs(5)'s size=
	// option; "" means half of the machine's memory.
	StateSize string
}

// State says how long the writable places of the machine are kept.
type State int

const (
	// StateNone: the writable places are in memory and forgotten at power-off.
	StateNone State = iota
)

// writable are the directories that the running machine may write to; what
// the image has there shows through.
var writable = []string{"etc", "home", "opt", "root", "srv", "var"}

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
		{Path: "boot", Mode: fs.ModeDir | 0o755},
		{Path: "efi", Mode: fs.ModeDir | 0o755},
		// Where the initrd mounts.
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "home", Mode: fs.ModeDir | 0o755},
		{Path: "opt", Mode: fs.ModeDir | 0o755},
		{Path: "root", Mode: fs.ModeDir | 0o700},
		{Path: "srv", Mode: fs.ModeDir | 0o755},
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
	directories := []string{"upper", "work", "root"}
	for _, e := range engines {
		if o.has(e.packages...) {
			directories = append(directories, "own/"+e.dir)
		}
	}
	for i, d := range directories {
		directories[i] = "applbuild/" + d
	}
	list := []File{
		file(units+"applbuild-state.service", stateUnit, "@DIRECTORIES@", strings.Join(directories, " ")),
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
		{Path: "usr/lib/applbuild/state.fstab", Mode: 0o644, Content: []byte(o.fstab())},
	}
	return sorted(list)
}

// fstab lays one overlay over the whole root, outside of it, and binds the
// writable directories of that into the root. So each keeps the owner and mode
// that it has in the image, which an overlay of its own would take from an
// upper directory that is yet to be made.
func (o Options) fstab() string {
	const state = "/run/applbuild"
	var b strings.Builder
	b.WriteString("overlay " + state + "/root overlay lowerdir=/sysroot,upperdir=" + state + "/upper,workdir=" + state + "/work\n")
	for _, dir := range writable {
		b.WriteString(state + "/root/" + dir + " /sysroot/" + dir + " none bind,private\n")
	}
	for _, e := range engines {
		if o.has(e.packages...) {
			b.WriteString(state + "/own/" + e.dir + " /sysroot/" + e.dir + " none bind,x-mount.mkdir\n")
		}
	}
	b.WriteString("tmpfs /sysroot/tmp tmpfs mode=1777,nosuid,nodev,size=" + o.stateSize() + "\n")
	return b.String()
}

func link(name, target string) File {
	return File{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// file fills in the values of a unit or the like.
func file(name, content string, values ...string) File {
	return File{Path: name, Mode: 0o644, Content: []byte(strings.NewReplacer(values...).Replace(content))}
}

func sorted(list []File) []File {
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list
}
