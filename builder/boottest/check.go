package boottest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How much is looked at of what is larger than a command's output, in bytes.
const (
	maxFile    = 1 << 20
	maxJournal = 8 << 20
)

// asker runs a command in the machine for a check.
type asker func(command string, kept int) (answer, error)

// A check asks the machine and returns lines that say what is wrong; the first
// says it in short. The error is for a machine that did not answer.
type check interface {
	ask(ask asker) ([]string, error)
}

// word quotes a word for the shell.
func word(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// succeeded says what is wrong with a command of a check's own.
func succeeded(what string, a answer) []string {
	switch {
	case a.timeout:
		return []string{what + " did not end in time"}
	case a.status != 0:
		return append([]string{fmt.Sprintf("%s failed with status %d", what, a.status)}, quote("stderr", a.stderr)...)
	}
	return nil
}

func (c RunCheck) ask(ask asker) ([]string, error) {
	a, err := ask(c.Command, DefaultKept)
	if err != nil {
		return nil, err
	}
	return c.Expect.judge(c.Command, a), nil
}

// judge says what is wrong with a command's end.
func (e Expect) judge(command string, a answer) []string {
	var wrong []string
	if a.timeout {
		wrong = []string{"did not end in time and was killed"}
	} else if a.status != e.Exit {
		wrong = []string{fmt.Sprintf("exit status %d, expected %d", a.status, e.Exit)}
	}
	out, err := judge("stdout", a.stdout, e.Stdout), judge("stderr", a.stderr, e.Stderr)
	if len(wrong) == 0 && len(out) == 0 && len(err) == 0 {
		return nil
	}
	if len(wrong) > 0 {
		// Why a command failed is in what it wrote, whatever was expected of it.
		if len(out) == 0 && a.stdout != "" {
			out = quote("stdout", a.stdout)
		}
		if len(err) == 0 && a.stderr != "" {
			err = quote("stderr", a.stderr)
		}
	}
	wrong = append(append(wrong, out...), err...)
	return append(wrong, quote("command", command)...)
}

func (c UnitCheck) ask(ask asker) ([]string, error) {
	a, err := ask("systemctl show --property=LoadState,ActiveState,SubState -- "+word(c.Unit), DefaultKept)
	if err != nil {
		return nil, err
	}
	if wrong := succeeded("systemctl", a); wrong != nil {
		return wrong, nil
	}
	values := properties(a.stdout)
	if values["ActiveState"] == c.State {
		return nil, nil
	}
	if values["LoadState"] == "not-found" {
		return []string{"there is no unit " + c.Unit}, nil
	}
	wrong := []string{fmt.Sprintf("%s is %s (%s), expected %s", c.Unit, plain(values["ActiveState"]), plain(values["SubState"]), c.State)}
	log, err := ask("journalctl --boot --quiet --no-pager --output=short-monotonic --lines=8 --unit="+word(c.Unit), DefaultKept)
	if err == nil && log.stdout != "" {
		wrong = append(wrong, quote("its journal", log.stdout)...)
	}
	return wrong, nil
}

// properties reads what systemctl show prints.
func properties(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	return values
}

func (c PortCheck) ask(ask asker) ([]string, error) {
	a, err := ask(fmt.Sprintf("cat /proc/net/%s; cat /proc/net/%[1]s6 2>/dev/null || true", c.Protocol), maxFile)
	if err != nil {
		return nil, err
	}
	if wrong := succeeded("reading /proc/net", a); wrong != nil {
		return wrong, nil
	}
	switch open := listens(a.stdout, c.Protocol, c.Port); {
	case open && c.Closed:
		return []string{fmt.Sprintf("something listens on %s port %d", c.Protocol, c.Port)}, nil
	case !open && !c.Closed:
		return []string{fmt.Sprintf("nothing listens on %s port %d", c.Protocol, c.Port)}, nil
	}
	return nil, nil
}

// listens reads /proc/net/tcp or udp: the second field is the local address and
// port in hexadecimal, the fourth the state. 0A is TCP's for listening, 07 the one
// of a UDP socket without a peer.
func listens(table, protocol string, port int) bool {
	state := map[string]string{"tcp": "0A", "udp": "07"}[protocol]
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != state {
			continue
		}
		if i := strings.LastIndexByte(f[1], ':'); i >= 0 {
			if n, err := strconv.ParseUint(f[1][i+1:], 16, 16); err == nil && int(n) == port {
				return true
			}
		}
	}
	return false
}

func (c JournalCheck) ask(ask asker) ([]string, error) {
	command := "journalctl --boot --quiet --no-pager --all --output=cat"
	if c.Unit != "" {
		command += " --unit=" + word(c.Unit)
	}
	a, err := ask(command, maxJournal)
	if err != nil {
		return nil, err
	}
	if wrong := succeeded("journalctl", a); wrong != nil {
		return wrong, nil
	}
	var wrong []string
	for _, pattern := range c.Has {
		if !found(pattern, a.stdout) {
			wrong = append(wrong, "no message has "+show(pattern))
		}
	}
	for _, pattern := range c.HasNot {
		for line := range strings.Lines(a.stdout) {
			if found(pattern, line) {
				wrong = append(wrong, "a message has "+show(pattern)+":")
				wrong = append(wrong, quote("it", line)...)
				break
			}
		}
	}
	if wrong == nil && len(a.stdout) >= maxJournal && len(c.HasNot) > 0 {
		wrong = []string{fmt.Sprintf("the journal is longer than %d MiB: name a unit, so that all of it can be looked at", maxJournal>>20)}
	}
	return wrong, nil
}

// startedAfter is the time from the kernel's start until a unit was active; 0 when
// it is not.
func startedAfter(ask asker, unit string) (time.Duration, error) {
	a, err := ask("systemctl show --property=ActiveEnterTimestampMonotonic -- "+word(unit), DefaultKept)
	if err != nil {
		return 0, err
	}
	micros, err := strconv.ParseInt(properties(a.stdout)["ActiveEnterTimestampMonotonic"], 10, 64)
	if err != nil || micros < 0 || micros > int64(24*time.Hour/time.Microsecond) {
		return 0, nil
	}
	return time.Duration(micros) * time.Microsecond, nil
}

// judgeTime asks for a time and compares it with a bound for this machine.
func (c TimeCheck) judgeTime(ask asker, bound time.Duration) (note string, wrong []string, err error) {
	after, err := startedAfter(ask, c.Unit)
	switch {
	case err != nil:
		return "", nil, err
	case after == 0:
		return "", []string{c.Unit + " was not reached"}, nil
	case after >= bound:
		return "", []string{fmt.Sprintf("%s was reached after %.1f s, expected below %.1f s", c.Unit, after.Seconds(), bound.Seconds())}, nil
	}
	return timeNote(c.Unit, after), nil, nil
}

// timeNote says how long after its kernel's start a machine reached a unit.
func timeNote(unit string, after time.Duration) string {
	return fmt.Sprintf("%s %.1f s after the kernel's start", unit, after.Seconds())
}

// limited is an asker with a limit of time for each command.
func (a *agent) limited(ctx context.Context, limit time.Duration) asker {
	return func(command string, kept int) (answer, error) { return a.run(ctx, command, limit, kept) }
}
