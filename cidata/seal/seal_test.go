package seal_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/cidata/seal"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func bundle() seal.Bundle {
	return seal.Bundle{
		Files: []seal.File{
			{Path: "meta-data", Data: []byte("instance-id: iid-1\n")},
			{Path: "scripts/" + strings.Repeat("long-", 30) + "ü.sh", Data: bytes.Repeat([]byte("echo\n"), 300)},
			{Path: "user-data", Data: []byte("#cloud-config\n")},
		},
		Time:      now,
		ISOSHA256: strings.Repeat("0a", 32),
	}
}

func pack(t *testing.T) []byte {
	t.Helper()
	archive, err := bundle().Pack()
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestABundleIsUnpackedAsPacked(t *testing.T) {
	b := bundle()
	b.Files[0], b.Files[2] = b.Files[2], b.Files[0]
	archive, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive, pack(t)) {
		t.Error("the order of the files changes the archive")
	}
	got, err := seal.Unpack(archive)
	if err != nil || !reflect.DeepEqual(got, bundle()) {
		t.Errorf("unpacked %v, %v", got, err)
	}
}

func TestTarReadsAnArchive(t *testing.T) {
	tool(t, "tar", "tar")
	dir := t.TempDir()
	cmd := exec.Command("tar", "-xzf", "-", "-C", dir)
	cmd.Stdin = bytes.NewReader(pack(t))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v: %s", err, out)
	}
	for _, f := range bundle().Files {
		if data, err := os.ReadFile(filepath.Join(dir, f.Path)); err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: %q, %v", f.Path, data, err)
		}
	}
	out, err := exec.Command("tar", "-czf", "-", "-C", dir, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.Unpack(out)
	if err != nil || !reflect.DeepEqual(got.Files, bundle().Files) || !got.Time.Equal(now) {
		t.Errorf("unpacked from tar: %v, %v", got, err)
	}
}

func tool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: %s is missing, which this test asks as an oracle: install %s", name, pkg)
	}
}

func TestWhatNoSeedHoldsIsNotPacked(t *testing.T) {
	for _, test := range []struct {
		paths []string
		want  string
	}{
		{nil, "no files"},
		{[]string{"../x"}, "not a path"},
		{[]string{"/x"}, "not a path"},
		{[]string{"a//b"}, "not a path"},
		{[]string{`a\b`}, "not a path"},
		{[]string{"a\nb"}, "not a path"},
		{[]string{"a", "a"}, "twice"},
		{[]string{"a/b/c", "a"}, "both a file and a folder"},
		{[]string{strings.Repeat("a", 1001)}, "too long"},
	} {
		var b seal.Bundle
		for _, p := range test.paths {
			b.Files = append(b.Files, seal.File{Path: p})
		}
		if _, err := b.Pack(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.paths, err, test.want)
		}
	}
}

// tarball is an archive of headers, each with a few bytes if its size is not 0.
func tarball(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	w := tar.NewWriter(z)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// headerOnly is an archive that ends behind a header.
func headerOnly(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := errors.Join(tar.NewWriter(z).WriteHeader(&h), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bomb is gzip of more zeros than an archive may have.
func bomb(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 50 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestHostileArchivesAreRefused(t *testing.T) {
	good := pack(t)
	cut := good[:len(good)-9]
	changed := bytes.Clone(good)
	changed[len(changed)-5] ^= 1
	many := make([]tar.Header, seal.MaxFiles+1)
	for i := range many {
		many[i] = tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg}
	}
	for _, test := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"nothing", nil, "not in gzip"},
		{"text", []byte("what?"), "not in gzip"},
		{"cut short", cut, "unexpected EOF"},
		{"another checksum", changed, "checksum"},
		{"a bomb", bomb(t), "more than"},
		{"no files", tarball(t, tar.Header{Name: "d/", Typeflag: tar.TypeDir}), "no files"},
		{"a way out", tarball(t, tar.Header{Name: "../../etc/passwd", Typeflag: tar.TypeReg}), "not a path"},
		{"an absolute path", tarball(t, tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg}), "not a path"},
		{"a way out in the middle", tarball(t, tar.Header{Name: "a/../../b", Typeflag: tar.TypeReg}), "not a path"},
		{"a symbolic link", tarball(t, tar.Header{Name: "a", Linkname: "/etc", Typeflag: tar.TypeSymlink}), "neither"},
		{"a hard link", tarball(t, tar.Header{Name: "a", Linkname: "b", Typeflag: tar.TypeLink}), "neither"},
		{"a device", tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeBlock}), "neither"},
		{"a file twice", tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "./a", Typeflag: tar.TypeReg}), "twice"},
		{"a file below a file", tarball(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "a/b", Typeflag: tar.TypeReg}), "both"},
		{"too many files", tarball(t, many...), "more than"},
		{"too large a file", headerOnly(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: seal.MaxData + 1}), "larger"},
		{"a sparse file", sparse(t), "neither|larger|invalid|sparse"},
	} {
		_, err := seal.Unpack(test.archive)
		if err == nil {
			t.Errorf("%s is unpacked", test.name)
			continue
		}
		found := false
		for want := range strings.SplitSeq(test.want, "|") {
			found = found || strings.Contains(err.Error(), want)
		}
		if !found || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

// sparse is an archive of a file that claims a TiB and holds one block of it.
func sparse(t testing.TB) []byte {
	t.Helper()
	tool, ok := t.(*testing.T)
	if ok {
		if _, err := exec.LookPath("tar"); err != nil {
			tool.Skip("SKIPPED: tar is missing, which makes sparse archives: install tar")
		}
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-czSf", "-", "-C", dir, "a").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzUnpack(f *testing.F) {
	archive, err := bundle().Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(archive)
	f.Add(tarball(f, tar.Header{Name: "../a", Typeflag: tar.TypeReg, Size: 3}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := seal.Unpack(data)
		if err != nil {
			return
		}
		again, err := b.Pack()
		if err != nil {
			t.Fatalf("what was unpacked cannot be packed: %v", err)
		}
		if got, err := seal.Unpack(again); err != nil || !reflect.DeepEqual(got.Files, b.Files) {
			t.Fatalf("packed again it is %v, %v", got, err)
		}
	})
}
