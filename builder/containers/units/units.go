// Package units writes the files by which systemd starts an appliance's
// containers: quadlets for podman, services for docker and containerd.
//
// It knows no recipe and starts nothing: plain values go in, files of the root
// file system come out, the same bytes for the same values. Quadlets follow
// podman-systemd.unit(5), services systemd.service(5), and the words of both
// the quoting of systemd.syntax(7).
//
// Containers start without a network: nothing waits for one, because bridges,
// names and published ports work before any interface is up.
package units

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The values of [Machine.Runtime].
const (
	Podman     = "podman"
	Docker     = "docker"
	Containerd = "containerd"
)

// DefaultNetwork is the network of containers that name none.
const DefaultNetwork = "appliance"

// Networks that are no network of the containers' own.
const (
	hostNetwork = "host"
	noNetwork   = "none"
)

// ErrUnit matches complaints about values that no unit can express.
var ErrUnit = errors.New("no unit can be made")

// A Machine runs containers.
type Machine struct {
	Runtime    string
	Version    string   // upstream version of podman, such as "5.4.2"; of use with podman alone
	Namespace  string   // of containerd
	Pull       string   // never, missing or always
	Needs      []string // units that are to have been started before any container, such as one that brings images
	Containers []Container
	Compose    string // absolute path of a compose file on the machine; empty for none
	Plugin     bool   // compose is a plugin of docker's client, not a program of its own
}

// A Container is what one unit runs. Its values are valid one by one, as a
// recipe's are.
type Container struct {
	Name            string
	Image           string // reference, as the runtime has it
	Entrypoint      []string
	Command         []string
	Ports           []string // [ADDRESS:]PORT:CONTAINERPORT/PROTOCOL
	Volumes         []Volume
	Environment     map[string]string
	EnvironmentFile []string // absolute paths on the machine
	Secrets         []string // credentials of the machine
	After           []string // containers that this one needs
	Health          *Health
	Restart         string // no, on-failure or always
	ReadOnly        bool
	User            string
	Network         string // host, none or a name; empty is DefaultNetwork
	Memory          int64  // bytes; 0 is no limit
	CPUs            string // decimal number; empty is no limit
	Labels          map[string]string
	Rootless        *User // who runs it in place of root
}

// A User of the machine. He needs ranges in /etc/subuid and /etc/subgid.
type User struct {
	Name string
	UID  int
}

// A Volume is a folder of the machine, or a volume by name, in a container.
type Volume struct {
	Source, Path string
	Options      []string
	Create       bool // make the folder at every boot where it is missing
}

// Health is a container's own check. Command is run by the container's shell.
type Health struct {
	Command                        string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// A File is one of the root file system, mode 0644, owned by root. Path has no
// slash at its beginning. One with a Link is a symbolic link.
type File struct {
	Path string
	Data []byte
	Link string
}

// Make returns the files for m, sorted by path. It fails with [ErrUnit] where
// the runtime does not have what a container asks for, or two units would have
// one name.
func Make(m Machine) ([]File, error) {
	w := writer{machine: m}
	for _, c := range m.Containers {
		if err := w.check(c); err != nil {
			return nil, err
		}
	}
	switch {
	case m.Runtime == Podman && HasQuadlets(m.Version):
		w.quadlets()
	case m.Runtime == Podman, m.Runtime == Docker, m.Runtime == Containerd:
		w.services()
	default:
		return nil, fmt.Errorf("%w: runtime %q is not known", ErrUnit, m.Runtime)
	}
	w.folders()
	w.linger()
	slices.SortFunc(w.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i := 1; i < len(w.files); i++ {
		if w.files[i].Path == w.files[i-1].Path {
			return nil, fmt.Errorf("%w: two have the name %s: rename the container or the network", ErrUnit, w.files[i].Path)
		}
	}
	return w.files, nil
}

// HasQuadlets reports whether podman of a version, such as "5.4.2", makes
// services of quadlets with all keys that are used here, and lets them start
// without a network: from 4.8 on, but for 5.2, in which each waits for one.
func HasQuadlets(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return (major == 4 && minor >= 8 || major >= 5) && !(major == 5 && minor == 2)
}

// waits reports whether quadlets of a version wait for the network unless told
// not to.
func waits(version string) bool {
	var major, minor int
	fmt.Sscanf(version, "%d.%d", &major, &minor)
	return major > 5 || major == 5 && minor >= 3
}

// A writer collects files.
type writer struct {
	machine Machine
	files   []File
}

func (w *writer) add(path string, u *unit) {
	w.files = append(w.files, File{Path: path, Data: u.bytes()})
}

// check refuses what the runtime does not have.
func (w *writer) check(c Container) error {
	var what string
	switch {
	case w.machine.Runtime != Podman && c.Rootless != nil:
		what = "runs without root, which podman alone does"
	case c.Rootless != nil && len(c.Secrets) > 0:
		what = "has secrets, which are root's, but runs without root"
	case w.machine.Runtime != Containerd:
		return nil
	case len(c.Ports) > 0 || c.Health != nil || len(c.Entrypoint) > 0 || c.User != "" || len(c.EnvironmentFile) > 1:
		what = "has ports, a health check, an entrypoint, a user or several environment files, which containerd alone does not have"
	case c.Network != "" && c.Network != hostNetwork && c.Network != noNetwork:
		what = "has a network of its own, which containerd alone does not have"
	default:
		return nil
	}
	return fmt.Errorf("%w: container %s %s", ErrUnit, c.Name, what)
}

// folders writes the lines of tmpfiles.d(5) that make volumes' folders. A
// folder that is there keeps its owner and mode.
func (w *writer) folders() {
	lines := map[string]string{}
	for _, c := range w.machine.Containers {
		owner := "root"
		if c.Rootless != nil {
			owner = c.Rootless.Name
		}
		for _, v := range c.Volumes {
			if _, there := lines[v.Source]; v.Create && !there {
				lines[v.Source] = fmt.Sprintf("d %s :0755 :%s :%s\n", quote(v.Source), owner, owner)
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	var text strings.Builder
	for _, source := range sorted(lines) {
		text.WriteString(lines[source])
	}
	w.files = append(w.files, File{Path: "usr/lib/tmpfiles.d/applbuild-volumes.conf", Data: []byte(text.String())})
}

// linger has systemd start the units of users who run containers, without
// their logging in (logind.conf(5), loginctl enable-linger).
func (w *writer) linger() {
	seen := map[string]bool{}
	for _, c := range w.machine.Containers {
		if c.Rootless != nil && !seen[c.Rootless.Name] {
			seen[c.Rootless.Name] = true
			w.files = append(w.files, File{Path: "var/lib/systemd/linger/" + c.Rootless.Name})
		}
	}
}

// network is the name of the container's network.
func (c *Container) network() string { return cmp.Or(c.Network, DefaultNetwork) }

// owned reports whether the container is in a network that is made for it.
func (c *Container) owned() bool { return c.network() != hostNetwork && c.network() != noNetwork }

// networks lists the networks to make for those of containers that owner runs.
func (w *writer) networks(owner *User) []string {
	set := map[string]bool{}
	for _, c := range w.machine.Containers {
		if c.owned() && sameUser(c.Rootless, owner) {
			set[c.network()] = true
		}
	}
	return sorted(set)
}

// owners lists who runs containers: nil is root.
func (w *writer) owners() []*User {
	var list []*User
	for _, c := range w.machine.Containers {
		if !slices.ContainsFunc(list, func(u *User) bool { return sameUser(u, c.Rootless) }) {
			list = append(list, c.Rootless)
		}
	}
	return list
}

func sameUser(a, b *User) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
