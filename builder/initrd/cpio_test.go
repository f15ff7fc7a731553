package initrd

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCpioIsWhatCpioReads(t *testing.T) {
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("cpio is not installed: the archive is not compared with what cpio reads")
	}
	var b bytes.Buffer
	c, err := newCpioWriter(&b, 1700000000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*entry{
		{path: "d", mode: fs.ModeDir | 0o755},
		{path: "d/empty", mode: 0o644},
		{path: "d/file", mode: 0o755, content: []byte("seven b")},
		{path: "d/link", mode: fs.ModeSymlink | 0o777, link: "file"},
		{path: "d/tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777},
	} {
		if err := c.write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	cmd := exec.Command(tool, "--extract", "--quiet", "--no-absolute-filenames", "--preserve-modification-time")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "d/link"))
	if err != nil || string(content) != "seven b" {
		t.Errorf("through the link: %q, %v", content, err)
	}
	info, err := os.Stat(filepath.Join(dir, "d/file"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o755 || info.ModTime().Unix() != 1700000000 {
		t.Errorf("file: mode %v, time %v", info.Mode(), info.ModTime())
	}
	if info, err := os.Stat(filepath.Join(dir, "d/tmp")); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("sticky directory: %v, %v", info, err)
	}
}

func TestCpioRefusesWhatTheFormatHasNot(t *testing.T) {
	for name, e := range map[string]*entry{
		"absolute": {path: "/etc/passwd"},
		"empty":    {path: ""},
		"trailer":  {path: cpioTrailer},
		"socket":   {path: "s", mode: fs.ModeSocket},
	} {
		c, err := newCpioWriter(new(bytes.Buffer), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.write(e); err == nil || !strings.Contains(err.Error(), "cpio: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newCpioWriter(new(bytes.Buffer), -1); err == nil {
		t.Error("a time before 1970 was taken")
	}
}
