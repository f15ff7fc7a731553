package accounts

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Numbers, as Debian's login.defs has them.
const (
	firstUser      = 1000
	lastUser       = 59999
	firstSystem    = 100
	lastSystem     = 999
	maxID          = 60000
	firstSubID     = 100_000
	lastSubID      = 600_100_000
	subIDs         = 65_536
	maxAccountFile = 16 << 20 // bytes of one file
)

// A table is a file of lines with fields joined by colons. Lines that are not understood stay as they are.
type table struct {
	name    string // in the tree
	missing bool
	changed bool
	attr    Attributes
	lines   []string
}

// database is the account files of a tree.
type database struct {
	tree                                           Tree
	passwd, shadow, group, gshadow, subuid, subgid *table
}

// open reads the account files. passwd and group must be there; without shadow or gshadow none is made.
func open(t Tree) (*database, error) {
	db := &database{tree: t}
	for _, f := range []struct {
		table **table
		name  string
		must  bool
	}{
		{&db.passwd, "etc/passwd", true}, {&db.group, "etc/group", true}, {&db.shadow, "etc/shadow", false},
		{&db.gshadow, "etc/gshadow", false}, {&db.subuid, "etc/subuid", false}, {&db.subgid, "etc/subgid", false},
	} {
		tab, err := readTable(t, f.name)
		if err != nil {
			return nil, err
		}
		if tab.missing && f.must {
			return nil, fmt.Errorf("/%s is missing: install base-passwd: %w", f.name, fs.ErrNotExist)
		}
		*f.table = tab
	}
	return db, nil
}

func readTable(t Tree, name string) (*table, error) {
	tab := &table{name: name, attr: Attributes{Mode: 0o644}}
	attr, err := t.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		tab.missing = true
		return tab, nil
	}
	if err != nil {
		return nil, err
	}
	if !attr.Mode.IsRegular() {
		return nil, fmt.Errorf("/%s is not a regular file: accounts cannot be added to it", name)
	}
	tab.attr = attr
	data, err := t.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(data) > maxAccountFile {
		return nil, fmt.Errorf("/%s is larger than %d bytes", name, maxAccountFile)
	}
	for line := range strings.Lines(string(data)) {
		tab.lines = append(tab.lines, strings.TrimSuffix(line, "\n"))
	}
	return tab, nil
}

// find returns the number of the line that begins with name, or -1.
func (t *table) find(name string) int {
	return slices.IndexFunc(t.lines, func(line string) bool { return strings.HasPrefix(line, name+":") })
}

// append adds a line at the end, but before lines that begin with + and bring in users from elsewhere.
func (t *table) append(fields ...string) {
	i := slices.IndexFunc(t.lines, func(line string) bool { return strings.HasPrefix(line, "+") })
	if i < 0 {
		i = len(t.lines)
	}
	t.lines = slices.Insert(t.lines, i, strings.Join(fields, ":"))
	t.changed = true
}

// field returns a field of a line, empty where the line is too short.
func (t *table) field(line, n int) string {
	fields := strings.Split(t.lines[line], ":")
	if n >= len(fields) {
		return ""
	}
	return fields[n]
}

// set replaces a field of a line.
func (t *table) set(line, n int, value string) {
	fields := strings.Split(t.lines[line], ":")
	for len(fields) <= n {
		fields = append(fields, "")
	}
	fields[n] = value
	t.lines[line] = strings.Join(fields, ":")
	t.changed = true
}

// numbers returns the numbers in one field of all lines.
func (t *table) numbers(field int) map[int]bool {
	used := map[int]bool{}
	for i := range t.lines {
		if n, err := strconv.Atoi(t.field(i, field)); err == nil {
			used[n] = true
		}
	}
	return used
}

// write stores the tables that were changed.
func (db *database) write() error {
	for _, tab := range []*table{db.passwd, db.shadow, db.group, db.gshadow, db.subuid, db.subgid} {
		if !tab.changed {
			continue
		}
		if err := db.tree.WriteFile(tab.name, []byte(strings.Join(tab.lines, "\n")+"\n"), tab.attr); err != nil {
			return err
		}
	}
	return nil
}

// add makes one account.
func (db *database) add(u User, clock time.Time) (Account, error) {
	if u.Name == "root" {
		return db.changeRoot(u, clock)
	}
	if db.passwd.find(u.Name) >= 0 {
		return Account{}, fmt.Errorf("%w, made by a package: use another name", ErrExists)
	}
	if db.group.find(u.Name) >= 0 {
		return Account{}, fmt.Errorf("a group of that name %w: use another name, or put another user into that group", ErrExists)
	}
	uid, gid, err := db.allocate(u)
	if err != nil {
		return Account{}, err
	}
	password := u.Password
	if password == "" {
		password = "!"
	}
	inPasswd := password
	if !db.shadow.missing {
		inPasswd = "x"
		aging := []string{"0", "99999", "7"}
		if u.System {
			aging = []string{"", "", ""}
		}
		db.shadow.append(append(append([]string{u.Name, password, days(clock)}, aging...), "", "", "")...)
	}
	db.passwd.append(u.Name, inPasswd, strconv.Itoa(uid), strconv.Itoa(gid), "", u.Home, u.Shell)
	db.group.append(u.Name, "x", strconv.Itoa(gid), "")
	if !db.gshadow.missing {
		db.gshadow.append(u.Name, "!", "", "")
	}
	if !u.System {
		if err := errors.Join(db.subuid.subordinate(u.Name), db.subgid.subordinate(u.Name)); err != nil {
			return Account{}, err
		}
	}
	return Account{u.Name, uid, gid, u.Home}, nil
}

// days returns the number of days from 1970-01-01 to the clock's.
func days(clock time.Time) string { return strconv.FormatInt(clock.Unix()/86400, 10) }

func (db *database) changeRoot(u User, clock time.Time) (Account, error) {
	line := db.passwd.find("root")
	if line < 0 {
		return Account{}, fmt.Errorf("does not exist in /etc/passwd: install base-passwd")
	}
	db.passwd.set(line, 6, u.Shell)
	if u.Password != "" {
		if i := db.shadow.find("root"); i >= 0 {
			db.shadow.set(i, 1, u.Password)
			db.shadow.set(i, 2, days(clock))
		} else {
			db.passwd.set(line, 1, u.Password)
		}
	}
	home := db.passwd.field(line, 5)
	if !validPath.MatchString(home) || path.Clean(home) != home {
		return Account{}, fmt.Errorf("home %q in /etc/passwd is not an absolute path", home)
	}
	return Account{"root", 0, 0, home}, nil
}

// allocate chooses the user's number and its group's. They are the same where that is possible: the number after the
// highest one in use for a person, the highest that is free for a system user.
func (db *database) allocate(u User) (uid, gid int, err error) {
	users, groups := db.passwd.numbers(2), db.group.numbers(2)
	free := func(n int) bool { return !users[n] && !groups[n] }
	if u.UID != nil {
		uid = *u.UID
		if users[uid] {
			return 0, 0, fmt.Errorf("number %d belongs to another user: use another", uid)
		}
		if !groups[uid] {
			return uid, uid, nil
		}
		gid, err = choose(u.System, func(n int) bool { return !groups[n] }, groups)
		return uid, gid, err
	}
	both := map[int]bool{}
	for n := range users {
		both[n] = true
	}
	for n := range groups {
		both[n] = true
	}
	uid, err = choose(u.System, free, both)
	return uid, uid, err
}

func choose(system bool, free func(int) bool, used map[int]bool) (int, error) {
	if system {
		for n := lastSystem; n >= firstSystem; n-- {
			if free(n) {
				return n, nil
			}
		}
		return 0, fmt.Errorf("%w from %d to %d: remove some users", ErrFull, firstSystem, lastSystem)
	}
	highest := firstUser - 1
	for n := range used {
		if n <= lastUser {
			highest = max(highest, n)
		}
	}
	if highest < lastUser {
		return highest + 1, nil
	}
	for n := firstUser; n <= lastUser; n++ {
		if free(n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w from %d to %d: remove some users", ErrFull, firstUser, lastUser)
}

// subordinate gives a user the lowest range of subordinate ids that is free, so that it can run containers. The file
// is made where it is missing.
func (t *table) subordinate(name string) error {
	if t.find(name) >= 0 {
		return nil
	}
	type ids struct{ from, to int }
	var used []ids
	for i := range t.lines {
		from, err1 := strconv.Atoi(t.field(i, 1))
		count, err2 := strconv.Atoi(t.field(i, 2))
		if err1 == nil && err2 == nil && from >= 0 && count > 0 {
			used = append(used, ids{from, from + count})
		}
	}
	slices.SortFunc(used, func(a, b ids) int { return a.from - b.from })
	start := firstSubID
	for _, r := range used {
		if r.from < start+subIDs && r.to > start {
			start = r.to
		}
	}
	if start+subIDs > lastSubID {
		return fmt.Errorf("/%s: %w for subordinate ids", t.name, ErrFull)
	}
	t.append(name, strconv.Itoa(start), strconv.Itoa(subIDs))
	return nil
}

// join adds a user to a group.
func (db *database) join(user, group string) error {
	line := db.group.find(group)
	if line < 0 || !validName.MatchString(group) {
		return &UnknownError{"group", group, near(group, db.group)}
	}
	db.group.member(line, 3, user)
	if line := db.gshadow.find(group); line >= 0 {
		db.gshadow.member(line, 3, user)
	}
	return nil
}

// member adds a user to the list in a field.
func (t *table) member(line, field int, user string) {
	var members []string
	if list := t.field(line, field); list != "" {
		members = strings.Split(list, ",")
	}
	if !slices.Contains(members, user) {
		t.set(line, field, strings.Join(append(members, user), ","))
	}
}

// user returns the number of a user, by name or number, and that of its group.
func (db *database) user(name string) (uid, gid int, err error) {
	number, notNumber := id(name)
	for i := range db.passwd.lines {
		n, err1 := id(db.passwd.field(i, 2))
		group, err2 := id(db.passwd.field(i, 3))
		if err1 == nil && err2 == nil && (db.passwd.field(i, 0) == name || notNumber == nil && n == number) {
			return n, group, nil
		}
	}
	if notNumber == nil {
		return number, number, nil
	}
	return 0, 0, &UnknownError{"user", name, near(name, db.passwd)}
}

func (db *database) groupID(name string) (int, error) {
	if number, err := id(name); err == nil {
		return number, nil
	}
	if i := db.group.find(name); i >= 0 {
		if gid, err := id(db.group.field(i, 2)); err == nil {
			return gid, nil
		}
	}
	return 0, &UnknownError{"group", name, near(name, db.group)}
}

// id reads the number of a user or group.
func id(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return int(n), err
}
