package boottest

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	agentVersion = "1"
	// keptUnit is the unit of how much of an output the agent keeps, in bytes.
	keptUnit = 512
	// DefaultKept is how much of each output of a command is looked at, in bytes.
	DefaultKept = 256 << 10
	// maxLine bounds a line of the agent's: two outputs of the journal's size.
	maxLine = 2*(maxJournal+keptUnit)/3*4 + 1024
	// overtime is what the agent is given beyond a command's limit to end it and
	// to say so.
	overtime = 15 * time.Second
)

// Errors of a call to the agent.
var (
	errSilent  = errors.New("the machine does not answer")
	errRestart = errors.New("the machine started anew in between, or its agent was killed")
)

// A message is a line of the agent's.
type message struct {
	ready  string // the boot's id
	id     int
	answer answer
}

// An answer is what came of a command.
type answer struct {
	status         int
	timeout        bool // the time was up
	stdout, stderr string
}

// parseMessage reads a line of the agent's; ok is false for one that is none.
func parseMessage(line string) (m message, ok bool) {
	f := strings.Split(line, " ")
	if len(f) == 3 && f[0] == "ready" && f[1] == agentVersion && f[2] != "" && len(f[2]) <= 64 {
		m.ready = f[2]
		return m, true
	}
	if len(f) != 5 || f[0] != "end" {
		return m, false
	}
	var err error
	if m.id, err = strconv.Atoi(f[1]); err != nil {
		return m, false
	}
	if m.answer.timeout = f[2] == "timeout"; !m.answer.timeout {
		if m.answer.status, err = strconv.Atoi(f[2]); err != nil || m.answer.status < 0 || m.answer.status > 255 {
			return m, false
		}
	}
	if m.answer.stdout, ok = decode(f[3]); !ok {
		return m, false
	}
	m.answer.stderr, ok = decode(f[4])
	return m, ok
}

func decode(field string) (string, bool) {
	if field == "-" {
		return "", true
	}
	b, err := base64.StdEncoding.DecodeString(field)
	return string(b), err == nil
}

// An agent is the host's side of the port.
type agent struct {
	port     io.Writer
	messages <-chan message // closed at the port's end
	last     int            // number of the last command
}

// newAgent reads what the agent says until the port ends or ctx does.
func newAgent(ctx context.Context, port io.ReadWriter) *agent {
	messages := make(chan message)
	go func() {
		defer close(messages)
		lines := bufio.NewReaderSize(port, 64<<10)
		for {
			line, err := readLine(lines)
			if m, ok := parseMessage(line); ok {
				select {
				case messages <- m:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return &agent{port: port, messages: messages}
}

// readLine reads a line without its end. What a line has beyond the bound is read
// and dropped.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxLine-len(line))]...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.TrimSuffix(string(line), "\n"), err
		}
	}
}

// ready waits for the agent's first word.
func (a *agent) ready(ctx context.Context) error {
	for {
		select {
		case m, ok := <-a.messages:
			if !ok {
				a.messages = nil
			}
			if m.ready != "" {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run has the machine run a shell command. kept bounds each of its outputs in
// bytes.
func (a *agent) run(ctx context.Context, command string, limit time.Duration, kept int) (answer, error) {
	a.last++
	seconds := max(1, int((limit+time.Second-1)/time.Second))
	line := fmt.Sprintf("run %d %d %d %s\n", a.last, seconds, (kept+keptUnit-1)/keptUnit,
		base64.StdEncoding.EncodeToString([]byte(command)))
	ctx, cancel := context.WithTimeoutCause(ctx, limit+overtime, errSilent)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(a.port, line)
		written <- err
	}()
	for {
		select {
		case err := <-written:
			if err != nil {
				return answer{}, fmt.Errorf("%w: %w", errSilent, err)
			}
			written = nil
		case m, ok := <-a.messages:
			switch {
			case !ok:
				return answer{}, errSilent
			case m.ready != "":
				return answer{}, errRestart
			case m.id == a.last:
				return m.answer, nil
			}
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}
