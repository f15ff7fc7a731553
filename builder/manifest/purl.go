package manifest

import (
	"strings"
)

// PURL returns the package URL of a Debian package (package-url.org, type deb):
// pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie.
func PURL(distribution, release string, p Package) string {
	url := "pkg:deb/" + escape(strings.ToLower(distribution)) + "/" + escape(strings.ToLower(p.Name)) + "@" + escape(p.Version)
	separator := "?"
	for _, q := range [][2]string{{"arch", p.Architecture}, {"distro", release}} {
		if q[1] != "" {
			url += separator + q[0] + "=" + escape(q[1])
			separator = "&"
		}
	}
	return url
}

// escape percent-encodes all but letters, digits, ".-_~" and the colon, which the specification leaves as it is.
func escape(text string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte(".-_~:", c) >= 0 {
			out.WriteByte(c)
			continue
		}
		out.WriteByte('%')
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}
