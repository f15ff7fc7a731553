package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
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

// configuring stands for a script where dpkg named none.
const configuring = "configuring"

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
	if e.Script == configuring {
		return fmt.Sprintf("package %s: %s", e.Package, e.Reason)
	}
	return fmt.Sprintf("package %s: its %s script failed: %s", e.Package, e.Script, e.Reason)
}

// Is makes the error match ErrScript.
func (e *ScriptError) Is(target error) bool { return target == ErrScript }

// Detail is what the script printed.
func (e *ScriptError) Detail() string { return string(e.Output) }

// dpkgError is the line with which dpkg names the package that it gives up on.
var dpkgError = regexp.MustCompile(`(?m)^dpkg: error processing package (\S+) \(--\S+\):\n\s*(.*)$`)

// dpkgFatal is a line with which dpkg gives up altogether.
var dpkgFatal = regexp.MustCompile(`(?m)^dpkg: (?:unrecoverable fatal )?error: (.*)$`)

// dpkgScript is how dpkg says that a script was at fault.
var dpkgScript = regexp.MustCompile(`post-installation script subprocess`)

// explainDpkg turns dpkg's output into a ScriptError about the first package
// that failed.
func explainDpkg(cause error, output []byte) *ScriptError {
	e := &ScriptError{Script: configuring, Reason: cause.Error(), Output: output}
	found := dpkgError.FindSubmatch(output)
	if found == nil {
		if line := dpkgFatal.FindSubmatch(output); line != nil {
			e.Reason = string(line[1])
		}
		return e
	}
	e.Package, e.Reason = string(found[1]), string(found[2])
	if dpkgScript.MatchString(e.Reason) {
		e.Script = "postinst"
	}
	return e
}

// configureArgs is what the configuring function is told.
type configureArgs struct {
	Clock time.Time
	// System are the packages that all others count on without saying so:
	// dpkg knows what a package depends on, and that is not what is essential.
	System []string
}

// configureResult is what it answers, as JSON in its first file.
type configureResult struct {
	Error   string // empty when all went well
	Output  []byte
	Left    *ScriptError // about processes that outlived dpkg
	Network netUse
}

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
	if err == nil {
		err = again(ctx, args.Clock, &output)
	}
	if err != nil {
		result.Error = err.Error()
	}
	result.Output = output.bytes()
	result.Left = leftRunning(stragglers, result.Output)
	result.Network = triedNetwork()
	data, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = files[0].Write(data)
	return err
}

// again runs what wrote the present time of folders into a cache once more,
// with the time that the folders will have in the finished tree. The variable is
// not set for all scripts, because Python then compiles its modules in such a way
// that it reads all sources, too, whenever it starts.
func again(ctx context.Context, clock time.Time, output *tail) error {
	const fontCache = "/usr/bin/fc-cache"
	if !exists(fontCache) {
		return nil
	}
	cmd := exec.CommandContext(ctx, fontCache, "--system-only", "--force")
	cmd.Dir = "/"
	cmd.Env = append(scriptEnv(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", clock.Unix()))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("fc-cache: %w", err)
	}
	return nil
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
