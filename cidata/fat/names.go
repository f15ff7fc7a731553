package fat

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

const (
	baseSize      = 8
	extensionSize = 3
)

// shortName is a name as each directory entry has one: eight characters and
// three, in upper case, padded with spaces.
type shortName [baseSize + extensionSize]byte

func makeShort(base, extension string) shortName {
	var s shortName
	copy(s[:], strings.Repeat(" ", len(s)))
	copy(s[:baseSize], base)
	copy(s[baseSize:], extension)
	return s
}

// isShort tells what a short name may have, of ASCII ("Short Directory
// Entries"; lower case is not among it).
func isShort(c rune) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c < 0x80 && strings.ContainsRune("$%'-_@~`!(){}^#&", c)
}

// basis makes the short name's parts of a long one ("The Basis-Name Generation
// Algorithm"), and tells whether anything but case was lost.
func basis(name string) (base, extension string, lossy bool) {
	name = strings.TrimLeft(name, ".")
	base = name
	if dot := strings.LastIndex(name, "."); dot >= 0 {
		base, extension = name[:dot], name[dot+1:]
	}
	clean := func(s string, size int) string {
		s = strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' {
				return c - 'a' + 'A'
			}
			if c == ' ' || c == '.' {
				lossy = true
				return -1
			}
			if !isShort(c) {
				lossy = true
				return '_'
			}
			return c
		}, s)
		if len(s) > size {
			lossy = true
			s = s[:size]
		}
		return s
	}
	return clean(base, baseSize), clean(extension, extensionSize), lossy
}

// nameShort gives all nodes of a folder short names, each once. Those that a
// name has by itself are taken first, so that no number is given to another.
func nameShort(nodes []*source) {
	taken := map[shortName]bool{}
	var rest []*source
	for _, n := range nodes {
		base, extension, lossy := basis(n.name)
		if lossy || base == "" || strings.HasPrefix(n.name, ".") {
			rest = append(rest, n)
			continue
		}
		n.short = makeShort(base, extension)
		taken[n.short] = true
	}
	next := map[shortName]int{}
	for _, n := range rest {
		base, extension, _ := basis(n.name)
		plain := makeShort(base, extension)
		for n.short = plain; n.short == plain || taken[n.short]; {
			next[plain]++
			tail := "~" + strconv.Itoa(next[plain])
			n.short = makeShort(base[:min(len(base), baseSize-len(tail))]+tail, extension)
		}
		taken[n.short] = true
	}
}

// String is the short name as it is shown.
func (s shortName) String() string {
	base, extension := bytes.TrimRight(s[:baseSize], " "), bytes.TrimRight(s[baseSize:], " ")
	if len(extension) == 0 {
		return string(base)
	}
	return string(base) + "." + string(extension)
}

// longSlots are the entries of a long name, the last part first. A name that
// its short one says in full has none.
func longSlots(name string, short shortName) [][]byte {
	if name == short.String() {
		return nil
	}
	units := utf16.Encode([]rune(name))
	if len(units)%longUnits != 0 {
		units = append(units, 0)
	}
	for len(units)%longUnits != 0 {
		units = append(units, 0xffff)
	}
	var slots [][]byte
	for i := 0; i < len(units); i += longUnits {
		b := make([]byte, slotSize)
		b[0] = byte(len(slots) + 1)
		b[slotAttributes] = attrLong
		b[longChecksum] = checksum(short[:])
		part := units[i:]
		for _, span := range longSpans {
			for at := span[0]; at < span[1]; at += 2 {
				binary.LittleEndian.PutUint16(b[at:], part[0])
				part = part[1:]
			}
		}
		slots = append(slots, b)
	}
	slots[len(slots)-1][0] |= longLast
	slices.Reverse(slots)
	return slots
}
