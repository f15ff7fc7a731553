package iso_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/applbuild/applbuild/cidata/iso"
)

// tableEntry is a folder in a path table.
type tableEntry struct {
	extent uint32
	parent uint16
	id     string
}

func pathTable(b []byte, order binary.ByteOrder) []tableEntry {
	var all []tableEntry
	for len(b) > 0 {
		n := int(b[0])
		all = append(all, tableEntry{order.Uint32(b[2:]), order.Uint16(b[6:]), string(b[8 : 8+n])})
		b = b[(8+n+1)/2*2:]
	}
	return all
}

// firstExtents are where a folder says that it and the one above it are.
func firstExtents(b []byte) (own, above uint32) {
	return binary.LittleEndian.Uint32(b[2:]), binary.LittleEndian.Uint32(b[int(b[0])+2:])
}

// names lists a folder's identifiers in their order, without its own two.
func names(t *testing.T, b []byte) (all []string) {
	t.Helper()
	size := int(binary.LittleEndian.Uint32(b[10:]))
	for at := 0; at < size; {
		n := int(b[at])
		if n == 0 {
			at = (at/2048 + 1) * 2048
			continue
		}
		if at/2048 != (at+n-1)/2048 || n%2 != 0 {
			t.Errorf("a record of %d bytes at byte %d of its folder", n, at)
		}
		if le, be := binary.LittleEndian.Uint32(b[at+2:]), binary.BigEndian.Uint32(b[at+6:]); le != be {
			t.Errorf("extents %d and %d", le, be)
		}
		all = append(all, string(b[at+33:at+33+int(b[at+32])]))
		at += n
	}
	return all[2:]
}

func TestPathTablesAndRecordsAgree(t *testing.T) {
	for n := range 20 {
		b := write(t, randomFiles(rand.New(rand.NewPCG(uint64(n), 5))))
		le, be := binary.LittleEndian, binary.BigEndian
		for kind, descriptor := range map[string][]byte{"ISO 9660": b[16*2048:], "Joliet": b[17*2048:]} {
			if got := int(le.Uint32(descriptor[80:])) * 2048; got != len(b) {
				t.Fatalf("%s: %d bytes, the image has %d", kind, got, len(b))
			}
			size := le.Uint32(descriptor[132:])
			folders := pathTable(b[le.Uint32(descriptor[140:])*2048:][:size], le)
			big := pathTable(b[be.Uint32(descriptor[148:])*2048:][:size], be)
			for i, f := range folders {
				if big[i] != f {
					t.Errorf("%s: %v in the little-endian table, %v in the other", kind, f, big[i])
				}
				own, above := firstExtents(b[f.extent*2048:])
				if parent := folders[f.parent-1].extent; own != f.extent || above != parent {
					t.Errorf("%s: folder at %d in %d by the table, at %d in %d by its records", kind, f.extent, parent, own, above)
				}
				if i > 1 && (f.parent < folders[i-1].parent || f.parent == folders[i-1].parent && f.id <= folders[i-1].id) {
					t.Errorf("%s: %v behind %v", kind, f, folders[i-1])
				}
				seen := map[string]bool{}
				for _, id := range names(t, b[f.extent*2048:]) {
					if seen[id] {
						t.Errorf("%s: %q is there twice", kind, id)
					}
					seen[id] = true
				}
			}
		}
	}
}

func TestNamesOfISO9660AreOfLevelOne(t *testing.T) {
	b := write(t, []iso.File{{Path: "user-data"}, {Path: "user-data.d/a.tar.gz"}, {Path: "user-datum"}, {Path: ".profile"}, {Path: "grüße"}, {Path: "x.html"}})
	got := names(t, b[binary.LittleEndian.Uint32(b[16*2048+158:])*2048:])
	want := []string{"GR__E.;1", "USER_DAT.;1", "USER_D_1", "USER_D_2.;1", "X.HTM;1", "_PROFILE.;1"}
	if len(got) != len(want) {
		t.Fatalf("%q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if bytes.Contains(b[16*2048:17*2048], []byte("CIDATA")) {
		t.Error("the label is in upper case")
	}
}
