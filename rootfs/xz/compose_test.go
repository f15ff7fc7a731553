package xz

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// random returns n bytes that do not compress, the same each time.
func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// goSource returns about n bytes of Go source text: this package's and the
// standard library's where it is installed, as often as it takes.
func goSource(tb testing.TB, n int) []byte {
	files, _ := filepath.Glob("*.go")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err == nil {
		more, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src", "net", "*", "*.go"))
		files = append(files, more...)
	}
	var b []byte
	for len(b) < n {
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				tb.Fatal(err)
			}
			b = append(b, text...)
		}
	}
	return b[:n]
}

// program returns the first n bytes of this test's own program, or all.
func program(tb testing.TB, n int) []byte {
	name, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(n)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// compose compresses by the writer of another package.
func compose(tb testing.TB, data []byte, c xz.WriterConfig) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// command compresses by XZ Utils.
func command(tb testing.TB, data []byte, args ...string) []byte {
	tb.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		tb.Skip("THE PROGRAM xz IS MISSING: install xz-utils to compare with XZ Utils")
	}
	cmd := exec.Command("xz", append([]string{"-T1", "-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("xz %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// read decompresses with a new Reader.
func read(file []byte, options ...Option) ([]byte, error) {
	z, err := NewReader(bytes.NewReader(file), options...)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = z.WriteTo(&b)
	return b.Bytes(), err
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
