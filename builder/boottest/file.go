package boottest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kinds are the types of files as stat(1) of coreutils prints them.
var kinds = map[string]string{
	"regular file": "file", "regular empty file": "file", "directory": "directory", "symbolic link": "link",
}

func (c FileCheck) ask(ask asker) ([]string, error) {
	a, err := ask(`stat --printf='%F\n%U\n%u\n%G\n%g\n%a\n' -- `+word(c.Path), DefaultKept)
	if err != nil {
		return nil, err
	}
	there := a.status == 0 && !a.timeout
	if !there && !strings.Contains(a.stderr, "No such file") && !strings.Contains(a.stderr, "Not a directory") {
		return succeeded("stat", a), nil
	}
	switch {
	case !there && c.Absent:
		return nil, nil
	case !there:
		return []string{c.Path + " is not there"}, nil
	case c.Absent:
		return []string{c.Path + " is there"}, nil
	}
	f := strings.Split(a.stdout, "\n")
	if len(f) < 6 {
		return append([]string{"stat printed something else than what was asked for"}, quote("stdout", a.stdout)...), nil
	}
	wrong := c.attributes(f)
	if c.Contents == nil {
		return wrong, nil
	}
	if a, err = ask("cat -- "+word(c.Path), maxFile); err != nil {
		return nil, err
	}
	if failed := succeeded("cat", a); failed != nil {
		return append(wrong, failed...), nil
	}
	return append(wrong, judge(c.Path, a.stdout, *c.Contents)...), nil
}

// attributes judges the fields that stat printed.
func (c FileCheck) attributes(f []string) []string {
	var wrong []string
	if kind, known := kinds[f[0]]; c.Kind != "" && (!known || kind != c.Kind) {
		wrong = append(wrong, fmt.Sprintf("%s is a %s, expected a %s", c.Path, plain(f[0]), c.Kind))
	}
	if c.User != "" && c.User != f[1] && c.User != f[2] || c.Group != "" && c.Group != f[3] && c.Group != f[4] {
		wrong = append(wrong, fmt.Sprintf("%s belongs to %s:%s (%s:%s), expected %s:%s", c.Path, plain(f[1]), plain(f[3]), plain(f[2]), plain(f[4]), c.User, c.Group))
	}
	if c.Mode != nil {
		if mode, err := strconv.ParseUint(f[5], 8, 32); err != nil || uint32(mode) != *c.Mode {
			wrong = append(wrong, fmt.Sprintf("%s has mode %s, expected %04o", c.Path, plain(f[5]), *c.Mode))
		}
	}
	return wrong
}

// A mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	point, filesystem, source string
	options                   []string // of the mount, then of the file system; ro or rw as it takes effect
}

// mounts reads mountinfo. What is no line of it is passed over.
func mounts(table string) []mount {
	var list []mount
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, g := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		options := append(strings.Split(f[5], ","), strings.Split(g[2], ",")...)
		if slices.Contains(options, "ro") {
			// Of mount and file system, one that is read-only is enough.
			options = slices.DeleteFunc(options, func(o string) bool { return o == "rw" })
		}
		list = append(list, mount{point: unescape(f[4]), filesystem: g[0], source: unescape(g[1]), options: options})
	}
	return list
}

// unescape reads octal escapes such as \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (c MountCheck) ask(ask asker) ([]string, error) {
	a, err := ask("cat /proc/self/mountinfo", maxFile)
	if err != nil {
		return nil, err
	}
	if wrong := succeeded("cat", a); wrong != nil {
		return wrong, nil
	}
	// The last one of a path lies on top.
	var top *mount
	for _, m := range mounts(a.stdout) {
		if m.point == c.Path {
			top = &m
		}
	}
	switch {
	case top == nil && c.Absent:
		return nil, nil
	case top == nil:
		return []string{"nothing is mounted on " + c.Path}, nil
	case c.Absent:
		return []string{fmt.Sprintf("%s (%s) is mounted on %s", plain(top.source), plain(top.filesystem), c.Path)}, nil
	}
	wrong := c.options(*top)
	if c.AtLeast == 0 {
		return wrong, nil
	}
	if a, err = ask("stat --file-system --printf='%b %S' -- "+word(c.Path), DefaultKept); err != nil {
		return nil, err
	}
	size, ok := fileSystemSize(a.stdout)
	if !ok {
		return append(wrong, append([]string{"the size of " + c.Path + " is not known"}, quote("stderr", a.stderr)...)...), nil
	}
	if size < c.AtLeast {
		wrong = append(wrong, fmt.Sprintf("%s has %d bytes (%.0f MiB), expected at least %d", c.Path, size, float64(size)/(1<<20), c.AtLeast))
	}
	return wrong, nil
}

// options judges what is mounted.
func (c MountCheck) options(m mount) []string {
	var wrong []string
	if c.Filesystem != "" && m.filesystem != c.Filesystem {
		wrong = append(wrong, fmt.Sprintf("%s on %s is %s, expected %s", plain(m.source), c.Path, plain(m.filesystem), c.Filesystem))
	}
	for _, option := range c.Options {
		if !slices.Contains(m.options, option) {
			wrong = append(wrong, fmt.Sprintf("%s is mounted without %s: %s", c.Path, option, plain(strings.Join(m.options, ","))))
		}
	}
	return wrong
}

// fileSystemSize reads blocks and their size.
func fileSystemSize(text string) (int64, bool) {
	blocks, size, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseInt(blocks, 10, 64)
	if err != nil || n < 0 {
		return 0, false
	}
	each, err := strconv.ParseInt(size, 10, 64)
	if err != nil || each <= 0 || n > (1<<62)/each {
		return 0, false
	}
	return n * each, true
}
