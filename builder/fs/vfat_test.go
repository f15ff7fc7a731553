package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

func boot() map[string]Content {
	return map[string]Content{
		"EFI/BOOT/BOOTX64.EFI":                        bytes.NewReader(fstest.Noise(5 << 20)),
		"EFI/Linux/debian-minimal.efi":                bytes.NewReader(fstest.Noise(100)),
		"loader/loader.conf":                          bytes.NewReader([]byte("timeout 0\n")),
		"loader/entries/a long name with spaces.conf": bytes.NewReader(nil),
	}
}

func needVFAT(t *testing.T) {
	t.Helper()
	fstest.Need(t, "mkfs.vfat", "fsck.vfat", "mmd", "mcopy", "mdir", "mtype")
}

// clusters returns the count that tells FAT32 from FAT16.
func clusters(t *testing.T, image string) uint32 {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	sectors, reserved, tables, table := le.Uint32(b[32:]), uint32(le.Uint16(b[14:])), uint32(b[16]), le.Uint32(b[36:])
	return (sectors - reserved - tables*table) / uint32(b[13])
}

func TestVFATHasTheFiles(t *testing.T) {
	needVFAT(t)
	for tool, h := range tools(t) {
		for name, opts := range map[string][]VFATOption{
			"least size":        {VFATLabel("ESP")},
			"given size":        {VFATSize(300 << 20)},
			"4096-byte sectors": {VFATSectorSize(4096), VFATLabel("ESP")},
		} {
			t.Run(tool+" "+name, func(t *testing.T) {
				image := filepath.Join(scratch(t, h), "esp")
				if err := NewVFAT(h, clock, 0xcafe0123, opts...).Write(t.Context(), boot(), image); err != nil {
					t.Fatal(err)
				}
				if got := detectFile(t, image); got != KindVFAT {
					t.Errorf("Detect: %q", got)
				}
				if n := clusters(t, image); n < fatMinClusters {
					t.Errorf("%d clusters make it FAT16", n)
				}
				fstest.Output(t, "fsck.vfat", "-n", image)
				if s := fstest.Output(t, "mdir", "-i", image, "::/EFI/BOOT"); !strings.Contains(s, "CAFE-0123") || strings.Count(s, "2023-11-14  22:13") != 3 {
					t.Errorf("serial or times are not as given:\n%s", s)
				}
				for path, c := range boot() {
					want := make([]byte, c.Size())
					c.ReadAt(want, 0)
					got, err := exec.Command("mtype", "-i", image, "::/"+path).Output()
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: %v, %d bytes of %d", path, err, len(got), len(want))
					}
				}
			})
		}
	}
}

func TestVFATSameFilesSameBytes(t *testing.T) {
	needVFAT(t)
	var first string
	for i, h := range []host{{}, {umask: 0o077, extra: []string{"HOME=/nonexistent", "LANG=de_DE.UTF-8"}}} {
		image := filepath.Join(t.TempDir(), "esp")
		if err := NewVFAT(h, clock, 1, VFATLabel("ESP")).Write(t.Context(), boot(), image); err != nil {
			t.Fatal(err)
		}
		if got := fstest.Digest(t, image); i == 0 {
			first = got
		} else if got != first {
			t.Error("made twice the file system differs")
		}
	}
}

func TestVFATFillsItsSize(t *testing.T) {
	needVFAT(t)
	for _, n := range []int{30 << 20, 60 << 20} {
		files := map[string]Content{"EFI/BOOT/BOOTX64.EFI": bytes.NewReader(make([]byte, n))}
		image := filepath.Join(t.TempDir(), "esp")
		if err := NewVFAT(host{}, clock, 1).Write(t.Context(), files, image); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(image)
		if err != nil {
			t.Fatal(err)
		}
		least := int64(34 << 20)
		if most := max(least, int64(n)) + 2<<20; info.Size() > most || info.Size()%(1<<20) != 0 {
			t.Errorf("%d bytes of files: the file system has %d", n, info.Size())
		}
		if err := NewVFAT(host{}, clock, 1, VFATSize(info.Size()-1<<20)).Write(t.Context(), files, image); !errors.Is(err, ErrNoSpace) {
			t.Errorf("%d bytes of files, 1 MiB less: got %v", n, err)
		}
	}
}

func TestVFATRefuses(t *testing.T) {
	some := bytes.NewReader([]byte("x"))
	for name, w := range map[string]struct {
		files map[string]Content
		opts  []VFATOption
	}{
		"absolute":            {files: map[string]Content{"/EFI/x": some}},
		"parent":              {files: map[string]Content{"../x": some}},
		"empty":               {files: map[string]Content{"": some}},
		"unclean":             {files: map[string]Content{"a//b": some}},
		"wildcard":            {files: map[string]Content{"a*": some}},
		"colon":               {files: map[string]Content{"a:b": some}},
		"dot at the end":      {files: map[string]Content{"a.": some}},
		"control character":   {files: map[string]Content{"a\n": some}},
		"same but for case":   {files: map[string]Content{"EFI/a": some, "EFI/A": some}},
		"folders' case":       {files: map[string]Content{"EFI/a": some, "efi/b": some}},
		"file and folder":     {files: map[string]Content{"EFI": some, "EFI/b": some}},
		"label":               {opts: []VFATOption{VFATLabel("lower case")}},
		"sector size":         {opts: []VFATOption{VFATSectorSize(1024)}},
		"too small for FAT32": {opts: []VFATOption{VFATSize(1 << 20)}},
		"odd size":            {opts: []VFATOption{VFATSize(64<<20 + 1)}},
	} {
		if err := NewVFAT(nil, clock, 1, w.opts...).Write(t.Context(), w.files, filepath.Join(t.TempDir(), "esp")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDetect(t *testing.T) {
	at := func(offset int, magic string) []byte {
		b := make([]byte, 70<<10)
		copy(b[offset:], magic)
		return b
	}
	for want, b := range map[string][]byte{
		"":           make([]byte, 70<<10),
		KindSquashfs: at(0, "hsqs"),
		KindBtrfs:    at(65600, "_BHRfS_M"),
		KindXFS:      at(0, "XFSB"),
		KindSwap:     at(4086, "SWAPSPACE2"),
		KindLUKS:     at(0, "LUKS\xba\xbe"),
		KindVerity:   at(0, "verity\x00\x00"),
		KindISO9660:  at(32768, "\x01CD001"),
	} {
		if got := Detect(bytes.NewReader(b)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, b := range [][]byte{nil, {1}, []byte("hsq"), make([]byte, 511)} {
		if got := Detect(bytes.NewReader(b)); got != "" {
			t.Errorf("%d bytes: got %q", len(b), got)
		}
	}
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Add(append(make([]byte, 510), 0x55, 0xaa))
	f.Fuzz(func(t *testing.T, b []byte) { Detect(bytes.NewReader(b)) })
}
