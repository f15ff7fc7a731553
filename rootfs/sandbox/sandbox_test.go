package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ordinaryUser is who the tests are run as once more when they are run as root.
const ordinaryUser = "applbuild-test"

// A process started with this variable runs one sandbox and waits for its end: it is there to be
// killed, or to have a terminal.
const victimVariable = "APPLBUILD_SANDBOX_VICTIM"

func TestMain(m *testing.M) {
	Main(map[string]Func{
		"fill":   fillTree,
		"dial":   dial,
		"escape": escape,
		"echo":   echo,
		"setcap": setCapability,
		"exit":   func(context.Context, []byte, []*os.File) error { os.Exit(0); return nil },
		"sync":   syncPipe,
		"panic":  func(context.Context, []byte, []*os.File) error { panic("the function broke") },
		"fail":   func(context.Context, []byte, []*os.File) error { return errors.New("no luck: two\nlines") },
	})
	if v := os.Getenv(victimVariable); v != "" {
		os.Exit(victim(v))
	}
	os.Exit(m.Run())
}

// usr is a sandbox whose programs are the host's.
func usr(ids IDs) Spec {
	return Spec{
		IDs:   ids,
		Binds: []Bind{{"/usr", "/usr", true}},
		Links: []Link{{"/bin", "usr/bin"}, {"/sbin", "usr/sbin"}, {"/lib", "usr/lib"}, {"/lib64", "usr/lib64"}},
	}
}

func script(ids IDs, text string) Spec {
	s := usr(ids)
	s.Argv = []string{"/bin/sh", "-c", text}
	return s
}

// output runs s, which must succeed, and returns what it wrote.
func output(t *testing.T, s Spec) string {
	t.Helper()
	needs(t, s.IDs)
	var out, errOut bytes.Buffer
	s.Stdout, s.Stderr = &out, &errOut
	if err := Run(t.Context(), s); err != nil {
		t.Fatalf("%v\n%s%s", err, out.Bytes(), errOut.Bytes())
	}
	return strings.TrimSpace(out.String())
}

// needs skips a test that this host is known to forbid. A sandbox that fails without a known
// reason is a fault.
func needs(t testing.TB, ids IDs) {
	t.Helper()
	if err := Check(t.Context(), ids); err != nil {
		if _, mapErr := thisHost().mappings(ids); mapErr == nil && len(thisHost().reasons()) == 0 {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, NO SANDBOX HERE: %v", err)
	}
}

// newTree makes a tree for writing with the host's /usr in it and gives the spec for it.
func newTree(t *testing.T) Spec {
	t.Helper()
	needs(t, Range)
	dir := filepath.Join(t.TempDir(), "tree")
	if err := MakeOwned(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := RemoveAll(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	if err := Run(t.Context(), Spec{IDs: Range, Binds: []Bind{{dir, "/tree", false}}, Call: "fill"}); err != nil {
		t.Fatal(err)
	}
	return Spec{Root: dir, IDs: Range, Binds: []Bind{{"/usr", "/usr", true}}}
}

func fillTree(context.Context, []byte, []*os.File) error {
	if err := os.Chdir("/tree"); err != nil {
		return err
	}
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "usr", "etc", "opt/sub"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, l); err != nil {
			return err
		}
	}
	if err := os.Symlink("nowhere", "etc/dangling"); err != nil {
		return err
	}
	return os.WriteFile("etc/there", []byte("the tree's\n"), 0o644)
}

func (s Spec) sh(text string) Spec {
	s.Argv = []string{"/bin/sh", "-c", text}
	return s
}

func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is the run as an ordinary user")
	}
	if testing.Short() {
		t.Skip("SKIPPED under -short: adds the user " + ordinaryUser)
	}
	uid, gid := addUser(t)
	// The directory of the test's program is closed to others.
	dir, err := os.MkdirTemp("/var/tmp", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// The file is the user's alone, as under a umask of 077: the sandbox must start from it too.
	exe := filepath.Join(dir, "test")
	if err := os.WriteFile(exe, program, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(exe, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.timeout=2m")
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	t.Logf("as %s:\n%s", ordinaryUser, out)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("NO SANDBOX HERE")) {
		t.Error("tests were skipped")
	}
}

// addUser makes sure of the user and of his subordinate ids.
func addUser(t *testing.T) (uid, gid int) {
	t.Helper()
	h := thisHost()
	lookup := func() bool {
		h.eachLine("etc/passwd", func(f []string) {
			if f[0] == ordinaryUser && len(f) > 3 {
				uid, _ = strconv.Atoi(f[2])
				gid, _ = strconv.Atoi(f[3])
			}
		})
		return uid != 0
	}
	command := func(name string, args ...string) {
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED, NO ORDINARY USER: %s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	if !lookup() {
		command("useradd", "--create-home", ordinaryUser)
		if !lookup() {
			t.Fatal("useradd made no user")
		}
	}
	h.UID, h.GID = uid, gid
	if _, _, err := h.subordinate(); err != nil {
		add := strings.Fields(h.addRange(ordinaryUser))
		command(add[0], add[1:]...)
	}
	return uid, gid
}

func TestIDs(t *testing.T) {
	t.Run("caller", func(t *testing.T) {
		dir := t.TempDir()
		s := script(Caller, "id -u; id -g; cat /proc/self/uid_map | wc -l; touch /out/file; : > /dev/stderr")
		s.Binds = append(s.Binds, Bind{dir, "/out", false})
		if got := output(t, s); got != "0\n0\n1" {
			t.Errorf("got %q", got)
		}
		if uid, gid := owner(t, filepath.Join(dir, "file")); uid != os.Geteuid() || gid != os.Getegid() {
			t.Errorf("file of the sandbox belongs to %d:%d, not to the caller", uid, gid)
		}
	})
	t.Run("range", func(t *testing.T) {
		tree := newTree(t)
		s := tree.sh("id -u; id -G; touch /opt/a; chown 1:2 /opt/a; chown -h 65535:65535 /opt/sub; umask; setpriv --reuid 1000 --clear-groups id -u; : > /dev/stderr")
		if got := output(t, s); got != "0\n0\n0022\n1000" {
			t.Errorf("got %q", got)
		}
		first := rangeFirstOf(t)
		for name, want := range map[string][2]int{".": {0, 0}, "opt/a": {1, 2}, "opt/sub": {65535, 65535}} {
			uid, gid := owner(t, filepath.Join(tree.Root, name))
			if uid != first+want[0] || gid != first+want[1] {
				t.Errorf("%s belongs to %d:%d, want %d+%v", name, uid, gid, first, want)
			}
		}
	})
}

// TestFileCapabilities: what setcap(8) writes must be read back the same inside, and
// hold for the sandbox's root only outside.
func TestFileCapabilities(t *testing.T) {
	tree := newTree(t)
	tree.Call = "setcap"
	output(t, tree)
	b := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(tree.Root, "opt/cap"), "security.capability", b)
	if err != nil {
		t.Fatal(err)
	}
	if n != 24 || binary.LittleEndian.Uint32(b[20:]) != uint32(rangeFirstOf(t)) {
		t.Errorf("capabilities on the host: %x", b[:n])
	}
}

// setCapability runs inside.
func setCapability(context.Context, []byte, []*os.File) error {
	// struct vfs_cap_data, revision 2: CAP_NET_RAW, permitted and effective.
	set := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := os.WriteFile("/opt/cap", nil, 0o755); err != nil {
		return err
	}
	if err := unix.Setxattr("/opt/cap", "security.capability", set, 0); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	got := make([]byte, 64)
	n, err := unix.Getxattr("/opt/cap", "security.capability", got)
	if err != nil || !bytes.Equal(got[:n], set) {
		return fmt.Errorf("got %x, %v", got[:n], err)
	}
	return nil
}

// rangeFirstOf is the host's id of a Range sandbox's root.
func rangeFirstOf(t *testing.T) int {
	m, err := thisHost().mappings(Range)
	if err != nil {
		t.Fatal(err)
	}
	if m.outer {
		return int(m.outerUID[1].Outside)
	}
	return int(m.innerUID[0].Outside)
}

func owner(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Uid), int(st.Gid)
}

func TestNothingOfTheHostIsSeen(t *testing.T) {
	t.Setenv("SECRET", "of the host")
	if got, want := output(t, script(Range, "ls /")), "bin\ndev\nlib\nlib64\nproc\nrun\nsbin\nsys\ntmp\nusr"; got != want {
		t.Errorf("ls /: %q", got)
	}
	s := usr(Range)
	s.Argv = []string{"env"}
	s.Env = []string{"A=b", "LC_ALL=C.UTF-8"}
	if got := output(t, s); got != "A=b\nLC_ALL=C.UTF-8\n"+defaultPath+"\nHOME=/root" {
		t.Errorf("env: %q", got)
	}
	if got := output(t, script(Range, "uname -n; ls /tmp /run /sys /dev/shm; ls /dev | tr '\n' ' '; ls /dev/pts")); got != "applbuild\n/dev/shm:\n\n/run:\n\n/sys:\n\n/tmp:\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero ptmx" {
		t.Errorf("%q", got)
	}
	if got := output(t, script(Range, "set -- /proc/[0-9]*; echo $#; ls /proc/self/fd; stat -c %a /tmp /run /dev /dev/shm")); got != "2\n0\n1\n2\n3\n1777\n755\n755\n1777" {
		t.Errorf("processes, descriptors and modes: %q", got)
	}
	if got := output(t, script(Range, "cut -d' ' -f1,5 /proc/self/mountinfo | cut -d' ' -f2 | grep -v ^/proc/ | grep -v ^/usr/ | sort | tr '\n' ' '")); got != "/ /dev /dev/full /dev/null /dev/pts /dev/random /dev/shm /dev/tty /dev/urandom /dev/zero /proc /run /sys /tmp /usr" {
		t.Errorf("mounts: %q", got)
	}
	if got := output(t, script(Range, "cat /proc/sys/kernel/hostname; grep -E 'NoNewPrivs|SigIgn|SigBlk|CapAmb|CapInh' /proc/self/status | cut -f2 | tr '\n' ' '; ulimit -n; ulimit -c")); got != "applbuild\n0000000000000000 0000000000000000 0000000000000000 0000000000000000 1 1024\n0" {
		t.Errorf("state: %q", got)
	}
	if got := output(t, script(Range, "(: < /dev/tty) 2>&1 | grep -c : ; ps -o tty= -p $$")); got != "1\n?" {
		t.Errorf("controlling terminal: %q", got)
	}
}

func TestNetwork(t *testing.T) {
	needs(t, Caller)
	s := usr(Range)
	s.Call = "dial"
	var errOut bytes.Buffer
	s.Stderr = &errOut
	start := time.Now()
	if err := Run(t.Context(), s); err != nil {
		t.Errorf("%v %s", err, errOut.Bytes())
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []bool{false, true} {
		s := script(Caller, "readlink /proc/self/ns/net")
		s.Network = network
		if got := output(t, s); (got == host) != network {
			t.Errorf("Network %v: namespace %s, the host's is %s", network, got, host)
		}
	}
}

// dial runs inside: the outside must be out of reach at once, the loopback must work.
func dial(context.Context, []byte, []*os.File) error {
	var d net.Dialer
	for _, address := range []string{"192.0.2.1:80", "8.8.8.8:53", "[2001:db8::1]:80"} {
		if _, err := d.Dial("tcp", address); !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("dial %s: %v, want ENETUNREACH", address, err)
		}
	}
	if a, err := net.LookupHost("debian.org"); err == nil {
		return fmt.Errorf("debian.org is %v", a)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}
