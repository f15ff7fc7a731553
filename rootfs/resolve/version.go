package resolve

import "strings"

// CompareVersions compares two versions as dpkg does (deb-version(7)): negative
// when a is earlier than b, zero when they are equal, positive when a is later.
// Any two strings can be compared; what is no valid version gets an order that
// is consistent, not meaningful.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	aEpoch, a := cutEpoch(a)
	bEpoch, b := cutEpoch(b)
	if c := compareFragment(aEpoch, bEpoch); c != 0 {
		return c
	}
	a, aRevision := cutRevision(a)
	b, bRevision := cutRevision(b)
	if c := compareFragment(a, b); c != 0 {
		return c
	}
	return compareFragment(aRevision, bRevision)
}

// cutEpoch splits at the first colon; no epoch is the epoch 0.
func cutEpoch(v string) (epoch, rest string) {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return "", v
}

// cutRevision splits at the last hyphen; no revision is the revision 0.
func cutRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// compareFragment compares runs of other characters and of digits in turn. A
// tilde sorts before the end, the end before letters, letters before the rest.
func compareFragment(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			x, y := weight(a), weight(b)
			if x != y {
				return x - y
			}
			a, b = a[1:], b[1:]
		}
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		first := 0 // the first difference decides between numbers of equal length
		for a != "" && digit(a[0]) && b != "" && digit(b[0]) {
			if first == 0 {
				first = int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
		}
		switch {
		case a != "" && digit(a[0]):
			return 1
		case b != "" && digit(b[0]):
			return -1
		case first != 0:
			return first
		}
	}
	return 0
}

// weight orders the first character of s among those that are no digits; a digit
// and the end weigh the same.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z':
		return int(s[0])
	default:
		return int(s[0]) + 256
	}
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
