package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scriptEnv is the whole environment of maintainer scripts. PYTHONHASHSEED
// keeps the order of sets in compiled Python files the same; INITRD tells the
// kernel's hooks to leave the initrd alone.
func scriptEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"TERM=dumb",
		"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "LANGUAGE=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "DEBCONF_NOWARNINGS=yes",
		"INITRD=No",
		"PYTHONHASHSEED=0",
		"RUNLEVEL=1",
	}
}

// ErrScript is matched by the error of a maintainer script that failed.
var ErrScript = errors.New("maintainer script failed")

// ScriptError says which package's script failed, and what it printed.
type ScriptError struct {
	Package string // empty where dpkg didn't say
	Script  string // "postinst", "preinst" or "configuring"
	Reason  string
	Output  []byte // the last of what was printed
}

// Error is one line.
func (e *ScriptError) Error() string {
	if e.Package == "" {
		return fmt.Sprintf("%s: %s", e.Script, e.Reason)
	}
	return fmt.Sprintf("package %s: its %s script failed: %s", e.Package, e.Script, e.Reason)
}

// Is makes the error match ErrScript.
func (e *ScriptError) Is(target error) bool { return target == ErrScript }

// Detail is what the script printed.
func (e *ScriptError) Detail() string { return string(e.Output) }

// dpkgError is the line with which dpkg names the package that it gives up on.
var dpkgError = regexp.MustCompile(`(?m)^dpkg: error processing package (\S+) \(--\S+\):\n\s*(.*)$`)

// dpkgScript is how dpkg names the script in that line.
var dpkgScript = regexp.MustCompile(`(post-installation|pre-installation|trigger)`)

// explainDpkg turns dpkg's output into a ScriptError about the first package
// that failed.
func explainDpkg(cause error, output []byte) *ScriptError {
	e := &ScriptError{Script: "configuring", Reason: cause.Error(), Output: output}
	found := dpkgError.FindSubmatch(output)
	if found == nil {
		return e
	}
	e.Package, e.Reason, e.Script = string(found[1]), string(found[2]), "postinst"
	if kind := dpkgScript.FindString(e.Reason); kind == "pre-installation" {
		e.Script = "preinst"
	}
	return e
}

// configureArgs is what the configuring function is told.
type configureArgs struct {
	// System are the packages that all others count on without saying so:
	// dpkg knows what a package depends on, and that is not what is essential.
	System []string
}

// configureResult is what it answers, as JSON in its first file.
type configureResult struct {
	Error   string // empty when all went well
	Output  []byte
	Left    []string // processes that outlived dpkg
	Network bool     // something tried to reach the network
}

// stragglers is how long processes may go on after dpkg has ended.
const stragglers = 3 * time.Second

// configureInside runs in the sandbox whose root is the tree: dpkg configures
// all packages, then nothing may be left running.
func configureInside(ctx context.Context, raw []byte, files []*os.File) error {
	var args configureArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	var result configureResult
	var output tail
	dpkg := func(argv ...string) error {
		argv = append([]string{"--force-confold", "--force-unsafe-io"}, argv...)
		cmd := exec.CommandContext(ctx, "dpkg", argv...)
		cmd.Env = scriptEnv()
		cmd.Dir = "/"
		cmd.Stdout, cmd.Stderr = &output, &output
		// A daemon that keeps the pipe open must not keep us.
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if errors.Is(err, exec.ErrWaitDelay) {
			return nil
		}
		return err
	}
	var err error
	if len(args.System) > 0 {
		err = dpkg(append([]string{"--configure"}, args.System...)...)
	}
	if err == nil {
		err = dpkg("--configure", "-a")
	}
	if err != nil {
		result.Error = err.Error()
	}
	result.Output = output.bytes()
	result.Left = leftRunning(stragglers)
	result.Network = triedNetwork()
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = files[0].Write(data)
	return err
}

// leftRunning lists the processes of the pid namespace that are neither its
// init nor this one nor a kernel's leftover, after giving them time to end.
func leftRunning(patience time.Duration) []string {
	const pause = 50 * time.Millisecond
	var left []string
	for waited := time.Duration(0); ; waited += pause {
		left = processes()
		if len(left) == 0 || waited >= patience {
			return left
		}
		time.Sleep(pause)
	}
}

func processes() []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		// "pid (name) state …": a name may have parentheses of its own.
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || end < open || end+2 >= len(stat) || stat[end+2] == 'Z' || stat[end+2] == 'X' {
			continue
		}
		names = append(names, string(stat[open+1:end]))
	}
	slices.Sort(names)
	return names
}

// triedNetwork says whether anything was sent that had no way to go: the
// namespace is new, so its counters began at nothing.
func triedNetwork() bool {
	for name, read := range map[string]func([]byte) bool{
		"/proc/net/snmp":  unreachable,
		"/proc/net/snmp6": unreachable6,
	} {
		if data, err := os.ReadFile(name); err == nil && read(data) {
			return true
		}
	}
	return false
}

// unreachable reads /proc/net/snmp: lines in pairs, the names of a protocol's
// counters and their values. What had no route was meant for elsewhere;
// a datagram to a closed port of this machine is a name server that was asked.
func unreachable(data []byte) bool {
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
			counts := fields[0] == "Ip:" && name == "OutNoRoutes" || fields[0] == "Udp:" && name == "NoPorts"
			if counts && fields[i] != "0" {
				return true
			}
		}
		names = nil
	}
	return false
}

// unreachable6 reads /proc/net/snmp6: a counter and its value a line.
func unreachable6(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && (fields[0] == "Ip6OutNoRoutes" || fields[0] == "Udp6NoPorts") && fields[1] != "0" {
			return true
		}
	}
	return false
}

// maxTail is how much of the scripts' output is kept, in bytes.
const maxTail = 64 << 10

// tail keeps the last of what is written to it.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if len(t.data) > 2*maxTail {
		t.data = append(t.data[:0], t.data[len(t.data)-maxTail:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	return t.data[max(0, len(t.data)-maxTail):]
}
