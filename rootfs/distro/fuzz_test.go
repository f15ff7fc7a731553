package distro

import (
	"strings"
	"testing"
)

func FuzzAptSources(f *testing.F) {
	f.Add("deb http://example.org/debian bookworm main\n", true)
	f.Add("deb [arch=amd64 signed-by=/x] http://example.org/debian bookworm main # x\ndeb[a]\n", true)
	f.Add("Types: deb\nURIs: http://example.org/debian/\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n x\n \n\nTypes: deb-src\n", false)
	f.Fuzz(func(t *testing.T, text string, lines bool) {
		list := parseSources([]byte(text))
		if lines {
			list = parseList(text)
		}
		for _, s := range list {
			if strings.ContainsAny(s.uri, " \n\t") {
				t.Errorf("URI %q", s.uri)
			}
		}
		h := host{sources: list}
		for i := range releases {
			h.mirrors(&releases[i], i%2 == 0, "arm64")
		}
	})
}

func FuzzAptConf(f *testing.F) {
	f.Add("Acquire::Check-Valid-Until \"false\";\n// c\nA { B { \"x\"; }; C \"d\" };")
	f.Add("/* */ #clear X; # y\n{{{}}};\"")
	f.Fuzz(func(t *testing.T, text string) {
		for name := range parseAptConf(text) {
			if name != strings.ToLower(name) {
				t.Errorf("name %q", name)
			}
		}
	})
}
