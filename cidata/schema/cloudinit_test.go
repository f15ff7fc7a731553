package schema

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/distro"
)

// cloudInit is the root folder of a tree of Debian 13 with cloud-init in it, none
// of its packages configured.
type cloudInit struct{ root string }

// findCloudInit returns the tree, made the first time in the user's cache, or
// skips the test: it needs root, mmdebstrap and an archive of Debian's.
func findCloudInit(t *testing.T) cloudInit {
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
	for _, name := range []string{certificates, netplanLibrary} {
		if _, err := os.Stat(filepath.Join(root, name)); errors.Is(err, os.ErrNotExist) {
			makeTree(t, root)
		}
	}
	return cloudInit{root}
}

// certificates is what the postinst of ca-certificates would make, and what
// cloud-init's HTTP library wants when it is loaded. It is made last.
const certificates = "etc/ssl/certs/ca-certificates.crt"

// netplanLibrary is netplan's parser.
const netplanLibrary = "usr/lib/x86_64-linux-gnu/libnetplan.so.1"

func makeTree(t *testing.T, root string) {
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
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--mode=root", "--variant=extract", "--quiet",
		"--aptopt=APT::Install-Recommends false", "--include=base-files,cloud-init,python3-netplan", "trixie", part, sources[0].URI)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: cloud-init is missing, mmdebstrap could not make a tree with it (%v): %s", err, bytes.TrimSpace(out))
	}
	var all []byte
	names, _ := filepath.Glob(filepath.Join(part, "usr/share/ca-certificates/mozilla/*.crt"))
	for _, name := range names {
		all = append(all, readFile(t, name)...)
	}
	if err := os.WriteFile(filepath.Join(part, certificates), all, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, root); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A trial is a file for cloud-init to judge.
type trial struct {
	Type string `json:"type"` // cloud-config or network-config
	Data []byte `json:"data"`
}

// judge is our verdict.
func (t trial) judge(c *checker) []Problem {
	if t.Type == "network-config" {
		return c.networkConfig(t.Data)
	}
	return c.userData(t.Data)
}

// A verdict is what cloud-init says.
type verdict struct {
	Valid, Deprecated bool
	Why               string
}

func (c cloudInit) judge(t *testing.T, trials []trial) []verdict {
	t.Helper()
	var stdin bytes.Buffer
	encoder := json.NewEncoder(&stdin)
	for _, c := range trials {
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	var verdicts []verdict
	for line := range strings.Lines(c.run(t, "testdata/judge.py", &stdin)) {
		var v verdict
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) != len(trials) {
		t.Fatalf("cloud-init answered %d of %d", len(verdicts), len(trials))
	}
	return verdicts
}

// run runs a Python program in the tree and returns what it prints.
func (c cloudInit) run(t *testing.T, program string, stdin io.Reader) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/usr/bin/python3", "-c", string(readFile(t, program)))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, stderr.Bytes())
	}
	return stdout.String()
}
