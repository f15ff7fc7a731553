package deb

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

var clock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// entries of an archive: a header and the content of a file.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: "./" + name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

func file(name, content string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644}, content: content}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Name: "./" + name, Typeflag: tar.TypeLink, Linkname: "./" + target, Mode: 0o644}}
}

func tarball(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		h.ModTime = clock.Add(-time.Hour)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A testPackage is what pack makes a package of.
type testPackage struct {
	name    string
	arch    string // "" is amd64
	fields  string // further lines of the control file
	members map[string]string
	data    []entry
}

func (p testPackage) bytes(t testing.TB) []byte {
	t.Helper()
	control := "Package: " + p.name + "\nVersion: 1.0\nArchitecture: " + cmp.Or(p.arch, "amd64") + "\n" + p.fields + "Description: test\n"
	entries := []entry{file("control", control)}
	for _, name := range slices.Sorted(maps.Keys(p.members)) {
		entries = append(entries, file(name, p.members[name]))
	}
	data := append([]entry{dir(".")}, p.data...)
	return arArchive(arFile{"debian-binary", []byte("2.0\n")},
		arFile{"control.tar", tarball(t, entries...)}, arFile{"data.tar", tarball(t, data...)})
}

func (p testPackage) file(t testing.TB) *File {
	t.Helper()
	data := p.bytes(t)
	f, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unpack puts packages into a new tree.
func unpack(t *testing.T, u *Unpacker, packages ...testPackage) (string, *Database, error) {
	t.Helper()
	root := t.TempDir()
	db, err := OpenDatabase(root, "amd64", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	u.Root, u.Database, u.Clock = root, db, clock
	u.IgnoreOwner = os.Getuid() != 0
	t.Cleanup(func() { u.Close() })
	var files []*File
	for _, p := range packages {
		files = append(files, p.file(t))
	}
	err = u.UnpackAll(context.Background(), files)
	if err == nil {
		err = db.Save()
	}
	return root, db, err
}

func wantFile(t *testing.T, root, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(root, name))
	if err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", name, got, err, want)
	}
}

func TestMembersOfAllCompressionsAreRead(t *testing.T) {
	plain := tarball(t, dir("."), file("f", strings.Repeat("content", 1000)))
	control := tarball(t, file("control", "Package: p\nVersion: 1\nArchitecture: all\n"))
	compressed := func(open func(w io.Writer) (io.WriteCloser, error), data []byte) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	bzip, err := exec.Command("bzip2", "--version").Output()
	_ = bzip
	suffixes := map[string]func(w io.Writer) (io.WriteCloser, error){
		".gz":   func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		".zst":  func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		".lzma": func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) },
	}
	if err == nil {
		suffixes[".bz2"] = func(w io.Writer) (io.WriteCloser, error) {
			cmd := exec.Command("bzip2")
			cmd.Stdout = w
			in, err := cmd.StdinPipe()
			if err != nil {
				return nil, err
			}
			return &piped{in, cmd}, cmd.Start()
		}
	}
	for suffix, open := range suffixes {
		data, ctl := compressed(open, plain), control
		name := "control.tar"
		if suffix != ".lzma" && suffix != ".bz2" {
			name, ctl = name+suffix, compressed(open, control)
		}
		deb := arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{name, ctl}, arFile{"data.tar" + suffix, data})
		walk := func(deb []byte) error {
			f, err := Open(bytes.NewReader(deb), int64(len(deb)))
			if err != nil {
				return err
			}
			if c, err := f.Control(); err != nil || c.Name() != "p" {
				t.Errorf("%s: control %v, %v", suffix, c, err)
			}
			return f.Walk(context.Background(), func(h *tar.Header, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
		}
		if err := walk(deb); err != nil {
			t.Errorf("%s: %v", suffix, err)
		}
		if suffix == ".bz2" || suffix == ".lzma" {
			continue
		}
		cutShort := arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{name, ctl}, arFile{"data.tar" + suffix, data[:len(data)-6]})
		if err := walk(cutShort); err == nil {
			t.Errorf("%s: a truncated member was taken", suffix)
		}
	}
}

type piped struct {
	io.WriteCloser
	cmd *exec.Cmd
}

func (p *piped) Close() error {
	if err := p.WriteCloser.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

func TestOpenRefuses(t *testing.T) {
	good := testPackage{name: "p"}.bytes(t)
	binary, control, data := arFile{"debian-binary", []byte("2.0\n")}, arFile{"control.tar", nil}, arFile{"data.tar", nil}
	for what, deb := range map[string][]byte{
		"nothing":          {},
		"no ar":            []byte("PK\x03\x04 and so on and on"),
		"truncated":        good[:len(good)-700],
		"trailing garbage": append(bytes.Clone(good), "garbage"...),
		"no debian-binary": arArchive(control, data),
		"other version":    arArchive(arFile{"debian-binary", []byte("3.0\n")}, control, data),
		"no data":          arArchive(binary, control),
		"wrong order":      arArchive(binary, data, control),
		"bad size":         bytes.Replace(good, []byte("4         `\n"), []byte("-4        `\n"), 1),
	} {
		if _, err := Open(bytes.NewReader(deb), int64(len(deb))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestControlRefuses(t *testing.T) {
	for what, p := range map[string]testPackage{
		"name with a slash":      {name: "a/b"},
		"name with dots":         {name: ".."},
		"conffile outside":       {name: "p", members: map[string]string{"conffiles": "/etc/../../x\n"}},
		"relative conffile":      {name: "p", members: map[string]string{"conffiles": "etc/x\n"}},
		"unknown trigger":        {name: "p", members: map[string]string{"triggers": "wish x\n"}},
		"trigger leaving":        {name: "p", members: map[string]string{"triggers": "interest ../x\n"}},
		"trigger of that name":   {name: "p", members: map[string]string{"triggers": "interest Unincorp\n"}},
		"member in a folder":     {name: "p", members: map[string]string{"a/b": ""}},
		"field without a colon":  {name: "p", fields: "what\n"},
		"architecture with dots": {name: "p", fields: "\nPackage: q\n"},
	} {
		if _, err := p.file(t).Control(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(testPackage{name: "p", members: map[string]string{"conffiles": "/etc/c\n", "triggers": "interest x\n"},
		data: []entry{dir("etc"), file("etc/c", "conf"), hardlink("etc/d", "etc/c"), symlink("l", "/etc")}}.bytes(f))
	f.Add(arArchive(arFile{"debian-binary", []byte("2.0\n")}, arFile{"control.tar.gz", nil}, arFile{"data.tar.zst", nil}))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if c, err := d.Control(); err == nil {
			(&Package{Control: c, State: StateUnpacked}).appendStatus(nil, available{})
		}
		d.Walk(context.Background(), func(h *tar.Header, r io.Reader) error {
			if h.Name == "" || h.Name[0] == '/' || slices.Contains(strings.Split(h.Name, "/"), "..") {
				t.Fatalf("name %q came through", h.Name)
			}
			_, err := io.CopyN(io.Discard, r, 1<<20)
			if err == io.EOF {
				err = nil
			}
			return err
		})
	})
}

func FuzzDiversions(f *testing.F) {
	f.Add([]byte("/a\n/a.distrib\n:\n"))
	f.Fuzz(func(t *testing.T, data []byte) { parseDiversions(data) })
}

func FuzzControlMembers(f *testing.F) {
	f.Add([]byte("Package: p\nVersion: 1\nArchitecture: all\nReplaces: a (<< 1), b|c\nDescription: x\n y\n"), []byte("/etc/c\nremove-on-upgrade /etc/d\n"), []byte("interest /usr\nactivate-noawait x\n"))
	f.Fuzz(func(t *testing.T, control, conffiles, triggers []byte) {
		c := &Control{text: control, Members: []Member{{Name: "conffiles", Data: conffiles}, {Name: "triggers", Data: triggers}}}
		if c.parse() != nil {
			return
		}
		if strings.ContainsAny(c.Qualified(), "/\x00\n") {
			t.Fatalf("name %q came through", c.Qualified())
		}
		for _, x := range c.Conffiles {
			if _, err := cleanName(x.Path[1:]); err != nil {
				t.Fatalf("conffile %q came through", x.Path)
			}
		}
		c.replaces(c)
		status := (&Package{Control: c, State: StateUnpacked}).appendStatus(nil, available{})
		if bytes.Contains(status, []byte("\n\n")) {
			t.Fatalf("the paragraph has an empty line: %q", status)
		}
	})
}
