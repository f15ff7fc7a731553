package rootfs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/applbuild/applbuild/rootfs/tree"
)

// A process started with this variable builds the tree that the JSON file of
// that name describes, and nothing else.
const orderVariable = "APPLBUILD_ROOTFS_BUILD"

// An order is what such a process is told.
type order struct {
	Debs     []Deb
	Packages string
	Locales  []string
	Scratch  string
	Out      string
	Umask    int
}

// carryOut does what the order says and returns the exit status.
func carryOut(file string) int {
	if err := build(file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func build(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	out, err := os.Create(o.Out)
	if err != nil {
		return err
	}
	defer out.Close()
	syscall.Umask(o.Umask)
	b := Base{Debs: o.Debs, Packages: o.Packages, Locales: o.Locales, Scratch: o.Scratch, Arch: "amd64", Clock: testClock}
	if _, err := b.Build(context.Background(), out); err != nil {
		return err
	}
	return out.Close()
}

// ordinaryUser is who builds a tree besides root. Tests of the sandbox use the
// same.
const ordinaryUser = "applbuild-test"

func ordinary(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(ordinaryUser)
	if err != nil {
		if out, err := exec.CommandContext(t.Context(), "useradd", "--create-home", ordinaryUser).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED, NO ORDINARY USER: useradd: %v: %s", err, out)
		}
		if u, err = user.Lookup(ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// TestSameTreeTwice builds one set as root and as an ordinary user, in other
// folders, time zones and with other umasks: the archives must be the same.
func TestSameTreeTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("two trees of real packages take a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: root builds one of the two trees")
	}
	needSandbox(t)
	b := debian(t, "trixie").base(t, "apt", "systemd-sysv", "openssh-server", "ca-certificates", "python3", "locales", "tzdata", "fontconfig", "cloud-init")
	b.Locales = []string{"de_DE.UTF-8 UTF-8", "en_US.UTF-8 UTF-8"}
	packages := filepath.Join(scratchDir(t), "packages")
	for _, d := range b.Debs {
		to := filepath.Join(packages, d.File)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := hardLink(filepath.Join(b.Packages, d.File), to); err != nil {
			t.Fatal(err)
		}
	}
	b.Packages = packages
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	var trees [2]*os.File
	for i, c := range []struct {
		zone  string
		umask int
		who   *syscall.Credential
	}{
		{"UTC", 0o022, nil},
		{"Pacific/Kiritimati", 0o077, ordinary(t)},
	} {
		dir := scratchDir(t)
		exe := filepath.Join(dir, "test")
		if err := os.WriteFile(exe, self, 0o755); err != nil {
			t.Fatal(err)
		}
		scratch := filepath.Join(dir, fmt.Sprintf("scratch-%d", i))
		if err := os.Mkdir(scratch, 0o755); err != nil {
			t.Fatal(err)
		}
		o := order{b.Debs, b.Packages, b.Locales, scratch, filepath.Join(dir, "tree.tar"), c.umask}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "order"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Dir = dir
		cmd.Env = []string{orderVariable + "=" + filepath.Join(dir, "order"), "TZ=" + c.zone, "PATH=/usr/bin:/bin", "TMPDIR=" + dir}
		if c.who != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.who}
			for _, name := range []string{dir, scratch} {
				if err := os.Chown(name, int(c.who.Uid), int(c.who.Gid)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %d: %v\n%s", i, err, out)
		}
		if trees[i], err = os.Open(o.Out); err != nil {
			t.Fatal(err)
		}
		defer trees[i].Close()
	}
	if digestOf(t, trees[0]) == digestOf(t, trees[1]) {
		return
	}
	t.Error("the archives differ")
	first, second := indexed(t, trees[0]), indexed(t, trees[1])
	differences, err := tree.Diff(first, second)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(differences, tree.DiffTimes(first, second)...) {
		t.Errorf("%s%s", d, lines(t, first, second, d))
	}
}
