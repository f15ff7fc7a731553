package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxConfig bounds a file of mirrors or credentials, in bytes.
const maxConfig = 1 << 20

// Mirrors are the rules of registries.conf files: which registries stand in for
// others. The zero value has none.
type Mirrors struct {
	rules []rule // the longest prefix first
}

type rule struct {
	prefix   string // HOST[:PORT][/PATH], or *.DOMAIN
	endpoint endpointConf
	blocked  bool
	mirrors  []endpointConf
}

// An endpointConf is a place that takes the prefix's place in a name.
type endpointConf struct {
	location string // empty: the name stays as it is
	insecure bool
	tags     bool // whether it is asked for tags
	digests  bool
}

// An endpoint is a repository that may have an image.
type endpoint struct {
	repository string // with the host
	insecure   bool   // plain HTTP, and certificates that nobody can verify
	mirror     bool
}

type registriesDocument struct {
	Registries map[string]any `toml:"registries"` // version 1
	Registry   []struct {
		Prefix   string
		Location string
		Insecure bool
		Blocked  bool
		ByDigest bool `toml:"mirror-by-digest-only"`
		Mirror   []struct {
			Location string
			Insecure bool
			Pull     string `toml:"pull-from-mirror"`
		}
	}
}

// LoadMirrors reads registries.conf files as containers-registries.conf(5)
// describes version 2 of them: [[registry]] with prefix, location, insecure,
// blocked and mirrors. Short names and search lists in them have no meaning
// here. A prefix of a later file replaces the same one of an earlier, and files
// that are missing are skipped. Errors match ErrConfig.
func LoadMirrors(files ...string) (*Mirrors, error) {
	m := &Mirrors{}
	for _, file := range files {
		data, err := readConfig(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		read, err := ParseMirrors(file, data)
		if err != nil {
			return nil, err
		}
		m.rules = slices.DeleteFunc(m.rules, func(old rule) bool {
			return slices.ContainsFunc(read.rules, func(r rule) bool { return r.prefix == old.prefix })
		})
		m.rules = append(m.rules, read.rules...)
	}
	m.sort()
	return m, nil
}

// readConfig reads a small file.
func readConfig(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfig {
		return nil, &Error{Image: file, Kind: ErrConfig, Detail: fmt.Sprintf("a file of at most %d bytes is wanted", maxConfig)}
	}
	return os.ReadFile(file)
}

// ParseMirrors reads one registries.conf. file is for errors, which match
// ErrConfig.
func ParseMirrors(file string, data []byte) (*Mirrors, error) {
	refused := func(format string, args ...any) (*Mirrors, error) {
		return nil, &Error{Image: file, Kind: ErrConfig, Detail: fmt.Sprintf(format, args...), Do: "see containers-registries.conf(5)"}
	}
	var doc registriesDocument
	if _, err := toml.Decode(string(data), &doc); err != nil {
		return refused("%v", err)
	}
	if doc.Registries != nil {
		return refused("[registries.…] is version 1 of the format: write [[registry]]")
	}
	m := &Mirrors{}
	for i, r := range doc.Registry {
		prefix := cmp.Or(r.Prefix, r.Location)
		wild := strings.HasPrefix(prefix, "*.")
		if !isLocation(strings.TrimPrefix(prefix, "*.")) {
			return refused("[[registry]] %d: the prefix %q is no registry", i+1, prefix)
		}
		if r.Location != "" && !isLocation(r.Location) || r.Location == "" && !wild && r.Prefix == "" {
			return refused("[[registry]] %q: the location %q is no registry", prefix, r.Location)
		}
		if slices.ContainsFunc(m.rules, func(other rule) bool { return other.prefix == prefix }) {
			return refused("[[registry]] %q stands there twice", prefix)
		}
		read := rule{prefix: prefix, blocked: r.Blocked, endpoint: endpointConf{location: r.Location, insecure: r.Insecure}}
		for _, mirror := range r.Mirror {
			if !isLocation(mirror.Location) {
				return refused("mirror of %q: the location %q is no registry", prefix, mirror.Location)
			}
			e := endpointConf{location: mirror.Location, insecure: mirror.Insecure}
			switch mirror.Pull {
			case "", "all":
				e.digests, e.tags = true, !r.ByDigest
			case "digest-only":
				e.digests = true
			case "tag-only":
				e.tags = true
			default:
				return refused("mirror of %q: pull-from-mirror is all, digest-only or tag-only, not %q", prefix, mirror.Pull)
			}
			if mirror.Pull != "" && r.ByDigest {
				return refused("mirror of %q: pull-from-mirror and mirror-by-digest-only do not go together", prefix)
			}
			read.mirrors = append(read.mirrors, e)
		}
		m.rules = append(m.rules, read)
	}
	m.sort()
	return m, nil
}

func (m *Mirrors) sort() {
	slices.SortStableFunc(m.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(a.prefix, b.prefix))
	})
}

// isLocation says whether text is HOST[:PORT][/PATH].
func isLocation(text string) bool {
	host, path, hasPath := strings.Cut(text, "/")
	const lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	if host == "" || strings.HasSuffix(host, ":") || strings.Trim(host, lower+"ABCDEFGHIJKLMNOPQRSTUVWXYZ.-:[]") != "" {
		return false
	}
	return !hasPath || strings.Trim(path, lower+"._-/:@") == "" && !strings.Contains("/"+path+"/", "//")
}

// match is the length of the part of name that the rule's prefix stands for, or
// zero.
func (r *rule) match(name string) int {
	end := len(r.prefix)
	if domain, wild := strings.CutPrefix(r.prefix, "*"); wild {
		host, _, _ := strings.Cut(name, "/")
		host, _, _ = strings.Cut(host, ":")
		if !strings.HasSuffix(host, domain) || len(host) == len(domain) {
			return 0
		}
		end = len(host)
	} else if !strings.HasPrefix(name, r.prefix) {
		return 0
	}
	if end < len(name) && !strings.ContainsRune("/:@", rune(name[end])) {
		return 0
	}
	return end
}

// endpoints are the repositories to ask for an image, in order.
func (m *Mirrors) endpoints(ref Reference) ([]endpoint, error) {
	own := endpoint{repository: ref.Repository}
	if m == nil {
		return []endpoint{own}, nil
	}
	name := ref.Name()
	for i := range m.rules {
		r := &m.rules[i]
		end := r.match(name)
		if end == 0 {
			continue
		}
		if r.blocked {
			return nil, &Error{Image: name, Kind: ErrBlocked, Detail: "it begins with " + r.prefix, Do: "use another registry"}
		}
		end = min(end, len(ref.Repository))
		var all []endpoint
		for _, mirror := range r.mirrors {
			if ref.Digest != "" && mirror.digests || ref.Digest == "" && mirror.tags {
				all = append(all, endpoint{mirror.location + ref.Repository[end:], mirror.insecure, true})
			}
		}
		own.insecure = r.endpoint.insecure
		if r.endpoint.location != "" {
			own.repository = r.endpoint.location + ref.Repository[end:]
		}
		return append(all, own), nil
	}
	return []endpoint{own}, nil
}
