package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
)

func id(n byte) uuid.UUID {
	u := uuid.MustParse("11111111-2222-4333-8444-555555555500")
	u[15] = n
	return u
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// appliance is the layout of an ordinary image.
func appliance() Layout {
	return Layout{
		DiskUUID: id(1),
		Partitions: []Partition{
			{Type: TypeESP, UUID: id(2), Label: "ESP", Content: bytes.NewReader(noise(3<<20 + 512))},
			{Type: TypeRootAMD64, UUID: id(3), Label: "root-1.0", Attributes: AttrReadOnly, Content: bytes.NewReader(append(make([]byte, 5<<20), noise(100)...))},
			{Type: TypeVerityAMD64, UUID: id(4), Label: "root-1.0-verity", Attributes: AttrReadOnly, Content: bytes.NewReader(noise(8192))},
			{Type: TypeLinux, UUID: id(5), Label: "größe 𝄞", Attributes: AttrGrowFS | AttrNoAuto, Size: 10 << 20},
		},
	}
}

func write(t *testing.T, l Layout) (string, *Plan) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := Write(t.Context(), f, l)
	if err != nil {
		t.Fatal(err)
	}
	return path, p
}

func read(t *testing.T, path string) *Table {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func (p *Plan) text() string {
	s := fmt.Sprintf("disk %d bytes of %d, usable %d to %d\n", p.Size, p.SectorSize, p.FirstUsable, p.LastUsable)
	for i, part := range p.Partitions {
		s += fmt.Sprintf("%d %-17s byte %d size %d sectors %d to %d\n", part.Index, part.Label, p.Offset(i), part.Size, part.FirstLBA, part.LastLBA)
	}
	return s
}

func TestPlan(t *testing.T) {
	fixed := appliance()
	fixed.Size = 64 << 20
	large := appliance()
	large.SectorSize = 4096
	gap := appliance()
	gap.Partitions[2].Start = 32 << 20
	for _, c := range []struct {
		name   string
		layout Layout
		want   string
	}{
		{"computed size", appliance(), `disk 24117248 bytes of 512, usable 34 to 47070
1 ESP               byte 1048576 size 4194304 sectors 2048 to 10239
2 root-1.0          byte 5242880 size 6291456 sectors 10240 to 22527
3 root-1.0-verity   byte 11534336 size 1048576 sectors 22528 to 24575
4 größe 𝄞           byte 12582912 size 10485760 sectors 24576 to 45055
`},
		{"given size", fixed, `disk 67108864 bytes of 512, usable 34 to 131038
1 ESP               byte 1048576 size 4194304 sectors 2048 to 10239
2 root-1.0          byte 5242880 size 6291456 sectors 10240 to 22527
3 root-1.0-verity   byte 11534336 size 1048576 sectors 22528 to 24575
4 größe 𝄞           byte 12582912 size 10485760 sectors 24576 to 45055
`},
		{"4096-byte sectors", large, `disk 24117248 bytes of 4096, usable 6 to 5882
1 ESP               byte 1048576 size 4194304 sectors 256 to 1279
2 root-1.0          byte 5242880 size 6291456 sectors 1280 to 2815
3 root-1.0-verity   byte 11534336 size 1048576 sectors 2816 to 3071
4 größe 𝄞           byte 12582912 size 10485760 sectors 3072 to 5631
`},
		{"a partition at its own place", gap, `disk 46137344 bytes of 512, usable 34 to 90078
1 ESP               byte 1048576 size 4194304 sectors 2048 to 10239
2 root-1.0          byte 5242880 size 6291456 sectors 10240 to 22527
3 root-1.0-verity   byte 33554432 size 1048576 sectors 65536 to 67583
4 größe 𝄞           byte 34603008 size 10485760 sectors 67584 to 88063
`},
		{"an empty disk", Layout{DiskUUID: id(1)}, "disk 1048576 bytes of 512, usable 34 to 2014\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.layout.Plan()
			if err != nil {
				t.Fatal(err)
			}
			if got := p.text(); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	change := func(f func(*Layout)) Layout { l := appliance(); f(&l); return l }
	for _, c := range []struct {
		name   string
		layout Layout
		is     error
		says   string
	}{
		{"small disk", change(func(l *Layout) { l.Size = 20 << 20 }), ErrTooSmall, "disk of 20971520 bytes is too small: partitions and backup table need 23085568, 2114048 more"},
		{"small partition", change(func(l *Layout) { l.Partitions[0].Size = 1 << 20 }), ErrTooSmall, `partition 1 ("ESP"): too small: 1048576 bytes for a content of 3146240, 2097664 more are needed`},
		{"overlap", change(func(l *Layout) { l.Partitions[2].Start = 10 << 20 }), ErrOverlap, `partition 3 ("root-1.0-verity") begins at byte 10485760, 1048576 before the end of partition 2 ("root-1.0")`},
		{"on the table", change(func(l *Layout) { l.Partitions[0].Start = 512 }), ErrOverlap, "begins at byte 512, the partition table ends at 17408"},
		{"sector size", change(func(l *Layout) { l.SectorSize = 1024 }), ErrLayout, "use 512 or 4096"},
		{"size of disk", change(func(l *Layout) { l.Size = 1<<30 + 1 }), ErrLayout, "multiple"},
		{"no disk UUID", change(func(l *Layout) { l.DiskUUID = uuid.Nil }), ErrLayout, "no UUID"},
		{"no UUID", change(func(l *Layout) { l.Partitions[1].UUID = uuid.Nil }), ErrLayout, "all zeros"},
		{"same UUID", change(func(l *Layout) { l.Partitions[1].UUID = id(2) }), ErrLayout, "has the UUID of partition 1"},
		{"type", change(func(l *Layout) { l.Partitions[1].Type = "root" }), ErrLayout, "not a GUID"},
		{"label", change(func(l *Layout) { l.Partitions[1].Label = strings.Repeat("𝄞", 19) }), ErrLayout, "38 UTF-16"},
		{"nothing in it", change(func(l *Layout) { l.Partitions[3].Size = 0 }), ErrLayout, "neither size nor content"},
		{"negative", change(func(l *Layout) { l.Partitions[3].Size = -512 }), ErrLayout, "multiples"},
		{"unaligned to sectors", change(func(l *Layout) { l.Partitions[3].Size = 1000 }), ErrLayout, "multiples"},
		{"empty content", change(func(l *Layout) { l.Partitions[0].Content = bytes.NewReader(nil) }), ErrLayout, "content has 0 bytes"},
		{"too many", Layout{DiskUUID: id(1), Partitions: make([]Partition, 129)}, ErrLayout, "room for 128"},
		{"beyond everything", change(func(l *Layout) { l.Partitions[3].Start = maxDisk / 512 * 512 }), ErrLayout, "ends beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.layout.Plan()
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that is %v and says %q", err, c.is, c.says)
			}
		})
	}
}

func TestReadGivesWhatWasWritten(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		l := appliance()
		l.SectorSize = sector
		path, p := write(t, l)
		table := read(t, path)
		if len(table.Problems) > 0 || table.FromBackup {
			t.Errorf("problems: %v", table.Problems)
		}
		if table.DiskUUID != l.DiskUUID || table.SectorSize != sector || table.Size != p.Size || table.FirstUsable != p.FirstUsable || table.LastUsable != p.LastUsable {
			t.Errorf("got %+v, want %+v", table, p)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range table.Partitions {
			w := p.Partitions[i]
			want := Entry{w.Index, w.Type, w.UUID, w.Label, w.Attributes, w.FirstLBA, w.LastLBA, p.Offset(i), w.Size}
			if e != want {
				t.Errorf("got %+v, want %+v", e, want)
			}
			if w.Content == nil {
				continue
			}
			content, _ := io.ReadAll(io.NewSectionReader(w.Content, 0, w.Content.Size()))
			content = append(content, make([]byte, e.Size-int64(len(content)))...)
			if !bytes.Equal(raw[e.Offset:e.Offset+e.Size], content) {
				t.Errorf("partition %d has other contents", e.Index)
			}
		}
	}
}

func TestSameLayoutSameBytes(t *testing.T) {
	a, _ := write(t, appliance())
	b, _ := write(t, appliance())
	x, _ := os.ReadFile(a)
	y, _ := os.ReadFile(b)
	if !bytes.Equal(x, y) {
		t.Error("written twice the disk differs")
	}
}

// allocated is the room a file takes, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestHolesStayHoles(t *testing.T) {
	content := filepath.Join(t.TempDir(), "content")
	f, err := os.Create(content)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 100 << 20, 300<<20 - 8192} {
		if _, err := f.WriteAt(noise(8192), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(400 << 20); err != nil {
		t.Fatal(err)
	}
	file, err := File(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Content{"a file": file, "a reader": io.NewSectionReader(f, 0, file.Size())} {
		path, p := write(t, Layout{DiskUUID: id(1), Size: 4 << 40, Partitions: []Partition{{Type: TypeLinux, UUID: id(2), Content: c}}})
		if got := allocated(t, path); got > 1<<20 {
			t.Errorf("%s: the disk takes %d bytes", name, got)
		}
		raw, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		for _, off := range []int64{0, 4096, 50 << 20, 100 << 20, 300<<20 - 4096, 300 << 20} {
			want, got := make([]byte, 4096), make([]byte, 4096)
			f.ReadAt(want, off)
			raw.ReadAt(got, p.Offset(0)+off)
			if !bytes.Equal(got, want) {
				t.Errorf("%s: byte %d differs", name, off)
			}
		}
		if table := read(t, path); len(table.Problems) > 0 {
			t.Errorf("%s: 4 TiB: %v", name, table.Problems)
		}
		tools(t, path, 512)
	}
}

func TestShrunkenContentIsAnError(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "content"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write(noise(1 << 20))
	c, err := File(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(1000)
	out, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	_, err = Write(t.Context(), out, Layout{DiskUUID: id(1), Partitions: []Partition{{Type: TypeLinux, UUID: id(2), Content: c}}})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// tools asks sfdisk and sgdisk whether they find anything wrong.
func tools(t *testing.T, path string, sector int64) {
	t.Helper()
	for _, argv := range [][]string{{"sfdisk", "--verify", path}, {"sgdisk", "-v", path}} {
		tool := "/usr/sbin/" + argv[0]
		if _, err := os.Stat(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed on this machine (Debian packages fdisk and gdisk)", argv[0])
		}
		if sector != 512 {
			continue // both take the sectors of a file to be of 512 bytes
		}
		out, err := exec.Command(tool, argv[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No errors detected") && !strings.Contains(string(out), "No problems found") {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
}

func TestToolsFindNothingWrong(t *testing.T) {
	path, p := write(t, appliance())
	tools(t, path, 512)
	out, err := exec.Command("/usr/sbin/sfdisk", "-J", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		PartitionTable struct {
			Label, ID                     string
			FirstLBA, LastLBA, SectorSize int64
			Partitions                    []struct {
				Start, Size             int64
				Type, UUID, Name, Attrs string
			}
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	table := got.PartitionTable
	if table.Label != "gpt" || !strings.EqualFold(table.ID, p.DiskUUID.String()) || table.FirstLBA != p.FirstUsable || table.LastLBA != p.LastUsable || len(table.Partitions) != len(p.Partitions) {
		t.Errorf("sfdisk says %s", out)
	}
	attrs := []string{"", "GUID:60", "GUID:60", "GUID:59,63"}
	for i, g := range table.Partitions {
		w := p.Partitions[i]
		if g.Start != w.FirstLBA || g.Size != w.LastLBA-w.FirstLBA+1 || !strings.EqualFold(g.Type, w.Type) || !strings.EqualFold(g.UUID, w.UUID.String()) || g.Name != w.Label || g.Attrs != attrs[i] {
			t.Errorf("sfdisk says %+v, want %+v with %s", g, w, attrs[i])
		}
	}
}

func TestTypesByArchitecture(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "root-x86-64", "arm64": "root-arm64"} {
		types, err := TypesFor(arch)
		if err != nil || TypeName(types.Root) != want || TypeName(types.Verity) != want+"-verity" || TypeName(strings.ToUpper(types.VeritySig)) != want+"-verity-sig" {
			t.Errorf("%s: %+v, %v", arch, types, err)
		}
	}
	if _, err := TypesFor("i386"); err == nil {
		t.Error("i386 has types")
	}
}
