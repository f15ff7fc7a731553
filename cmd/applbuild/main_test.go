package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// A process of the test's own program that has this variable is applbuild itself:
// it is there to be interrupted, or to be another user's.
const commandVariable = "APPLBUILD_TEST_COMMAND"

// ordinaryUser builds what root built once more.
const ordinaryUser = "applbuild-test"

func TestMain(m *testing.M) {
	sandbox.Main(builder.SandboxFuncs())
	if os.Getenv(commandVariable) != "" {
		os.Unsetenv(commandVariable)
		main()
	}
	for _, name := range []string{"APPLBUILD_STORE", "APPLBUILD_MIRROR", "SOURCE_DATE_EPOCH"} {
		os.Unsetenv(name)
	}
	code := m.Run()
	built.remove()
	os.Exit(code)
}

// A result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// applbuild runs the command in this process.
func applbuild(t testing.TB, args ...string) result {
	t.Helper()
	return applbuildContext(t.Context(), t, args...)
}

func applbuildContext(ctx context.Context, t testing.TB, args ...string) result {
	t.Helper()
	stdout, stderr := temporary(t), temporary(t)
	r := result{code: run(ctx, args, stdout, stderr)}
	r.stdout, r.stderr = contents(t, stdout), contents(t, stderr)
	return r
}

func temporary(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp("", "applbuild-test-output-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	return f
}

func contents(t testing.TB, f *os.File) string {
	t.Helper()
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// succeeds ends the test where the command failed.
func (r result) succeeds(t testing.TB) result {
	t.Helper()
	if r.code != exitOK {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	return r
}

// problem is what the command said was wrong, in the one line it has for that,
// and what it printed below it. Lines about what was done before are not in it.
func (r result) problem() (line, detail string) {
	lines := strings.Split(strings.TrimRight(r.stderr, "\n"), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "applbuild: ") })
	if i < 0 {
		return "", ""
	}
	return strings.TrimPrefix(lines[i], "applbuild: "), strings.Join(lines[i+1:], "\n")
}

// fails ends the test where the command succeeded, or said anything but one line
// with all of these words and indented details.
func (r result) fails(t testing.TB, words ...string) (detail string) {
	t.Helper()
	line, detail := r.problem()
	if r.code == exitOK || line == "" {
		t.Fatalf("exit code %d, want a failure\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("%q is not in the error: %s", word, line)
		}
	}
	for more := range strings.SplitSeq(detail, "\n") {
		if more != "" && !strings.HasPrefix(more, "    ") {
			t.Errorf("the error is more than one line: %s\n%s", line, detail)
			break
		}
	}
	return detail
}

// A process is a copy of the command's program that anybody may run.
type process struct {
	*exec.Cmd
	output bytes.Buffer // standard output and error
}

// program prepares the command as a process of its own.
func program(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), programFile(t), args...)}
	p.Env = append(os.Environ(), commandVariable+"=1")
	p.Stdout, p.Stderr = &p.output, &p.output
	p.Dir = t.TempDir()
	return p
}

// programFile copies this program to where every user can reach it.
func programFile(t testing.TB) string {
	t.Helper()
	dir := publicDir(t)
	name := filepath.Join(dir, "applbuild")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// publicDir makes a folder that every user can read, gone after the test.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "applbuild-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sandbox.RemoveAll(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asOrdinaryUser makes the process another user's, with a home of its own.
func (p *process) asOrdinaryUser(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, which becomes another user")
	}
	u, err := user.Lookup(ordinaryUser)
	if err != nil {
		if out, err := exec.Command("useradd", "--create-home", ordinaryUser).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: the user %s is missing and cannot be made (useradd: %v: %s)", ordinaryUser, err, out)
		}
		if u, err = user.Lookup(ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := number(t, u.Uid), number(t, u.Gid)
	home := publicDir(t)
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	p.Dir = home
	p.Env = append(p.Env, "HOME="+home, "XDG_CACHE_HOME="+home+"/.cache", "USER="+ordinaryUser)
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func number(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nothingLeft checks that a command which failed left nothing: no file in the
// output folder, no scratch in the store, no mount and no process that has the
// store.
func nothingLeft(t testing.TB, store, out string) {
	t.Helper()
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		t.Errorf("the output folder holds %v", entries)
	}
	if entries, err := os.ReadDir(filepath.Join(store, "tmp")); err == nil && len(entries) > 0 {
		t.Errorf("the store's scratch folder holds %v", entries)
	}
	for _, left := range holding(t, store) {
		t.Error(left)
	}
}

// holding lists the processes that have a folder among their mounts or their
// arguments. A mount of this process's own namespace is one of them, too; the
// folder itself may be a mount.
func holding(t testing.TB, dir string) []string {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, p := range processes {
		mounts, _ := os.ReadFile(p + "/mountinfo") // the process may have ended
		for line := range strings.SplitSeq(string(mounts), "\n") {
			if fields := strings.Fields(line); len(fields) > 4 && (strings.HasPrefix(fields[4], dir+"/") || strings.HasPrefix(fields[3], dir+"/")) {
				list = append(list, fmt.Sprintf("process %s has the mount %s", filepath.Base(p), line))
			}
		}
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if bytes.Contains(cmdline, []byte(dir+"/")) {
			list = append(list, fmt.Sprintf("process %s runs: %q", filepath.Base(p), cmdline))
		}
	}
	return list
}

// long skips a test that builds or boots.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: disks are built in long tests only")
	}
}

// writeFile writes a file of a test and returns its name.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func removeAll(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
