package manifest

import (
	"regexp"
	"strings"
	"testing"
)

func copyrightFile(licences ...string) []byte {
	text := "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nSource: x\n"
	for _, l := range licences {
		text += "\nFiles: *\nCopyright: somebody\nLicense: " + l + "\n"
	}
	return []byte(text + "\nLicense: own\n The text of it.\n .\n Its end.\n")
}

func TestLicences(t *testing.T) {
	digest := regexp.MustCompile(`-[0-9a-f]{8}\b`)
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"Expat"}, "MIT"},
		{[]string{"GPL-2+", "Expat", "GPL-2+"}, "GPL-2.0-or-later AND MIT"},
		{[]string{"GPL-2"}, "GPL-2.0-only"},
		{[]string{"GPL-3.0+"}, "GPL-3.0-or-later"},
		{[]string{"LGPL-2.1+"}, "LGPL-2.1-or-later"},
		{[]string{"LGPL-2.1-only"}, "LGPL-2.1-only"},
		{[]string{"GFDL-1.3"}, "GFDL-1.3-only"},
		{[]string{"GFDL-NIV-1.3+"}, "GFDL-1.3-no-invariants-or-later"},
		{[]string{"GPL-2+ or Artistic-2.0"}, "(Artistic-2.0 OR GPL-2.0-or-later)"},
		{[]string{"GPL-2+ and BSD-3-clause"}, "BSD-3-Clause AND GPL-2.0-or-later"},
		{[]string{"GPL-2+ or Artistic-2.0, and BSD-3-clause"}, "(Artistic-2.0 OR GPL-2.0-or-later) AND BSD-3-Clause"},
		{[]string{"GPL-2+ and ISC, or BSD-3-clause"}, "((GPL-2.0-or-later AND ISC) OR BSD-3-Clause)"},
		{[]string{"GPL-1+ or Artistic"}, "(Artistic-1.0-Perl OR GPL-1.0-or-later)"},
		{[]string{"GPL-3+ with Autoconf exception"}, "GPL-3.0-or-later WITH Autoconf-exception-2.0"},
		{[]string{"GPL-2 with Linux-syscall-note exception"}, "GPL-2.0-only WITH Linux-syscall-note"},
		{[]string{"GPL-2 with something odd"}, "LicenseRef-GPL-2-with-something-odd"},
		{[]string{"own", "public-domain"}, "LicenseRef-own AND LicenseRef-public-domain"},
		{[]string{"GPL-9+"}, "LicenseRef-GPL-9"},
		{nil, ""},
	} {
		l := readCopyright(copyrightFile(test.names...))
		if got := digest.ReplaceAllString(l.expression, ""); got != test.want {
			t.Errorf("%q: %s, want %s", test.names, got, test.want)
		}
	}
	l := readCopyright(copyrightFile("own"))
	if got := l.texts[l.expression]; !strings.HasPrefix(got, "The text of it.") || !strings.HasSuffix(got, "Its end.") {
		t.Errorf("the text of an unknown licence is %q", got)
	}
	if l := readCopyright([]byte("# by hand\n" + strings.Replace(string(copyrightFile("Expat")), "Source:", "# more\nSource:", 1))); l.expression != "MIT" {
		t.Errorf("with comments: %s", l.expression)
	}
	for _, text := range []string{"", "This package was debianized by hand.\n\nLicense: GPL-2\n", "Format: other\n\nFiles: *\nLicense: GPL-2\n"} {
		if l := readCopyright([]byte(text)); l.expression != "" {
			t.Errorf("%q gives %s", text, l.expression)
		}
	}
}

func FuzzReadCopyright(f *testing.F) {
	f.Add(copyrightFile("GPL-2+ or Artistic-2.0, and BSD-3-clause", "own"))
	f.Add([]byte("Format: dep5\nLicense: a , or b with c exception\n t\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := readCopyright(data)
		for reference := range l.texts {
			if !regexp.MustCompile(`^LicenseRef-[A-Za-z0-9.-]*$`).MatchString(reference) {
				t.Errorf("reference %q", reference)
			}
		}
		if strings.ContainsAny(l.expression, "\n\"") || strings.Count(l.expression, "(") != strings.Count(l.expression, ")") {
			t.Errorf("expression %q", l.expression)
		}
	})
}
