package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal and its other end.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED, NO TERMINALS HERE: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED, NO TERMINALS HERE: %v", err)
	}
	return master, slave
}

// pattern is a reader of n bytes that repeat late.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) * 2654435761 >> 13)
	}
	p.at += int64(len(b))
	return len(b), nil
}

func TestStreaming(t *testing.T) {
	const size = 32 << 20
	want := sha256.New()
	io.Copy(want, &pattern{n: size})
	for _, ids := range []IDs{Caller, Range} {
		needs(t, ids)
		got := sha256.New()
		s := script(ids, "cat")
		s.Stdin, s.Stdout = &pattern{n: size}, got
		if err := Run(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("what came out is not what went in")
		}
		// Files of the host, as they are.
		in, err := os.Create(filepath.Join(t.TempDir(), "in"))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		fmt.Fprint(in, "from a file")
		in.Seek(0, io.SeekStart)
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		s.Stdin, s.Stdout = in, out
		if err := Run(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(out.Name()); err != nil || string(b) != "from a file" {
			t.Errorf("%q %v", b, err)
		}
	}
}

func TestInputThatNobodyReads(t *testing.T) {
	needs(t, Range)
	s := script(Range, "exit 0")
	s.Stdin = &pattern{n: 1 << 30}
	if err := Run(t.Context(), s); err != nil {
		t.Error(err)
	}
	r, w := io.Pipe() // a Read that never returns
	defer w.Close()
	s.Stdin = r
	if err := Run(t.Context(), s); err != nil {
		t.Error(err)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("disk full")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestBrokenWriter(t *testing.T) {
	needs(t, Range)
	s := script(Range, "cat /dev/zero")
	s.Stdout = brokenWriter{}
	if err := Run(t.Context(), s); err == nil {
		t.Error("no error")
	}
	s = script(Range, "echo x")
	s.Stdout = brokenWriter{}
	if err := Run(t.Context(), s); !errors.Is(err, errBroken) {
		t.Errorf("error is %v", err)
	}
}

func TestOneWriterKeepsOrder(t *testing.T) {
	needs(t, Range)
	var b bytes.Buffer
	s := script(Range, "for i in 1 2 3 4; do echo o$i; echo e$i >&2; done")
	s.Stdout, s.Stderr = &b, &b
	if err := Run(t.Context(), s); err != nil || b.String() != "o1\ne1\no2\ne2\no3\ne3\no4\ne4\n" {
		t.Errorf("%v %q", err, b.String())
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "private")
	if err := os.WriteFile(name, []byte("by descriptor"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := script(Range, "cat <&3 >&4")
	s.Files = []*os.File{in, out}
	output(t, s)
	s.Argv = []string{"ls", "/proc/self/fd"} // and what it reads that with
	if got := output(t, s); got != "0\n1\n2\n3\n4\n5" {
		t.Errorf("descriptors: %q", got)
	}
	if b, err := os.ReadFile(out.Name()); err != nil || string(b) != "by descriptor" {
		t.Errorf("%q %v", b, err)
	}
}

// echo runs inside.
func echo(_ context.Context, args []byte, files []*os.File) error {
	var a struct{ Text string }
	if err := json.Unmarshal(args, &a); err != nil {
		return err
	}
	fmt.Println(a.Text, os.Getuid(), os.Getenv("GREETING"), os.Getenv("SECRET"))
	fmt.Fprintln(os.Stderr, "also said")
	for _, f := range files {
		if _, err := f.WriteString("written by " + a.Text); err != nil {
			return err
		}
	}
	wd, err := os.Getwd()
	if err != nil || wd != "/usr" {
		return fmt.Errorf("working directory %s: %v", wd, err)
	}
	return nil
}

func TestCall(t *testing.T) {
	t.Setenv("SECRET", "of the host")
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	long := strings.Repeat("x", 1<<20)
	for _, ids := range []IDs{Caller, Range} {
		s := usr(ids)
		s.Call, s.Args = "echo", struct{ Text string }{long}
		s.Env, s.Dir, s.Files = []string{"GREETING=hello"}, "/usr", []*os.File{f}
		if got := output(t, s); got != long+" 0 hello" {
			t.Errorf("%d bytes: %.40q", len(got), got)
		}
	}
	if b, err := os.ReadFile(f.Name()); err != nil || !strings.HasPrefix(string(b), "written by x") {
		t.Errorf("%.40q %v", b, err)
	}
	var call *CallError
	if err := Run(t.Context(), Spec{IDs: Range, Call: "fail"}); !errors.As(err, &call) || call.Call != "fail" || call.Text != "no luck: two\nlines" {
		t.Errorf("fail: %v", err)
	}
	var exit *ExitError
	if err := Run(t.Context(), Spec{IDs: Range, Call: "panic"}); !errors.As(err, &exit) || !bytes.Contains(exit.Tail, []byte("the function broke")) {
		t.Errorf("panic: %v", err)
	}
	for name, want := range map[string]string{"exit": "before it returned", "unknown": "no function of that name"} {
		if err := Run(t.Context(), Spec{IDs: Range, Call: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
