package cidata

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"testing"
)

// tarball returns a seed as a gzip'ed tar.
func tarball(t testing.TB, s *Seed, folder string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range s.Files() {
		if err := w.WriteHeader(&tar.Header{Name: "./" + folder + f.Path, Size: int64(len(f.Data)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
