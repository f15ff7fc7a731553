package deb

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// inTree runs a program in the tree with namespaces of its own.
func inTree(t *testing.T, dir string, env []string, argv ...string) string {
	t.Helper()
	script := `mount -t proc proc /proc && exec "$@"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.Dir = "/"
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "HOME=/root",
	}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:       dir,
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Unshareflags: syscall.CLONE_NEWNS,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out[max(0, len(out)-3000):])
	}
	return string(out)
}

// essential finds the packages that have to be there before a script can
// run: those marked so and what they depend on.
func essential(controls []*Control) map[string]bool {
	byName := map[string]*Control{}
	var queue []string
	for _, c := range controls {
		byName[c.Name()] = c
		if c.Essential() {
			queue = append(queue, c.Name())
		}
	}
	found := map[string]bool{}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		c := byName[name]
		if c == nil || found[name] {
			continue
		}
		found[name] = true
		for _, field := range []string{"Pre-Depends", "Depends"} {
			for word := range strings.FieldsFuncSeq(c.Paragraph.Get(field), func(r rune) bool { return r == ',' || r == '|' }) {
				if words := strings.Fields(word); len(words) > 0 {
					name, _, _ := strings.Cut(words[0], ":")
					queue = append(queue, name)
				}
			}
		}
	}
	return found
}

// TestDpkgConfiguresWhatWasUnpacked makes a whole system of real packages:
// unpacked here, configured by the dpkg that is among them.
func TestDpkgConfiguresWhatWasUnpacked(t *testing.T) {
	sets := realPackages(t)
	needRoot(t)
	for set, names := range sets {
		t.Run(set, func(t *testing.T) {
			dir := configured(t, names)
			for _, check := range [][]string{{"dpkg", "--audit"}, {"dpkg", "--verify"}} {
				if out := inTree(t, dir, nil, check...); out != "" {
					t.Errorf("%s says:\n%s", strings.Join(check, " "), out)
				}
			}
			status, err := os.ReadFile(filepath.Join(dir, "var/lib/dpkg/status"))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(status, []byte("\nStatus: install ok installed\n")); n != len(names) {
				t.Errorf("%d of %d packages are installed", n, len(names))
			}
			if set != "noble" {
				return
			}
			want, err := os.ReadFile(filepath.Join(os.Getenv("APPLBUILD_UBUNTU_NOBLE"), "status"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(status, want) {
				at := filepath.Join(dir, "var/lib/dpkg/status")
				out, _ := exec.Command("diff", at, filepath.Join(os.Getenv("APPLBUILD_UBUNTU_NOBLE"), "status")).Output()
				t.Errorf("the status differs from that of debootstrap's tree:\n%.3000s", out)
			}
		})
	}
}

func configured(t *testing.T, names []string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	db, err := OpenDatabase(dir, "amd64", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	index, err := os.Open(filepath.Join(filepath.Dir(names[0]), "../Packages"))
	if err == nil { // debootstrap, whose status is compared with, lets dpkg know the index of the required ones
		defer index.Close()
		for r := deb822.NewReader(index); ; {
			p, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Get("Priority") != "required" {
				continue
			}
			db.SetAvailable(p.Get("Package"), p.Get("Architecture"), p.Get("Section"), p.Get("Priority"))
		}
	}
	u := &Unpacker{Root: dir, Database: db, MergedUsr: mergedFolders, Clock: clock}
	defer u.Close()
	var files []*File
	var controls []*Control
	for _, name := range names {
		f := openFile(t, name)
		c, err := f.Control()
		if err != nil {
			t.Fatal(err)
		}
		files, controls = append(files, f), append(controls, c)
	}
	first := essential(controls)
	ctx := context.Background()
	var early []*File
	for i, c := range controls {
		if _, has := c.Member("preinst"); !has || first[c.Name()] {
			early = append(early, files[i])
		}
	}
	if err := u.UnpackAll(ctx, early); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(dir, "dev/null"), syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	policy := "#!/bin/sh\nexit 101\n"
	if err := os.WriteFile(filepath.Join(dir, "usr/sbin/policy-rc.d"), []byte(policy), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"passwd", "group"} {
		data, err := os.ReadFile(filepath.Join(dir, "usr/share/base-passwd", name+".master"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	scripts := 0
	for i, c := range controls {
		argv, env, err := db.StagePreinst(c)
		if err != nil {
			t.Fatal(err)
		}
		if argv == nil {
			continue
		}
		scripts++
		inTree(t, dir, env, argv...)
		if err := db.Unstage(); err != nil {
			t.Fatal(err)
		}
		if !first[c.Name()] {
			if err := u.Unpack(ctx, files[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Save(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packages, %d of them early, %d preinst scripts", len(names), len(early), scripts)
	start := time.Now()
	inTree(t, dir, nil, "dpkg", "--force-unsafe-io", "--configure", "-a")
	t.Logf("configured in %v", time.Since(start))
	return dir
}
