package boottest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal returns both ends of a raw terminal, which stands for a virtio-serial
// port: a file that one program opens by its name.
func terminal(t *testing.T) (ours *os.File, theirs string) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs = fmt.Sprintf("/dev/pts/%d", n)
	slave, err := os.OpenFile(theirs, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// startAgent runs the agent's script on this machine.
func startAgent(t *testing.T, ctx context.Context) *agent {
	t.Helper()
	ours, theirs := terminal(t)
	cmd := exec.CommandContext(ctx, "/bin/sh", "agent", theirs, filepath.Join(t.TempDir(), "work"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	a := newAgent(ctx, ours)
	if err := a.ready(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

func timed(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestTheAgentRunsCommands(t *testing.T) {
	t.Parallel()
	ctx := timed(t)
	a := startAgent(t, ctx)
	for _, test := range []struct {
		name, command string
		want          answer
	}{
		{"success", "echo yes", answer{stdout: "yes\n"}},
		{"nothing", "true", answer{}},
		{"status", "exit 77", answer{status: 77}},
		{"both outputs", "echo out; echo err >&2; false", answer{status: 1, stdout: "out\n", stderr: "err\n"}},
		{"quotes and lines", "echo \"a  'b'\"\nprintf '%s\\n' '$HOME \\n' | cat\n", answer{stdout: "a  'b'\n$HOME \\n\n"}},
		{"bytes", `printf '\000\377\n\n'`, answer{stdout: "\x00\xff\n\n"}},
		{"no input", "cat; wc -c", answer{stdout: "0\n"}},
		{"place and rights", "pwd; umask", answer{stdout: "/\n0022\n"}},
		{"home", `echo "$HOME $LC_ALL"`, answer{stdout: "/root C.UTF-8\n"}},
		{"not a command", "no-such-command 2>/dev/null", answer{status: 127}},
		{"killed", "kill -9 $$", answer{status: 137, stderr: "*"}},
		{"not a shell's words", "echo ')", answer{status: 2, stderr: "*"}},
		{"closed outputs", "exec >&- 2>&-; exit 3", answer{status: 3}},
		{"the port is not theirs", "echo end 1 0 - - >&3", answer{status: 2, stderr: "*"}},
		{"long command", "echo " + strings.Repeat("x", 20000), answer{stdout: strings.Repeat("x", 20000) + "\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := a.run(ctx, test.command, 20*time.Second, DefaultKept)
			if err != nil {
				t.Fatal(err)
			}
			if test.want.stderr == "*" && got.stderr != "" {
				got.stderr = "*"
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestTheAgentKeepsABound(t *testing.T) {
	t.Parallel()
	ctx := timed(t)
	a := startAgent(t, ctx)
	got, err := a.run(ctx, "yes | head -c 3000000; echo $? >&2", 30*time.Second, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	if got.status != 0 || len(got.stdout) < 100_000 || len(got.stdout) >= 100_000+keptUnit || got.stderr != "0\n" {
		t.Errorf("status %d, %d bytes kept, stderr %q", got.status, len(got.stdout), got.stderr)
	}
}

func TestTheAgentEndsCommands(t *testing.T) {
	t.Parallel()
	ctx := timed(t)
	a := startAgent(t, ctx)
	got, err := a.run(ctx, "echo before; sleep 60; echo after", time.Second, DefaultKept)
	if err != nil || !got.timeout || got.stdout != "before\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	// One that ends with the status of timeout(1) was in time.
	if got, err = a.run(ctx, "exit 124", 10*time.Second, DefaultKept); err != nil || got.timeout || got.status != 124 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAProgramLeftBehindDoesNotStopTheAgent(t *testing.T) {
	t.Parallel()
	ctx := timed(t)
	a := startAgent(t, ctx)
	begun := time.Now()
	got, err := a.run(ctx, "sleep 30 & echo started", 20*time.Second, DefaultKept)
	if err != nil || got.status != 0 || got.stdout != "started\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	if got, err = a.run(ctx, "echo next", 20*time.Second, DefaultKept); err != nil || got.stdout != "next\n" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A guest is hostile: what it says may be anything.
func TestTheHostPassesOverNoise(t *testing.T) {
	host, guest := pipe(t)
	a := newAgent(timed(t), host)
	go func() {
		lines := bufio.NewReader(guest)
		io.WriteString(guest, "noise\nready 2 other\nready 1 \nready 1 boot\n")
		lines.ReadString('\n')
		io.WriteString(guest, strings.Repeat("x", 2*maxLine)+"\nend 7 0 - -\nend 1 256 - -\nend 1 0 !! -\nend 1 0 - - -\nend x 0 - -\nend 1 5 YQ== -\n")
		lines.ReadString('\n')
		io.WriteString(guest, "ready 1 again\n")
		lines.ReadString('\n')
		guest.Close()
	}()
	ctx := timed(t)
	if err := a.ready(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := a.run(ctx, "one", time.Second, 1); err != nil || got != (answer{status: 5, stdout: "a"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := a.run(ctx, "two", time.Second, 1); !errors.Is(err, errRestart) {
		t.Errorf("an agent that starts anew: %v", err)
	}
	if _, err := a.run(ctx, "three", time.Second, 1); !errors.Is(err, errSilent) {
		t.Errorf("a port that ends: %v", err)
	}
}

func TestASilentMachineIsNotWaitedFor(t *testing.T) {
	host, _ := pipe(t)
	a := newAgent(timed(t), host)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errTooSlow)
	if err := a.ready(ctx); !errors.Is(err, errTooSlow) {
		t.Errorf("ready: %v", err)
	}
	if _, err := a.run(ctx, "one", time.Second, 1); !errors.Is(err, errTooSlow) {
		t.Errorf("run: %v", err)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add("ready 1 7127f1be-980f-4999-8295-0189c5c44e70")
	f.Add("end 1 0 YQ== -")
	f.Add("end 12 timeout - Yg==")
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMessage(line)
		if ok && (m.answer.status < 0 || m.answer.status > 255 || len(m.answer.stdout)+len(m.answer.stderr) > len(line)) {
			t.Errorf("%+v", m)
		}
	})
}
