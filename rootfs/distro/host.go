package distro

import (
	"io/fs"
	"net/url"
	"sort"
	"strings"
)

// A host is what the host's apt says about archives.
type host struct {
	sources []hostSource
	// noValid and noDate name the file that turns the checks off for all
	// sources; "" where none does.
	noValid, noDate string
}

func readHost(apt fs.FS) host {
	h := host{sources: readHostSources(apt)}
	conf, where := readAptConf(apt)
	if v, ok := conf["acquire::check-valid-until"]; ok && isOff(v) {
		h.noValid = where["acquire::check-valid-until"]
	}
	if v, ok := conf["acquire::check-date"]; ok && isOff(v) {
		h.noDate = where["acquire::check-date"]
	}
	return h
}

// Suites by which a source of the host is known to be of a distribution, besides
// the releases of the table: a host may be older or newer than they.
var otherSuites = map[string][]string{
	"debian": {"stable", "oldstable", "oldoldstable", "testing", "unstable", "buster", "bullseye", "forky", "duke"},
	"ubuntu": {"focal", "plucky", "questing", "stonking", "devel"},
}

var pocketEndings = []string{"", "-updates", "-security", "-backports", "-proposed", "-proposed-updates", "/updates"}

// isSuite reports whether the distribution has a suite of that name.
func isSuite(distribution, suite string) bool {
	names := otherSuites[distribution]
	for _, r := range releases {
		if r.Distribution == distribution {
			names = append(append(names[:len(names):len(names)], r.Name), r.Suites...)
		}
	}
	for _, n := range names {
		rest, ok := strings.CutPrefix(suite, n)
		if ok && contains(pocketEndings, rest) {
			return true
		}
	}
	return false
}

func isSecurity(suite string) bool {
	return strings.HasSuffix(suite, "-security") || strings.HasSuffix(suite, "/updates")
}

// mirrors returns the host's sources that serve the distribution's archive, or
// its security archive, for an architecture. Third parties use the same suite
// names (a PPA has a suite noble with a component main), so a source must be
// told from theirs: by its whole path, by the distribution's keyring, or
// because it has the pocket -updates too, which theirs have not.
func (h host) mirrors(r *Release, security bool, arch string) []hostSource {
	pockets := map[string]bool{} // URIs with an -updates pocket
	for _, s := range h.sources {
		for _, suite := range s.suites {
			if strings.HasSuffix(suite, "-updates") && isSuite(r.Distribution, suite) {
				pockets[s.uri] = true
			}
		}
	}
	var list []hostSource
	have := map[string]bool{}
	for _, s := range h.sources {
		u, err := url.Parse(s.uri)
		if err != nil || !supported(u) || have[s.uri] || !contains(s.components, "main") {
			continue
		}
		if !s.hasPocket(r.Distribution, security) || !r.servesArch(u, s, arch) {
			continue
		}
		whole := strings.Trim(u.Path, "/")
		ours := whole == r.Distribution || whole == "ubuntu-ports" && r.Distribution == "ubuntu"
		if !security && !ours && !pockets[s.uri] && !strings.Contains(s.signedBy, r.Distribution+"-archive") {
			continue
		}
		have[s.uri] = true
		list = append(list, s)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].names(arch) && !list[j].names(arch) })
	return list
}

// hasPocket reports whether the source has a suite of the distribution that is,
// or is not, a security pocket.
func (s hostSource) hasPocket(distribution string, security bool) bool {
	for _, suite := range s.suites {
		if isSecurity(suite) == security && isSuite(distribution, suite) {
			return true
		}
	}
	return false
}

// names reports whether the source is meant for the architecture.
func (s hostSource) names(arch string) bool { return len(s.arches) == 0 || contains(s.arches, arch) }

// servesArch keeps Ubuntu's two archives apart: one has amd64, the other the
// ports. A Debian mirror has all architectures, whatever the host wants of it.
func (r *Release) servesArch(u *url.URL, s hostSource, arch string) bool {
	if r.Distribution != "ubuntu" || contains(s.arches, arch) {
		return true
	}
	return isPorts(u.Path) == isPorts(r.archives[arch])
}

func isPorts(path string) bool { return strings.Contains(path, "ports") }

func supported(u *url.URL) bool {
	return u.Scheme == "http" && u.Host != "" || u.Scheme == "https" && u.Host != "" || u.Scheme == "file" && strings.HasPrefix(u.Path, "/")
}
