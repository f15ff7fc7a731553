package vm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A Kind is a way in which a boot goes wrong that shows on the console.
type Kind string

const (
	KernelPanic      Kind = "kernel panic"
	KernelOops       Kind = "kernel oops" // also BUG and a fault of protection in the kernel
	KernelStall      Kind = "stall"       // of a processor or a task; under emulation a sign of a busy host
	OutOfMemory      Kind = "out of memory"
	CorruptBlock     Kind = "corrupt block" // found by dm-verity
	Emergency        Kind = "emergency mode"
	OrderingCycle    Kind = "ordering cycle"
	DependencyFailed Kind = "dependency failed"
	UnitFailed       Kind = "unit failed"
	FirmwareShell    Kind = "firmware shell"
	NoBootDevice     Kind = "no bootable device"
	Stopped          Kind = "stopped" // by the appliance itself, which says before why
)

// A Finding is a line of a console's log that says that something went wrong.
type Finding struct {
	Kind Kind
	Line int    // its number in the log, from 1 on
	Text string // without escape sequences and control characters
}

// String names the kind, the line's number and the line.
func (f Finding) String() string {
	return fmt.Sprintf("%s, line %d of the console: %s", f.Kind, f.Line, f.Text)
}

const (
	// maxFindings bounds what is kept of a log: the first ones tell the cause.
	maxFindings = 100
	// maxText bounds a quoted line, in bytes.
	maxText = 500
)

// signs says which lines are findings. A pattern is held against a line without
// escape sequences and without the kernel's time stamp. The kernel's words are
// those of Linux 5.15 to 6.18, systemd's those of 249 to 259, the firmware's
// EDK II's. The first that fits counts.
var signs = []struct {
	kind    Kind
	pattern *regexp.Regexp
}{
	{KernelPanic, regexp.MustCompile(`Kernel panic - not syncing|^end Kernel panic`)},
	{KernelStall, regexp.MustCompile(`^(watchdog: )?BUG: (soft lockup|workqueue lockup)|^rcu: INFO: .*(stall|starved)|^INFO: task .* blocked for more than|^watchdog: Watchdog detected hard LOCKUP`)},
	{KernelOops, regexp.MustCompile(`^BUG: |^kernel BUG at |^Oops: |^Internal error: |^general protection fault[,:] |^(Unable to handle kernel|invalid opcode: |stack segment: |double fault: )`)},
	{OutOfMemory, regexp.MustCompile(`(?i)^(memory cgroup )?out of memory: killed process|^oom-kill:|invoked oom-killer:|^Out of memory and no killable processes`)},
	{CorruptBlock, regexp.MustCompile(`^device-mapper: verity: .*(corrupted|corruption)`)},
	{Emergency, regexp.MustCompile(`You are in (emergency|rescue) mode|Welcome to emergency mode|Entering (emergency|rescue) mode|Press Enter for (emergency shell|maintenance)|Give root password for maintenance|Cannot open access to console, the root account is locked|Reached target .*[Ee]mergency|Start(ed|ing) .*(Emergency Shell|emergency\.service)|^\(initramfs\)`)},
	{OrderingCycle, regexp.MustCompile(`Found ordering cycle|deleted to break ordering cycle`)},
	{DependencyFailed, regexp.MustCompile(`Dependency failed for `)},
	{UnitFailed, regexp.MustCompile(`^\[FAILED\] |^systemd\[\d+\]: Failed to (start|mount|activate|listen) |^systemd\[\d+\]: .*: Failed with result `)},
	{FirmwareShell, regexp.MustCompile(`^Shell> |^Shell>$|UEFI Interactive Shell v`)},
	{NoBootDevice, regexp.MustCompile(`No bootable option or device was found|No bootable device|BdsDxe: No bootable`)},
	{Stopped, regexp.MustCompile(`^applbuild: the machine stops here`)},
}

var (
	// escapes are the sequences of ECMA-48 that terminals obey.
	escapes = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])`)
	// stamp is what printk puts before a line: a priority, the time and, in some
	// kernels, the thread or the processor.
	stamp = regexp.MustCompile(`^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? `)
)

// Findings reads the log of a console and returns what went wrong, in its order.
// At most 100 lines are returned. What a guest prints is its own affair: a
// program may print a sign without there being a cause.
func Findings(log io.Reader) ([]Finding, error) {
	var found []Finding
	lines := bufio.NewReaderSize(log, maxLine)
	for number := 1; len(found) < maxFindings; number++ {
		line, err := lines.ReadSlice('\n')
		found = judge(found, number, line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// judge adds what is wrong in a line of the log. A line that was written over
// itself, as the progress of a job is, is several.
func judge(found []Finding, number int, line []byte) []Finding {
	for part := range bytes.SplitSeq(line, []byte{'\r'}) {
		if len(part) == 0 || len(found) >= maxFindings {
			continue
		}
		text := plainText(part)
		bare := stamp.ReplaceAllString(text, "")
		for _, s := range signs {
			if s.pattern.MatchString(bare) {
				found = append(found, Finding{s.kind, number, text})
				break
			}
		}
	}
	return found
}

// plainText is a line without escape sequences and control characters.
func plainText(line []byte) string {
	text := escapes.ReplaceAllString(strings.ToValidUTF8(string(line), "\uFFFD"), "")
	text = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
