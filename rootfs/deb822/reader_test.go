package deb822_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// readAll returns the paragraphs up to the end or the first error.
func readAll(r *deb822.Reader) (list []deb822.Paragraph, err error) {
	for {
		p, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, p)
	}
}

func TestNext(t *testing.T) {
	for _, test := range []struct {
		name, in string
		comments bool
		want     []deb822.Paragraph
	}{
		{name: "nothing", in: ""},
		{name: "empty lines", in: "\n\n\n"},
		{name: "one field", in: "Package: hello\n", want: []deb822.Paragraph{{{"Package", "hello"}}}},
		{name: "no newline at the end", in: "Package: hello", want: []deb822.Paragraph{{{"Package", "hello"}}}},
		{name: "blanks around the value", in: "A:\t x y \t\r\nB:z\n", want: []deb822.Paragraph{{{"A", "x y"}, {"B", "z"}}}},
		{name: "empty value", in: "A:\nB: b\n", want: []deb822.Paragraph{{{"A", ""}, {"B", "b"}}}},
		{name: "continuation", in: "Description: short\n long\n .\n  indented \nX: y\n", want: []deb822.Paragraph{{{"Description", "short\nlong\n.\n indented"}, {"X", "y"}}}},
		{name: "list", in: "SHA256:\n a 1 f\n b 2 g\n", want: []deb822.Paragraph{{{"SHA256", "\na 1 f\nb 2 g"}}}},
		{name: "colons", in: "Version: 1:2:3\n", want: []deb822.Paragraph{{{"Version", "1:2:3"}}}},
		{name: "two paragraphs", in: "\nA: 1\n\n\nA: 2\n", want: []deb822.Paragraph{{{"A", "1"}}, {{"A", "2"}}}},
		{name: "comments", comments: true, in: "# c\n\n# c\nA: 1\n# c\n 2\n#c\nB: 3\n# end\n", want: []deb822.Paragraph{{{"A", "1\n2"}, {"B", "3"}}}},
		{name: "number sign in a value", in: "A: 1\n # 2\n", want: []deb822.Paragraph{{{"A", "1\n# 2"}}}},
	} {
		for _, slow := range []bool{false, true} {
			var in io.Reader = strings.NewReader(test.in)
			if slow {
				in = iotest.OneByteReader(in)
			}
			r := deb822.NewReader(in)
			r.Comments = test.comments
			got, err := readAll(r)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
			}
		}
	}
}

func TestNextRefuses(t *testing.T) {
	for _, test := range []struct {
		name, in string
		line     int
	}{
		{"no colon", "A: 1\n\nB: 2\nhello\n", 4},
		{"no name", ": x\n", 1},
		{"blank in a name", "A B: x\n", 1},
		{"control character in a name", "A\x01: x\n", 1},
		{"UTF-8 in a name", "Ä: x\n", 1},
		{"name with a dash first", "-A: x\n", 1},
		{"comment where there are none", "A: 1\n# c\n", 2},
		{"continuation of nothing", "A: 1\n\n x\n", 3},
		{"field twice", "Package: 1\nX: y\npackage: 2\n", 3},
		{"blanks only", "A: 1\n \nB: 2\n", 2},
		{"NUL", "A: 1\nB: 2\x00\n", 2},
		{"long line", "A: 1\nB: " + strings.Repeat("x", deb822.MaxLine) + "\n", 2},
		{"long continuation", "A: 1\n 2\n " + strings.Repeat("x", deb822.MaxLine) + "\n", 3},
	} {
		r := deb822.NewReader(strings.NewReader(test.in))
		_, err := readAll(r)
		var syntax *deb822.SyntaxError
		if !errors.As(err, &syntax) || syntax.Line != test.line {
			t.Errorf("%s: %v, want an error in line %d", test.name, err, test.line)
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%s: then %v", test.name, again)
		}
	}
}

func TestParagraphIsBounded(t *testing.T) {
	line := "X-%d: " + strings.Repeat("x", 1000) + "\n"
	n := 0
	endless := readerFunc(func(p []byte) (int, error) {
		n++
		return copy(p, fmt.Sprintf(line, n)), nil
	})
	_, err := deb822.NewReader(endless).Next()
	var syntax *deb822.SyntaxError
	if !errors.As(err, &syntax) || n > 4*deb822.MaxParagraph/1000 {
		t.Errorf("%v after %d lines", err, n)
	}
}

func TestReadErrorsPassThrough(t *testing.T) {
	broken := errors.New("broken")
	_, err := readAll(deb822.NewReader(io.MultiReader(strings.NewReader("A: 1\n"), iotest.ErrReader(broken))))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	_, err = readAll(deb822.NewReader(readerFunc(func([]byte) (int, error) { return 0, nil })))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

func TestGetDoesNotMindCase(t *testing.T) {
	p := deb822.Paragraph{{"Multi-Arch", "same"}, {"X", ""}}
	if p.Get("multi-arch") != "same" || p.Get("Multi_Arch") != "" || p.Get("Multi") != "" {
		t.Error("Get")
	}
	if _, ok := p.Lookup("x"); !ok {
		t.Error("an empty field is there")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzReader(f *testing.F) {
	f.Add([]byte("Package: a\nDescription: x\n y\n .\n\nPackage: b\n"), false)
	f.Add([]byte("# c\nA:\n b\n#c\n d\n"), true)
	f.Add([]byte("A: 1\n \n"), false)
	f.Fuzz(func(t *testing.T, data []byte, comments bool) {
		r := deb822.NewReader(bytes.NewReader(data))
		r.Comments = comments
		list, err := readAll(r)
		if err != nil {
			return
		}
		// What was read is what is written, and is read again as the same.
		var text []byte
		for _, p := range list {
			text = append(p.AppendText(text), '\n')
		}
		again, err := readAll(deb822.NewReader(bytes.NewReader(text)))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%q: written %q, read %q, %v", list, text, again, err)
		}
	})
}

// BenchmarkReader reads an index shaped as that of Debian's main.
func BenchmarkReader(b *testing.B) {
	var text []byte
	for i := range 20_000 {
		text = append(text, fmt.Sprintf("Package: package-%d\nSource: source-%d\nVersion: 1:2.%d-3+b1\nInstalled-Size: 1234\nMaintainer: Some Maintainer <maintainer@example.org>\nArchitecture: amd64\nReplaces: other (<< 1.2)\nDepends: libc6 (>= 2.38), libsystemd0, adduser, init-system-helpers (>= 1.54~), lsb-base\nRecommends: something-else | another\nDescription: a package of a usual size\nMulti-Arch: foreign\nHomepage: https://www.example.org/package\nDescription-md5: 9b1e1d4c1e3d8d0c0c2a5f3f1e0f6b7a\nTag: admin::automation, implemented-in::c,\n interface::daemon, role::program,\n scope::utility\nSection: utils\nPriority: optional\nFilename: pool/main/p/package/package_2.0-3+b1_amd64.deb\nSize: 123456\nMD5sum: 9b1e1d4c1e3d8d0c0c2a5f3f1e0f6b7a\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n", i, i, i)...)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readAll(deb822.NewReader(bytes.NewReader(text))); err != nil {
			b.Fatal(err)
		}
	}
}
