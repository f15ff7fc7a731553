package deb

import (
	"archive/tar"
	"strings"
)

// A Filter leaves out files, or brings them back, by a pattern of the shell
// on the absolute path, in which * and ? match slashes too.
type Filter struct {
	Pattern string // "/usr/share/doc/*"
	Include bool   // brings back what an earlier filter left out
}

// excluded follows dpkg's filters: a folder that is left out is made
// nevertheless where a later filter may bring back something in it.
func (u *Unpacker) excluded(h *tar.Header) bool {
	skip := false
	file := listPath(h.Name)
	for _, f := range u.Filters {
		if match(f.Pattern, file) {
			skip = !f.Include
		}
	}
	if !skip || h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeSymlink {
		return skip
	}
	for _, f := range u.Filters {
		if !f.Include {
			continue
		}
		fixed := f.Pattern
		if i := strings.IndexAny(fixed, `*?[\`); i >= 0 {
			fixed = fixed[:i]
		}
		fixed = strings.TrimRight(fixed, "/")
		if strings.HasPrefix(file, fixed) || strings.HasPrefix(fixed, file+"/") {
			return false
		}
	}
	return true
}

// match is fnmatch(3) without flags: a wildcard matches slashes and leading
// dots too. It takes time in proportion to the product of both lengths.
func match(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n := matchOne(pattern[p:], s[i]); n > 0 {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one byte and returns the length of the pattern's part
// that did, or 0.
func matchOne(pattern string, c byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '\\':
		if len(pattern) > 1 && pattern[1] == c {
			return 2
		}
		return 0
	case '[':
		if n, ok := matchSet(pattern, c); n > 0 {
			if ok {
				return n
			}
			return 0
		}
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}

// matchSet reads a bracket expression; its length is 0 where it has no end
// and the bracket stands for itself.
func matchSet(pattern string, c byte) (length int, ok bool) {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	for first := true; i < len(pattern); first = false {
		if pattern[i] == ']' && !first {
			return i + 1, ok != negate
		}
		low := pattern[i]
		if low == '\\' && i+1 < len(pattern) {
			i++
			low = pattern[i]
		}
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		ok = ok || low <= c && c <= high
		i++
	}
	return 0, false
}
