package boottest

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func pipe(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	host, guest = net.Pipe()
	t.Cleanup(func() {
		host.Close()
		guest.Close()
	})
	return host, guest
}

// A fakeMachine answers commands from a table. A boot takes no time.
type fakeMachine struct {
	t       *testing.T
	answers map[string]answer        // by command
	on      func(g *fakeGuest)       // called at each start; may be nil
	dial    func() (net.Conn, error) // may be nil
	starts  []*fakeGuest
}

// up are the answers of a machine that is well.
func up(more map[string]answer) map[string]answer {
	answers := map[string]answer{
		"systemctl is-system-running --wait":                                              {stdout: "running\n"},
		"systemctl show --property=ActiveEnterTimestampMonotonic -- 'multi-user.target'":  {stdout: "ActiveEnterTimestampMonotonic=2500000\n"},
		"systemctl list-units --state=failed --all --plain --no-legend --no-pager --full": {},
	}
	for command, a := range more {
		answers[command] = a
	}
	return answers
}

type fakeGuest struct {
	m           *fakeMachine
	number      int // of the boot
	host, guest net.Conn
	done        chan struct{}
	once        sync.Once
	end         End
	mute        bool // there is no agent
	problems    []Problem
	text        string // of the console
}

func (m *fakeMachine) Start(context.Context) (Guest, error) {
	g := &fakeGuest{m: m, number: len(m.starts) + 1, done: make(chan struct{})}
	g.host, g.guest = pipe(m.t)
	m.starts = append(m.starts, g)
	if m.on != nil {
		m.on(g)
	}
	if !g.mute {
		go g.serve()
	}
	return g, nil
}

// serve is the agent.
func (g *fakeGuest) serve() {
	fmt.Fprintf(g.guest, "ready 1 boot%d\n", g.number)
	lines := bufio.NewScanner(g.guest)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		b, err := base64.StdEncoding.DecodeString(f[4])
		if err != nil {
			g.m.t.Error(err)
		}
		command := string(b)
		a, known := g.m.answers[command]
		switch {
		case command == "systemctl --no-block reboot":
			g.stop(EndReset)
			return
		case command == "systemctl --no-block poweroff":
			g.stop(EndPowerOff)
			return
		case a.stdout == "die":
			g.stop("panic")
			return
		case !known && !strings.HasPrefix(command, "journalctl"):
			g.m.t.Errorf("command %q was not expected", command)
		}
		status := strconv.Itoa(a.status)
		if a.timeout {
			status = "timeout"
		}
		fmt.Fprintf(g.guest, "end %s %s %s %s\n", f[1], status, encode(a.stdout), encode(a.stderr))
	}
}

func encode(s string) string {
	if s == "" {
		return "-"
	}
	return base64.StdEncoding.EncodeToString([]byte(s))
}

func (g *fakeGuest) stop(kind string) {
	g.once.Do(func() {
		g.end.Kind = kind
		g.guest.Close()
		close(g.done)
	})
}

func (g *fakeGuest) Port() io.ReadWriter                     { return g.host }
func (g *fakeGuest) Scale(limit time.Duration) time.Duration { return limit }
func (g *fakeGuest) PowerCut()                               { g.stop("power cut") }
func (g *fakeGuest) Close()                                  { g.stop("power cut") }
func (g *fakeGuest) Done() <-chan struct{}                   { return g.done }
func (g *fakeGuest) End() End                                { return g.end }
func (g *fakeGuest) Problems() []Problem                     { return g.problems }

func (g *fakeGuest) Dial(context.Context, int) (net.Conn, error) {
	if g.m.dial == nil {
		return nil, errors.New("nothing listens")
	}
	return g.m.dial()
}

func (g *fakeGuest) Console() Console {
	return Console{File: fmt.Sprintf("boot%d.console", g.number), Text: g.text, Last: []string{"last words"}}
}

// run runs a plan against a machine and returns its results as lines.
func run(t *testing.T, m *fakeMachine, plan Plan) (*Report, []string) {
	t.Helper()
	var told []string
	r := &Runner{Machine: m, Now: time.Now, Tell: func(r Result) {
		line := string(r.Status) + " " + r.Name
		if len(r.Details) > 0 {
			line += ": " + r.Details[0]
		}
		told = append(told, line)
	}}
	report, err := r.Run(timed(t), plan)
	if err != nil {
		t.Fatal(err)
	}
	return report, told
}
