package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message of QEMU's, in bytes.
const maxMessage = 1 << 20

// A message is one of the QEMU Machine Protocol: a greeting, an answer or an
// event.
type message struct {
	Greeting *struct {
		Version struct {
			QEMU struct{ Major, Minor, Micro int }
		}
	} `json:"QMP"`
	ID     int
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
	Event  string
	Data   struct {
		Reason string
		Device string
	}
}

// A monitor is QEMU's side of the QEMU Machine Protocol. Its methods may be
// called from several goroutines.
type monitor struct {
	conn   *net.UnixConn
	events chan message  // of the machine's state; closed with the connection
	ready  chan message  // takes the greeting
	gone   chan struct{} // closed with the connection

	mu      sync.Mutex
	last    int                     // number of the last command
	waiting map[int]chan message    // for answers, by the command's number
	unplugs map[string]chan message // for devices to be gone, by name
}

// errGone says that QEMU ended before it answered.
var errGone = errors.New("QEMU has ended")

func newMonitor(conn *net.UnixConn) *monitor {
	m := &monitor{
		conn: conn, events: make(chan message, 16), ready: make(chan message, 1), gone: make(chan struct{}),
		waiting: map[int]chan message{}, unplugs: map[string]chan message{},
	}
	go m.read()
	return m
}

// read hands each message to whoever waits for it, until the connection ends.
func (m *monitor) read() {
	defer close(m.gone)
	defer close(m.events)
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		var got message
		if json.Unmarshal(lines.Bytes(), &got) != nil {
			continue
		}
		switch got.Event {
		case "":
			m.answer(got)
		case "SHUTDOWN", "GUEST_PANICKED", "STOP":
			m.events <- got
		case "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR":
			m.unplugged(got)
		}
	}
}

func (m *monitor) answer(got message) {
	if got.Greeting != nil {
		select {
		case m.ready <- got:
		default:
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if to := m.waiting[got.ID]; to != nil {
		to <- got
		delete(m.waiting, got.ID)
	}
}

func (m *monitor) unplugged(got message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to := m.unplugs[got.Data.Device]; to != nil {
		to <- got
		delete(m.unplugs, got.Data.Device)
	}
}

// onUnplug returns what takes the event that a device is gone, or that the guest
// does not let it go.
func (m *monitor) onUnplug(device string) <-chan message {
	m.mu.Lock()
	defer m.mu.Unlock()
	to := make(chan message, 1)
	m.unplugs[device] = to
	return to
}

// call has QEMU carry out a command and returns what it answers. files go along
// with the command.
func (m *monitor) call(ctx context.Context, command string, arguments any, files ...*os.File) (json.RawMessage, error) {
	id, to := m.enlist()
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, id}
	b, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("vm: %s: %w", command, err)
	}
	var rights []byte
	for _, f := range files {
		rights = append(rights, unix.UnixRights(int(f.Fd()))...)
	}
	if _, _, err := m.conn.WriteMsgUnix(append(b, '\n'), rights, nil); err != nil {
		return nil, fmt.Errorf("vm: telling QEMU to %s: %w", command, errors.Join(errGone, err))
	}
	var got message
	select {
	case got = <-to:
	case <-ctx.Done():
		return nil, fmt.Errorf("vm: telling QEMU to %s: %w", command, context.Cause(ctx))
	case <-m.gone:
		// It may have answered before.
		select {
		case got = <-to:
		default:
			return nil, fmt.Errorf("vm: telling QEMU to %s: %w", command, errGone)
		}
	}
	if got.Error != nil {
		return nil, fmt.Errorf("vm: QEMU refuses to %s: %s", command, got.Error.Desc)
	}
	return got.Return, nil
}

func (m *monitor) enlist() (int, <-chan message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	to := make(chan message, 1)
	m.waiting[m.last] = to
	return m.last, to
}

// human has QEMU carry out a command of the monitor for people.
func (m *monitor) human(ctx context.Context, line string) (string, error) {
	b, err := m.call(ctx, "human-monitor-command", map[string]any{"command-line": line})
	if err != nil {
		return "", err
	}
	var said string
	if err := json.Unmarshal(b, &said); err != nil {
		return "", fmt.Errorf("vm: QEMU's answer to %q: %w", line, err)
	}
	return said, nil
}
