package boottest

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// compare holds lines against those that are wanted; one that ends in … is only
// begun.
func compare(t *testing.T, got, want []string) {
	t.Helper()
	same := slices.EqualFunc(got, want, func(g, w string) bool {
		begin, open := strings.CutSuffix(w, "…")
		return g == w || open && strings.HasPrefix(g, begin)
	})
	if !same {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestAPlanIsRun(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(map[string]answer{
		"hostname": {stdout: "kiosk\n"},
		"false":    {status: 1},
		"systemctl show --property=ActiveEnterTimestampMonotonic -- 'basic.target'": {stdout: "ActiveEnterTimestampMonotonic=1500000\n"},
	})}
	changes := 0
	change := Change{Apply: func(context.Context) error { changes++; return nil }}
	report, told := run(t, m, Plan{
		{Name: "machine", Action: change, Quiet: true},
		{Name: "says its name", Action: RunCheck{Command: "hostname", Expect: Expect{Stdout: Match{Contains: []string{"kiosk"}}}}},
		{Name: "is false", Action: RunCheck{Command: "false"}},
		{Name: "quick", Action: TimeCheck{Unit: "basic.target", Below: 2 * time.Second}},
		{Name: "quicker", Action: TimeCheck{Unit: "basic.target", Below: time.Second}},
		{Name: "reboots", Action: Reboot{}},
		{Name: "is false again", Action: RunCheck{Command: "false", Expect: Expect{Exit: 1}}},
		{Name: "power is cut", Action: PowerCut{}},
		{Name: "disk grows", Action: change},
		{Name: "comes back", Action: Boot{}},
		{Name: "powers off", Action: Poweroff{}},
		{Name: "power is cut early", Action: PowerCut{After: time.Millisecond}},
		{Name: "says its name still", Action: RunCheck{Command: "hostname"}},
	})
	compare(t, told, []string{
		"ok boot 1 comes up", "ok says its name", "FAIL is false: exit status 1, expected 0",
		"ok quick", "FAIL quicker: basic.target was reached after 1.5 s, expected below 1.0 s",
		"ok boot 1 has no failed units", "ok reboots", "ok is false again",
		"ok boot 2 has no failed units", "ok power is cut", "ok disk grows", "ok comes back",
		"ok boot 3 has no failed units", "ok powers off", "ok power is cut early",
		"ok boot 5 comes up", "ok says its name still", "ok boot 5 has no failed units",
	})
	if changes != 2 || len(m.starts) != 5 || len(report.Consoles) != 5 || report.NeverUp {
		t.Errorf("%d changes, %d starts, consoles %q, never up %v", changes, len(m.starts), report.Consoles, report.NeverUp)
	}
	for i, kind := range []string{EndReset, "power cut", EndPowerOff, "power cut", "power cut"} {
		if got := m.starts[i].end.Kind; got != kind {
			t.Errorf("boot %d ended by %s, want %s", i+1, got, kind)
		}
	}
}

func TestFailedUnitsAreFoundUnlessExcepted(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(map[string]answer{
		"systemctl is-system-running --wait":                                              {status: 1, stdout: "degraded\n"},
		"systemctl list-units --state=failed --all --plain --no-legend --no-pager --full": {stdout: "a.service loaded failed failed A\nb-1.mount loaded failed failed B\n"},
	})}
	report, told := run(t, m, Plan{
		{Name: "boots", Action: Boot{}},
		{Name: "machine", Action: AllowFailed{Units: []string{"b-*.mount"}}},
		{Name: "reboots", Action: Reboot{}},
		{Name: "machine", Action: AllowFailed{Units: []string{"?.service", "b-*.mount"}}},
	})
	compare(t, told, []string{"ok boots", "FAIL boot 1 has no failed units: a.service failed", "ok reboots", "ok boot 2 has no failed units"})
	if report.NeverUp {
		t.Error("a machine with failed units came up")
	}
}

func TestAMachineThatDoesNotComeUp(t *testing.T) {
	for _, test := range []struct {
		name string
		on   func(*fakeGuest)
		says string
	}{
		{"ended", func(g *fakeGuest) { g.mute = true; g.stop("reset") }, "the machine did not answer: it ended by reset"},
		{"panicked", func(g *fakeGuest) {
			g.mute, g.end.Detail = true, "Attempted to kill init!"
			g.stop("panic")
		}, "the machine did not answer: it ended by panic (Attempted to kill init!)"},
		{"silent", func(g *fakeGuest) { g.mute = true }, "the machine did not answer in 1 s"},
		{"in an emergency", func(g *fakeGuest) {
			g.mute, g.problems = true, []Problem{{"emergency mode", "You are in emergency mode", true}}
		}, "the machine did not answer: emergency mode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			limit := time.Second
			if test.name == "in an emergency" {
				limit = time.Minute
			}
			m := &fakeMachine{t: t, answers: up(nil), on: test.on}
			report, told := run(t, m, Plan{
				{Name: "boots", Action: Boot{}, Limit: limit},
				{Name: "asked", Action: RunCheck{Command: "true"}},
			})
			compare(t, told, []string{"FAIL boots: " + test.says, "skip asked: the machine could not be asked any more"})
			if !report.NeverUp || len(m.starts) != 1 {
				t.Errorf("never up: %v, %d starts", report.NeverUp, len(m.starts))
			}
			if details := strings.Join(report.Results[0].Details, "\n"); !strings.Contains(details, "last words") {
				t.Errorf("the console is not quoted: %s", details)
			}
		})
	}
}

func TestABootThatIsToFail(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(map[string]answer{"true": {}}), on: func(g *fakeGuest) {
		if g.number == 1 {
			g.mute, g.text = true, "device-mapper: verity: data block 7 is corrupted"
			g.stop("panic")
		}
	}}
	report, told := run(t, m, Plan{
		{Name: "does not boot", Action: Boot{Fails: true, Console: &Match{Contains: []string{"/block [0-9]+ is corrupted/"}}}},
		{Name: "boots after all", Action: Boot{Fails: true}},
		{Name: "true", Action: RunCheck{Command: "true"}},
	})
	compare(t, told, []string{
		"ok does not boot", "FAIL boots after all: the machine came up, expected it not to",
		"ok boot 3 comes up", "ok true", "ok boot 3 has no failed units",
	})
	if report.NeverUp || report.Results[0].Note == "" {
		t.Errorf("never up: %v, note %q", report.NeverUp, report.Results[0].Note)
	}
}

func TestTheConsoleIsJudged(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(nil), on: func(g *fakeGuest) { g.text = "Welcome to Debian!\nlogin:" }}
	_, told := run(t, m, Plan{
		{Name: "one", Action: Boot{Console: &Match{Contains: []string{"Welcome"}, Not: []string{"panic"}}}},
		{Name: "two", Action: Reboot{Console: &Match{Not: []string{"/(?m)^login/"}}}},
	})
	compare(t, told, []string{
		"ok one", "ok boot 1 has no failed units",
		"FAIL two: console: expected not to contain /(?m)^login/", "ok boot 2 has no failed units",
	})
}

func TestAMachineThatIsLostIsNotAskedAgain(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(map[string]answer{"crash": {stdout: "die"}}), on: func(g *fakeGuest) { g.end.Detail = "Oops" }}
	report, told := run(t, m, Plan{
		{Name: "crashes", Action: RunCheck{Command: "crash"}},
		{Name: "next", Action: RunCheck{Command: "true"}},
		{Name: "reboots", Action: Reboot{}},
	})
	compare(t, told, []string{
		"ok boot 1 comes up", "FAIL crashes: the machine does not answer",
		"skip next: the machine could not be asked any more", "skip reboots: the machine could not be asked any more",
	})
	if details := strings.Join(report.Results[1].Details, "\n"); !strings.Contains(details, "it has ended: panic (Oops)") {
		t.Errorf("details: %s", details)
	}
	if report.NeverUp || len(m.starts) != 1 {
		t.Errorf("never up: %v, %d starts", report.NeverUp, len(m.starts))
	}
}

func TestAStepThatCannotBeDoneEndsThePlan(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(nil)}
	_, told := run(t, m, Plan{
		{Name: "disk", Quiet: true, Action: Change{Apply: func(context.Context) error { return errors.New("there is no room") }}},
		{Name: "boots", Action: Boot{}},
	})
	compare(t, told, []string{"FAIL disk: there is no room", "skip boots: the machine could not be asked any more"})
}

func TestAnInterruptedPlanSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &fakeMachine{t: t, answers: up(nil), on: func(g *fakeGuest) { g.mute = true; cancel() }}
	r := &Runner{Machine: m, Now: time.Now}
	report, err := r.Run(ctx, Plan{{Name: "boots", Action: Boot{}}, {Name: "next", Action: Boot{}}})
	if !errors.Is(err, context.Canceled) || report == nil || len(report.Results) != 0 {
		t.Errorf("report %+v, error %v", report, err)
	}
	if g := m.starts[0]; g.end.Kind != "power cut" {
		t.Errorf("the machine was left in state %q", g.end.Kind)
	}
}

func TestJUnit(t *testing.T) {
	m := &fakeMachine{t: t, answers: up(map[string]answer{"bad": {status: 2, stdout: "<\x00\x1b[1m&"}})}
	report, _ := run(t, m, Plan{
		{Name: `a "quoted" <name>`, Action: RunCheck{Command: "bad"}},
		{Name: "fails", Action: Change{Apply: func(context.Context) error { return errors.New("no") }}},
		{Name: "skipped", Action: RunCheck{Command: "bad"}},
	})
	var b bytes.Buffer
	if err := WriteJUnit(&b, []Suite{{Name: "kiosk", Report: report}, {Name: "other", Err: errors.New("no kernel")}}); err != nil {
		t.Fatal(err)
	}
	var read junitSuites
	if err := xml.Unmarshal(b.Bytes(), &read); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if read.Tests != 5 || read.Failures != 2 || read.Skipped != 1 || read.Errors != 1 || len(read.Suites) != 2 {
		t.Errorf("counts in\n%s", b.String())
	}
	c := read.Suites[0].Cases[1]
	if c.Name != `a "quoted" <name>` || c.Failure == nil || c.Failure.Message != "exit status 2, expected 0" {
		t.Errorf("case %+v", c)
	}
}
