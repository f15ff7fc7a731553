package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is needed to make files of all owners")
	}
}

func fromDir(t *testing.T, dir string, options ...PackOption) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := FromDir(context.Background(), dir, &b, clock, options...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestExtractAndFromDirAreInverse lays the sample on the disk and reads it
// back: the same bytes.
func TestExtractAndFromDirAreInverse(t *testing.T) {
	needRoot(t)
	tr := sample(t)
	// The attribute has to be one that the kernel takes.
	err := tr.Change("usr/bin/ping", func(e *Entry) {
		e.Xattrs["security.capability"] = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	})
	if err != nil {
		t.Fatal(err)
	}
	want := writeTar(t, tr)
	dir := t.TempDir()
	if err := Extract(context.Background(), bytes.NewReader(want), dir); err != nil {
		t.Fatal(err)
	}
	got := fromDir(t, dir)
	if !bytes.Equal(got, want) {
		differences, err := Diff(tr, index(t, got))
		t.Errorf("the bytes differ: %v, %v, %v", differences, DiffTimes(tr, index(t, got)), err)
	}
	// A second time, over what is there.
	if err := Extract(context.Background(), bytes.NewReader(want), dir); err != nil {
		t.Fatal(err)
	}
	if again := fromDir(t, dir); !bytes.Equal(again, want) {
		t.Error("extracting over the tree changed it")
	}
}

func TestFromDirIgnoresAndNotices(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"keep/a", "cache/x/y", "cache/z", "gone/a"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir) // the name of a socket must be short
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var notices []string
	data := fromDir(t, dir, Ignore("cache/*", "gone"), Notice(func(s string) { notices = append(notices, s) }))
	var paths []string
	index(t, data).Walk(func(e *Entry) error { paths = append(paths, e.Path); return nil })
	if got := strings.Join(paths, " "); got != ". cache keep keep/a" {
		t.Errorf("paths %s", got)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "/socket: a socket") {
		t.Errorf("notices %q", notices)
	}
	if err := FromDir(context.Background(), dir, io.Discard, clock, Ignore("[")); err == nil {
		t.Error("a malformed pattern was taken")
	}
}

// TestFromDirEndsCleanly stops it by the context, by the writer and by a
// folder that is not there: no goroutine may hang.
func TestFromDirEndsCleanly(t *testing.T) {
	dir := t.TempDir()
	for i := range 600 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 8<<10), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	full := errors.New("no space left")
	if err := FromDir(context.Background(), dir, &limited{left: 2 << 20, err: full}, clock); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := FromDir(ctx, dir, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), clock); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := FromDir(context.Background(), dir+"/none", io.Discard, clock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type limited struct {
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, l.err
	}
	return len(p), nil
}

func TestExtractStaysBelowTheFolder(t *testing.T) {
	outside := t.TempDir()
	for what, headers := range map[string][]tar.Header{
		"absolute":        {{Name: outside + "/evil", Typeflag: tar.TypeReg}},
		"dots":            {{Name: "../evil", Typeflag: tar.TypeReg}},
		"through a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/evil", Typeflag: tar.TypeReg}},
		"over a link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside + "/evil"}, {Name: "l", Typeflag: tar.TypeReg}},
		"folder mode":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/", Typeflag: tar.TypeDir, Mode: 0o777}},
		"hard link there": {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/passwd"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Uid, h.Gid = os.Getuid(), os.Getgid()
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		before, _ := os.Stat(outside)
		err := Extract(context.Background(), &b, t.TempDir())
		t.Logf("%s: %v", what, err)
		if found, _ := os.ReadDir(outside); len(found) > 0 {
			t.Fatalf("%s: there is a file outside", what)
		}
		if after, _ := os.Stat(outside); after.Mode() != before.Mode() {
			t.Fatalf("%s: a folder outside changed its mode to %v", what, after.Mode())
		}
	}
}

func TestCapabilitiesOfAUserNamespaceBecomePlain(t *testing.T) {
	v3 := "\x01\x00\x00\x03" + strings.Repeat("\x00", 16) + "\xa0\x86\x01\x00"
	want := "\x01\x00\x00\x02" + strings.Repeat("\x00", 16)
	if got := plainCapability([]byte(v3)); string(got) != want {
		t.Errorf("%x", got)
	}
	if got := plainCapability([]byte(want)); string(got) != want {
		t.Errorf("%x", got)
	}
}

func oracle(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: the program %s is missing", name)
	}
	return path
}

// TestGNUTarReadsAndWritesTheSame has GNU tar unpack what is written here,
// and pack it for Index to read.
func TestGNUTarReadsAndWritesTheSame(t *testing.T) {
	needRoot(t)
	tool := oracle(t, "tar")
	tr := sample(t)
	tr.Change("usr/bin/ping", func(e *Entry) { e.Xattrs = map[string]string{"user.x": "y"} })
	want := writeTar(t, tr)
	dir := t.TempDir()
	unpack := exec.Command(tool, "--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir)
	unpack.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	unpack.Stdin = bytes.NewReader(want)
	out, err := unpack.CombinedOutput()
	if rest := bytes.TrimSpace(out); err != nil || len(rest) > 0 && !bytes.HasSuffix(rest, []byte("implausibly old time stamp 1969-12-31 23:59:55")) {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if got := fromDir(t, dir); !bytes.Equal(got, want) {
		differences, err := Diff(tr, index(t, got))
		t.Errorf("GNU tar made something else: %v, %v, %v", differences, DiffTimes(tr, index(t, got)), err)
	}
	for _, format := range []string{"gnu", "pax"} {
		out, err := exec.Command(tool, "--create", "--format="+format, "--numeric-owner", "--sort=name", "-C", dir, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		differences, err := Diff(tr, index(t, out))
		for _, d := range differences {
			if d.What != DiffXattr {
				t.Errorf("%s: %v %v", format, d, err)
			}
		}
	}
}

// TestMksquashfsTakesTheStream makes a squashfs of the tar stream and has
// unsquashfs make the files.
func TestMksquashfsTakesTheStream(t *testing.T) {
	needRoot(t)
	mksquashfs, unsquashfs := oracle(t, "mksquashfs"), oracle(t, "unsquashfs")
	tr := sample(t)
	tr.Change("usr/bin/ping", func(e *Entry) { e.Xattrs = map[string]string{"user.x": "y"} })
	tr.Change("old", func(e *Entry) { e.ModTime = time.Unix(5, 0) }) // squashfs has no times before 1970
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "root")
	make := exec.Command(mksquashfs, "-", image, "-tar", "-no-progress", "-quiet")
	make.Stdin = bytes.NewReader(writeTar(t, tr))
	// The root's entry is of no use to mksquashfs, which says so and goes on.
	out, err := make.CombinedOutput()
	if rest := bytes.TrimSpace(out); err != nil || len(rest) > 0 && !bytes.HasPrefix(rest, []byte("Empty tar filename")) {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	if out, err := exec.Command(unsquashfs, "-no-progress", "-quiet", "-d", dir, image).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	differences, err := Diff(tr, index(t, fromDir(t, dir)))
	for _, d := range differences {
		if d.Path != "." {
			t.Errorf("%v %v", d, err)
		}
	}
}

// BenchmarkWriteTar copies a tree of many files out of its archive.
func BenchmarkWriteTar(b *testing.B) {
	tr := New()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	for i := range 4000 {
		if err := tr.WriteFile(fmt.Sprintf("d%d/f%d", i%64, i), content, 0o644, 0, 0); err != nil {
			b.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "tar"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := tr.WriteTar(context.Background(), f, clock); err != nil {
		b.Fatal(err)
	}
	st, _ := f.Stat()
	if tr, err = Index(f, st.Size()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	for b.Loop() {
		if err := tr.WriteTar(context.Background(), io.Discard, clock); err != nil {
			b.Fatal(err)
		}
	}
}
