package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// A live line has the time, the bytes, the rate and the time left.
func TestLiveLine(t *testing.T) {
	start := time.Unix(0, 0)
	for _, c := range []struct {
		done, total int64
		after       time.Duration
		want        string
	}{
		{0, 0, time.Second, "1.0s  fetch"},
		{5 << 20, 0, 500 * time.Millisecond, "0.5s  fetch    5.0 MiB"},
		{5 << 20, 20 << 20, 500 * time.Millisecond, "0.5s  fetch    5.0 MiB of 20.0 MiB"},
		{5 << 20, 20 << 20, 5 * time.Second, "5.0s  fetch    5.0 MiB of 20.0 MiB, 1.0 MiB/s, 15.0s left"},
		{20 << 20, 20 << 20, 5 * time.Second, "5.0s  fetch    20.0 MiB of 20.0 MiB, 4.0 MiB/s"},
	} {
		line := stageLine{name: "fetch", start: start, done: c.done, total: c.total}
		if got := strings.TrimSpace(line.text(start.Add(c.after))); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Elsewhere than on a terminal each line stays, with the time since the start.
func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(0, 0)
	p := &progress{out: &out, now: func() time.Time { return clock }, stop: make(chan struct{}), start: clock}
	tick := func() { clock = clock.Add(time.Second) }
	p.StageStarted("fetch")
	tick()
	p.StageProgress("fetch", 3<<20, 3<<20)
	p.Notice("careful")
	tick()
	p.StageDone("fetch", false, nil)
	p.StageStarted("base")
	p.StageDone("base", true, nil)
	p.StageStarted("root")
	p.StageDone("root", false, errors.New("no luck"))
	p.Close()
	const want = `   0.0s  fetch
   1.0s  note: careful
   2.0s  fetch done in 2.0s, 3.0 MiB
   2.0s  base
   2.0s  base kept from before
   2.0s  root
   2.0s  root failed
`
	if out.String() != want {
		t.Errorf("%s\nwant:\n%s", out.String(), want)
	}
}

// On a terminal the running stage's line is drawn anew in its place and is gone
// at the end.
func TestLiveLinesOnTerminal(t *testing.T) {
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("SKIPPED: script is missing, which gives a program a terminal")
	}
	d := newTiny(t, "packages: [missing]\n")
	d.Fail("InRelease", archivetest.Unavailable, 1) // time for the line to be drawn
	p := program(t)
	p.Path, p.Args = "/bin/sh", []string{"sh", "-c", `exec script --quiet --return --command "$0 image $1 --store $2" /dev/null`, programFile(t), d.recipe, d.store}
	p.Env = append(p.Env, "TERM=xterm")
	err := p.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailure {
		t.Fatalf("%v\n%s", err, p.output.String())
	}
	shown := p.output.String()
	for _, want := range []string{"s  index", "index done in", "\x1b[", "applbuild: "} {
		if !strings.Contains(shown, want) {
			t.Fatalf("%q is not in %q", want, shown)
		}
	}
	if strings.Count(shown, "index done in") != 1 || !strings.Contains(shown[strings.LastIndex(shown, "\x1b["):], "applbuild: ") {
		t.Errorf("live lines stay: %q", shown)
	}
	if _, err := os.Stat(d.out); err == nil {
		t.Error("an output folder was made")
	}
}
