package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadNamesWhatIsWrong(t *testing.T) {
	path, p := write(t, appliance())
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := p.Size - 512
	backupArray := last - arraySize
	// header changes a header and puts its checksum right.
	header := func(b []byte, off int64, change func(h []byte)) {
		h := b[off : off+512]
		change(h)
		binary.LittleEndian.PutUint32(h[offHeaderCRC:], 0)
		binary.LittleEndian.PutUint32(h[offHeaderCRC:], crc32.ChecksumIEEE(h[:gptHeaderSize]))
	}
	// array changes both arrays and puts all checksums right.
	array := func(b []byte, change func(a []byte)) {
		for _, at := range []struct{ array, header int64 }{{1024, 512}, {backupArray, last}} {
			a := b[at.array : at.array+arraySize]
			change(a)
			header(b, at.header, func(h []byte) { binary.LittleEndian.PutUint32(h[offArrayCRC:], crc32.ChecksumIEEE(a)) })
		}
	}
	for _, c := range []struct {
		name   string
		change func(b []byte)
		where  string
		says   string
		backup bool
		parts  int
	}{
		{"MBR signature", func(b []byte) { b[510] = 0 }, "protective MBR", "55 aa", false, 4},
		{"MBR type", func(b []byte) { b[mbrEntry+mbrOSType] = 0x83 }, "protective MBR", "type 0x83", false, 4},
		{"MBR start", func(b []byte) { b[mbrEntry+mbrStartLBA] = 2 }, "protective MBR", "sector 2 instead of 1", false, 4},
		{"MBR size", func(b []byte) { b[mbrEntry+mbrSizeInLBA] ^= 1 }, "protective MBR", "instead of 47103", false, 4},
		{"hybrid MBR", func(b []byte) { b[mbrEntry+mbrEntrySize+mbrOSType] = 0x0c }, "protective MBR", "partition 2 besides", false, 4},
		{"primary header", func(b []byte) { b[512+offDiskGUID] ^= 1 }, "primary header", "checksum", true, 4},
		{"primary magic", func(b []byte) { b[512] = 0 }, "primary header", "begin with", true, 4},
		{"primary entries", func(b []byte) { b[1024+entName] ^= 1 }, "primary entries", "checksum", true, 4},
		{"backup header", func(b []byte) { b[last+offFirstUsable] ^= 1 }, "backup header", "checksum", false, 4},
		{"backup entries", func(b []byte) { b[backupArray+entAttributes] ^= 1 }, "backup entries", "checksum", false, 4},
		{"backup elsewhere", func(b []byte) { header(b, 512, func(h []byte) { h[offAlternate] ^= 8 }) }, "backup header", "not in the disk's last sector", false, 4},
		{"disk GUIDs", func(b []byte) { header(b, last, func(h []byte) { h[offDiskGUID] ^= 1 }) }, "backup header", "disk GUID", false, 4},
		{"revision", func(b []byte) { header(b, 512, func(h []byte) { h[offRevision] = 1 }) }, "primary header", "revision", true, 4},
		{"entry size", func(b []byte) { header(b, 512, func(h []byte) { h[offEntrySize] = 100 }) }, "primary header", "entries of 100 bytes", true, 4},
		{"many entries", func(b []byte) { header(b, 512, func(h []byte) { h[offCount+3] = 0xff }) }, "primary header", "entries of 128 bytes", true, 4},
		{"own sector", func(b []byte) { header(b, last, func(h []byte) { h[offMyLBA] = 9 }) }, "backup header", "it says it is sector", false, 4},
		{"usable range", func(b []byte) { header(b, 512, func(h []byte) { h[offFirstUsable] = 9 }) }, "primary header", "not between header and first usable", false, 4},
		{"overlap", func(b []byte) { array(b, func(a []byte) { a[entrySize+entFirst+1]-- }) }, `partition 2 ("root-1.0")`, `begins in partition 1 ("ESP")`, false, 4},
		{"outside", func(b []byte) { array(b, func(a []byte) { a[entrySize+entLast+7] = 0x7f }) }, `partition 2 ("root-1.0")`, "not on the disk", false, 3},
		{"backwards", func(b []byte) { array(b, func(a []byte) { copy(a[entrySize+entLast:], make([]byte, 8)) }) }, `partition 2 ("root-1.0")`, "not on the disk", false, 3},
		{"not usable", func(b []byte) { array(b, func(a []byte) { copy(a[entFirst:], []byte{20, 0}) }) }, `partition 1 ("ESP")`, "usable range", false, 4},
		{"same UUIDs", func(b []byte) { array(b, func(a []byte) { copy(a[entrySize+entUUID:], a[entUUID:entUUID+16]) }) }, `partition 2 ("root-1.0")`, "UUID of partition 1", false, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.change(b)
			table, err := Read(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, p := range table.Problems {
				found = found || p.Where == c.where && strings.Contains(p.What, c.says)
			}
			if !found {
				t.Errorf("no problem of %s says %q: %v", c.where, c.says, table.Problems)
			}
			if table.FromBackup != c.backup || len(table.Partitions) != c.parts {
				t.Errorf("from backup %v with %d partitions, want %v with %d", table.FromBackup, len(table.Partitions), c.backup, c.parts)
			}
		})
	}
}

func TestReadOfCutAndGrownDisks(t *testing.T) {
	path, p := write(t, appliance())
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b     []byte
		where string
		parts int
	}{
		"cut":           {good[:p.Size-1<<20], "backup header", 4},
		"cut in a part": {good[:16<<20], `partition 4 ("größe 𝄞")`, 3},
		"grown":         {append(bytes.Clone(good), make([]byte, 1<<20)...), "backup header", 4},
	} {
		table, err := Read(bytes.NewReader(c.b), int64(len(c.b)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := false
		for _, p := range table.Problems {
			found = found || p.Where == c.where
		}
		if !found || len(table.Partitions) != c.parts {
			t.Errorf("%s: %d partitions, %v", name, len(table.Partitions), table.Problems)
		}
	}
}

func TestReadOfNoTable(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 10), make([]byte, 512), make([]byte, 1<<20), noise(1 << 16), []byte(strings.Repeat(gptMagic, 1000))} {
		if table, err := Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNoTable) {
			t.Errorf("%d bytes: %+v, %v", len(b), table, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, sector := range []int64{512, 4096} {
		var b bytes.Buffer
		p, err := Layout{DiskUUID: id(1), SectorSize: sector, Size: 256 << 10, Partitions: []Partition{{Type: TypeESP, UUID: id(2), Label: "x", Start: 64 << 10, Size: 64 << 10}}}.Plan()
		if err != nil {
			f.Fatal(err)
		}
		file, err := os.Create(filepath.Join(f.TempDir(), "disk"))
		if err != nil {
			f.Fatal(err)
		}
		if err := p.write(f.Context(), file); err != nil {
			f.Fatal(err)
		}
		file.Seek(0, io.SeekStart)
		b.ReadFrom(file)
		file.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// With right checksums more of it is read.
		for _, sector := range []int{512, 4096} {
			if len(b) >= 6*sector+arraySize {
				h, array := b[sector:], b[2*sector:2*sector+arraySize]
				binary.LittleEndian.PutUint32(h[offArrayCRC:], crc32.ChecksumIEEE(array))
				clear(h[offHeaderCRC : offHeaderCRC+4])
				binary.LittleEndian.PutUint32(h[offHeaderCRC:], crc32.ChecksumIEEE(h[:gptHeaderSize]))
			}
		}
		table, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, e := range table.Partitions {
			if e.Offset < 0 || e.Size <= 0 || e.Offset+e.Size > int64(len(b)) {
				t.Errorf("partition outside the disk: %+v", e)
			}
		}
	})
}
