package iso_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/iso"
)

// need skips a test whose program is missing; tools maps programs to the
// Debian packages that have them.
func need(t *testing.T, programs ...string) {
	t.Helper()
	packages := map[string]string{"bsdtar": "libarchive-tools", "xorriso": "xorriso", "genisoimage": "genisoimage",
		"isoinfo": "genisoimage", "blkid": "util-linux", "cloud-localds": "cloud-image-utils", "mount": "mount"}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is missing, which checks volumes or makes them: install %s", p, packages[p])
		}
	}
}

// run runs a program in dir and returns what it prints.
func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, &stderr)
	}
	return string(out)
}

// image puts a volume into a file.
func image(t *testing.T, files []iso.File, opts ...iso.Option) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(path, write(t, files, opts...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// friendly are files whose names all systems and trees can have.
func friendly() []iso.File {
	return []iso.File{
		{Path: "user-data", Data: []byte("#cloud-config\n")},
		{Path: "meta-data", Data: []byte("instance-id: one\n")},
		{Path: "network-config", Data: bytes.Repeat([]byte("network\n"), 1000)},
		{Path: "scripts/per-boot/first script.sh", Data: []byte("#!/bin/sh\n")},
		{Path: "scripts/per-boot/second.tar.gz", Data: make([]byte, 2048)},
		{Path: "scripts/grüße.txt", Data: []byte("letters")},
		{Path: "scripts/empty"},
	}
}

func TestOtherToolsReadTheSameFiles(t *testing.T) {
	trees := map[string][]iso.File{"seed": seed(), "friendly": friendly(), "empty": nil}
	for n := range 5 {
		trees["random "+string(rune('a'+n))] = randomFiles(rand.New(rand.NewPCG(uint64(n), 11)))
	}
	for name, files := range trees {
		img := image(t, files)
		t.Run("bsdtar "+name, func(t *testing.T) {
			need(t, "bsdtar")
			dir := t.TempDir()
			run(t, dir, "bsdtar", "-x", "-f", img)
			same(t, os.DirFS(dir), files)
		})
		t.Run("xorriso "+name, func(t *testing.T) {
			need(t, "xorriso")
			dir := filepath.Join(t.TempDir(), "out")
			run(t, "", "xorriso", "-report_about", "WARNING", "-abort_on", "WARNING", "-osirrox", "on:auto_chmod_on", "-indev", img, "-extract", "/", dir)
			same(t, os.DirFS(dir), files)
		})
	}
}

func TestOtherToolsReadTheJolietTree(t *testing.T) {
	need(t, "bsdtar")
	dir := t.TempDir()
	run(t, dir, "bsdtar", "-x", "--options", "iso9660:!rockridge", "-f", image(t, friendly()))
	same(t, os.DirFS(dir), friendly())

	need(t, "isoinfo")
	ascii := slices.DeleteFunc(friendly(), func(f iso.File) bool { return strings.Contains(f.Path, "ü") }) // isoinfo's charset is Latin 1
	want := []string{"/scripts", "/scripts/per-boot"}
	for _, f := range ascii {
		want = append(want, "/"+f.Path+";1")
	}
	got := strings.Split(strings.TrimSpace(run(t, "", "isoinfo", "-J", "-f", "-i", image(t, ascii))), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("isoinfo lists\n%q, want\n%q", got, want)
	}
}

func TestVolumeIsFoundByItsLabel(t *testing.T) {
	need(t, "blkid", "isoinfo")
	for _, label := range []string{"cidata", "CIDATA", "sixteen letters!"} {
		img := image(t, seed(), iso.Label(label), iso.Time(clock))
		out := run(t, "", "blkid", "-p", "-o", "export", img)
		for _, line := range []string{"TYPE=iso9660", "VERSION=Joliet Extension", "UUID=2024-02-29-13-14-15-00"} {
			if !strings.Contains(out, line+"\n") && !strings.Contains(strings.ReplaceAll(out, `\`, ""), line+"\n") {
				t.Errorf("blkid does not print %q:\n%s", line, out)
			}
		}
		if got := strings.TrimSuffix(run(t, "", "blkid", "-p", "-o", "value", "-s", "LABEL", img), "\n"); got != label {
			t.Errorf("blkid: label %q, want %q", got, label)
		}
		out = run(t, "", "isoinfo", "-d", "-i", img)
		for _, line := range []string{"Volume id: " + label + "\n", "Joliet with UCS level 3 found", "Rock Ridge signatures version 1 found"} {
			if !strings.Contains(out, line) {
				t.Errorf("isoinfo does not print %q:\n%s", line, out)
			}
		}
	}
}

func TestLinuxMountsTheVolume(t *testing.T) {
	need(t, "mount")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: run as an ordinary user, who cannot mount")
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(kinds), "iso9660") {
		t.Skip("SKIPPED: this machine's kernel has no isofs")
	}
	for name, c := range map[string]struct {
		files  []iso.File
		option string
	}{"Rock Ridge": {seed(), "ro,loop"}, "Joliet": {friendly(), "ro,loop,norock,utf8"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, "", "mount", "-t", "iso9660", "-o", c.option, image(t, c.files), dir)
			defer run(t, "", "umount", dir)
			same(t, os.DirFS(dir), c.files)
		})
	}
}

// folder puts files into a folder.
func folder(t *testing.T, files []iso.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, clock, clock); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVolumesOfOtherToolsAreRead(t *testing.T) {
	deep := append(friendly(), iso.File{Path: "1/2/3/4/5/6/7/8/9/10/11/file", Data: []byte("deep")})
	long := slices.DeleteFunc(seed(), func(f iso.File) bool { return len(filepath.Base(f.Path)) > 248 }) // genisoimage and bsdtar have a limit there
	plain := []iso.File{{Path: "userdata", Data: []byte("u")}, {Path: "folder/file.txt", Data: []byte("f")}}
	out := "seed.iso"
	for name, c := range map[string]struct {
		files   []iso.File
		names   iso.Names
		program []string
	}{
		"genisoimage, both":       {friendly(), iso.RockRidge, []string{"genisoimage", "-quiet", "-J", "-r", "-V", "cidata", "-o", out, "."}},
		"genisoimage, long names": {long, iso.RockRidge, []string{"genisoimage", "-quiet", "-R", "-V", "cidata", "-o", out, "."}},
		"genisoimage, moved":      {deep, iso.RockRidge, []string{"genisoimage", "-quiet", "-R", "-hide-rr-moved", "-V", "cidata", "-o", out, "."}},
		"genisoimage, not moved":  {deep, iso.RockRidge, []string{"genisoimage", "-quiet", "-D", "-R", "-V", "cidata", "-o", out, "."}},
		"genisoimage, Joliet":     {friendly(), iso.Joliet, []string{"genisoimage", "-quiet", "-J", "-input-charset", "utf-8", "-V", "cidata", "-o", out, "."}},
		"genisoimage, level 1":    {plain, iso.Plain, []string{"genisoimage", "-quiet", "-V", "cidata", "-o", out, "."}},
		"genisoimage, level 4":    {friendly(), iso.Plain, []string{"genisoimage", "-quiet", "-iso-level", "4", "-V", "cidata", "-o", out, "."}},
		"xorriso, both":           {seed(), iso.RockRidge, []string{"xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-V", "cidata", "-o", out, "."}},
		"xorriso, RRIP 1.12":      {seed(), iso.RockRidge, []string{"xorriso", "-compliance", "new_rr", "-outdev", out, "-volid", "cidata", "-map", ".", "/"}},
		"xorriso, Joliet":         {friendly(), iso.Joliet, []string{"xorriso", "-as", "mkisofs", "-quiet", "-J", "--norock", "-V", "cidata", "-o", out, "."}},
		"xorriso, level 3":        {plain, iso.Plain, []string{"xorriso", "-as", "mkisofs", "-quiet", "--norock", "-iso-level", "3", "-V", "cidata", "-o", out, "."}},
		"bsdtar":                  {long, iso.RockRidge, []string{"bsdtar", "-c", "--format", "iso9660", "--options", "volume-id=cidata", "-f", out, "."}},
		"cloud-localds":           {friendly()[:2], iso.RockRidge, []string{"cloud-localds", out, "user-data", "meta-data"}},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, c.program[0])
			dir := folder(t, c.files)
			path := filepath.Join(t.TempDir(), out)
			args := slices.Clone(c.program[1:])
			args[slices.Index(args, out)] = path
			run(t, dir, c.program[0], args...)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m := open(t, b)
			same(t, m, c.files)
			if !strings.EqualFold(m.Label(), "cidata") || m.Names() != c.names {
				t.Errorf("label %q, names by %s", m.Label(), m.Names())
			}
			if info, err := m.Stat(c.files[0].Path); err != nil || name != "cloud-localds" && info.ModTime().Unix() != clock.Unix() {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

func TestWhatIsNoFileIsListedAndNotRead(t *testing.T) {
	need(t, "genisoimage")
	dir := folder(t, friendly())
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b := []byte(run(t, dir, "genisoimage", "-quiet", "-R", "-V", "cidata", "."))
	m := open(t, b)
	same(t, m, friendly())
	if _, err := m.Open("link"); err == nil || !strings.Contains(err.Error(), "open link: it is a symbolic link, which is not read") {
		t.Errorf("opening a symbolic link: %v", err)
	}
}
