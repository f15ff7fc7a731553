package fstest

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Need skips the test where programs are missing.
func Need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if !exists(p) {
			t.Skipf("SKIPPED: the program %s is not installed on this machine", p)
		}
	}
}

func exists(program string) bool {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

// Output runs a program of the machine, which must succeed.
func Output(t *testing.T, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// Digest returns a file's SHA-256.
func Digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// WantBlkid asks blkid what an image is.
func WantBlkid(t *testing.T, image, kind, label string) {
	t.Helper()
	Need(t, "blkid")
	got := Output(t, "blkid", "-p", "-o", "export", image)
	for _, line := range []string{"TYPE=" + kind, "LABEL=" + label, "UUID=" + ID.String()} {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("blkid does not say %s:\n%s", line, got)
		}
	}
}

// Mount mounts an image read-only and returns where.
func Mount(t *testing.T, kind, image string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting an image needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop,ro", image, dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// MountWritable mounts an image and returns where, and what ends it.
func MountWritable(t *testing.T, kind, image string) (dir string, umount func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting an image needs root")
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount %s: %v: %s", kind, err, out)
	}
	mounted := true
	umount = func() {
		if !mounted {
			return
		}
		mounted = false
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
		// The loop device goes a moment after the mount.
		for range 50 {
			if out, _ := exec.Command("losetup", "-j", image).Output(); len(out) == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// Summarize reads a directory into what memory.summary gives.
func Summarize(t *testing.T, root string) map[string]string {
	t.Helper()
	s := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rest, flag := "", byte(tar.TypeReg)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			rest = " " + hex.EncodeToString(sum[:8])
		case syscall.S_IFDIR:
			flag = tar.TypeDir
		case syscall.S_IFLNK:
			flag = tar.TypeSymlink
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			rest = " -> " + to
		case syscall.S_IFIFO:
			flag = tar.TypeFifo
		default:
			flag = tar.TypeChar
			if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
				flag = tar.TypeBlock
			}
			rest = fmt.Sprintf(" %d,%d", st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00)
		}
		s[name] = fmt.Sprintf("%c %04o %d:%d %d", flag, st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec) + rest + xattrs(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func xattrs(t *testing.T, path string) (s string) {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("list extended attributes of %s: %v", path, err)
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("read %s of %s: %v", name, path, err)
		}
		s += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return s
}

// Compare reports what differs between two summaries.
func Compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s:\n  got  %s\n  want %s", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there: %s", name, got[name])
		}
	}
}
