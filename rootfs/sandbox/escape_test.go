package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNothingOutsideCanBeWritten(t *testing.T) {
	tests := []struct{ name, script string }{
		{"remount a read-only bind", "mount -o remount,rw,bind /usr"},
		{"write to a read-only bind", "touch /usr/new"},
		{"unmount a bind", "umount /usr"},
		{"unmount a bind lazily", "umount -l /usr"},
		{"unmount /proc", "umount -l /proc"},
		{"unmount the guard of /proc/sys", "umount /proc/sys"},
		{"remount /proc/sys", "mount -o remount,rw,bind /proc/sys"},
		{"mount a new /proc", "mkdir /tmp/p && mount -t proc proc /tmp/p"},
		{"mount a new sysfs over a new network", "mkdir /tmp/s && mount -t sysfs sysfs /tmp/s && test -w /tmp/s/kernel/uevent_helper"},
		{"unshare and unmount", "unshare -Urm umount -l /usr"},
		{"make a node", "mknod /tmp/vda b 254 0"},
		{"make a node of memory", "mknod /tmp/mem c 1 1"},
		{"sysrq", "echo h > /proc/sysrq-trigger"},
		{"core pattern", "echo '|/tmp/x' > /proc/sys/kernel/core_pattern"},
		{"trace the first process", "readlink /proc/1/exe"},
		{"look through the first process's root", "ls /proc/1/root/"},
		{"enter the first process's mounts", "nsenter -t 1 -m true"},
		{"raise the limit on files above the hard one", "ulimit -n 1048576"},
		{"set the clock", "date -s '2001-01-01'"},
	}
	for _, ids := range []IDs{Caller, Range} {
		needs(t, ids)
		for _, tt := range tests {
			t.Run(fmt.Sprint(tt.name, " ", ids), func(t *testing.T) {
				var out bytes.Buffer
				s := script(ids, tt.script)
				s.Stdout, s.Stderr = &out, &out
				var exit *ExitError
				if err := Run(t.Context(), s); !errors.As(err, &exit) || exit.Code == 0 || exit.Code == 127 {
					t.Errorf("%s: %v: %s", tt.script, err, out.Bytes())
				}
			})
		}
	}
}

func TestReadOnlyRootIsReadOnlyBelowToo(t *testing.T) {
	tree := newTree(t)
	tree.ReadOnlyRoot = true
	if got := output(t, tree.sh("for d in / /etc /opt/sub /usr; do touch $d/x 2>/dev/null || echo no; done; touch /tmp/x /run/x /dev/shm/x")); got != "no\nno\nno\nno" {
		t.Errorf("%q", got)
	}
	s := tree.sh("mount -o remount,rw,bind / 2>/dev/null; touch /etc/x 2>/dev/null || echo no")
	if got := output(t, s); got != "no" {
		t.Errorf("after a remount: %q", got)
	}
}

func TestChrootEscape(t *testing.T) {
	// The file that must not be found from inside.
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, ids := range []IDs{Caller, Range} {
		needs(t, ids)
		s := usr(ids)
		s.Call, s.Args = "escape", secret
		if err := Run(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Error(err)
	}
}

// escape runs inside. It holds the root, changes to a root below and climbs up from
// what it holds; then it looks for the host in what it was started with.
func escape(_ context.Context, args []byte, _ []*os.File) error {
	secret := string(bytes.Trim(args, `"`))
	if err := os.Mkdir("/tmp/jail", 0o755); err != nil {
		return err
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := unix.Chroot("/tmp/jail"); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	for range 64 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if _, err := os.Stat(secret); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is in reach: %v", secret, err)
	}
	for fd := range 64 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/%s", fd, secret)); err == nil {
				return fmt.Errorf("descriptor %d leads to the host", fd)
			}
		}
	}
	if f, err := os.OpenFile("/proc/self/exe", os.O_WRONLY, 0); err == nil {
		f.Close()
		return errors.New("the host's program can be written")
	}
	return nil
}

func TestMountpointsAreNotMadeInTrees(t *testing.T) {
	tree := newTree(t)
	s := tree.sh("true")
	s.Binds = append(s.Binds, Bind{"/etc", "/new/place", true})
	err := Run(t.Context(), s)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("there is no /new/place in the tree")) {
		t.Errorf("missing place in a tree: %v", err)
	}
	s.ReadOnlyRoot = true
	s.Binds = append(s.Binds, Bind{"/etc/passwd", "/file", true})
	s.Tmpfs = []string{"/scratch/deep"}
	s.Argv[2] = "ls / | tr '\n' ' '; test -d /new/place && test -f /file && cat /etc/there && touch /scratch/deep/x && ! touch /x 2>/dev/null"
	if got := output(t, s); got != "bin dev etc file lib lib64 new opt proc run sbin scratch sys tmp usr the tree's" {
		t.Errorf("beside a read-only tree: %q", got)
	}
	s.Binds = append(s.Binds, Bind{"/etc", "/opt/new", true})
	if err := Run(t.Context(), s); !errors.Is(err, unix.EROFS) {
		t.Errorf("missing place deep in a read-only tree: %v", err)
	}
	for _, name := range []string{"new", "file", "scratch", "opt/new"} {
		if _, err := os.Lstat(filepath.Join(tree.Root, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made in the tree: %v", name, err)
		}
	}
	s = tree.sh("touch /tmp/kept")
	s.Keep = []string{"/tmp"}
	output(t, s)
	if _, err := os.Lstat(filepath.Join(tree.Root, "tmp/kept")); err != nil {
		t.Error(err)
	}
}

func TestLinksInATreeDoNotLeadOut(t *testing.T) {
	tree := newTree(t)
	output(t, tree.sh("ln -s /etc/there /etc/absolute; ln -s ../../../../../../etc/there /etc/up"))
	host := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(host, []byte("bound"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(host), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/etc/absolute", "/etc/up", "/../../etc/there"} {
		s := tree.sh("cat /etc/there")
		s.Binds = append(s.Binds, Bind{host, target, true})
		if got := output(t, s); got != "bound" {
			t.Errorf("bind on %s: the tree's file is %q", target, got)
		}
	}
}
