package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

const (
	// rangeSize is the number of ids of a Range sandbox: all that 16 bits hold,
	// so that nobody (65534) is one of them.
	rangeSize = 65536
	// rangeFirst is where root looks for an unused range: above the ids that
	// systemd gives to containers (524288 to 1879048191, systemd's
	// UIDS-GIDS.md) and below 2^31.
	rangeFirst = 0x70000000
	rangeLast  = 0x7fff0000 - rangeSize
)

// idMap is a line of uid_map or gid_map (user_namespaces(7)).
type idMap struct {
	Inside, Outside, Size uint32
}

// mappings are the id mappings of a sandbox.
type mappings struct {
	outer              bool // the outer child has a user namespace of its own
	outerUID, outerGID []idMap
	tool               string // directory of newuidmap and newgidmap when these must write outer's
	innerUID, innerGID []idMap
	setgroups          bool
	rootUID, rootGID   uint32 // root of the inner as the outer sees it
}

// Host is what the choice of ids and the preflight look at.
type Host struct {
	FS       fs.FS // the host's /: etc/passwd, etc/subuid, proc/sys, proc/self, usr/bin
	UID, GID int   // effective ids of the caller
	// Try starts a sandbox that does nothing; nil skips the trial.
	Try func(ctx context.Context, ids IDs) error
}

// mappings says how the ids are mapped for a caller of h.
func (h Host) mappings(ids IDs) (mappings, error) {
	uid, gid := uint32(h.UID), uint32(h.GID)
	if ids == Caller {
		if h.UID == 0 {
			return mappings{innerUID: []idMap{{0, uid, 1}}, innerGID: []idMap{{0, gid, 1}}, rootUID: uid, rootGID: gid}, nil
		}
		one := []idMap{{0, 0, 1}}
		return mappings{
			outer:    true,
			outerUID: []idMap{{0, uid, 1}}, outerGID: []idMap{{0, gid, 1}},
			innerUID: one, innerGID: one,
		}, nil
	}
	if h.UID == 0 {
		first, err := h.unusedRange()
		if err != nil {
			return mappings{}, err
		}
		m := []idMap{{0, first, rangeSize}}
		return mappings{innerUID: m, innerGID: m, setgroups: true, rootUID: first, rootGID: first}, nil
	}
	subUID, subGID, err := h.subordinate()
	if err != nil {
		return mappings{}, err
	}
	tool, err := h.mapTools()
	if err != nil {
		return mappings{}, err
	}
	inner := []idMap{{0, 1, rangeSize}}
	return mappings{
		outer:    true,
		tool:     tool,
		outerUID: []idMap{{0, uid, 1}, {1, subUID, rangeSize}},
		outerGID: []idMap{{0, gid, 1}, {1, subGID, rangeSize}},
		innerUID: inner, innerGID: inner, setgroups: true,
		rootUID: 1, rootGID: 1,
	}, nil
}

// span is the ids from first up to, not including, end.
type span struct{ first, end uint64 }

func (s span) overlaps(o span) bool { return s.first < o.end && o.first < s.end }

// unusedRange finds the first of 65536 ids that no user, group or subordinate
// range of the host has and that exist in the user namespace of the caller.
func (h Host) unusedRange() (uint32, error) {
	var used []span
	for _, name := range []string{"etc/subuid", "etc/subgid"} {
		for _, e := range h.subEntries(name) {
			used = append(used, span{e.first, e.first + e.count})
		}
	}
	for _, name := range []string{"etc/passwd", "etc/group"} {
		h.eachLine(name, func(f []string) {
			if len(f) > 2 {
				if id, err := strconv.ParseUint(f[2], 10, 32); err == nil {
					used = append(used, span{id, id + 1})
				}
			}
		})
	}
	uids, gids := h.ownMap("proc/self/uid_map"), h.ownMap("proc/self/gid_map")
	for first := uint64(rangeFirst); first <= rangeLast; first += rangeSize {
		s := span{first, first + rangeSize}
		if within(s, uids) && within(s, gids) && !overlapsAny(s, used) {
			return uint32(first), nil
		}
	}
	if !within(span{rangeFirst, rangeLast}, uids) {
		return 0, fmt.Errorf("%w: root here is root of a user namespace (a container) without %d unused ids from %d up; build outside of it, or start the container without user namespaces", ErrNotSupported, rangeSize, rangeFirst)
	}
	return 0, fmt.Errorf("%w: no %d ids in a row are unused between %d and %d; shorten the ranges in /etc/subuid and /etc/subgid", ErrNotSupported, rangeSize, rangeFirst, rangeLast)
}

func overlapsAny(s span, used []span) bool {
	for _, u := range used {
		if s.overlaps(u) {
			return true
		}
	}
	return false
}

func within(s span, have []span) bool {
	for _, m := range have {
		if m.first <= s.first && s.end <= m.end {
			return true
		}
	}
	return false
}

// ownMap reads the ids that exist in the caller's user namespace: all of them
// when there is no such file.
func (h Host) ownMap(name string) []span {
	b, err := fs.ReadFile(h.FS, name)
	if err != nil {
		return []span{{0, math.MaxUint32}}
	}
	var have []span
	for line := range strings.Lines(string(b)) {
		var inside, outside, size uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &size); n == 3 {
			have = append(have, span{inside, inside + size})
		}
	}
	return have
}

// eachLine calls f with the fields between colons of each line of a file of
// the host that is no comment. A missing file has no lines.
func (h Host) eachLine(name string, f func(fields []string)) {
	b, err := fs.ReadFile(h.FS, name)
	if err != nil {
		return
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line != "" && !strings.HasPrefix(line, "#") {
			f(strings.Split(line, ":"))
		}
	}
}

// subEntry is a line of /etc/subuid or /etc/subgid (subuid(5)).
type subEntry struct {
	owner        string // name or number of a user
	first, count uint64
}

func (h Host) subEntries(name string) []subEntry {
	var entries []subEntry
	h.eachLine(name, func(f []string) {
		if len(f) != 3 {
			return
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && first+count <= math.MaxUint32 {
			entries = append(entries, subEntry{f[0], first, count})
		}
	})
	return entries
}

// user is the caller's name, or the number where /etc/passwd has no name.
func (h Host) user() string {
	number := strconv.Itoa(h.UID)
	name := number
	h.eachLine("etc/passwd", func(f []string) {
		if len(f) > 2 && f[2] == number && name == number {
			name = f[0]
		}
	})
	return name
}

// subordinate finds the caller's ranges of at least 65536 ids.
func (h Host) subordinate() (uid, gid uint32, err error) {
	user := h.user()
	find := func(name string) (uint32, error) {
		largest := uint64(0)
		for _, e := range h.subEntries(name) {
			if e.owner != user && e.owner != strconv.Itoa(h.UID) {
				continue
			}
			if e.count >= rangeSize {
				return uint32(e.first), nil
			}
			largest = max(largest, e.count)
		}
		what := "has no entry for"
		if largest > 0 {
			what = fmt.Sprintf("has a range of only %d ids, not the %d needed, for", largest, rangeSize)
		}
		return 0, fmt.Errorf("%w: /%s %s %s; as root run: %s", ErrNotSupported, name, what, user, h.addRange(user))
	}
	if uid, err = find("etc/subuid"); err != nil {
		return 0, 0, err
	}
	if gid, err = find("etc/subgid"); err != nil {
		return 0, 0, err
	}
	return uid, gid, nil
}

// addRange is the command that gives user a range that nobody has yet.
func (h Host) addRange(user string) string {
	next := uint64(100000)
	for _, name := range []string{"etc/subuid", "etc/subgid"} {
		for _, e := range h.subEntries(name) {
			if e.first+e.count > next && e.first < rangeFirst {
				next = e.first + e.count
			}
		}
	}
	r := fmt.Sprintf("%d-%d", next, next+rangeSize-1)
	return fmt.Sprintf("usermod --add-subuids %s --add-subgids %s %s", r, r, user)
}

// mapTools finds the directory of newuidmap and newgidmap.
func (h Host) mapTools() (string, error) {
	for _, dir := range []string{"usr/bin", "bin", "usr/local/bin", "run/wrappers/bin"} {
		_, err1 := fs.Stat(h.FS, dir+"/newuidmap")
		_, err2 := fs.Stat(h.FS, dir+"/newgidmap")
		if err1 == nil && err2 == nil {
			return "/" + dir, nil
		}
	}
	return "", fmt.Errorf("%w: newuidmap and newgidmap are missing; install them (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils)", ErrNotSupported)
}

// writeOuter has newuidmap and newgidmap write the maps of process pid.
func (m mappings) writeOuter(ctx context.Context, pid int) error {
	for _, t := range []struct {
		name string
		maps []idMap
	}{{"newuidmap", m.outerUID}, {"newgidmap", m.outerGID}} {
		args := []string{strconv.Itoa(pid)}
		for _, l := range t.maps {
			for _, n := range []uint32{l.Inside, l.Outside, l.Size} {
				args = append(args, strconv.FormatUint(uint64(n), 10))
			}
		}
		cmd := exec.CommandContext(ctx, m.tool+"/"+t.name, args...)
		cmd.Env = []string{}
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) && len(out) > 0 {
				return fmt.Errorf("%w: %s: %s", ErrNotSupported, cmd.Path, lastLine(out))
			}
			return fmt.Errorf("%w: %s: %w; it must be setuid root or have the capability to set ids: reinstall package uidmap", ErrNotSupported, cmd.Path, err)
		}
	}
	return nil
}

func sysProcMaps(maps []idMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Size)}
	}
	return out
}
