package podman

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A user is an ordinary user that is there for one program only.
type user struct {
	id, subordinate int
	dir             string // a folder of the user's
}

// newUser makes the files that tell of a user.
func newUser(t *testing.T) user {
	t.Helper()
	u := user{id: 41234, subordinate: 300000}
	var err error
	// Podman wants a short path.
	if u.dir, err = os.MkdirTemp("/tmp", "user"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", "--lazy", "--quiet", u.dir+"/home/.local/share/containers/storage/overlay").Run()
		if err := os.RemoveAll(u.dir); err != nil {
			t.Error(err)
		}
	})
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("podtest:x:%d:%d::%s/home:/bin/sh\n", u.id, u.id, u.dir), "group": fmt.Sprintf("podtest:x:%d:\n", u.id),
		"subuid": fmt.Sprintf("podtest:%d:65536\n", u.subordinate), "subgid": fmt.Sprintf("podtest:%d:65536\n", u.subordinate),
	} {
		old, err := os.ReadFile("/etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(u.dir, name), append(old, line...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"home", "home/.config/containers", "run"} {
		if err := os.MkdirAll(filepath.Join(u.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// run runs a program as the user, in namespaces of its own, so that no process
// that it leaves outlives it.
func (u user) run(argv ...string) (string, error) {
	const script = `
		for f in passwd group subuid subgid; do mount --bind $D/$f /etc/$f; done
		umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
		chown -R $U:$U $D/home $D/run; chmod 755 $D
		exec setpriv --reuid $U --regid $U --clear-groups env -i -C $D/home HOME=$D/home USER=podtest \
			PATH=/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR=$D/run "$@"`
	c := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"env", "D=" + u.dir, fmt.Sprintf("U=%d", u.id), "sh", "-c", script, "sh"}, argv...)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestOrdinaryUserRunsContainersFromHisStore also shows why he has one.
func TestOrdinaryUserRunsContainersFromHisStore(t *testing.T) {
	need(t, "podman", "crun", "unshare", "newuidmap", "setpriv", "mksquashfs")
	u := newUser(t)
	all := []named{runnable(t)}
	command := []string{"podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
		"run", "--rm", "--network", "none", "--pull", "never", "--cgroups", "disabled", "--runtime", "crun",
		"--ulimit", "nofile=256:256", "--ulimit", "nproc=256:256", all[0].name, "/bin/sh", "-c",
		`busybox stat -c "%u:%g" /bin/busybox; echo changed >/full/new && cat /full/new; ls /full`}
	for name, test := range map[string]struct {
		store Store
		runs  bool
	}{
		"root's store": {Store{}, false},
		"his store":    {Store{Owner: Subordinate(u.id, u.subordinate), Private: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			at := mountSquashfs(t, ownStore(t, test.store, all))
			if err := os.WriteFile(filepath.Join(u.dir, "home", UserConfig), StorageConf("", "", at), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := u.run(command...)
			if test.runs && (err != nil || !strings.HasSuffix(out, "0:0\nchanged\nnew\n")) {
				t.Errorf("%v: %s", err, out)
			}
			if !test.runs && err == nil {
				t.Errorf("it runs, so that a second store is not needed: %s", out)
			}
			copied, _ := filepath.Glob(u.dir + "/home/.local/share/containers/storage/overlay/*/diff/bin/busybox")
			if len(copied) > 0 {
				t.Errorf("layers were copied: %s", copied)
			}
		})
	}
}

// mountSquashfs puts a store where nobody can write.
func mountSquashfs(t *testing.T, store string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, argv := range [][]string{
		{"mksquashfs", store, dir + "/image", "-quiet", "-no-progress", "-comp", "zstd"},
		{"chmod", "755", dir}, {"mkdir", dir + "/at"}, {"mount", "-o", "loop,ro", dir + "/image", dir + "/at"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: the kernel has no squashfs or loop devices here: %s: %v: %s", argv[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir+"/at").CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir + "/at"
}
