package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
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
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
	Event  string
	Data   struct {
		Guest  bool
		Reason string
		Action string
	}
}

// status returns the machine's state where the message is the answer to
// query-status.
func (m *message) status() string {
	var s struct{ Status string }
	if len(m.Return) == 0 || json.Unmarshal(m.Return, &s) != nil {
		return ""
	}
	return s.Status
}

// readMessages sends each message to a channel until the connection ends.
func readMessages(r io.Reader, to chan<- message) {
	defer close(to)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) == nil {
			to <- m
		}
	}
}

// execute sends a command without arguments. Its answer comes as a message.
func execute(w io.Writer, command string) error {
	if _, err := fmt.Fprintf(w, "{\"execute\":%q}\n", command); err != nil {
		return fmt.Errorf("vm: telling QEMU to %s: %w", command, err)
	}
	return nil
}
