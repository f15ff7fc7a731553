package fat_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/fat"
)

// Where things are in the volume of small: sectors of 512 bytes, clusters of
// four, behind the boot sector two tables of two sectors and 512 entries.
const (
	tableAt   = 512
	rootAt    = 5 * 512
	clusterAt = 37 * 512
)

// small is a volume of FAT12 with a folder in a folder (clusters 2 and 3), a
// file of three clusters (4 to 6) in that, and another (7).
func small(t testing.TB) []byte {
	return write(t, []fat.File{{Path: "FOLDER/INNER/FILE", Data: bytes.Repeat([]byte("contents"), 600)}, {Path: "user-data", Data: []byte("#cloud-config\n")}})
}

func cluster(b []byte, n int) []byte { return b[clusterAt+(n-2)*2048:][:2048] }

// link makes a cluster the next of another in the first table.
func link(b []byte, n, next int) []byte {
	at := b[tableAt+n+n/2:]
	old := binary.LittleEndian.Uint16(at)
	if n%2 == 0 {
		binary.LittleEndian.PutUint16(at, old&0xf000|uint16(next))
	} else {
		binary.LittleEndian.PutUint16(at, old&0x000f|uint16(next)<<4)
	}
	return b
}

// slot finds the directory entry with a short name, padded to 11 characters.
func slot(t testing.TB, b []byte, short string) []byte {
	t.Helper()
	at := bytes.Index(b[rootAt:], []byte(short))
	if at < 0 || len(short) != 11 {
		t.Fatalf("no entry %q", short)
	}
	return b[rootAt+at:][:32]
}

// small32 is a volume of FAT32 with one file in two clusters, 4 and 6.
func small32() []byte {
	b := make([]byte, 64*512)
	le := binary.LittleEndian
	copy(b, "\xeb\x58\x90mkfs.fat\x00\x02\x01\x04\x00\x02\x00\x00\x40\x00\xf8")
	le.PutUint32(b[36:], 1) // sectors of a table
	le.PutUint32(b[44:], 2) // the root's cluster
	b[66] = 0x29
	copy(b[71:], "CIDATA     FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	for n, next := range []uint32{0x0ffffff8, 0x0fffffff, 3, 0x0fffffff, 0xf0000006, 0, 0x0fffffff} {
		le.PutUint32(b[4*512+4*n:], next)
		le.PutUint32(b[5*512+4*n:], next)
	}
	for i := range 16 { // the root's first cluster holds only what was deleted
		b[6*512+32*i] = 0xe5
	}
	file := b[7*512:]
	copy(file, "META    YML\x20\x18") // both parts in lower case
	file[26] = 4
	le.PutUint32(file[28:], 514)
	copy(b[8*512:], strings.Repeat("4", 512))
	copy(b[10*512:], "66")
	return b
}

func TestFAT32IsRead(t *testing.T) {
	m := open(t, small32())
	same(t, m, []fat.File{{Path: "meta.yml", Data: []byte(strings.Repeat("4", 512) + "66")}})
	if m.Label() != "CIDATA" || m.Kind() != "FAT32" {
		t.Errorf("label %q, %s", m.Label(), m.Kind())
	}
	b := small32()
	copy(b[4*512:5*512], make([]byte, 512))
	b[40] = 0x81 // the second table alone is kept
	same(t, open(t, b), []fat.File{{Path: "meta.yml", Data: []byte(strings.Repeat("4", 512) + "66")}})
}

func TestFilesInPiecesAreRead(t *testing.T) {
	b := small(t)
	for i := range cluster(b, 5) {
		cluster(b, 5)[i], cluster(b, 6)[i] = cluster(b, 6)[i], cluster(b, 5)[i]
	}
	link(link(link(b, 4, 6), 6, 5), 5, 0xfff)
	m := open(t, b)
	same(t, m, []fat.File{{Path: "FOLDER/INNER/FILE", Data: bytes.Repeat([]byte("contents"), 600)}, {Path: "user-data", Data: []byte("#cloud-config\n")}})
	f, err := m.Open("folder/inner/file")
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3)
	for at := int64(0); at < 4797; at += 61 {
		if _, err := f.(io.ReaderAt).ReadAt(part, at); err != nil || string(part) != ("contentscontents")[at%8:][:3] {
			t.Errorf("at byte %d: %q, %v", at, part, err)
		}
	}
}

func TestALongNameThatIsNotOfItsEntryIsPassedOver(t *testing.T) {
	for name, harm := range map[string]func(long []byte){
		"checksum": func(long []byte) { long[13]++ },
		"number":   func(long []byte) { long[0]++ },
		"no last":  func(long []byte) { long[0] = 1 },
		"free":     func(long []byte) { long[0] = 0xe5 },
	} {
		b := small(t)
		at := bytes.Index(b, []byte("USER-D~1   "))
		harm(b[at-32:])
		if _, ok := contents(t, open(t, b))["USER-D~1"]; !ok {
			t.Errorf("%s: no file with its short name", name)
		}
	}
}

func TestDamagedVolumesAreRefused(t *testing.T) {
	change := func(b []byte, at int, with ...byte) []byte { copy(b[at:], with); return b }
	within := func(short string, at int, with ...byte) []byte {
		b := small(t)
		change(slot(t, b, short), at, with...)
		return b
	}
	long := func(c byte) []byte {
		b := small(t)
		at := bytes.Index(b, []byte("USER-D~1   "))
		return change(b, at-32+1, c)
	}
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"empty":                    {nil, "boot sector"},
		"zeros":                    {make([]byte, 1<<20), "no signature"},
		"a disk with partitions":   {change(make([]byte, 1<<20), 510, 0x55, 0xaa), "partitions of a disk are not looked into"},
		"no tables":                {change(small(t), 16, 0), "0 tables"},
		"clusters of 3 sectors":    {change(small(t), 13, 3), "clusters of 3 sectors"},
		"no sectors":               {change(small(t), 19, 0, 0), "no room"},
		"sectors for tables only":  {change(small(t), 19, 37, 0), "no room"},
		"cut short":                {small(t)[:1<<19], "in an image of"},
		"a folder in itself":       {within("INNER      ", 26, 2), "in two places"},
		"a folder at no cluster":   {within("INNER      ", 26, 0), "cluster 0 of"},
		"a folder without end":     {link(small(t), 3, 3), "no end"},
		"a file far away":          {within("FILE       ", 26, 0xff, 0x0f), "cluster 4095 of"},
		"a file with a free part":  {link(small(t), 4, 0), "cluster 0 of"},
		"a file with a bad part":   {link(small(t), 4, 0xff7), "cluster 4087 of"},
		"a file that ends early":   {link(small(t), 4, 0xfff), "2048 of 4800"},
		"a slash in a name":        {within("FILE       ", 0, '/'), `"/ILE"`},
		"a slash in a long name":   {long('/'), `"/ser-data"`},
		"no name":                  {within("FILE       ", 0, ' ', ' ', ' ', ' '), `""`},
		"two of one name":          {within("USER-D~1   ", 0, []byte("FOLDER     ")...), `"FOLDER"`},
		"no such table":            {change(small32(), 40, 0x82), "table 2 of 2"},
		"a root without end":       {change(small32(), 4*512+8, 2), "no end"},
		"a root at a large number": {change(small32(), 44, 0, 0, 0, 0xff), "cluster 4278190080 of"},
		"a table that is far away": {change(small32(), 36, 0xff, 0xff, 0xff, 0xff), "no room"},
	} {
		_, err := fat.Open(bytes.NewReader(c.image), int64(len(c.image)))
		if !errors.Is(err, fat.ErrFormat) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := within("FILE       ", 28, 0xff, 0xff, 0xff, 0xff)
	if _, err := fat.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, fat.ErrLimit) {
		t.Errorf("a file of 4 GiB: %v", err)
	}
}

func TestAnErrorOfTheReaderIsHandedOn(t *testing.T) {
	broken := errors.New("broken disk")
	b := small(t)
	for good := range int64(60) {
		r := readerAt(func(p []byte, off int64) (int, error) {
			if off >= good*512 {
				return 0, broken
			}
			return bytes.NewReader(b).ReadAt(p, off)
		})
		m, err := fat.Open(r, int64(len(b)))
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
	m, err := fat.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		if !errors.Is(err, fat.ErrFormat) && !errors.Is(err, fat.ErrLimit) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	total := 0
	err = fs.WalkDir(m, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !fs.ValidPath(path) {
			t.Fatalf("a path %q", path)
		}
		b, err := m.ReadFile(path)
		total += len(b)
		return err
	})
	if err != nil || total > fat.MaxBytes || len(m.Label()) > 3*11 {
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
	rng := rand.New(rand.NewPCG(3, 3))
	for _, sound := range [][]byte{write(t, seed())[:128<<10], small32()} {
		if len(sound) == 128<<10 {
			copy(sound[19:], []byte{0, 1}) // as many sectors as are left
		}
		open(t, sound)
		for range damages() {
			b := bytes.Clone(sound)
			for range 1 + rng.IntN(4) {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
			readAll(t, b)
		}
	}
}

// FuzzOpen takes a list of edits: a whole volume is too large an input to be
// minimised in time. Three bytes are an edit, two of them its place.
func FuzzOpen(f *testing.F) {
	sound := small(f)[:1<<16]
	copy(sound[19:], []byte{128, 0})
	for _, edits := range []string{"", "\x00\x0d\x08", "\x0a\x00\xe5\x0a\x20\xe5"} {
		f.Add(false, uint16(0), []byte(edits))
		f.Add(true, uint16(1), []byte(edits))
	}
	f.Fuzz(func(t *testing.T, large bool, short uint16, edits []byte) {
		b := bytes.Clone(sound)
		if large {
			b = small32()
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
		files := []fat.File{{Path: one, Data: data}, {Path: two}}
		if err := fat.Write(io.Discard, files); err == nil {
			same(t, open(t, write(t, files)), files)
		} else if !errors.Is(err, fat.ErrName) && !errors.Is(err, fat.ErrLimit) {
			t.Fatal(err)
		}
	})
}
