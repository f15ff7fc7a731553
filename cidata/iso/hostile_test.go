package iso_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/iso"
)

// small is a volume with a folder in a folder, whose records are easy to find.
func small(t testing.TB) []byte {
	return write(t, []iso.File{{Path: "folder/inner/file", Data: []byte("contents")}, {Path: "user-data", Data: []byte("#cloud-config\n")}})
}

// edit changes the first occurrence of old, of as many bytes, in a volume.
func edit(t *testing.T, b []byte, old, with string) []byte {
	t.Helper()
	at := bytes.Index(b, []byte(old))
	if at < 0 || len(old) != len(with) {
		t.Fatalf("no %q to change into %q", old, with)
	}
	copy(b[at:], with)
	return b
}

func sectorNumber(n uint32) string {
	return string(binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, n), n))
}

func TestDamagedVolumesAreRefused(t *testing.T) {
	long := write(t, []iso.File{{Path: strings.Repeat("n", 200)}})
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"empty":                    {nil, "volume descriptor 0"},
		"zeros":                    {make([]byte, 1<<20), "no CD001"},
		"no primary descriptor":    {edit(t, small(t), "\x01CD001", "\x03CD001"), ""},
		"no end of descriptors":    {bytes.Join([][]byte{small(t)[:17*2048], bytes.Repeat(small(t)[16*2048:17*2048], 40)}, nil), "no end"},
		"blocks of 512":            {edit(t, small(t), "\x00\x08\x08\x00", "\x00\x02\x02\x00"), "512"},
		"cut short":                {small(t)[:30*2048], "ends at"},
		"cut in the root":          {small(t)[:23*2048], "ends at"},
		"a slash in a name":        {edit(t, small(t), "NM\x0e\x01\x00user-data", "NM\x0e\x01\x00user/data"), "user/data"},
		"a NUL in a name":          {edit(t, small(t), "NM\x0e\x01\x00user-data", "NM\x0e\x01\x00user\x00data"), "user"},
		"a parent as a name":       {edit(t, small(t), "NM\x09\x01\x00file", "NM\x07\x01\x00..xx"), `".."`},
		"two of one name":          {edit(t, write(t, []iso.File{{Path: "same"}, {Path: "sane"}}), "sane", "same"), `two files with the name "same"`},
		"a continuation elsewhere": {bytes.ReplaceAll(long, []byte("CE\x1c\x01"+sectorNumber(24)), []byte("CE\x1c\x01"+sectorNumber(1<<30))), "continuation"},
	} {
		_, err := iso.Open(bytes.NewReader(c.image), int64(len(c.image)))
		if !errors.Is(err, iso.ErrFormat) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestContinuationsThatGoOnAndOnAreRefused(t *testing.T) {
	sound := write(t, []iso.File{{Path: strings.Repeat("n", 200)}})
	at := bytes.Index(sound, []byte("NM\xcd\x01\x00nnn"))
	itself := "CE\x1c\x01" + sectorNumber(uint32(at/2048)) + sectorNumber(uint32(at%2048)) + sectorNumber(200)
	for says, fields := range map[string]string{
		"more than 32 continuations":    itself,
		"a name of more than 255 bytes": "NM\x69\x01\x01" + strings.Repeat("n", 100) + itself,
	} {
		b := bytes.Clone(sound)
		copy(b[at:], fields)
		if _, err := iso.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, iso.ErrFormat) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// patch writes a number in both endians.
func patch(b []byte, at int, n uint32) []byte {
	copy(b[at:], sectorNumber(n))
	return b
}

// record finds the record with a name of Rock Ridge.
func record(t *testing.T, b []byte, name string) int {
	t.Helper()
	at := bytes.Index(b, append([]byte{'N', 'M', byte(len(name) + 5), 1, 0}, name...))
	for ; at > 0 && !(b[at] != 0 && int(b[at]) < 255 && bytes.Equal(b[at+28:at+32], []byte{1, 0, 0, 1})); at-- {
	}
	if at <= 0 {
		t.Fatalf("no record of %q", name)
	}
	return at
}

func TestFoldersThatLieInEachOtherAreRefused(t *testing.T) {
	for name, target := range map[string]string{"in itself": "inner", "in the folder above": "folder"} {
		b := small(t)
		extent := binary.LittleEndian.Uint32(b[record(t, b, target)+2:])
		// The file in the innermost folder becomes a folder above it.
		file := record(t, b, "file")
		patch(b, file+2, extent)
		patch(b, file+10, 2048)
		b[file+25] = 2
		_, err := iso.Open(bytes.NewReader(b), int64(len(b)))
		if !errors.Is(err, iso.ErrFormat) || !strings.Contains(err.Error(), "in two places") {
			t.Errorf("a folder %s: %v", name, err)
		}
	}
}

func TestSizesBeyondReasonAreRefused(t *testing.T) {
	b := small(t)
	patch(b, record(t, b, "folder")+10, 1<<31)
	if _, err := iso.Open(bytes.NewReader(b), 1<<40); !errors.Is(err, iso.ErrLimit) {
		t.Errorf("a folder of 2 GiB: %v", err)
	}
	b = small(t)
	patch(b, record(t, b, "file")+10, iso.MaxBytes+1)
	if _, err := iso.Open(bytes.NewReader(b), 1<<40); !errors.Is(err, iso.ErrLimit) {
		t.Errorf("a file of more than all may have: %v", err)
	}
	b = small(t)
	patch(b, record(t, b, "file")+10, 1<<20)
	if _, err := iso.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, iso.ErrFormat) {
		t.Errorf("a file behind the end: %v", err)
	}
}

func TestAnErrorOfTheReaderIsHandedOn(t *testing.T) {
	broken := errors.New("broken disk")
	b := small(t)
	for good := range int64(len(b) / 2048) {
		r := readerAt(func(p []byte, off int64) (int, error) {
			if off >= good*2048 {
				return 0, broken
			}
			return bytes.NewReader(b).ReadAt(p, off)
		})
		m, err := iso.Open(r, int64(len(b)))
		if err == nil {
			_, err = m.ReadFile("user-data")
		}
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("%d sound sectors: %v", good, err)
		}
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

// readAll opens an image and reads all of it; errors are no matter.
func readAll(t testing.TB, b []byte) {
	m, err := iso.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		if !errors.Is(err, iso.ErrFormat) && !errors.Is(err, iso.ErrLimit) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	total := 0
	err = fs.WalkDir(m, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !fs.ValidPath(path) {
			t.Fatalf("a path %q", path)
		}
		if b, err := m.ReadFile(path); err == nil {
			total += len(b)
		} else if d.Type().IsRegular() && !errors.Is(err, fs.ErrInvalid) {
			t.Fatalf("%q: %v", path, err)
		}
		return nil
	})
	if err != nil || total > iso.MaxBytes || len(m.Label()) > 3*32 {
		t.Fatalf("%d bytes, label %q: %v", total, m.Label(), err)
	}
}

func damages() int {
	if testing.Short() {
		return 200
	}
	return 5000
}

func TestVolumesWithRandomDamageDoNoHarm(t *testing.T) {
	sound := write(t, seed())
	rng := rand.New(rand.NewPCG(3, 3))
	for range damages() {
		b := bytes.Clone(sound)
		for range 1 + rng.IntN(4) {
			b[16*2048+rng.IntN(len(b)-16*2048)] = byte(rng.Uint32())
		}
		if rng.IntN(10) == 0 {
			b = b[:rng.IntN(len(b))]
		}
		readAll(t, b)
	}
}

// FuzzOpen takes a list of edits: a whole volume is too large an input to be
// minimised in time. Three bytes are an edit, two of them its place.
func FuzzOpen(f *testing.F) {
	sound := small(f)
	joliet := bytes.ReplaceAll(sound, []byte("SP\x07\x01\xbe\xef"), make([]byte, 6))
	for _, edits := range []string{"", "\x81\x58\x00", "\xb8\x02\x10\xb8\x0a\xff"} {
		f.Add(false, uint16(0), []byte(edits))
		f.Add(true, uint16(1), []byte(edits))
	}
	f.Fuzz(func(t *testing.T, plain bool, short uint16, edits []byte) {
		b := bytes.Clone(sound)
		if plain {
			b = bytes.Clone(joliet)
		}
		for ; len(edits) >= 3; edits = edits[3:] {
			b[int(binary.BigEndian.Uint16(edits))%len(b)] = edits[2]
		}
		readAll(t, b[:max(0, len(b)-int(short))])
	})
}

func FuzzWrite(f *testing.F) {
	f.Add("user-data", "folder/meta-data", []byte("#cloud-config\n"))
	f.Fuzz(func(t *testing.T, one, two string, data []byte) {
		files := []iso.File{{Path: one, Data: data}, {Path: two}}
		if err := iso.Write(io.Discard, files); err == nil {
			same(t, open(t, write(t, files)), files)
		} else if !errors.Is(err, iso.ErrName) && !errors.Is(err, iso.ErrLimit) {
			t.Fatal(err)
		}
	})
}
