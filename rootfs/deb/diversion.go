package deb

import (
	"strconv"
	"strings"
)

// A Diversion moves one path of all packages but one elsewhere,
// dpkg-divert(1).
type Diversion struct {
	Path    string // "/bin/sh"
	To      string // "/bin/sh.distrib"
	Package string // whose own file stays at Path; "" for a local diversion
}

// diversions are looked up by the path and by where it is moved.
type diversions struct {
	byPath map[string]Diversion
	byTo   map[string]Diversion
}

// parseDiversions reads var/lib/dpkg/diversions: three lines each.
func parseDiversions(data []byte) (*diversions, error) {
	d := &diversions{byPath: map[string]Diversion{}, byTo: map[string]Diversion{}}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(data) == 0 {
		return d, nil
	}
	if len(lines)%3 != 0 {
		return nil, formatError("%s/diversions: %d lines, three belong to a diversion", adminDir, len(lines))
	}
	for i := 0; i < len(lines); i += 3 {
		v := Diversion{Path: lines[i], To: lines[i+1], Package: lines[i+2]}
		if v.Package == ":" {
			v.Package = ""
		}
		for _, p := range []string{v.Path, v.To} {
			if len(p) < 2 || p[0] != '/' || !isClean(p[1:]) {
				return nil, formatError("%s/diversions: path %q", adminDir, p)
			}
		}
		if _, ok := d.byPath[v.Path]; ok {
			return nil, formatError("%s/diversions: %s twice", adminDir, v.Path)
		}
		d.byPath[v.Path], d.byTo[v.To] = v, v
	}
	return d, nil
}

// An override replaces owner and mode of one path, dpkg-statoverride(1).
type override struct {
	uid, gid int
	mode     uint32
}

// parseOverrides reads var/lib/dpkg/statoverride; names of users and groups
// are those of the tree.
func (d *Database) parseOverrides(data []byte) (map[string]override, error) {
	overrides := map[string]override{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 || !strings.HasPrefix(fields[3], "/") {
			return nil, formatError("%s/statoverride: line %q", adminDir, line)
		}
		uid, err := d.lookupID("etc/passwd", fields[0])
		if err != nil {
			return nil, err
		}
		gid, err := d.lookupID("etc/group", fields[1])
		if err != nil {
			return nil, err
		}
		mode, err := strconv.ParseUint(fields[2], 8, 12)
		if err != nil {
			return nil, formatError("%s/statoverride: mode %q", adminDir, fields[2])
		}
		overrides[fields[3]] = override{uid: uid, gid: gid, mode: uint32(mode)}
	}
	return overrides, nil
}

// lookupID finds a user or group in a file of the tree; "#12" is a number.
func (d *Database) lookupID(file, name string) (int, error) {
	if number, ok := strings.CutPrefix(name, "#"); ok {
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return 0, formatError("%s/statoverride: id %q", adminDir, name)
		}
		return int(id), nil
	}
	data, err := d.read(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 3 || fields[0] != name {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			return int(id), nil
		}
	}
	return 0, formatError("%s/statoverride: %q is not in %s", adminDir, name, file)
}
