package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// maxCopyright bounds the size of a copyright file that is read, in bytes; the largest in Debian has about 2 MiB.
const maxCopyright = 8 << 20

// identifiers maps Debian's short names of licences (Machine-readable debian/copyright file 1.0, "License
// specification"), in lower case, to SPDX's. GPL and its like are put together from their version.
var identifiers = map[string]string{
	"expat": "MIT", "mit": "MIT", "x11": "X11", "isc": "ISC", "zlib": "Zlib", "curl": "curl", "psf-2": "PSF-2.0", "python-2.0": "Python-2.0",
	"apache-1.0": "Apache-1.0", "apache-1.1": "Apache-1.1", "apache-2.0": "Apache-2.0", "apache-2": "Apache-2.0",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC", "0bsd": "0BSD", "bsd-1-clause": "BSD-1-Clause",
	"artistic": "Artistic-1.0-Perl", "artistic-2.0": "Artistic-2.0", "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0", "unlicense": "Unlicense", "wtfpl": "WTFPL",
	"cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
	"mpl-1.1": "MPL-1.1", "mpl-2.0": "MPL-2.0", "openssl": "OpenSSL", "ofl-1.1": "OFL-1.1", "sil-1.1": "OFL-1.1", "bsl-1.0": "BSL-1.0", "bsl-1": "BSL-1.0",
	"perl": "Artistic-1.0-Perl OR GPL-1.0-or-later", "fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR", "hpnd": "HPND", "ntp": "NTP", "beerware": "Beerware",
	"zpl-2.1": "ZPL-2.1", "unicode-dfs-2016": "Unicode-DFS-2016", "ijg": "IJG", "libpng": "Libpng", "vim": "Vim", "tcl": "TCL", "w3c": "W3C", "epl-1.0": "EPL-1.0", "epl-2.0": "EPL-2.0", "blueoak-1.0.0": "BlueOak-1.0.0", "mit-0": "MIT-0",
}

// exceptions maps Debian's names of exceptions to SPDX's.
var exceptions = map[string]string{
	"autoconf": "Autoconf-exception-2.0", "autoconf-2.0": "Autoconf-exception-2.0", "autoconf-3.0": "Autoconf-exception-3.0", "bison": "Bison-exception-2.2", "bison-2.2": "Bison-exception-2.2", "font": "Font-exception-2.0",
	"classpath": "Classpath-exception-2.0", "gcc": "GCC-exception-3.1", "gcc-3.1": "GCC-exception-3.1", "linux-syscall-note": "Linux-syscall-note", "linux syscall note": "Linux-syscall-note", "libtool": "Libtool-exception", "llvm": "LLVM-exception",
}

var gnu = regexp.MustCompile(`^(agpl|lgpl|gpl|gfdl|gfdl-niv)-([0-9])(?:\.([0-9]))?(?:\.0)?(\+|-or-later|-only)?$`)

// gnuVersions are the versions that exist under each of GNU's names.
var gnuVersions = map[string][]string{"agpl": {"3.0"}, "gpl": {"1.0", "2.0", "3.0"}, "lgpl": {"2.0", "2.1", "3.0"}, "gfdl": {"1.1", "1.2", "1.3"}, "gfdl-niv": {"1.1", "1.2", "1.3"}}

// identifier returns the SPDX identifier of a Debian short name, empty where there is none.
func identifier(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if known := identifiers[name]; known != "" {
		return known
	}
	m := gnu.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	minor := m[3]
	if minor == "" {
		minor = "0"
	}
	version := m[2] + "." + minor
	if !slices.Contains(gnuVersions[m[1]], version) {
		return ""
	}
	later := "-only"
	if m[4] == "+" || m[4] == "-or-later" {
		later = "-or-later"
	}
	if m[1] == "gfdl-niv" { // without invariant sections
		return "GFDL-" + version + "-no-invariants" + later
	}
	return strings.ToUpper(m[1]) + "-" + version + later
}

// withoutComments drops lines that begin with #. The format has no comments, and many copyright files have them.
func withoutComments(data []byte) []byte {
	if !bytes.HasPrefix(data, []byte("#")) && !bytes.Contains(data, []byte("\n#")) {
		return data
	}
	kept := make([]byte, 0, len(data))
	for line := range bytes.Lines(data) {
		if line[0] != '#' {
			kept = append(kept, line...)
		}
	}
	return kept
}

// licences is what a copyright file says: an SPDX expression, and the texts of the licences in it that SPDX does not
// know, by the names they have in the expression.
type licences struct {
	expression string
	texts      map[string]string
}

// readCopyright reads usr/share/doc/PACKAGE/copyright. A file that is not in the machine-readable form, or says
// nothing about licences, gives an empty expression.
func readCopyright(data []byte) licences {
	if len(data) > maxCopyright {
		return licences{}
	}
	var names []string           // of Files paragraphs, in the words of the file
	texts := map[string]string{} // of licences, by name
	reader := deb822.NewReader(bytes.NewReader(withoutComments(data)))
	for first := true; ; first = false {
		p, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil || first && !strings.Contains(p.Get("Format"), "copyright-format/1") && !strings.Contains(p.Get("Format"), "dep5") {
			return licences{}
		}
		name, text, _ := strings.Cut(p.Get("License"), "\n")
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if texts[name] == "" {
			texts[name] = strings.TrimSpace(text)
		}
		if p.Get("Files") != "" || first {
			names = append(names, name)
		}
	}
	l := licences{texts: map[string]string{}}
	terms := map[string]bool{}
	for _, name := range names {
		for _, term := range l.conjuncts(name, texts) {
			terms[term] = true
		}
	}
	l.expression = strings.Join(slices.Sorted(maps.Keys(terms)), " AND ")
	return l
}

var (
	comma       = regexp.MustCompile(`(?i)\s*,\s*(and|or)?\s+`)
	conjunction = regexp.MustCompile(`(?i)\s+and\s+`)
	disjunction = regexp.MustCompile(`(?i)\s+or\s+`)
	exception   = regexp.MustCompile(`(?i)^(\S+)\s+with\s+(.+?)(\s+exception)?$`)
)

// conjuncts splits what a License field names into terms that all hold. In it "and" binds closer than "or", and a
// comma less than both; a choice becomes one term in brackets.
func (l *licences) conjuncts(name string, texts map[string]string) []string {
	joints := comma.FindAllStringSubmatch(name, -1)
	parts := comma.Split(name, -1)
	if slices.ContainsFunc(joints, func(m []string) bool { return strings.EqualFold(m[1], "or") }) {
		return []string{l.choice(parts, texts)}
	}
	var terms []string
	for _, part := range parts {
		if choices := disjunction.Split(part, -1); len(choices) > 1 {
			terms = append(terms, l.choice(choices, texts))
			continue
		}
		for _, one := range conjunction.Split(part, -1) {
			terms = append(terms, l.term(one, texts))
		}
	}
	return terms
}

func (l *licences) choice(parts []string, texts map[string]string) string {
	var terms []string
	for _, part := range parts {
		for _, one := range disjunction.Split(part, -1) {
			var all []string
			for _, name := range conjunction.Split(one, -1) {
				all = append(all, l.term(name, texts))
			}
			term := strings.Join(all, " AND ")
			if len(all) > 1 {
				term = "(" + term + ")"
			}
			terms = append(terms, term)
		}
	}
	slices.Sort(terms)
	terms = slices.Compact(terms)
	if len(terms) == 1 {
		return terms[0]
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

var unsafe = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// term returns the SPDX expression of one licence, a reference to its text where SPDX does not know it.
func (l *licences) term(name string, texts map[string]string) string {
	name = strings.TrimSpace(name)
	if known := identifier(name); strings.Contains(known, " ") {
		return "(" + known + ")"
	} else if known != "" {
		return known
	}
	if m := exception.FindStringSubmatch(name); m != nil {
		base, known := identifier(m[1]), exceptions[strings.ToLower(m[2])]
		if base != "" && known != "" && !strings.Contains(base, " ") {
			return base + " WITH " + known
		}
	}
	text := texts[name]
	if text == "" {
		text = "The copyright file names this licence " + name + " and does not hold its text."
	}
	// Texts differ under one name, public-domain above all: the digest tells them apart.
	sum := sha256.Sum256([]byte(name + "\n" + text))
	reference := "LicenseRef-" + strings.Trim(unsafe.ReplaceAllString(name, "-"), "-") + "-" + hex.EncodeToString(sum[:4])
	l.texts[reference] = text
	return reference
}
