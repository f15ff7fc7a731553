package rootfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stragglers is how long processes may go on after the last script has ended.
const stragglers = 3 * time.Second

// A process is one that a maintainer script left running.
type process struct {
	name   string // of the program, cut by the kernel to 15 bytes
	pkg    string // whose script it comes from; empty where that is not known
	script string // the script's name, likewise
}

// leftRunning makes an error of the processes that are there although no script
// runs any more, after giving them time to end. It returns nil when there are
// none.
func leftRunning(patience time.Duration, output []byte) *ScriptError {
	const pause = 50 * time.Millisecond
	var left []process
	for waited := time.Duration(0); ; waited += pause {
		left = processes("/proc")
		if len(left) == 0 {
			return nil
		}
		if waited >= patience {
			break
		}
		time.Sleep(pause)
	}
	return explainLeft(left, output)
}

// explainLeft says what was left, and by which package where all is of one.
func explainLeft(left []process, output []byte) *ScriptError {
	e := &ScriptError{Package: left[0].pkg, Script: left[0].script, Output: output}
	var names []string
	for _, p := range left {
		if p.pkg != e.Package || p.script != e.Script {
			e.Package, e.Script = "", ""
		}
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	if e.Package == "" {
		e.Script = configuring
	}
	e.Reason = fmt.Sprintf("it left running: %s; a package must not start a service while an image is built", strings.Join(names, ", "))
	return e
}

// processes lists the processes of the pid namespace that proc shows, but for
// its init, this one, and what has ended and is only not reaped yet.
func processes(proc string) []process {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(proc, entry.Name(), "stat"))
		if err != nil {
			continue
		}
		name, alive := parseStat(stat)
		if !alive {
			continue
		}
		p := process{name: name}
		if environ, err := os.ReadFile(filepath.Join(proc, entry.Name(), "environ")); err == nil {
			p.pkg, p.script = variable(environ, "DPKG_MAINTSCRIPT_PACKAGE"), variable(environ, "DPKG_MAINTSCRIPT_NAME")
		}
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b process) int { return strings.Compare(a.name, b.name) })
	return found
}

// parseStat reads the beginning of /proc/PID/stat (proc(5)): "pid (name) state".
// The name may have parentheses of its own.
func parseStat(stat []byte) (name string, alive bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open || end+2 >= len(stat) {
		return "", false
	}
	state := stat[end+2]
	return string(stat[open+1 : end]), state != 'Z' && state != 'X'
}

// variable finds a variable in an environment as /proc/PID/environ has it.
func variable(environ []byte, name string) string {
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// netUse says what scripts wanted of the network.
type netUse int

const (
	netNone  netUse = iota
	netNames        // a name server was asked: many do, for the machine's own name
	netHosts        // another host was to be reached
)

// triedNetwork says what was sent that had no way to go: the namespace is new,
// so its counters began at nothing.
func triedNetwork() netUse {
	use := netNone
	for name, read := range map[string]func([]byte) netUse{
		"/proc/net/snmp":  unreachable,
		"/proc/net/snmp6": unreachable6,
	} {
		if data, err := os.ReadFile(name); err == nil {
			use = max(use, read(data))
		}
	}
	return use
}

// unreachable reads /proc/net/snmp: lines in pairs, the names of a protocol's
// counters and their values. What had no route was meant for elsewhere;
// a datagram to a closed port of this machine is a name server that was asked.
func unreachable(data []byte) netUse {
	use := netNone
	var names []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(names) != len(fields) || names[0] != fields[0] {
			names = fields
			continue
		}
		for i, name := range names {
			if fields[i] != "0" {
				use = max(use, counter(fields[0]+name))
			}
		}
		names = nil
	}
	return use
}

// counter says what it means that a counter is not 0.
func counter(name string) netUse {
	switch name {
	case "Ip:OutNoRoutes", "Ip6OutNoRoutes":
		return netHosts
	case "Udp:NoPorts", "Udp6NoPorts":
		return netNames
	}
	return netNone
}

// unreachable6 reads /proc/net/snmp6: a counter and its value a line.
func unreachable6(data []byte) netUse {
	use := netNone
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] != "0" {
			use = max(use, counter(fields[0]))
		}
	}
	return use
}
