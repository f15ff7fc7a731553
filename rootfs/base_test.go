package rootfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadLines(t *testing.T) {
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"with an end":  iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := readLines(wrap(strings.NewReader("one\n\nthree\nno end")), func(line []byte) error {
				got = append(got, string(line))
				return nil
			})
			if want := []string{"one\n", "\n", "three\n", "no end"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	broken := errors.New("broken")
	if err := readLines(iotest.ErrReader(broken), func([]byte) error { return nil }); err != broken {
		t.Errorf("a broken pipe: %v", err)
	}
	if err := readLines(strings.NewReader("a\nb\n"), func([]byte) error { return broken }); err != broken {
		t.Errorf("an error of the callback: %v", err)
	}
	endless := io.LimitReader(zeros{}, 2*maxAnswer)
	if err := readLines(endless, func([]byte) error { return nil }); err == nil {
		t.Error("a line without end is taken")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestExchangeEnds: a reader that gives up must not leave the writer waiting.
func TestExchangeEnds(t *testing.T) {
	enough := errors.New("enough")
	err := exchange(func(answers *os.File) error {
		for range 1000 {
			if _, err := answers.WriteString(strings.Repeat("text ", 1000) + "\n"); err != nil {
				return err
			}
		}
		return nil
	}, func([]byte) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestDateAccounts(t *testing.T) {
	clock := time.Date(2026, 1, 2, 23, 59, 59, 0, time.UTC) // day 20455
	for name, c := range map[string][2]string{
		"dates":       {"root:*:20000:0:99999:7:::\nme:!:20001:0:99999:7:::\n", "root:*:20455:0:99999:7:::\nme:!:20455:0:99999:7:::\n"},
		"never":       {"root:*::0:99999:7:::\n", "root:*::0:99999:7:::\n"},
		"must change": {"root:*:0:0:99999:7:::\n", "root:*:0:0:99999:7:::\n"},
		"short":       {"\nroot\nroot:*\n", "\nroot\nroot:*\n"},
		"no end":      {"root:*:1", "root:*:20455"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "etc/shadow")
			if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(c[0]), 0o640); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := dateAccounts(root, clock); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil || string(got) != c[1] {
				t.Errorf("got %q, %v", got, err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := dateAccounts(root, clock); err != nil {
			t.Error(err)
		}
	})
}

func TestRemoveUnwanted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"run/lock/subsys/keep", "run/systemd/x", "etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config", "var/log/dpkg.log", "var/log/apt/term.log", "var/lib/dpkg/status", "var/lib/dpkg/status-old", "tmp/x"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := removeUnwanted(root); err != nil {
		t.Fatal(err)
	}
	var left []string
	err = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, strings.TrimPrefix(name, dir+"/"))
		}
		return err
	})
	want := []string{"etc/ssh/sshd_config", "run/lock/subsys/keep", "var/lib/dpkg/status"}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left %q, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "var/log/apt")); err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
}
