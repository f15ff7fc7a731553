package rootfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// mmdebstrap makes a tree of the same packages. Its tar is kept beside the
// packages, as it takes long and depends on them alone.
func mmdebstrap(t *testing.T, b *Base, name string) *tree.Tree {
	t.Helper()
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		t.Skip("SKIPPED: mmdebstrap is not installed, so there is nothing to compare the tree with")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mmdebstrap makes its tree as root")
	}
	digest := sha256.New()
	var requests []string
	repository := t.TempDir()
	var index bytes.Buffer
	for _, d := range b.Debs {
		c := controlOf(t, filepath.Join(b.Packages, d.File))
		fmt.Fprintln(digest, d.File)
		file := filepath.Base(d.File)
		for _, field := range c.Paragraph {
			fmt.Fprintf(&index, "%s: %s\n", field.Name, strings.ReplaceAll(field.Value, "\n", "\n "))
		}
		fmt.Fprintf(&index, "Filename: ./%s\nSize: %d\nSHA256: %s\n\n", file, d.Size, strings.TrimSuffix(file, ".deb"))
		if err := hardLink(filepath.Join(b.Packages, d.File), filepath.Join(repository, file)); err != nil {
			t.Fatal(err)
		}
		if !d.Auto {
			requests = append(requests, d.Name)
		}
	}
	folder := filepath.Join(cacheDir(t), "mmdebstrap")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(folder, fmt.Sprintf("%s-%x.tar", name, digest.Sum(nil)[:8]))
	if f, err := os.Open(kept); err == nil {
		t.Cleanup(func() { f.Close() })
		return indexed(t, f)
	}
	if old, err := filepath.Glob(filepath.Join(folder, name+"-*")); err == nil {
		for _, f := range old {
			os.Remove(f)
		}
	}
	if err := os.WriteFile(filepath.Join(repository, "Packages"), index.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	cmd := exec.CommandContext(t.Context(), tool, "--mode=root", "--variant=essential", "--format=tar",
		"--include="+strings.Join(requests, ","), "--aptopt=APT::Sandbox::User \"root\"",
		"", kept+".new", "deb [trusted=yes] copy://"+repository+" ./")
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/var/tmp",
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		os.Remove(kept + ".new")
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	t.Logf("mmdebstrap took %v", time.Since(start).Round(time.Millisecond))
	if err := os.Rename(kept+".new", kept); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return indexed(t, f)
}

func controlOf(t testing.TB, file string) *deb.Control {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := deb.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Control()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// hardLink makes a second name of a file, or a copy on another file system.
func hardLink(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// oracleSets are the sets of packages that are compared.
var oracleSets = map[string][]string{
	"programs": {"apt", "yamllint", "ack", "python3-debian", "locales"},
	"database": {"apt", "postgresql", "adduser"},
	"appliance": {
		"apt", "systemd-sysv", "systemd-resolved", "udev", "dbus", "openssh-server", "linux-image-cloud-amd64", "ca-certificates",
		"iproute2", "podman",
	},
}

func TestTreeEqualsMmdebstraps(t *testing.T) {
	if testing.Short() {
		t.Skip("three trees of real packages, made twice, take minutes")
	}
	needSandbox(t)
	for name, packages := range oracleSets {
		t.Run(name, func(t *testing.T) {
			b := debian(t, "trixie").base(t, packages...)
			theirs := mmdebstrap(t, b, name)
			ours := indexed(t, built(t, b))
			differences, err := tree.Diff(theirs, ours)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences {
				t.Error(d)
			}
		})
	}
}
