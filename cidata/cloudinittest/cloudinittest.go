// Package cloudinittest gives tests the real cloud-init to ask: that of Debian 13, extracted into a folder with what it
// depends on, netplan among it, none of its packages configured. Programs in Python run in there.
//
// It is for tests only, and for root: it needs mmdebstrap and an archive of Debian's the first time, and says so by
// skipping the test. It boots nothing and starts no service.
package cloudinittest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/distro"
)

// A Tree is a root folder with cloud-init in it.
type Tree struct{ Root string }

// What a whole tree has: netplan's parser, and what the postinst of ca-certificates would make and cloud-init's HTTP
// library wants when it is loaded. The latter is made last.
const (
	netplanLibrary = "usr/lib/x86_64-linux-gnu/libnetplan.so.1"
	certificates   = "etc/ssl/certs/ca-certificates.crt"
)

// Find returns the tree, or skips the test. It is made the first time, in the user's cache, by whichever process comes
// first; nobody needs to close it.
func Find(t testing.TB) Tree {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: cloud-init is asked in long tests only")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which the tree with cloud-init is entered as")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("SKIPPED: a cache folder is missing: %v", err)
	}
	root := filepath.Join(cache, "applbuild-test", "trixie-cloud-init")
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(root+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{netplanLibrary, certificates} {
		if _, err := os.Stat(filepath.Join(root, name)); errors.Is(err, fs.ErrNotExist) {
			makeTree(t, root)
		}
	}
	return Tree{root}
}

// makeTree unpacks cloud-init and what it depends on.
func makeTree(t testing.TB, root string) {
	t.Helper()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("SKIPPED: mmdebstrap is missing, which makes the tree with cloud-init")
	}
	release, err := distro.Lookup("debian", "trixie")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := release.Sources(distro.SourceOptions{Arch: "amd64", HostApt: os.DirFS("/etc/apt")})
	if err != nil {
		t.Fatal(err)
	}
	part := root + ".part"
	for _, old := range []string{part, root} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--mode=root", "--variant=extract", "--quiet", "--aptopt=APT::Install-Recommends false",
		"--include=base-files,cloud-init,python3-netplan", "trixie", part, sources[0].URI)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: cloud-init is missing, mmdebstrap could not make a tree with it (%v): %s", err, bytes.TrimSpace(out))
	}
	var all []byte
	names, _ := filepath.Glob(filepath.Join(part, "usr/share/ca-certificates/mozilla/*.crt"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if err := os.WriteFile(filepath.Join(part, certificates), all, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, root); err != nil {
		t.Fatal(err)
	}
}

// Run runs the Python program of a file in the tree, with one JSON value a line on its standard input, and returns what
// it prints. A program that fails fails the test.
func (c Tree) Run(t testing.TB, program string, lines ...any) io.Reader {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var stdin, stdout, stderr bytes.Buffer
	encoder := json.NewEncoder(&stdin)
	for _, line := range lines {
		if err := encoder.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", string(text))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Root}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, stderr.Bytes())
	}
	return &stdout
}
