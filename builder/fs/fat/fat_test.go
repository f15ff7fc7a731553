package fat

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

// host runs the machine's programs.
type host struct{}

func (host) Run(ctx context.Context, cmd fs.Command) error {
	// env looks for the program in the PATH that it is given.
	c := exec.CommandContext(ctx, "env", cmd.Argv...)
	c.Dir, c.Env = cmd.Dir, append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, cmd.Env...)
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	return c.Run()
}

func TestReaderReadsWhatWasWritten(t *testing.T) {
	fstest.Need(t, "mkfs.vfat", "mmd", "mcopy")
	path := filepath.Join(t.TempDir(), "fat")
	files := map[string]fs.Content{
		"EFI/BOOT/BOOTX64.EFI":                          bytes.NewReader(bytes.Repeat([]byte("kernel"), 50000)),
		"EFI/Linux/an appliance with a long name_1.efi": bytes.NewReader([]byte("x")),
		"loader/empty":                                  bytes.NewReader(nil),
	}
	if err := fs.NewVFAT(host{}, fstest.Clock, 1, fs.VFATLabel("ESP")).Write(t.Context(), files, path); err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(image, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		want := make([]byte, content.Size())
		content.ReadAt(want, 0)
		got, err := r.ReadFile(name, 1<<20)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if entries, err := r.ReadDir("efi/linux"); err != nil || len(entries) != 1 || entries[0].Name != "an appliance with a long name_1.efi" {
		t.Errorf("EFI/Linux: %v, %v", entries, err)
	}
	if _, err := r.ReadDir("EFI/none"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	if _, err := r.ReadFile("EFI/BOOT/BOOTX64.EFI", 10); !errors.Is(err, ErrFormat) {
		t.Errorf("a file over the limit: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	// A file system of a few sectors: one table, one folder with one file.
	small := make([]byte, 16*512)
	copy(small[bpbBytesPerSector:], []byte{0, 2, 1, 1, 0, 1})
	small[bpbTotalSectors], small[bpbTableSize], small[bpbRootCluster] = 16, 1, 2
	small[510], small[511] = 0x55, 0xaa
	copy(small[512+8:], "\xff\xff\xff\x0f\xff\xff\xff\x0f")
	copy(small[1024:], "BOOT    EFI")
	small[1024+dirClusterLow], small[1024+dirFileSize] = 3, 9
	f.Add(small)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		entries, err := r.ReadDir(".")
		if err != nil {
			return
		}
		for _, e := range entries {
			content, err := r.ReadFile(e.Name, 1<<20)
			if err == nil && !e.Dir && int64(len(content)) > 1<<20 {
				t.Errorf("%d bytes were read", len(content))
			}
		}
	})
}
