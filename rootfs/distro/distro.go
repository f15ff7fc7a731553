package distro

import (
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// UsrMerge is how a release comes to have /bin, /lib and /sbin in /usr.
type UsrMerge string

const (
	// UsrAliases: packages ship files under /bin, /lib and /sbin as well; the
	// links are made before the first package is unpacked, and followed.
	UsrAliases UsrMerge = "aliases"
	// UsrLinks: base-files ships the links, no package ships a file there.
	UsrLinks UsrMerge = "links"
)

// A Pocket is one suite a release is made of.
type Pocket struct {
	Suite string
	// Security: on the security archive's URI, where there is one.
	Security bool
}

// A Release is one row of the table.
type Release struct {
	Distribution string // debian, ubuntu
	Name         string // codename: trixie
	Version      string // 13; empty for sid
	// Suites are the names the archive serves it under besides Name: stable.
	Suites []string
	// Pockets are the suites to use, the release's own first.
	Pockets []Pocket
	// Components are those used when nothing is said.
	Components []string
	MergedUsr  UsrMerge

	row
}

// SourceOptions is what decides about a release's archives besides the table.
type SourceOptions struct {
	Arch         string    // amd64, arm64
	Mirrors      []string  // base URIs from the recipe or --mirror, tried in order; one of a security archive is told by its path
	Snapshot     time.Time // when not zero: the archive as of then, every pocket
	HostApt      fs.FS     // the host's /etc/apt; may be nil
	HostKeyrings fs.FS     // the host's /usr/share/keyrings; may be nil
	Components   []string  // instead of the release's
}

// Lookup returns the row of a release, given by codename or version. The error
// lists the known ones.
func Lookup(distribution, release string) (*Release, error) {
	for i := range releases {
		r := &releases[i]
		if r.Distribution == distribution && release != "" && (r.Name == release || r.Version == release) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("unknown release %q of %q: known are %s", release, distribution, strings.Join(known(), ", "))
}

// Releases returns all rows.
func Releases() []Release { return append([]Release(nil), releases[:]...) }

func known() []string {
	var names []string
	for _, r := range releases {
		names = append(names, r.Distribution+" "+r.Name)
	}
	return names
}
