package distro

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/deb822"
)

//go:embed keys/*.gpg
var keys embed.FS

// Sources returns the archives of the release, one for each pocket, in the
// table's order. Which base URI a pocket comes from: with Snapshot, the public
// snapshot of that time (or a mirror whose URI holds @SNAPSHOTID@); else the
// Mirrors; else the host's own sources of this distribution; else the public
// archive.
func (r *Release) Sources(o SourceOptions) ([]archive.Source, error) {
	if r.DefaultMirror(o.Arch) == "" {
		return nil, fmt.Errorf("%s %s has no architecture %q here: use %s", r.Distribution, r.Name, o.Arch, strings.Join(r.Arches(), " or "))
	}
	components := o.Components
	if len(components) == 0 {
		components = r.Components
	}
	var h host
	if o.HostApt != nil {
		h = readHost(o.HostApt)
	}
	keyring, name, err := r.Keyring(o.HostKeyrings)
	if err != nil {
		return nil, err
	}
	var list []archive.Source
	for _, p := range r.Pockets {
		s := archive.Source{Suite: p.Suite, Components: clone(components), Arch: o.Arch, Keyring: keyring, KeyringName: name, Priority: archive.DefaultPriority}
		uris, from, err := r.uris(p, o, h)
		if err != nil {
			return nil, err
		}
		s.URI, s.Alternates = uris[0], uris[1:]
		if !o.Snapshot.IsZero() {
			s.IgnoreValidUntil, s.IgnoreReason = true, "a snapshot stays as it was"
		}
		if from != nil {
			if err := carryOver(&s, from, h, o); err != nil {
				return nil, err
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// uris returns the base URIs of a pocket, at least one, and the host's source
// that the first is of, if any.
func (r *Release) uris(p Pocket, o SourceOptions, h host) ([]string, *hostSource, error) {
	mirrors, err := r.chosen(p, o)
	if err != nil || len(mirrors) > 0 {
		return mirrors, h.source(mirrors), err
	}
	if !o.Snapshot.IsZero() {
		base := r.snapshots[0]
		if p.Security {
			base = r.snapshots[1]
		}
		return []string{atSnapshot(base, o)}, nil, nil
	}
	found := h.mirrors(r, p.Security, o.Arch)
	if len(found) == 0 && p.Security && !r.apart() {
		found = h.mirrors(r, false, o.Arch)
	}
	if len(found) > 0 {
		var uris []string
		for _, s := range found {
			uris = append(uris, s.uri)
		}
		return uris, &found[0], nil
	}
	if p.Security {
		return []string{r.security[o.Arch]}, nil, nil
	}
	return []string{r.archives[o.Arch]}, nil, nil
}

// chosen returns those of the given mirrors that serve a pocket. The security
// archive's mirrors are told by the word security in them. Where there is none
// of them, Ubuntu's archive has the security pocket as well, while Debian's has
// not.
func (r *Release) chosen(p Pocket, o SourceOptions) ([]string, error) {
	var main, security []string
	for _, m := range o.Mirrors {
		u, err := url.Parse(m)
		if err != nil {
			return nil, fmt.Errorf("mirror %q is no URI: write it as http://host/%s", m, r.Distribution)
		}
		if !supported(u) {
			return nil, fmt.Errorf("mirror %q: use a URI of http, https or file, as http://host/%s or file:///srv/%s", u.Redacted(), r.Distribution, r.Distribution)
		}
		if !o.Snapshot.IsZero() {
			if !strings.Contains(m, snapshotID) {
				return nil, fmt.Errorf("mirror %q cannot serve a snapshot: leave out the mirror or the snapshot, or write %s where the time stands in the URI", u.Redacted(), snapshotID)
			}
			m = atSnapshot(m, o)
		}
		m = strings.TrimRight(m, "/")
		if strings.Contains(u.Host, "security") || strings.Contains(u.Path, "security") {
			security = append(security, m)
		} else {
			main = append(main, m)
		}
	}
	switch {
	case !p.Security:
		return main, nil
	case len(security) > 0 || r.apart():
		return security, nil
	}
	return main, nil
}

// apart reports whether the security pocket is on an archive of its own.
func (r *Release) apart() bool { return r.Distribution == "debian" }

func atSnapshot(uri string, o SourceOptions) string {
	return strings.ReplaceAll(uri, snapshotID, o.Snapshot.UTC().Format(snapshotForm))
}

// source returns the host's source of the first URI.
func (h host) source(uris []string) *hostSource {
	for i := range h.sources {
		if len(uris) > 0 && h.sources[i].uri == uris[0] {
			return &h.sources[i]
		}
	}
	return nil
}

// carryOver applies to s what the host's administrator has said about the same
// archive: which keys sign it, and whether its dates are checked.
func carryOver(s *archive.Source, from *hostSource, h host, o SourceOptions) error {
	switch {
	case from.noDate:
		s.IgnoreDate, s.IgnoreValidUntil, s.IgnoreReason = true, true, "Check-Date in /etc/apt/"+from.file
	case h.noDate != "":
		s.IgnoreDate, s.IgnoreValidUntil, s.IgnoreReason = true, true, "Acquire::Check-Date in /etc/apt/"+h.noDate
	case from.noValid:
		s.IgnoreValidUntil, s.IgnoreReason = true, "Check-Valid-Until in /etc/apt/"+from.file
	case h.noValid != "":
		s.IgnoreValidUntil, s.IgnoreReason = true, "Acquire::Check-Valid-Until in /etc/apt/"+h.noValid
	}
	more := from.keys(o)
	if len(more) == 0 {
		return nil
	}
	joined, err := archive.JoinKeyrings(s.Keyring, more)
	if err != nil {
		return fmt.Errorf("/etc/apt/%s: Signed-By of %s: %w", from.file, from.uri, err)
	}
	s.Keyring, s.KeyringName = joined, s.KeyringName+" and Signed-By in /etc/apt/"+from.file
	return nil
}

// keys returns the keys that Signed-By holds or names in a file that o gives
// access to. Fingerprints choose among keys that are there anyway.
func (s *hostSource) keys(o SourceOptions) []byte {
	if strings.HasPrefix(s.signedBy, "-----BEGIN PGP") {
		lines := strings.Split(s.signedBy, "\n")
		for i, l := range lines {
			if strings.TrimSpace(l) == "." {
				lines[i] = ""
			}
		}
		return []byte(strings.Join(lines, "\n") + "\n")
	}
	fsys := o.HostApt
	name, ok := strings.CutPrefix(s.signedBy, "/etc/apt/")
	if !ok {
		fsys = o.HostKeyrings
		name, ok = strings.CutPrefix(s.signedBy, "/usr/share/keyrings/")
	}
	if !ok || fsys == nil || path.Clean(name) != name {
		return nil
	}
	data, err := readSmall(fsys, name)
	if err != nil {
		return nil // without it, the archive's own keys decide
	}
	return data
}

// Keyring returns the archive's public keys, those of the program and those of
// the host's own keyring of the same name, and what to call them in messages.
// hostKeyrings may be nil.
func (r *Release) Keyring(hostKeyrings fs.FS) (keyring []byte, name string, err error) {
	keyring, err = keys.ReadFile("keys/" + r.keyring)
	if err != nil {
		return nil, "", err
	}
	name = "the built-in " + r.keyring
	if hostKeyrings == nil {
		return keyring, name, nil
	}
	more, err := readSmall(hostKeyrings, r.keyring)
	if errors.Is(err, fs.ErrNotExist) {
		return keyring, name, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("the host's keyring %s: %w", r.keyring, err)
	}
	if bytes.Equal(keyring, more) {
		return keyring, name, nil
	}
	keyring, err = archive.JoinKeyrings(keyring, more)
	if err != nil {
		return nil, "", fmt.Errorf("the host's keyring %s: %w", r.keyring, err)
	}
	return keyring, name + " and the host's", nil
}

// AptSources returns what belongs into /etc/apt/sources.list.d of the image: a
// file name and the public archives of the release in the deb822 form. No
// components means the release's.
func (r *Release) AptSources(arch string, components []string) (name, text string) {
	if len(components) == 0 {
		components = r.Components
	}
	var b []byte
	for _, security := range []bool{false, true} {
		var suites []string
		for _, p := range r.Pockets {
			if p.Security == security {
				suites = append(suites, p.Suite)
			}
		}
		if len(suites) == 0 {
			continue
		}
		uri := r.archives[arch]
		if security {
			uri = r.security[arch]
			b = append(b, '\n')
		}
		b = deb822.Paragraph{
			{Name: "Types", Value: "deb"},
			{Name: "URIs", Value: uri},
			{Name: "Suites", Value: strings.Join(suites, " ")},
			{Name: "Components", Value: strings.Join(components, " ")},
			{Name: "Signed-By", Value: "/usr/share/keyrings/" + r.keyring},
		}.AppendText(b)
	}
	return r.Distribution + ".sources", string(b)
}
