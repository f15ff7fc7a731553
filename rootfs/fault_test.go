package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// smallPrograms are what maintainer scripts of these tests and dpkg run.
var smallPrograms = []string{"bash", "dpkg", "dpkg-deb", "rm", "tar", "diff", "sleep", "cat", "mkdir", "setsid", "ldconfig", "start-stop-daemon"}

// small is a package with a shell and dpkg in it, of the host's files: enough of
// a system to run scripts in a second.
var small = sync.OnceValues(func() ([]archivetest.Member, error) {
	var members []archivetest.Member
	have := map[string]bool{"/": true}
	var folder func(path string)
	folder = func(path string) {
		if have[path] {
			return
		}
		have[path] = true
		folder(filepath.Dir(path))
		members = append(members, archivetest.Member{Name: "." + path + "/"})
	}
	add := func(path, as string) error {
		if have[as] {
			return nil
		}
		have[as] = true
		folder(filepath.Dir(as))
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		members = append(members, archivetest.Member{Name: "." + as, Body: string(data), Mode: 0o755})
		return nil
	}
	for _, path := range []string{"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/etc", "/var"} {
		folder(path)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		members = append(members, archivetest.Member{Name: "./" + link, Linkname: "usr/" + link, Typeflag: '2'})
	}
	for _, name := range smallPrograms {
		path, err := exec.LookPath(name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + name)
		}
		if err != nil {
			return nil, err
		}
		if err := add(path, "/usr/bin/"+name); err != nil {
			return nil, err
		}
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			continue // a static program
		}
		for word := range strings.FieldsSeq(string(libraries)) {
			if !strings.HasPrefix(word, "/") {
				continue
			}
			as := word
			if !strings.HasPrefix(as, "/usr/") {
				as = "/usr" + as
			}
			if err := add(word, as); err != nil {
				return nil, err
			}
		}
	}
	members = append(members, archivetest.Member{Name: "./usr/bin/sh", Linkname: "bash", Typeflag: '2'})
	return members, nil
})

// A faulty is a base tree of packages made by the test.
type faulty struct {
	*Base
	out *os.File
}

// smallBase prepares a tree of the small system and the package given.
func smallBase(t *testing.T, debs ...[]byte) faulty {
	t.Helper()
	needSandbox(t)
	members, err := small()
	if err != nil {
		t.Skipf("SKIPPED: a program of a small Debian system is not installed here: %v", err)
	}
	var entries []any
	for _, m := range members {
		entries = append(entries, m)
	}
	dir := scratchDir(t)
	b := &Base{Arch: "amd64", Clock: testClock, Packages: filepath.Join(dir, "packages"), Scratch: filepath.Join(dir, "scratch")}
	for _, d := range []string{b.Packages, b.Scratch} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	system := archivetest.Deb(t, "Package: system\nVersion: 1\nEssential: yes\n", entries...)
	for i, data := range append([][]byte{system}, debs...) {
		name := []string{"system", "faulty", "further"}[i]
		if err := os.WriteFile(filepath.Join(b.Packages, name+".deb"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		b.Debs = append(b.Debs, Deb{Name: name, File: name + ".deb", Size: int64(len(data))})
	}
	out, err := os.Create(filepath.Join(dir, "tree.tar"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return faulty{b, out}
}

// fails builds the tree, which must fail with one line that holds all of the
// words, and leave nothing.
func (f faulty) fails(t *testing.T, words ...string) error {
	t.Helper()
	return f.failsWith(t.Context(), t, words...)
}

func (f faulty) failsWith(ctx context.Context, t *testing.T, words ...string) error {
	t.Helper()
	mounts := mountsBelow(t, filepath.Dir(f.Packages))
	_, err := f.Build(ctx, f.out)
	if err == nil {
		t.Fatal("the tree was built")
	}
	t.Log(err)
	if strings.Contains(err.Error(), "\n") {
		t.Error("the error is more than a line")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q", word)
		}
	}
	if left := mountsBelow(t, filepath.Dir(f.Packages)); left != mounts {
		t.Errorf("%d mounts are left, there were %d", left, mounts)
	}
	if left := runningIn(f.Scratch); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if err := sandbox.RemoveAll(context.Background(), f.Scratch); err != nil {
		t.Errorf("the scratch folder cannot be removed: %v", err)
	}
	return err
}

func mountsBelow(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), dir)
}

// runningIn lists processes whose root is in the folder.
func runningIn(dir string) []string {
	var found []string
	roots, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, root := range roots {
		target, err := os.Readlink(root)
		if err == nil && strings.HasPrefix(target, dir) {
			found = append(found, root)
		}
	}
	return found
}

func script(name, body string) archivetest.Script {
	return archivetest.Script{Name: name, Body: "#!/bin/sh\n" + body + "\n"}
}

func faultyDeb(t *testing.T, entries ...any) []byte {
	return archivetest.Deb(t, "Package: faulty\nVersion: 1\n", entries...)
}

func TestSmallSystem(t *testing.T) {
	f := smallBase(t, faultyDeb(t, script("preinst", "echo before > /preinst"), script("postinst", "read x < /preinst; echo $x > /postinst")))
	var notices []string
	f.Notice = func(text string) { notices = append(notices, text) }
	var last, total int64
	f.Progress = func(done, all int64) { last, total = done, all }
	if _, err := f.Build(t.Context(), f.out); err != nil {
		var s *ScriptError
		if errors.As(err, &s) {
			t.Log(s.Detail())
		}
		t.Fatal(err)
	}
	if got, err := indexed(t, f.out).ReadFile("postinst"); err != nil || string(got) != "before\n" {
		t.Errorf("postinst left %q, %v", got, err)
	}
	if len(notices) > 0 {
		t.Errorf("notices: %q", notices)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
}

func TestScriptsThatFail(t *testing.T) {
	for _, name := range []string{"preinst", "postinst"} {
		t.Run(name, func(t *testing.T) {
			f := smallBase(t, faultyDeb(t, script(name, "echo sorry, no luck; exit 3")))
			err := f.fails(t, "package faulty", name, "3")
			var s *ScriptError
			if !errors.Is(err, ErrScript) || !errors.As(err, &s) {
				t.Fatalf("%T is no ScriptError", err)
			}
			if !strings.Contains(s.Detail(), "sorry, no luck") || s.Package != "faulty" || s.Script != name {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("another follows", func(t *testing.T) {
		f := smallBase(t, faultyDeb(t, script("postinst", "exit 3")), archivetest.Deb(t, "Package: further\nVersion: 1\nDepends: faulty\n"))
		f.fails(t, "package faulty", "postinst")
	})
	t.Run("killed", func(t *testing.T) {
		f := smallBase(t, faultyDeb(t, script("postinst", "kill -9 $$")))
		f.fails(t, "package faulty", "postinst", "Killed")
	})
}

func TestScriptLeavesDaemon(t *testing.T) {
	if testing.Short() {
		t.Skip("each case waits for three seconds")
	}
	for name, command := range map[string]string{
		"in a session of its own":  "setsid sleep 98765 &",
		"with the output kept":     "sleep 98765 & exit 0",
		"with the output let go":   "setsid sleep 98765 < /dev/null > /dev/null 2>&1 &",
		"before it was configured": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deb := faultyDeb(t, script("postinst", command))
			if command == "" {
				deb = faultyDeb(t, script("preinst", "setsid sleep 98765 &"))
			}
			err := smallBase(t, deb).fails(t, "package faulty", "sleep", "must not start")
			if !errors.Is(err, ErrScript) {
				t.Errorf("%T", err)
			}
		})
	}
}

func TestScriptMayTakeTimeToEnd(t *testing.T) {
	f := smallBase(t, faultyDeb(t, script("postinst", "setsid sleep 1 > /dev/null 2>&1 &")))
	if _, err := f.Build(t.Context(), f.out); err != nil {
		t.Error(err)
	}
}

func TestScriptTriesNetwork(t *testing.T) {
	for name, body := range map[string]string{
		"an address":     "(exec 3<> /dev/tcp/192.0.2.1/80); exit 0",
		"an IPv6":        "(exec 3<> /dev/tcp/2001:db8::1/80); exit 0",
		"a datagram":     "echo hello > /dev/udp/192.0.2.1/53 || exit 0",
		"a name server":  "echo hello > /dev/udp/127.0.0.1/53 || exit 0; echo again > /dev/udp/127.0.0.1/53 || exit 0",
		"and then fails": "exec 3<> /dev/tcp/192.0.2.1/80",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := smallBase(t, faultyDeb(t, script("postinst", body)))
			var notices []string
			f.Notice = func(text string) { notices = append(notices, text) }
			start := time.Now()
			switch name {
			case "and then fails":
				f.fails(t, "package faulty")
			case "a name server":
				if _, err := f.Build(t.Context(), f.out); err != nil {
					t.Fatal(err)
				}
				if len(notices) != 1 || !strings.Contains(notices[0], "name server") {
					t.Errorf("notices: %q", notices)
				}
			default:
				f.fails(t, "tried to reach the network")
			}
			t.Logf("after %v", time.Since(start))
		})
	}
	t.Run("preinst", func(t *testing.T) {
		f := smallBase(t, faultyDeb(t, script("preinst", "(exec 3<> /dev/tcp/192.0.2.1/80); exit 0")))
		f.fails(t, "tried to reach the network")
	})
}

func TestScriptCannotWriteOutside(t *testing.T) {
	outside := scratchDir(t)
	if err := os.Chmod(outside, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	var body strings.Builder
	for _, path := range []string{outside, strings.Repeat("../", 20) + outside, "/proc/1/root" + outside, "/proc/self/cwd/" + strings.Repeat("../", 20) + outside} {
		fmt.Fprintf(&body, "echo bad > %s/evil\n", path)
	}
	f := smallBase(t, faultyDeb(t, script("preinst", body.String()+"exit 0"), script("postinst", body.String()+"exit 0")))
	if _, err := f.Build(t.Context(), f.out); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("a script wrote outside: %v %v", entries, err)
	}
}

func TestDamagedPackages(t *testing.T) {
	good := faultyDeb(t, archivetest.Member{Name: "./usr/share/faulty", Body: strings.Repeat("some text\n", 5000)})
	other := bytes.Clone(good)
	other[len(other)-40] ^= 1
	for name, data := range map[string][]byte{
		"truncated":              good[:len(good)-30],
		"truncated in its data":  good[:len(good)/2],
		"empty":                  nil,
		"one bit wrong":          other,
		"no package":             []byte(strings.Repeat("text", 100)),
		"of another name":        archivetest.Deb(t, "Package: faulty\n"),
		"up and out":             faultyDeb(t, archivetest.Member{Name: "./../../evil", Body: "bad"}),
		"up inside":              faultyDeb(t, archivetest.Member{Name: "./usr/../../evil", Body: "bad"}),
		"a hard link out":        faultyDeb(t, archivetest.Member{Name: "./evil", Typeflag: '1', Linkname: "../../../../etc/passwd"}),
		"below a file":           faultyDeb(t, archivetest.Member{Name: "./usr/bin/bash/evil", Body: "bad"}),
		"a file of another's":    faultyDeb(t, archivetest.Member{Name: "./usr/bin/bash", Body: "bad"}),
		"a folder made a device": faultyDeb(t, archivetest.Member{Name: "./usr/bin", Typeflag: '3'}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			smallBase(t, data).fails(t, "faulty")
		})
	}
}

func TestPackagesStayInTree(t *testing.T) {
	outside := scratchDir(t)
	if err := os.Chmod(outside, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	f := smallBase(t, faultyDeb(t,
		archivetest.Member{Name: outside + "/absolute", Body: "bad"},
		archivetest.Member{Name: "./link", Typeflag: '2', Linkname: outside},
		archivetest.Member{Name: "./link/linked", Body: "bad"},
		archivetest.Member{Name: "./up", Typeflag: '2', Linkname: "../../../../../../../../" + outside},
		archivetest.Member{Name: "./up/linked", Body: "bad"},
	))
	if _, err := f.Build(t.Context(), f.out); err != nil {
		t.Logf("refused: %v", err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("a package wrote outside: %v %v", entries, err)
	}
}

func TestInterrupted(t *testing.T) {
	t.Run("unpacking", func(t *testing.T) {
		f := smallBase(t, faultyDeb(t, script("preinst", "sleep 98765")))
		ctx, cancel := context.WithCancel(t.Context())
		f.Progress = func(int64, int64) { cancel() }
		if err := f.failsWith(ctx, t); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
	t.Run("configuring", func(t *testing.T) {
		f := smallBase(t, faultyDeb(t, script("postinst", "echo > /started; sleep 98765")))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(f.Scratch, "tree/started")); err == nil {
					cancel()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		start := time.Now()
		if err := f.failsWith(ctx, t); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestNoSpaceLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small file system can be mounted by root only")
	}
	for name, c := range map[string]struct {
		mib   int
		after string
	}{
		"unpacking":   {4, ""},
		"configuring": {200, "cat /dev/zero > /large"},
	} {
		t.Run(name, func(t *testing.T) {
			f := smallBase(t, faultyDeb(t, script("postinst", c.after+"\nexit 0")))
			if c.after != "" {
				f = smallBase(t, faultyDeb(t, script("postinst", c.after)))
			}
			if err := unix.Mount("applbuild-test", f.Scratch, "tmpfs", 0, "mode=755,size="+strconv.Itoa(c.mib)+"m"); err != nil {
				t.Skipf("SKIPPED: no tmpfs can be mounted here: %v", err)
			}
			defer unix.Unmount(f.Scratch, unix.MNT_DETACH)
			_, err := f.Build(t.Context(), f.out)
			if err == nil {
				t.Fatal("the tree was built")
			}
			text := err.Error()
			var s *ScriptError
			if errors.As(err, &s) {
				text += s.Detail()
			}
			if t.Log(err); !strings.Contains(strings.ToLower(text), "no space left on device") {
				t.Errorf("it says %s", text)
			}
		})
	}
	t.Run("packing", func(t *testing.T) {
		f := smallBase(t)
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		f.out = full
		f.fails(t, "no space left on device")
	})
}
