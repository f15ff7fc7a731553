package boottest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Runner runs plans.
type Runner struct {
	Machine Machine
	Now     func() time.Time
	Key     ssh.Signer   // of checks that log in without a key of their own; may be nil
	Tell    func(Result) // called for each result; may be nil
}

// errLost says that no more can be asked of the machine.
var errLost = errors.New("the machine is lost")

// A session is a run of a plan.
type session struct {
	*Runner
	report *Report
	allow  []string // units that may fail
	boots  int
	guest  Guest  // nil while the machine is off
	agent  *agent // nil while the machine is not up
	lost   bool
}

// Run runs a plan. What failed is in the report; the error says that there was
// nothing to judge: the machine could not be started, or ctx ended. The report is
// not nil.
func (r *Runner) Run(ctx context.Context, plan Plan) (*Report, error) {
	s := &session{Runner: r, report: &Report{}}
	start := r.Now()
	defer s.off()
	err := s.run(ctx, plan)
	s.report.Took = r.Now().Sub(start)
	return s.report, err
}

func (s *session) run(ctx context.Context, plan Plan) error {
	for _, step := range plan {
		if s.lost {
			s.tell(Result{Name: step.Name, Status: Skipped, Details: []string{"the machine could not be asked any more"}})
			continue
		}
		err := s.step(ctx, step)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errLost) {
			s.lost = true
		} else if err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	s.endOfBoot(ctx)
	return nil
}

// tell takes note of a result.
func (s *session) tell(r Result) {
	s.report.Results = append(s.report.Results, r)
	if s.Tell != nil {
		s.Tell(r)
	}
}

// verdict tells a result that failed where something is wrong.
func (s *session) verdict(name string, start time.Time, note string, wrong []string) {
	r := Result{Name: name, Status: Passed, Took: s.Now().Sub(start), Note: note}
	if len(wrong) > 0 {
		r.Status, r.Details, r.Note = Failed, wrong, ""
	}
	s.tell(r)
}

// step carries out one step. The error is errLost, or says that the machine could
// not be run.
func (s *session) step(ctx context.Context, step Step) error {
	start := s.Now()
	switch a := step.Action.(type) {
	case Boot:
		_, err := s.boot(ctx, step.Name, a, step.Limit)
		return err
	case Reboot:
		return s.reboot(ctx, step, a)
	case PowerCut:
		return s.powerCut(ctx, step, a)
	case Poweroff:
		s.endOfBoot(ctx)
		wrong := s.shutDown(ctx, "poweroff", EndPowerOff, step.Limit)
		s.verdict(step.Name, start, "", wrong)
	case AllowFailed:
		s.allow = a.Units
	case Change:
		if err := a.Apply(ctx); err != nil {
			s.verdict(step.Name, start, "", []string{err.Error()})
			return errLost
		}
		if !step.Quiet {
			s.verdict(step.Name, start, "", nil)
		}
	case Wait:
		pause(ctx, a.Time)
	default:
		return s.check(ctx, step)
	}
	return nil
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// check starts a machine that is off and asks it.
func (s *session) check(ctx context.Context, step Step) error {
	if s.guest == nil {
		if up, err := s.boot(ctx, "", Boot{}, 0); !up {
			s.tell(Result{Name: step.Name, Status: Skipped, Details: []string{"the machine did not come up"}})
			return err
		}
	}
	start := s.Now()
	limit := s.guest.Scale(orDefault(step.Limit, DefaultLimit))
	ask := s.agent.limited(ctx, limit)
	var note string
	var wrong []string
	var err error
	switch c := step.Action.(type) {
	case SSHCheck:
		wrong = s.ssh(ctx, c, limit)
	case TimeCheck:
		note, wrong, err = c.judgeTime(ask, s.guest.Scale(c.Below))
	case check:
		wrong, err = c.ask(ask)
	default:
		return fmt.Errorf("boottest: action %T is not known", step.Action)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		s.verdict(step.Name, start, note, wrong)
		return nil
	}
	s.verdict(step.Name, start, "", append([]string{err.Error()}, s.condition()...))
	if errors.Is(err, errRestart) {
		return nil
	}
	return errLost
}

// endTime is how long a machine may take to end after it has stopped answering.
const endTime = time.Second

// condition says how a machine is that does not answer.
func (s *session) condition() []string {
	var lines []string
	// Its port is closed a moment before the machine has ended.
	limit := time.NewTimer(endTime)
	defer limit.Stop()
	select {
	case <-s.guest.Done():
		lines = append(lines, "it has ended: "+s.guest.End().String())
	case <-limit.C:
	}
	return append(lines, s.consoleLines()...)
}

// consoleLines quotes what went wrong on the console, and its last lines.
func (s *session) consoleLines() []string {
	const most = 8
	var lines []string
	for i, p := range s.guest.Problems() {
		if i == most {
			lines = append(lines, "…")
			break
		}
		lines = append(lines, p.Kind+": "+plain(p.Text))
	}
	c := s.guest.Console()
	if len(c.Last) > 0 {
		lines = append(lines, "the console's last lines:")
	}
	for _, l := range c.Last {
		lines = append(lines, "  "+plain(l))
	}
	return lines
}

// String says how a guest ended in words.
func (e End) String() string {
	text := e.Kind
	if e.Detail != "" {
		text += " (" + plain(e.Detail) + ")"
	}
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
