package initrd

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// accounts are the lines of passwd and group. They come from base-passwd's
// masters and the sysusers.d(5) fragments among the packages, so that udev's
// rules find every group they name.
type accounts struct {
	users, groups []account
}

type account struct {
	name string
	id   int
	line string
}

// udevGroups are named by udev's rules and made by its package's script where
// there is no sysusers.d fragment for them: in Debian 12 and Ubuntu up to 24.04.
var udevGroups = []string{"input", "sgx", "kvm", "render"}

const (
	passwdMaster = "usr/share/base-passwd/passwd.master"
	groupMaster  = "usr/share/base-passwd/group.master"
	sysusersDir  = "usr/lib/sysusers.d"

	// Ids without a number of their own come from the upper end, as systemd
	// and Debian's adduser give them.
	lastSystemID  = 999
	firstSystemID = 100
)

// accounts returns etc/passwd and etc/group.
func (p *pool) accounts() ([]*entry, error) {
	var a accounts
	a.readMaster(&a.users, p.files[passwdMaster])
	a.readMaster(&a.groups, p.files[groupMaster])
	if a.find(a.users, "root") == nil {
		a.users = append([]account{{name: "root", line: "root:*:0:0:root:/root:/usr/sbin/nologin"}}, a.users...)
	}
	if a.find(a.groups, "root") == nil {
		a.groups = append([]account{{name: "root", line: "root:*:0:"}}, a.groups...)
	}
	for _, name := range p.match(sysusersDir + "/*.conf") {
		if e := p.files[name]; e.content != nil {
			if err := a.readSysusers(string(e.content)); err != nil {
				return nil, fmt.Errorf("package %s: %s: %w", e.from, name, err)
			}
		}
	}
	for _, name := range udevGroups {
		if _, err := a.group(name, "-"); err != nil {
			return nil, err
		}
	}
	return []*entry{
		{path: "etc/passwd", mode: 0o644, content: lines(a.users)},
		{path: "etc/group", mode: 0o644, content: lines(a.groups)},
	}, nil
}

func lines(list []account) []byte {
	sort.SliceStable(list, func(i, j int) bool { return list[i].id < list[j].id })
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintln(&b, a.line)
	}
	return []byte(b.String())
}

func (*accounts) find(list []account, name string) *account {
	if i := slices.IndexFunc(list, func(a account) bool { return a.name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// readMaster takes the lines of a passwd or group file that have a number
// where passwd(5) and group(5) have it.
func (*accounts) readMaster(list *[]account, e *entry) {
	if e == nil {
		return
	}
	for line := range strings.Lines(string(e.content)) {
		line = strings.TrimSpace(line)
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			continue
		}
		if id, err := strconv.Atoi(fields[2]); err == nil && id >= 0 {
			*list = append(*list, account{fields[0], id, line})
		}
	}
}

// readSysusers takes the lines u and g; m and r change nothing here.
func (a *accounts) readSysusers(text string) error {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		name, want := fields[1], "-"
		if len(fields) > 2 {
			want = fields[2]
		}
		if strings.ContainsAny(name, ":%/") {
			return fmt.Errorf("the account %q can't be taken", name)
		}
		switch strings.TrimRight(fields[0], "!+-") {
		case "g":
			if _, err := a.group(name, want); err != nil {
				return err
			}
		case "u":
			if err := a.user(name, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// group returns the id of a group, which it makes when there is none.
func (a *accounts) group(name, want string) (int, error) {
	if g := a.find(a.groups, name); g != nil {
		return g.id, nil
	}
	id, err := pickID(a.groups, a.users, want)
	if err != nil {
		return 0, fmt.Errorf("group %s: %w", name, err)
	}
	a.groups = append(a.groups, account{name, id, fmt.Sprintf("%s:*:%d:", name, id)})
	return id, nil
}

func (a *accounts) user(name, want string) error {
	if a.find(a.users, name) != nil {
		return nil
	}
	uid, group, hasGroup := strings.Cut(want, ":")
	var gid int
	var err error
	if hasGroup {
		if gid, err = strconv.Atoi(group); err != nil {
			gid, err = a.group(group, "-")
		}
	} else {
		gid, err = a.group(name, uid)
	}
	if err != nil {
		return err
	}
	if uid == "-" {
		uid = strconv.Itoa(gid)
	}
	id, err := pickID(a.users, nil, uid)
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	a.users = append(a.users, account{name, id, fmt.Sprintf("%s:*:%d:%d::/:/usr/sbin/nologin", name, id, gid)})
	return nil
}

// pickID takes the number that is asked for, else the highest free one; a path
// asks for the owner of a file, which is root's here.
func pickID(list, other []account, want string) (int, error) {
	taken := func(id int) bool {
		same := func(a account) bool { return a.id == id }
		return slices.ContainsFunc(list, same) || slices.ContainsFunc(other, same)
	}
	if !path.IsAbs(want) && want != "-" && want != "" {
		id, err := strconv.Atoi(want)
		if err != nil || id < 0 {
			return 0, fmt.Errorf("the number %q can't be read", want)
		}
		if !slices.ContainsFunc(list, func(a account) bool { return a.id == id }) {
			return id, nil
		}
	}
	for id := lastSystemID; id >= firstSystemID; id-- {
		if !taken(id) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no number is free between %d and %d", firstSystemID, lastSystemID)
}
