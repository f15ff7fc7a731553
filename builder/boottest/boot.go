package boottest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// boot starts the machine and waits for the end of the boot. up says that it may
// be asked. The error is errLost where it did not come up and was to.
func (s *session) boot(ctx context.Context, name string, b Boot, limit time.Duration) (up bool, err error) {
	begun := s.Now()
	if err := s.start(ctx); err != nil {
		return false, err
	}
	if name == "" {
		name = fmt.Sprintf("boot %d comes up", s.boots)
	}
	wrong := s.waitUp(ctx, orDefault(limit, DefaultBoot))
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	up = len(wrong) == 0
	note := ""
	switch {
	case up && b.Fails:
		wrong = []string{"the machine came up, expected it not to"}
	case b.Fails:
		note, wrong = wrong[0], nil
	case up:
		note = s.bootNote(ctx)
	default:
		wrong = append(wrong, s.consoleLines()...)
	}
	if b.Console != nil {
		wrong = append(wrong, judge("console", s.guest.Console().Text, *b.Console)...)
	}
	s.verdict(name, begun, note, wrong)
	if up && !b.Fails {
		return true, nil
	}
	s.off()
	if b.Fails {
		return false, nil
	}
	s.report.NeverUp = true
	return false, errLost
}

// bootNote says how long a boot took by the guest's own clock.
func (s *session) bootNote(ctx context.Context) string {
	const target = "multi-user.target"
	after, err := startedAfter(s.agent.limited(ctx, s.guest.Scale(DefaultLimit)), target)
	if err != nil || after == 0 {
		return ""
	}
	return timeNote(target, after)
}

// start starts the machine and takes note of its console.
func (s *session) start(ctx context.Context) error {
	guest, err := s.Machine.Start(ctx)
	if err != nil {
		return err
	}
	s.boots++
	s.guest, s.agent = guest, newAgent(ctx, guest.Port())
	if file := guest.Console().File; file != "" {
		s.report.Consoles = append(s.report.Consoles, file)
	}
	return nil
}

// off frees the guest, which is cut off where it still runs.
func (s *session) off() {
	if s.guest != nil {
		s.guest.Close()
	}
	s.guest, s.agent = nil, nil
}

// Reasons why a boot is not waited for any longer.
var (
	errTooSlow = errors.New("it took too long")
	errEnded   = errors.New("it ended")
	errStuck   = errors.New("it is stuck")
)

// lookEvery is how often a machine that boots is looked at.
const lookEvery = time.Second

// stuckTime is left to a machine after a line of its console that says that it
// will not come up: for what else it says.
const stuckTime = 3 * time.Second

// watch returns a context that ends when the guest does, when it is stuck, or when
// the time is up. How long that is may change: a guest whose firmware KVM cannot
// run goes on emulated.
func (s *session) watch(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	guest, begun := s.guest, s.Now()
	go func() {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-guest.Done():
				cancel(errEnded)
			case <-ctx.Done():
				return
			case <-look.C:
				if s.Now().Sub(begun) >= guest.Scale(limit) {
					cancel(errTooSlow)
				}
				for _, p := range guest.Problems() {
					if p.Fatal {
						pause(ctx, guest.Scale(stuckTime))
						cancel(errStuck)
						break
					}
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// waitUp waits for the end of the boot and says what is wrong with it.
func (s *session) waitUp(ctx context.Context, limit time.Duration) []string {
	begun := s.Now()
	watched, cancel := s.watch(ctx, limit)
	defer cancel()
	if err := s.agent.ready(watched); err != nil {
		return s.notUp("the machine did not answer", err, limit)
	}
	// The boot is over when no job is left.
	a, err := s.agent.run(watched, "systemctl is-system-running --wait", s.guest.Scale(limit)-s.Now().Sub(begun), DefaultKept)
	if errors.Is(err, errSilent) {
		// The port ends with the guest, whose end says more.
		<-watched.Done()
		err = context.Cause(watched)
	} else if err == nil && a.timeout {
		err = errTooSlow
	}
	if err != nil {
		wrong := s.notUp("the boot did not end", err, limit)
		if errors.Is(err, errTooSlow) {
			wrong = append(wrong, s.jobs(ctx)...)
		}
		return wrong
	}
	switch state := strings.TrimSpace(a.stdout); state {
	case "running", "degraded":
		return nil
	default:
		return append([]string{fmt.Sprintf("the machine did not come up: systemd says %s", plain(state))}, quote("stderr", a.stderr)...)
	}
}

// notUp says why a boot was not waited for.
func (s *session) notUp(what string, err error, limit time.Duration) []string {
	switch {
	case errors.Is(err, errEnded):
		return []string{what + ": it ended by " + s.guest.End().String()}
	case errors.Is(err, errTooSlow):
		return []string{fmt.Sprintf("%s in %.0f s", what, s.guest.Scale(limit).Seconds())}
	case errors.Is(err, errStuck):
		for _, p := range s.guest.Problems() {
			if p.Fatal {
				return []string{what + ": " + p.Kind}
			}
		}
	}
	return []string{what + ": " + err.Error()}
}

// jobs says what a boot waits for. Its answer comes after that of the command that
// waited, which has its own limit.
func (s *session) jobs(ctx context.Context) []string {
	a, err := s.agent.run(ctx, "systemctl list-jobs --no-pager --no-legend", s.guest.Scale(DefaultLimit), DefaultKept)
	if err != nil || strings.TrimSpace(a.stdout) == "" {
		return nil
	}
	return quote("what it waits for", a.stdout)
}

// endOfBoot looks for failed units before a boot ends.
func (s *session) endOfBoot(ctx context.Context) {
	if s.guest == nil || s.lost || ctx.Err() != nil {
		return
	}
	start := s.Now()
	name := fmt.Sprintf("boot %d has no failed units", s.boots)
	ask := s.agent.limited(ctx, s.guest.Scale(DefaultLimit))
	a, err := ask("systemctl list-units --state=failed --all --plain --no-legend --no-pager --full", DefaultKept)
	if err != nil {
		s.verdict(name, start, "", append([]string{err.Error()}, s.condition()...))
		return
	}
	wrong := succeeded("systemctl", a)
	for line := range strings.Lines(a.stdout) {
		f := strings.Fields(line)
		if len(f) == 0 || s.allowed(f[0]) {
			continue
		}
		wrong = append(wrong, plain(f[0])+" failed")
		log, err := ask("journalctl --boot --quiet --no-pager --output=short-monotonic --lines=6 --unit="+word(f[0]), DefaultKept)
		if err == nil && log.stdout != "" {
			wrong = append(wrong, quote("its journal", log.stdout)...)
		}
	}
	s.verdict(name, start, "", wrong)
}

func (s *session) allowed(unit string) bool {
	for _, pattern := range s.allow {
		if ok, err := path.Match(pattern, unit); ok && err == nil {
			return true
		}
	}
	return false
}

// shutDown has the machine end itself and says what is wrong with that. It is off
// afterwards.
func (s *session) shutDown(ctx context.Context, verb, kind string, limit time.Duration) []string {
	defer s.off()
	limit = s.guest.Scale(orDefault(limit, DefaultBoot))
	// The answer may be lost on the way down.
	asked := make(chan error, 1)
	go func(a *agent) {
		_, err := a.run(ctx, "systemctl --no-block "+verb, limit, DefaultKept)
		asked <- err
	}(s.agent)
	end := time.NewTimer(limit)
	defer end.Stop()
	select {
	case <-s.guest.Done():
	case <-ctx.Done():
		return []string{context.Cause(ctx).Error()}
	case <-end.C:
		return append([]string{fmt.Sprintf("the machine did not end by %s in %.0f s", kind, limit.Seconds())}, s.consoleLines()...)
	}
	if e := s.guest.End(); e.Kind != kind || e.Err != nil {
		return append([]string{"the machine ended by " + e.String() + ", expected " + kind}, s.consoleLines()...)
	}
	return nil
}

// reboot ends a boot in good order and begins another one.
func (s *session) reboot(ctx context.Context, step Step, b Reboot) error {
	s.endOfBoot(ctx)
	start := s.Now()
	if wrong := s.shutDown(ctx, "reboot", EndReset, step.Limit); len(wrong) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.verdict(step.Name, start, "", wrong)
		return errLost
	}
	_, err := s.boot(ctx, step.Name, Boot(b), step.Limit)
	return err
}

// powerCut switches the machine off at once.
func (s *session) powerCut(ctx context.Context, step Step, c PowerCut) error {
	switch {
	case s.guest != nil:
		s.endOfBoot(ctx)
	case c.After > 0:
		if err := s.start(ctx); err != nil {
			return err
		}
	default:
		if up, err := s.boot(ctx, "", Boot{}, step.Limit); !up {
			s.tell(Result{Name: step.Name, Status: Skipped, Details: []string{"the machine did not come up"}})
			return err
		}
	}
	start := s.Now()
	after := s.guest.Scale(c.After)
	pause(ctx, after)
	s.guest.PowerCut()
	note := ""
	if c.After > 0 {
		note = fmt.Sprintf("%.1f s into boot %d", after.Seconds(), s.boots)
	}
	s.off()
	s.verdict(step.Name, start, note, nil)
	return nil
}
