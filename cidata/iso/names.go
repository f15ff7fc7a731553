package iso

import (
	"strconv"
	"strings"
)

// namer gives the names of one folder, each once.
type namer struct {
	taken map[string]bool
	next  map[string]int // the number to try next for a name that is taken
}

func newNamer() *namer { return &namer{taken: map[string]bool{}, next: map[string]int{}} }

// unique joins base, cut to max characters, and extension. A name that is
// taken ends in a number instead.
func (n *namer) unique(base, extension string, max int) string {
	short := cut(base, max)
	name := short + extension
	for key := name; n.taken[name]; {
		n.next[key]++
		tail := "_" + strconv.Itoa(n.next[key])
		name = cut(short, max-len(tail)) + tail + extension
	}
	n.taken[name] = true
	return name
}

// cut returns the first n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// split parts a name before its last dot, unless that is the first character.
func split(name string) (base, extension string) {
	if dot := strings.LastIndex(name, "."); dot > 0 {
		return name[:dot], name[dot+1:]
	}
	return name, ""
}

// primary names one file or folder in d-characters, as ISO 9660 level 1 has
// it: eight and three, folders eight (ECMA-119, 10.1).
func (n *namer) primary(name string, dir bool) []byte {
	if dir {
		return []byte(n.unique(dCharacters(name), "", 8))
	}
	base, extension := split(name)
	if extension == "" { // the dot stays, but is not seen: a folder must not have the same name
		return []byte(n.unique(dCharacters(base), "", 8) + "." + versionSeparator)
	}
	return []byte(n.unique(dCharacters(base), "."+cut(dCharacters(extension), 3), 8) + versionSeparator)
}

func dCharacters(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, s)
}

// Joliet's names have 64 characters, a file's version among them.
const jolietName = 64

// joliet names one file or folder in UCS-2. What Joliet forbids and what UCS-2
// has not becomes "_"; Rock Ridge keeps the name as it is.
func (n *namer) joliet(name string, dir bool) []byte {
	name = strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0xffff || strings.ContainsRune(`*/:;?\`, c) {
			return '_'
		}
		return c
	}, name)
	if dir {
		return ucs2(n.unique(name, "", jolietName))
	}
	base, extension := split(name)
	if extension != "" {
		extension = "." + extension
	}
	max := jolietName - len(versionSeparator) - len([]rune(extension))
	if max < jolietName/2 {
		base, extension, max = name, "", jolietName-len(versionSeparator)
	}
	return ucs2(n.unique(base, extension, max) + versionSeparator)
}

// exact is the key under which names are the same: as Linux has it, in the same case only.
func exact(name string) string { return name }
