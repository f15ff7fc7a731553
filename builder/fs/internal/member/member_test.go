package member

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// text is a tree that is written as it stands.
type text struct {
	io.WriterTo
	err error
}

func (t text) WriteTar(_ context.Context, w io.Writer) error {
	_, err := t.WriteTo(w)
	return errors.Join(err, t.err)
}

func archive(t *testing.T, headers ...*tar.Header) *strings.Reader {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(b.String())
}

func TestMembersComeInTheirOrder(t *testing.T) {
	tree := text{WriterTo: archive(t, &tar.Header{Name: "b"}, &tar.Header{Name: "./a"}, &tar.Header{Name: "./", Typeflag: tar.TypeDir})}
	var got []string
	err := Each(t.Context(), tree, func(h *tar.Header, _ io.Reader) error {
		name, err := Name(h)
		got = append(got, name)
		return err
	})
	if want := []string{"b", "a", "."}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestErrorsOfTreeAndReaderAreTold(t *testing.T) {
	wrong := errors.New("it is wrong")
	nothing := func(*tar.Header, io.Reader) error { return nil }
	if err := Each(t.Context(), text{archive(t), wrong}, nothing); !errors.Is(err, wrong) {
		t.Errorf("of the tree: got %v", err)
	}
	err := Each(t.Context(), text{WriterTo: archive(t, &tar.Header{Name: "x"})}, func(*tar.Header, io.Reader) error { return wrong })
	if !errors.Is(err, wrong) || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("of the reader: got %v", err)
	}
	if err := Each(t.Context(), text{WriterTo: strings.NewReader(strings.Repeat("no archive", 1<<20))}, nothing); !errors.Is(err, tar.ErrHeader) {
		t.Errorf("of the archive: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Each(ctx, text{WriterTo: archive(t)}, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("of the context: got %v", err)
	}
}

func TestNamesStayInTheTree(t *testing.T) {
	for _, h := range []tar.Header{{Name: "/x"}, {Name: ".."}, {Name: "a/../../x"}, {Name: "x\x00"}, {Name: "x", Linkname: "\x00"}} {
		if name, err := Name(&h); err == nil {
			t.Errorf("%q: got %q", h.Name, name)
		}
	}
}

func TestXattrsAreSorted(t *testing.T) {
	h := &tar.Header{PAXRecords: map[string]string{XattrRecord + "user.b": "2", "mtime": "0", XattrRecord + "user.a": "1"}}
	var got []string
	for name, value := range Xattrs(h) {
		got = append(got, name+"="+value)
	}
	if want := []string{"user.a=1", "user.b=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestModeHasTheType(t *testing.T) {
	for flag, want := range map[byte]uint32{
		tar.TypeReg: 0o104755, tar.TypeDir: 0o044755, tar.TypeSymlink: 0o124755, tar.TypeChar: 0o024755, tar.TypeBlock: 0o064755, tar.TypeFifo: 0o014755,
	} {
		h := &tar.Header{Typeflag: flag, Mode: 0o4755 | 1<<20}
		if got := Mode(h); got != want {
			t.Errorf("%q: got %o, want %o", flag, got, want)
		}
	}
}
