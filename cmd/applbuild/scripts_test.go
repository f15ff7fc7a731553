package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// A maintainer script that fails ends the build; what it printed is shown.
func TestScriptFails(t *testing.T) {
	for _, name := range []string{"preinst", "postinst"} {
		t.Run(name, func(t *testing.T) {
			d := newRealTiny(t, "packages: [dpkg, dash, broken]\n", deb(t, "Package: broken\nVersion: 1\nPre-Depends: dash, coreutils\n",
				archivetest.Script{Name: name, Body: "#!/bin/sh\necho to standard output\necho the frobnicator is missing >&2\nexit 3\n"}))
			detail := d.refuses(t, "broken", name)
			for _, line := range []string{"to standard output", "the frobnicator is missing"} {
				if !strings.Contains(detail, line) {
					t.Errorf("%q is not shown:\n%s", line, detail)
				}
			}
		})
	}
}

// newNosy makes an archive whose package nosy runs a script.
func newNosy(t testing.TB, script string) *tiny {
	t.Helper()
	return newRealTiny(t, "packages: [dpkg, bash, nosy]\n", func(d *tiny) {
		d.addLocked(t, "bash", "libtinfo6")
		d.AddDeb("main", archivetest.Deb(t, "Package: nosy\nVersion: 1\nDepends: bash, coreutils\n",
			archivetest.Script{Name: "postinst", Body: "#!/bin/bash\n" + script + "\nexit 0\n"}))
	})
}

// A script that leaves a daemon ends the build, and the daemon ends with it.
func TestScriptLeavesDaemon(t *testing.T) {
	newNosy(t, "(sleep 4711 </dev/null >/dev/null 2>&1 &)").refuses(t, "nosy", "sleep", "must not start")
	if left, err := exec.Command("pgrep", "-f", "^sleep 4711").Output(); err == nil {
		t.Errorf("the script's daemon still runs: %s", left)
	}
}

// A script that wants something of another host ends the build, whether it
// goes on without or not.
func TestScriptTriesNetwork(t *testing.T) {
	const try = "(exec 3<>/dev/tcp/192.0.2.1/80) 2>/dev/null"
	newNosy(t, try).refuses(t, "tried to reach the network")
	newNosy(t, try+" || exit 4").refuses(t, "nosy", "postinst")
}

// A script is alone: it reaches no network and no file of the host.
func TestScriptIsConfined(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := server.Addr().(*net.TCPAddr).Port
	outside := publicDir(t)
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`{
    (exec 3<>/dev/tcp/127.0.0.1/%d) 2>/dev/null && echo reached the network
    echo x 2>/dev/null >%s/escaped && echo wrote outside
    echo x 2>/dev/null >/proc/sys/kernel/core_pattern && echo changed the kernel
    [ -e /etc/fstab ] || [ -e /root/.bash_history ] && echo saw the host
    mknod /dev/mem2 c 1 1 2>/dev/null && echo made a device
    echo ran
} >/probe`, port, outside)
	d := newNosy(t, script)
	d.image(t).succeeds(t)
	if _, err := os.Stat(filepath.Join(outside, "escaped")); err == nil {
		t.Error("the script wrote outside")
	}
	for _, left := range holding(t, d.store) {
		t.Error(left)
	}
	root := extract(t, filepath.Join(d.out, "tiny_0_amd64.raw"), "root-x86-64")
	if said := asks(t, "unsquashfs", "-cat", root, "probe"); strings.TrimSpace(said) != "ran" {
		t.Errorf("the script says:\n%s", said)
	}
}

// tmpfs mounts a small file system for the time of the test.
func tmpfs(t testing.TB, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Skipf("SKIPPED: a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// A full file system is named, and nothing half-written stays on it.
func TestNoSpace(t *testing.T) {
	long(t)
	noise := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{2}).Read(noise)
	t.Run("download", func(t *testing.T) {
		d := newTiny(t, "packages: [hello]\n", deb(t, "Package: hello\nVersion: 1\n",
			archivetest.Member{Name: "./usr/share/noise", Body: string(noise[:4<<20])}))
		d.store = filepath.Join(tmpfs(t, "2m"), "store")
		d.refuses(t, d.store, "no space left on device")
	})
	t.Run("store, foreseen", func(t *testing.T) {
		d := newTiny(t, "packages: [hello]\n", deb(t, "Package: hello\nVersion: 1\n",
			archivetest.Member{Name: "./usr/share/noise", Body: string(noise[:4<<20])}))
		d.store = filepath.Join(tmpfs(t, "12m"), "store")
		d.refuses(t, "not enough space", d.store, "MiB free", "--store")
	})
	t.Run("output, foreseen", func(t *testing.T) {
		d := newTiny(t, "packages: [hello]\n", deb(t, "Package: hello\nVersion: 1\n",
			archivetest.Member{Name: "./usr/share/noise", Body: string(noise[:4<<20])}))
		d.out = filepath.Join(tmpfs(t, "4m"), "out")
		d.refuses(t, "not enough space", "MiB free", "--output")
	})
	t.Run("output, by what the recipe adds", func(t *testing.T) {
		d := newRealTiny(t, "packages: [dpkg]\nfiles:\n  - {path: /noise, source: noise}\n")
		writeFile(t, d.dir, "noise", string(bytes.Repeat(noise, 2)))
		d.out = filepath.Join(tmpfs(t, "40m"), "out")
		d.refuses(t, "no space left on device", d.out)
		removeAll(t, filepath.Join(d.dir, "noise"))
		writeFile(t, d.dir, "noise", "")
		d.image(t).succeeds(t)
	})
	t.Run("store, by what the recipe adds", func(t *testing.T) {
		d := newRealTiny(t, "packages: [dpkg]\nfiles:\n  - {path: /noise, source: noise}\n")
		writeFile(t, d.dir, "noise", "")
		d.store = filepath.Join(tmpfs(t, "400m"), "store")
		d.image(t).succeeds(t)
		removeAll(t, d.out)
		fill(t, filepath.Join(filepath.Dir(d.store), "ballast"), 20<<20)
		writeFile(t, d.dir, "noise", string(bytes.Repeat(noise, 2)))
		d.refuses(t, "root", "no space left on device", d.store)
	})
}

// fill writes a file until so much space is left on its file system, in bytes.
func fill(t testing.TB, name string, left uint64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(name), &st); err != nil {
		t.Fatal(err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free <= left {
		return
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(free-left)); err != nil {
		t.Fatal(err)
	}
}
