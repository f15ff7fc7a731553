package archivetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// A Member is one entry of a package's data or, with a name without a slash
// before it, as it is: nothing is checked, so that hostile packages can be made.
type Member struct {
	Name     string // ./usr/bin/hello
	Body     string
	Mode     int64 // 0644 when zero, 0755 for a directory
	Typeflag byte  // tar's; a regular file when zero, a directory when Name ends in /
	Linkname string
}

// A Script is a maintainer script or another file of the control archive.
type Script struct{ Name, Body string }

// Deb makes a package (deb(5)). control is its control paragraph; fields that
// must be there and are not get Architecture: all, a Maintainer and a
// Description. Entries are Members and Scripts.
func Deb(t testing.TB, control string, entries ...any) []byte {
	t.Helper()
	for _, f := range []string{"Architecture: all", "Maintainer: Test <test@example.org>", "Description: test package"} {
		name, _, _ := strings.Cut(f, ":")
		if !strings.Contains("\n"+control, "\n"+name+":") {
			control = strings.TrimRight(control, "\n") + "\n" + f + "\n"
		}
	}
	meta := []Member{{Name: "./", Typeflag: tar.TypeDir}, {Name: "./control", Body: control}}
	var data []Member
	for _, e := range entries {
		switch e := e.(type) {
		case Member:
			data = append(data, e)
		case Script:
			meta = append(meta, Member{Name: "./" + e.Name, Body: e.Body, Mode: 0o755})
		default:
			t.Fatalf("archivetest: %T is neither a Member nor a Script", e)
		}
	}
	var ar bytes.Buffer
	ar.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", tarball(t, meta)}, {"data.tar.gz", tarball(t, data)}} {
		fmt.Fprintf(&ar, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, Date.Unix(), 0, 0, "100644", len(m.body))
		ar.Write(m.body)
		if len(m.body)%2 == 1 {
			ar.WriteByte('\n')
		}
	}
	return ar.Bytes()
}

func tarball(t testing.TB, members []Member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, m := range members {
		h := &tar.Header{Name: m.Name, Mode: m.Mode, Typeflag: m.Typeflag, Linkname: m.Linkname, ModTime: Date, Format: tar.FormatGNU}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(m.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(m.Body))
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, m.Body)
		}
		if err != nil {
			t.Fatalf("archivetest: %s: %v", m.Name, err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatalf("archivetest: %v", err)
	}
	return b.Bytes()
}

// readControl reads the control paragraph out of a package made by a trusted
// hand: it checks no more than it needs.
func readControl(r io.Reader) (deb822.Paragraph, error) {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return nil, errors.New("not a Debian package")
	}
	header := make([]byte, 60)
	for {
		if _, err := io.ReadFull(r, header); err != nil {
			return nil, fmt.Errorf("no control archive: %w", err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil {
			return nil, err
		}
		name := strings.TrimRight(strings.TrimSpace(string(header[:16])), "/")
		body := io.LimitReader(r, size)
		if ext, ok := strings.CutPrefix(name, "control.tar"); ok {
			return controlOf(ext, body)
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, err
		}
	}
}

func controlOf(ext string, r io.Reader) (deb822.Paragraph, error) {
	var err error
	switch ext {
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".xz":
		r, err = xz.NewReader(r, 0)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(h.Name, "./") == "control" {
			return deb822.NewReader(tr).Next()
		}
	}
}
