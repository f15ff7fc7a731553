package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// alive counts the processes that have marker in their command line.
func alive(t *testing.T, marker string) int {
	t.Helper()
	n := 0
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(marker)) {
			n++
		}
	}
	return n
}

// eventually waits up to a second for ok.
func eventually(ok func() bool) bool {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// markerFor is a number of seconds that no other process sleeps.
func markerFor(t *testing.T, n int) string {
	return fmt.Sprintf("98%d.%07d", n, os.Getpid())
}

func TestDaemonDiesWithTheRun(t *testing.T) {
	marker := markerFor(t, 1)
	start := time.Now()
	got := output(t, script(Range, "setsid sh -c 'trap \"\" TERM HUP INT; (setsid sleep "+marker+" &) ; sleep "+marker+"' & sleep 0.1; echo done"))
	if got != "done" {
		t.Errorf("%q", got)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("Run took %v", d)
	}
	if n := alive(t, marker); n != 0 {
		t.Errorf("%d processes are alive", n)
	}
}

func TestCancelEndsAll(t *testing.T) {
	for i, s := range []Spec{script(Range, ""), script(Caller, "")} {
		needs(t, s.IDs)
		marker := markerFor(t, 2+i)
		s = s.sh("trap '' TERM INT HUP; (setsid sleep " + marker + " &); sleep " + marker + "; sleep " + marker)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for alive(t, "sleep\x00"+marker) < 2 {
				time.Sleep(10 * time.Millisecond)
			}
			cancel(errors.New("stopped by the test"))
		}()
		err := Run(ctx, s)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		if n := alive(t, marker); n != 0 {
			t.Errorf("%d processes are alive", n)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := Run(ctx, script(Caller, "sleep 60")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if d := time.Since(start); d > 1200*time.Millisecond {
		t.Errorf("the end took %v", d)
	}
	if err := Run(ctx, script(Caller, "true")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run after the end of its context: %v", err)
	}
}

// victim is a process of the test that runs one sandbox. v is the kind of the
// sandbox, a space, and a script or a tree.
func victim(v string) int {
	kind, rest, _ := strings.Cut(v, " ")
	var s Spec
	switch kind {
	case "script":
		s = script(Range, rest)
	case "terminal":
		s = script(Caller, rest)
		s.Terminal = true
		s.Stdin, s.Stdout, s.Stderr = os.Stdin, os.Stdout, os.Stderr
	case "inject":
		s = Spec{Root: rest, IDs: Range, Binds: []Bind{{"/usr", "/usr", true}}, Inject: []File{{Path: "/etc/absent"}}}
		s = s.sh("touch /opt/started; sleep 60")
	}
	if err := Run(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func victimCommand(t *testing.T, v string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{victimVariable + "=" + v}
	return cmd
}

func TestKilledCallerLeavesNoProcess(t *testing.T) {
	needs(t, Range)
	marker := markerFor(t, 4)
	cmd := victimCommand(t, "script (setsid sleep "+marker+" &); sleep "+marker+"; true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return alive(t, "sleep\x00"+marker) == 2 }) {
		t.Error("the sandbox did not start")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !eventually(func() bool { return alive(t, marker) == 0 }) {
		t.Errorf("%d processes are alive", alive(t, marker))
	}
}

func TestTerminal(t *testing.T) {
	needs(t, Caller)
	master, slave := openTerminal(t)
	cmd := victimCommand(t, "terminal test -t 0 && test -t 1 && : < /dev/tty && echo has a terminal")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	slave.Close()
	out, _ := io.ReadAll(master) // ends with EIO when no one has the other end
	if got := strings.TrimSpace(string(out)); got != "has a terminal" {
		t.Errorf("%q", got)
	}
}

func TestNothingStaysMounted(t *testing.T) {
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := mounts()
	output(t, newTree(t).sh("mount -t tmpfs t /opt && touch /opt/x"))
	if after := mounts(); after != before {
		t.Errorf("mounts were\n%s\nand are\n%s", before, after)
	}
}

func TestExit(t *testing.T) {
	needs(t, Range)
	tests := []struct {
		script string
		code   int
		signal syscall.Signal
		text   string
	}{
		{"exit 3", 3, 0, "sh: exit status 3"},
		{"echo one; echo two >&2; exit 1", 1, 0, "sh: exit status 1: two"},
		{"kill -TERM $$", -1, syscall.SIGTERM, "sh: ended by signal 15 (terminated)"},
		{"kill -KILL $$", -1, syscall.SIGKILL, "sh: ended by signal 9 (killed)"},
	}
	for _, tt := range tests {
		var exit *ExitError
		err := Run(t.Context(), script(Range, tt.script))
		if !errors.As(err, &exit) || exit.Code != tt.code || exit.Signal != tt.signal || exit.Error() != tt.text {
			t.Errorf("%s: %v %+v", tt.script, err, exit)
		}
	}
	var exit *ExitError
	err := Run(t.Context(), script(Range, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1"))
	if !errors.As(err, &exit) || len(exit.Tail) != tailSize || !bytes.HasSuffix(exit.Tail, []byte("line 2998\nline 2999\n")) {
		t.Errorf("tail: %v", err)
	}
	s := script(Range, "echo data; exit 1")
	s.Stdout = io.Discard
	if err := Run(t.Context(), s); !errors.As(err, &exit) || len(exit.Tail) != 0 {
		t.Errorf("tail has what went to a writer: %v", err)
	}
	for argv, want := range map[string]error{"/no/such": syscall.ENOENT, "nosuch": syscall.ENOENT, "/usr": syscall.EACCES} {
		s := usr(Range)
		s.Argv = []string{argv}
		if err := Run(t.Context(), s); !errors.Is(err, want) || errors.As(err, &exit) && false {
			t.Errorf("%s: %v, want %v", argv, err, want)
		}
	}
	s = script(Range, "true")
	s.Binds = append(s.Binds, Bind{"/no/such/source", "/x", true})
	if err := Run(t.Context(), s); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/source") {
		t.Errorf("missing source: %v", err)
	}
}

func TestParallelRuns(t *testing.T) {
	needs(t, Range)
	tree := newTree(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var out bytes.Buffer
			s := tree.sh(fmt.Sprintf("echo %d > /tmp/x; sleep 0.05; cat /tmp/x", i))
			s.Stdout = &out
			if err := Run(t.Context(), s); err != nil || out.String() != fmt.Sprintln(i) {
				t.Errorf("run %d: %v: %q", i, err, out.Bytes())
			}
		})
	}
	wg.Wait()
}

func BenchmarkRun(b *testing.B) {
	for _, ids := range []IDs{Caller, Range} {
		needs(b, ids)
		b.Run(fmt.Sprint(ids), func(b *testing.B) {
			s := usr(ids)
			s.Argv = []string{"/usr/bin/true"}
			for b.Loop() {
				if err := Run(b.Context(), s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
