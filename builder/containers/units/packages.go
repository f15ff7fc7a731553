package units

import (
	"fmt"
	"slices"
)

// Wanted says what packages are wanted for.
type Wanted struct {
	Runtime      string
	Distribution string // debian or ubuntu
	Release      string // code name
	Rootless     bool   // some container runs without root
	Compose      bool   // there is a compose file
}

// tooOld are releases whose podman has neither netavark nor a name server for
// containers.
var tooOld = []string{"buster", "bullseye", "bionic", "focal", "jammy"}

// older are releases whose netavark writes rules by iptables and whose podman
// reaches out of a user's containers by slirp4netns. Later ones have nftables
// and passt.
var older = []string{"bookworm", "noble"}

// Packages lists what has to be installed for a runtime beside what its
// package depends on, first of all that package itself. The names are those of
// the distributions' archives, which only recommend much of it.
func Packages(w Wanted) ([]string, error) {
	switch w.Runtime {
	case Podman:
		if slices.Contains(tooOld, w.Release) {
			return nil, fmt.Errorf("%w: podman of %s is too old: use a later release, or docker", ErrUnit, w.Release)
		}
		firewall, outside := "nftables", "passt"
		if slices.Contains(older, w.Release) {
			firewall, outside = "iptables", "slirp4netns"
		}
		list := []string{"podman", "crun", "netavark", "aardvark-dns", firewall}
		if w.Rootless {
			list = append(list, "uidmap", outside, "dbus-user-session")
		}
		return list, nil
	case Docker:
		list := []string{"docker.io"}
		if w.Distribution == "debian" && !slices.Contains(tooOld, w.Release) && !slices.Contains(older, w.Release) {
			list = append(list, "docker-cli")
		}
		if w.Compose {
			list = append(list, composePackage(w.Distribution))
		}
		return list, nil
	case Containerd:
		return []string{"containerd", "runc"}, nil
	}
	return nil, fmt.Errorf("%w: runtime %q is not known", ErrUnit, w.Runtime)
}

// composePackage is that of compose's second version where there is one.
func composePackage(distribution string) string {
	if distribution == "ubuntu" {
		return "docker-compose-v2"
	}
	return "docker-compose"
}

// ComposeIsPlugin reports whether the release's compose is a plugin of docker's
// client: so it is but for the first version of it, in Debian 12 and before.
func ComposeIsPlugin(distribution, release string) bool {
	return distribution != "debian" || !slices.Contains(tooOld, release) && !slices.Contains(older, release)
}
