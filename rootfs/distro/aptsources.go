package distro

import (
	"bytes"
	"io/fs"
	"strings"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// A hostSource is one archive that the host's apt is set up with.
type hostSource struct {
	uri        string
	suites     []string
	components []string
	arches     []string // empty: all
	signedBy   string   // path, fingerprint or armored key
	noValid    bool     // Check-Valid-Until: no
	noDate     bool     // Check-Date: no
	file       string   // which names it, below /etc/apt
}

// readHostSources reads sources.list and sources.list.d of an /etc/apt. What
// apt would not understand either is left out: a build does not fail because of
// a third party's file.
func readHostSources(apt fs.FS) []hostSource {
	var all []hostSource
	for _, name := range append([]string{"sources.list"}, listFiles(apt, "sources.list.d", ".list", ".sources")...) {
		data, err := readSmall(apt, name)
		if err != nil {
			continue
		}
		list := parseList(string(data))
		if strings.HasSuffix(name, ".sources") {
			list = parseSources(data)
		}
		for i := range list {
			list[i].file = name
		}
		all = append(all, list...)
	}
	return all
}

// parseSources reads the deb822 form (sources.list(5), "DEB822-STYLE FORMAT").
func parseSources(data []byte) []hostSource {
	r := deb822.NewReader(bytes.NewReader(dropBlankLines(data)))
	r.Comments = true
	var list []hostSource
	for {
		p, err := r.Next()
		if err != nil {
			return list
		}
		if !contains(strings.Fields(p.Get("Types")), "deb") || isOff(p.Get("Enabled")) {
			continue
		}
		for _, uri := range strings.Fields(p.Get("URIs")) {
			list = append(list, hostSource{
				uri:        strings.TrimRight(uri, "/"),
				suites:     strings.Fields(p.Get("Suites")),
				components: strings.Fields(p.Get("Components")),
				arches:     strings.Fields(p.Get("Architectures")),
				signedBy:   strings.TrimSpace(p.Get("Signed-By")),
				noValid:    isOff(p.Get("Check-Valid-Until")),
				noDate:     isOff(p.Get("Check-Date")),
			})
		}
	}
}

// dropBlankLines removes lines that hold blanks only, which apt takes as part of
// a field and the strict reader refuses.
func dropBlankLines(data []byte) []byte {
	var out []byte
	for line := range bytes.Lines(data) {
		if len(bytes.TrimSpace(line)) == 0 && len(bytes.TrimRight(line, "\r\n")) > 0 {
			continue
		}
		out = append(out, bytes.ReplaceAll(line, []byte("\r\n"), []byte("\n"))...)
	}
	return out
}

// parseList reads the one-line form (sources.list(5), "ONE-LINE-STYLE FORMAT").
func parseList(text string) []hostSource {
	var list []hostSource
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[' {
			continue
		}
		s := hostSource{}
		rest = strings.TrimSpace(rest)
		if after, ok := strings.CutPrefix(rest, "["); ok {
			options, after, ok := strings.Cut(after, "]")
			if !ok {
				continue
			}
			s.options(options)
			rest = after
		}
		w := strings.Fields(rest)
		if len(w) < 2 {
			continue
		}
		s.uri, s.suites, s.components = strings.TrimRight(w[0], "/"), w[1:2], w[2:]
		list = append(list, s)
	}
	return list
}

// options reads what stands in brackets.
func (s *hostSource) options(text string) {
	for _, o := range strings.Fields(text) {
		name, value, _ := strings.Cut(o, "=")
		switch strings.ToLower(strings.TrimRight(name, "+-")) {
		case "arch":
			s.arches = strings.Split(value, ",")
		case "signed-by":
			s.signedBy = value
		case "check-valid-until":
			s.noValid = isOff(value)
		case "check-date":
			s.noDate = isOff(value)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
