package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"
)

var clock = time.Unix(1_700_000_000, 0)

// sample has one of everything that an archive can hold.
func sample(t *testing.T) *Tree {
	t.Helper()
	tr := New()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old := time.Unix(1_500_000_000, 0)
	must(tr.Put(&Entry{Path: "usr/bin", Typeflag: TypeDir, Mode: 0o755, ModTime: old}))
	must(tr.Symlink("usr/bin", "bin"))
	must(tr.Put(NewFile(Entry{Path: "bin/ping", Mode: 0o4755, UID: 1, GID: 2, ModTime: old,
		Xattrs: map[string]string{"user.b": "two", "security.capability": "\x01\x00\x00\x02\x00 \x00\x00"}},
		strings.NewReader("ping"), 4)))
	must(tr.Put(&Entry{Path: "usr/bin/zping", Typeflag: TypeLink, Linkname: "usr/bin/ping"}))
	must(tr.WriteFile("etc/empty", nil, 0o600, 0, 0))
	must(tr.WriteFile("etc/naïve \xff", []byte(strings.Repeat("x", 1<<20+7)), 0o644, 65534, 1<<22))
	must(tr.Put(&Entry{Path: "dev/null", Typeflag: TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}))
	must(tr.Put(&Entry{Path: "dev/sda", Typeflag: TypeBlock, Mode: 0o660, Devmajor: 8}))
	must(tr.Put(&Entry{Path: "run/pipe", Typeflag: TypeFifo, Mode: 0o600}))
	long := strings.Repeat("d", 90)
	for _, n := range []int{90, 99, 100, 101, 120, 155, 200, 255} {
		must(tr.WriteFile(fmt.Sprintf("long/%s/%s", long, strings.Repeat("f", n)), []byte("1"), 0o644, 0, 0))
	}
	must(tr.WriteFile("long/"+strings.Repeat(long+"/", 4)+"file", []byte("deep"), 0o644, 0, 0))
	must(tr.Symlink(strings.Repeat("t", 300), "long/link"))
	must(tr.Put(&Entry{Path: "old", Typeflag: TypeDir, Mode: 0o1777, ModTime: time.Unix(-5, 0)}))
	must(tr.Put(&Entry{Path: "new", Typeflag: TypeDir, Mode: 0o755, ModTime: clock.Add(time.Hour)}))
	return tr
}

func writeTar(t *testing.T, tr *Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tr.WriteTar(context.Background(), &b, clock); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func index(t *testing.T, data []byte) *Tree {
	t.Helper()
	tr, err := Index(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestWriteTarAndIndexAreInverse(t *testing.T) {
	tr := sample(t)
	data := writeTar(t, tr)
	read := index(t, data)
	if again := writeTar(t, read); !bytes.Equal(data, again) {
		t.Error("the tree read back is written differently")
	}
	differences, err := Diff(tr, read)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Error(d)
	}
	if read.Len() != tr.Len() {
		t.Errorf("%d entries instead of %d", read.Len(), tr.Len())
	}
	e, _ := read.Lookup("new")
	if !e.ModTime.Equal(clock) {
		t.Errorf("a time after the clock became %v", e.ModTime)
	}
	if e, _ = read.Lookup("old"); e.ModTime.Unix() != -5 {
		t.Errorf("a time before 1970 became %v", e.ModTime)
	}
}

// TestArchiveTarReadsWhatIsWritten takes the standard library as the judge.
func TestArchiveTarReadsWhatIsWritten(t *testing.T) {
	tr := sample(t)
	got := tar.NewReader(bytes.NewReader(writeTar(t, tr)))
	err := tr.Walk(func(e *Entry) error {
		h, err := got.Next()
		if err != nil {
			return err
		}
		want := e.Path
		if e.IsDir() {
			want += "/"
		}
		if h.Name != want || h.Typeflag != e.Typeflag || h.Mode != e.Mode || h.Uid != e.UID || h.Gid != e.GID ||
			h.Linkname != e.Linkname || h.Devmajor != e.Devmajor || h.Devminor != e.Devminor ||
			h.Size != e.Size || h.Uname != "" || h.Gname != "" {
			if e.Typeflag != TypeLink {
				t.Errorf("%+v read as %+v", e, h)
			}
		}
		if strings.HasPrefix(h.Name, "./") && e.Path != "." {
			t.Errorf("name %q begins with ./", h.Name)
		}
		for name, value := range e.Xattrs {
			if h.PAXRecords[xattrRecord+name] != value {
				t.Errorf("%s: xattr %s is %q", e.Path, name, h.PAXRecords[xattrRecord+name])
			}
		}
		content, err := io.ReadAll(got)
		if err != nil {
			return err
		}
		wanted, err := io.ReadAll(e.Content())
		if err == nil && !bytes.Equal(content, wanted) {
			t.Errorf("%s: %d bytes of content differ", e.Path, len(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Next(); err != io.EOF {
		t.Errorf("after the last entry: %v", err)
	}
}

// TestIndexReadsOthersArchives reads what archive/tar writes in each format.
func TestIndexReadsOthersArchives(t *testing.T) {
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, h := range []*tar.Header{
			{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
			{Name: "./a/", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "./a/f", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
			{Name: "./a/l", Typeflag: tar.TypeLink, Linkname: "./a/f", Mode: 0o644},
		} {
			h.Format = format
			if err := tw.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				io.WriteString(tw, "abc")
			}
		}
		tw.Close()
		tr := index(t, b.Bytes())
		if data, err := tr.ReadFile("a/l"); err != nil || string(data) != "abc" {
			t.Errorf("%v: a/l has %q, %v", format, data, err)
		}
		if root, _ := tr.Lookup("."); root.Mode != 0o700 {
			t.Errorf("%v: root has mode %o", format, root.Mode)
		}
	}
}

func TestIndexRefuses(t *testing.T) {
	header := func(h tar.Header) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	dir := header(tar.Header{Name: "d/", Typeflag: tar.TypeDir})
	for what, data := range map[string][]byte{
		"absolute name":    header(tar.Header{Name: "/etc", Typeflag: tar.TypeDir}),
		"name with ..":     header(tar.Header{Name: "a/../../b", Typeflag: tar.TypeDir}),
		"missing folder":   header(tar.Header{Name: "no/file", Typeflag: tar.TypeSymlink, Linkname: "x"}),
		"entry twice":      append(bytes.Clone(dir), dir...),
		"dangling link":    header(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "none"}),
		"link leaving":     header(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../x"}),
		"link to a folder": append(bytes.Clone(dir), header(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "d"})...),
		"truncated file":   header(tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1 << 40}),
		"root no folder":   header(tar.Header{Name: "./", Typeflag: tar.TypeSymlink, Linkname: "x"}),
		"file as folder":   append(header(tar.Header{Name: "d", Typeflag: tar.TypeFifo}), header(tar.Header{Name: "d/x", Typeflag: tar.TypeFifo})...),
		"garbage":          bytes.Repeat([]byte("garbage"), 200),
	} {
		if _, err := Index(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestResolveStaysInTheTree(t *testing.T) {
	tr := New()
	for link, target := range map[string]string{
		"bin": "usr/bin", "abs": "/usr/bin/x", "up": "../../../usr", "loop": "loop2", "loop2": "/loop",
		"usr/lib/rel": "../bin/x", "dangling": "nowhere", "dot": ".",
	} {
		if err := tr.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.WriteFile("usr/bin/x", []byte("x"), 0o755, 0, 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"bin/x": "usr/bin/x", "/bin/x": "usr/bin/x", "abs": "usr/bin/x", "up/bin/x": "usr/bin/x",
		"usr/lib/rel": "usr/bin/x", "../../bin": "usr/bin", "": ".", "dot/dot/bin/../bin/x": "usr/bin/x",
	} {
		if e, err := tr.Resolve(path); err != nil || e.Path != want {
			t.Errorf("%q: %v, %v; want %s", path, e, err, want)
		}
	}
	for path, want := range map[string]error{
		"loop": ErrLoop, "dangling": fs.ErrNotExist, "usr/none/x": fs.ErrNotExist, "usr/bin/x/y": ErrNotDir,
	} {
		if _, err := tr.Resolve(path); !errors.Is(err, want) {
			t.Errorf("%q: %v; want %v", path, err, want)
		}
	}
}

func TestEdits(t *testing.T) {
	tr := sample(t)
	// Over the alias, and replacing a link instead of following it.
	if err := tr.WriteFile("bin/tool", []byte("1"), 0o755, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := tr.Symlink("ping", "bin/alias"); err != nil {
		t.Fatal(err)
	}
	if err := tr.WriteFile("bin/alias", []byte("2"), 0o755, 0, 0); err != nil {
		t.Fatal(err)
	}
	if data, _ := tr.ReadFile("usr/bin/ping"); string(data) != "ping" {
		t.Errorf("writing over a link changed its target: %q", data)
	}
	if err := tr.Mkdir("bin", 0o711, 0, 5); err != nil {
		t.Fatal(err)
	}
	if e, _ := tr.Lookup("usr/bin"); e.Mode != 0o711 || e.GID != 5 || len(tr.Children("bin")) != 4 {
		t.Errorf("Mkdir over an alias: %+v, %d in it", e, len(tr.Children("bin")))
	}
	if err := tr.Remove("long"); err != nil {
		t.Fatal(err)
	}
	if err := tr.Remove("none/at/all"); err != nil {
		t.Error(err)
	}
	if tr.Remove("/") == nil {
		t.Error("the root was removed")
	}
	if err := tr.WriteFile("etc/empty/x", nil, 0o644, 0, 0); !errors.Is(err, ErrNotDir) {
		t.Errorf("a file below a file: %v", err)
	}
	if err := tr.WriteFile("../x", nil, 0o644, 0, 0); err == nil {
		t.Error("a path with .. was taken")
	}
	again := index(t, writeTar(t, tr))
	if differences, err := Diff(tr, again); err != nil || len(differences) > 0 {
		t.Errorf("%v %v", differences, err)
	}
}

func TestChangeReachesAllNames(t *testing.T) {
	tr := sample(t)
	err := tr.Change("bin/zping", func(e *Entry) {
		e.Mode, e.UID, e.Path = 0o700, 42, "elsewhere"
		delete(e.Xattrs, "user.b")
	})
	if err != nil {
		t.Fatal(err)
	}
	again := index(t, writeTar(t, tr))
	for _, path := range []string{"usr/bin/ping", "usr/bin/zping"} {
		if e, ok := again.Lookup(path); !ok || e.Mode != 0o700 || e.UID != 42 || e.GID != 2 {
			t.Errorf("%s: %+v", path, e)
		}
	}
	if e, _ := again.Lookup("usr/bin/ping"); len(e.Xattrs) != 1 {
		t.Errorf("xattrs %q", e.Xattrs)
	}
	if err := tr.Change("none", func(*Entry) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestRemovedFileLeavesItsContentToItsLinks removes names of one file in turn.
func TestRemovedFileLeavesItsContentToItsLinks(t *testing.T) {
	tr := New()
	if err := tr.WriteFile("d/a", []byte("content"), 0o644, 7, 8); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"c", "b", "d/z", "0"} {
		if err := tr.Put(&Entry{Path: path, Typeflag: TypeLink, Linkname: "d/a"}); err != nil {
			t.Fatal(err)
		}
	}
	tr = index(t, writeTar(t, tr))
	if e, _ := tr.Lookup("0"); e.Typeflag != TypeReg {
		t.Errorf("the first name in order is no file: %+v", e)
	}
	for _, path := range []string{"0", "d", "b"} {
		if err := tr.Remove(path); err != nil {
			t.Fatal(err)
		}
		tr = index(t, writeTar(t, tr))
		if data, err := tr.ReadFile("c"); err != nil || string(data) != "content" {
			t.Fatalf("after removing %s: %q, %v", path, data, err)
		}
	}
	if e, _ := tr.Lookup("c"); e.Typeflag != TypeReg || e.UID != 7 {
		t.Errorf("the last name is %+v", e)
	}
}

func TestDiffNamesWhatDiffers(t *testing.T) {
	a, b := sample(t), sample(t)
	e, _ := b.Lookup("usr/bin/ping")
	changed := *e
	changed.Mode, changed.UID, changed.Xattrs = 0o755, 9, nil
	if err := b.Put(NewFile(changed, strings.NewReader("pong"), 4)); err != nil {
		t.Fatal(err)
	}
	b.Remove("old")
	b.WriteFile("dev/null", nil, 0o644, 0, 0)
	b.Symlink("else", "bin")
	differences, err := Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, d := range differences {
		got[d.Path+" "+d.What] = true
	}
	for _, want := range []string{"usr/bin/ping mode", "usr/bin/ping owner", "usr/bin/ping xattr",
		"usr/bin/ping content", "old missing", "dev/null type", "bin link"} {
		if !got[want] {
			t.Errorf("%s is not in %v", want, differences)
		}
	}
}

func TestWriteTarHeedsTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := sample(t).WriteTar(ctx, io.Discard, clock); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzIndex(f *testing.F) {
	tr := New()
	tr.WriteFile("a/b", []byte("content"), 0o644, 0, 0)
	tr.Put(&Entry{Path: "l", Typeflag: TypeLink, Linkname: "a/b"})
	tr.Put(NewFile(Entry{Path: strings.Repeat("n", 300), Xattrs: map[string]string{"user.x": "y"}}, strings.NewReader("z"), 1))
	tr.Symlink("/a", "s")
	var b bytes.Buffer
	if err := tr.WriteTar(context.Background(), &b, clock); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:blockSize*3])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := Index(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var first bytes.Buffer
		if err := tr.WriteTar(context.Background(), &first, clock); err != nil {
			return
		}
		again, err := Index(bytes.NewReader(first.Bytes()), int64(first.Len()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		var second bytes.Buffer
		if err := again.WriteTar(context.Background(), &second, clock); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("not written the same again: %v", err)
		}
		tr.Resolve("s/b")
		tr.Remove("a")
		tr.WriteTar(context.Background(), io.Discard, clock)
	})
}
