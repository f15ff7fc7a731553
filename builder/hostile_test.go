package builder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/applbuild/applbuild/builder/disk"
)

// damagedESP makes a disk with an EFI system partition of the host's tools.
func damagedESP(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	esp := filepath.Join(dir, "esp")
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, make([]byte, 20000), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"truncate", "-s", "34M", esp},
		{"mkfs.vfat", "-F", "32", esp},
		{"mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/EFI/Linux"},
		{"mcopy", "-i", esp, kernel, "::/EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", esp, kernel, "::/EFI/Linux/appliance_with_a_long_name.efi"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			if _, missing := exec.LookPath(argv[0]); missing != nil {
				t.Skipf("%s is not installed: install dosfstools and mtools", argv[0])
			}
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	in, err := os.Open(esp)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	content, err := disk.File(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	layout := disk.Layout{DiskUUID: uuid.UUID{1}, Partitions: []disk.Partition{{Type: disk.TypeESP, UUID: uuid.UUID{2}, Label: "ESP", Content: content}}}
	if _, err := disk.Write(t.Context(), out, layout); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A disk comes from anywhere: whatever its file system says, reading it ends,
// with an error or without.
func TestInspectingADamagedESPEndsWithoutPanic(t *testing.T) {
	good := damagedESP(t)
	name := filepath.Join(t.TempDir(), "bad.raw")
	if err := os.WriteFile(name, good, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const esp = 1 << 20 // where the partition begins
	// Fields of the boot sector (Microsoft FAT specification, section 3.1):
	// offset and what stands there instead.
	for _, field := range []struct {
		offset int64
		bytes  string
	}{
		{11, "\x00\x00"}, {11, "\xff\xff"}, {13, "\x00"}, {13, "\xff"}, {14, "\x00\x00"}, {14, "\xff\xff"}, {16, "\x00"},
		{32, "\xff\xff\xff\xff"}, {36, "\x00\x00\x00\x00"}, {36, "\xff\xff\xff\x7f"}, {44, "\xff\xff\xff\x0f"}, {44, "\x00\x00\x00\x00"},
	} {
		damage(t, f, good, name, func() { f.WriteAt([]byte(field.bytes), esp+field.offset) })
	}
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		damage(t, f, good, name, func() {
			for range 1 + random.IntN(8) {
				f.WriteAt([]byte{byte(random.IntN(256))}, esp+int64(random.IntN(1<<20)))
			}
		})
	}
}

// damage changes the disk, inspects it and mends it.
func damage(t *testing.T, f *os.File, good []byte, name string, change func()) {
	t.Helper()
	change()
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
			done <- err
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		// Whether it is an error is not the question.
		_, _ = Inspect(ctx, name)
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no end")
	}
	if _, err := f.WriteAt(good[:3<<20], 0); err != nil {
		t.Fatal(err)
	}
}
