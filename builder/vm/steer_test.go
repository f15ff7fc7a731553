package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/vm/oracle"
)

// limit bounds each step with a guest.
const limit = 90 * time.Second

// A served is a guest that does what it is asked over a port.
type served struct {
	*Guest
	t     *testing.T
	lines *bufio.Scanner
}

// serve starts the machine, whose guest is to be in mode serve. The console's log
// is shown when the test fails.
func serve(t *testing.T, m *Machine) *served {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	m.Console = log
	g, err := m.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("console:\n%s", text)
		}
	})
	s := &served{g, t, bufio.NewScanner(g.Port("test.ask"))}
	if got := s.answer("the start"); got != "ready" {
		t.Fatalf("the guest's first words are %q", got)
	}
	return s
}

// ask sends a line and returns the answer.
func (s *served) ask(line string) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.Port("test.ask"), "%s\n", line); err != nil {
		s.t.Fatalf("asking %q: %v", line, err)
	}
	return s.answer(line)
}

func (s *served) answer(line string) string {
	s.t.Helper()
	s.Port("test.ask").SetDeadline(time.Now().Add(limit))
	if !s.lines.Scan() {
		s.t.Fatalf("no answer to %q: %v; findings %v", line, s.lines.Err(), s.Findings())
	}
	return s.lines.Text()
}

// answers asks until the answer is right: what is plugged takes its time.
func (s *served) answers(line string, right func(string) bool) {
	s.t.Helper()
	var got string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if got = s.ask(line); right(got) {
			return
		}
	}
	s.t.Errorf("%q is answered with %q", line, got)
}

func has(word string) func(string) bool {
	return func(answer string) bool { return slices.Contains(strings.Fields(answer), word) }
}

// ends waits for the guest's end.
func (s *served) ends(want Reason) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	r, err := s.Wait(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s after %v by %s", r.Exit, r.Duration, r.Accel)
	if r.Exit != want {
		s.t.Errorf("ended by %s, want %s", r.Exit, want)
	}
}

func blank(t *testing.T, name string, size int64) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

// One machine is booted three times. While it runs it is talked to, gets disks,
// grows them, loses them and its network; then it loses power, is reset, and is
// sent to power off. What was flushed, the TPM and the firmware's variables last.
func TestSteer(t *testing.T) {
	tree := oracle.Find(t)
	raw, base := blank(t, "raw", 8<<20), blank(t, "base", 8<<20)
	overlay := filepath.Join(t.TempDir(), "overlay")
	if err := NewOverlay(overlay, base, 0); err != nil {
		t.Fatal(err)
	}
	m := testMachine(t, tree, bootDisk(t, tree, t.TempDir()))
	m.Disks = append(m.Disks,
		Drive{Path: raw, Write: true},
		Drive{Path: overlay, Format: "qcow2", Backing: base, Write: true, ID: "over"},
	)
	m.Accel, m.Slots, m.TPM, m.TPMProgram = AccelTCG, 2, true, "swtpm"
	m.State = filepath.Join(t.TempDir(), "state")
	m.Ports = []string{"test.ask", "test.echo"}
	m.Network, m.Forwards = NetworkIsolated, []Forward{{Guest: 80}}
	m.CmdlineExtra = "test.mode=serve console=ttyS0"

	first := serve(t, m)
	first.disksComeAndGo()
	first.networkWorks()
	first.talks()
	for _, disk := range []string{"vdb", "vdc"} {
		first.ask("write " + disk + " 0 early flush")
		first.ask("write " + disk + " 1048576 flushed flush")
		// The place was written before, or never.
		first.ask("write " + disk + " 0 late hold")
		first.ask("write " + disk + " 2097152 unflushed hold")
	}
	boots := first.ask("boots")
	first.PowerCut()
	first.ends(PowerCut)
	if _, err := io.ReadAll(first.Port("test.ask")); err != nil {
		t.Errorf("reading a port after the guest's end: %v", err)
	}

	second := serve(t, m)
	for line, want := range map[string]string{
		"read vdb 1048576": "flushed", "read vdc 1048576": "flushed",
		// What the host's cache has is there all the same, but not a new place
		// of an overlay.
		"read vdb 0": "late", "read vdc 0": "late",
		"read vdb 2097152": "unflushed", "read vdc 2097152": "",
	} {
		if got := second.ask(line); got != want {
			t.Errorf("after the power cut, %s: %q, want %q", line, got, want)
		}
	}
	if again := second.ask("boots"); again == boots || strings.HasPrefix(again, "error") {
		t.Errorf("the TPM was started %s times, then %s: it forgot", boots, again)
	}
	if err := second.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.ends(Reset)

	// A new TPM and new variables.
	m.State = ""
	third := serve(t, m)
	if got := third.ask("boots"); got != boots {
		t.Errorf("a new TPM was started %s times, want %s", got, boots)
	}
	if err := third.PowerButton(t.Context()); err != nil {
		t.Fatal(err)
	}
	third.ends(PowerOff)
}

// disksComeAndGo plugs, grows and unplugs disks.
func (s *served) disksComeAndGo() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*limit)
	defer cancel()
	s.answers("disks", has("vdc=8388608"))
	more := blank(s.t, "more", 4<<20)
	for _, d := range []Drive{
		{ID: "more", Path: more, Write: true, Serial: "a,b"},
		{ID: "seed", Path: blank(s.t, "seed", 1<<20), ReadOnly: true, Bus: BusNVMe},
	} {
		if err := s.Plug(ctx, d); err != nil {
			s.t.Fatal(err)
		}
	}
	s.answers("disks", has("vdd=4194304"))
	s.answers("disks", has("nvme0n1=1048576"))
	s.ask("write vdd 0 plugged flush")
	if err := s.Plug(ctx, Drive{ID: "third", Path: more, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "no free slot") {
		s.t.Errorf("a third disk in two slots: %v", err)
	}
	for id, name := range map[string]string{"more": "vdd", "disk1": "vdb", "over": "vdc"} {
		if err := s.Grow(ctx, id, 16<<20); err != nil {
			s.t.Error(err)
		}
		s.answers("disks", has(name+"=16777216"))
	}
	for id, want := range map[string]string{"more": "want more", "none": "no disk none", "seed": "NVMe"} {
		if err := s.Grow(ctx, id, 1<<20); err == nil || !strings.Contains(err.Error(), want) {
			s.t.Errorf("growing %s: %v, want %q", id, err, want)
		}
	}
	for _, id := range []string{"more", "seed"} {
		if err := s.Unplug(ctx, id); err != nil {
			s.t.Fatal(err)
		}
	}
	s.answers("disks", func(answer string) bool {
		return !strings.Contains(answer, "vdd") && !strings.Contains(answer, "nvme")
	})
	b, err := os.ReadFile(more)
	if err != nil || len(b) != 16<<20 || !strings.HasPrefix(string(b), "plugged\n") {
		s.t.Errorf("what was written to the plugged disk is lost: %d bytes, %v", len(b), err)
	}
	// The slot and the name are free again.
	if err := s.Plug(ctx, Drive{ID: "more", Path: more, ReadOnly: true}); err != nil {
		s.t.Error(err)
	}
	s.answers("disks", func(answer string) bool {
		return strings.Contains(answer, "=16777216 vdd=16777216") || has("vdd=16777216")(answer)
	})
}

// networkWorks reaches the guest through the free port that was taken for it, but
// not without a link.
func (s *served) networkWorks() {
	s.t.Helper()
	if got := s.ask("listen"); got != "listening" {
		s.t.Fatal(got)
	}
	greeting := func() string {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.Forwards()[0].Host), time.Second)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		b, _ := io.ReadAll(c)
		return string(b)
	}
	if got := greeting(); got != "hello\n" {
		s.t.Errorf("the guest greets with %q through %v", got, s.Forwards())
	}
	for _, up := range []bool{false, true} {
		if err := s.SetLink(s.t.Context(), up); err != nil {
			s.t.Fatal(err)
		}
		want := map[bool]string{false: "0", true: "1"}[up]
		s.answers("link", func(answer string) bool { return answer == want })
		if got := greeting(); (got == "hello\n") != up {
			s.t.Errorf("with the link up %v, the guest greets with %q", up, got)
		}
	}
}

// talks sends a lot through the second port and looks at the console.
func (s *served) talks() {
	s.t.Helper()
	port := s.Port("test.echo")
	port.SetDeadline(time.Now().Add(limit))
	sent := strings.Repeat("0123456789abcde\n", 8<<10)
	go io.WriteString(port, sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(port, got); err != nil || string(got) != sent {
		s.t.Errorf("the echo of %d bytes: %v", len(sent), err)
	}
	if s.Port("test.none") != nil {
		s.t.Error("there is a port that the machine lacks")
	}
	s.ask("say systemd[1]: Dependency failed for Local File Systems.")
	for end := time.Now().Add(limit); len(s.Findings()) == 0 && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
	}
	if f := s.Findings(); len(f) != 1 || f[0].Kind != DependencyFailed {
		s.t.Errorf("findings %v", f)
	}
	if tail := s.ConsoleTail(3); !slices.Contains(tail, "systemd[1]: Dependency failed for Local File Systems.") {
		s.t.Errorf("the console ends with %q", tail)
	}
	if s.Accel() != "tcg" || s.Scale(time.Second) != EmulationFactor*time.Second {
		s.t.Errorf("run by %s, a second is %v", s.Accel(), s.Scale(time.Second))
	}
}
