package accounts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/accounts"
)

type entry struct {
	accounts.Attributes
	text string // contents, or a link's target
}

// memory is a tree in memory. Links in the middle of a name are not followed.
type memory map[string]entry

func missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (m memory) ReadFile(name string) ([]byte, error) {
	e, ok := m[name]
	if !ok || !e.Mode.IsRegular() {
		return nil, missing("open", name)
	}
	return []byte(e.text), nil
}

func (m memory) ReadLink(name string) (string, error) { return m[name].text, nil }

func (m memory) Stat(name string) (accounts.Attributes, error) {
	e, ok := m[name]
	if !ok {
		return accounts.Attributes{}, missing("stat", name)
	}
	return e.Attributes, nil
}

func (m memory) List(dir string) ([]string, error) {
	var names []string
	for name := range m {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m memory) put(name string, e entry) error {
	if dir := path.Dir(name); dir != "." && !m[dir].Mode.IsDir() {
		return missing("create in", dir)
	}
	m[name] = e
	return nil
}

func (m memory) WriteFile(name string, data []byte, a accounts.Attributes) error {
	return m.put(name, entry{a, string(data)})
}

func (m memory) Mkdir(name string, a accounts.Attributes) error {
	a.Mode |= fs.ModeDir
	return m.put(name, entry{a, ""})
}

func (m memory) Symlink(target, name string, uid, gid int) error {
	return m.put(name, entry{accounts.Attributes{Mode: fs.ModeSymlink | 0o777, UID: uid, GID: gid}, target})
}

const (
	passwd  = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nsystemd-network:x:998:998:systemd Network Management:/:/usr/sbin/nologin\n"
	shadow  = "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\nsystemd-network:!*:19000::::::\n"
	group   = "root:x:0:\ndaemon:x:1:\nadm:x:4:\nsudo:x:27:\nwww-data:x:33:\nshadow:x:42:\nusers:x:100:\nsystemd-network:x:998:\nsystemd-journal:x:999:\nnogroup:x:65534:\n"
	gshadow = "root:*::\ndaemon:*::\nadm:*::\nsudo:*::\nwww-data:*::\nshadow:*::\nusers:*::\nsystemd-network:!*::\nsystemd-journal:!*::\nnogroup:*::\n"
)

// sample is a tree as Debian's base system leaves it.
func sample() memory {
	m := memory{}
	for _, dir := range []string{"etc", "etc/skel", "etc/skel/.config", "home", "root", "usr", "usr/bin"} {
		m[dir] = entry{accounts.Attributes{Mode: fs.ModeDir | 0o755}, ""}
	}
	file := func(name, text string, mode fs.FileMode, gid int) {
		m[name] = entry{accounts.Attributes{Mode: mode, GID: gid}, text}
	}
	file("etc/passwd", passwd, 0o644, 0)
	file("etc/group", group, 0o644, 0)
	file("etc/shadow", shadow, 0o640, 42)
	file("etc/gshadow", gshadow, 0o640, 42)
	file("etc/skel/.profile", "# profile\n", 0o644, 0)
	file("etc/skel/.config/run", "#!/bin/sh\n", 0o755, 0)
	file("usr/bin/sudo", "", 0o755, 0)
	m["etc/skel/link"] = entry{accounts.Attributes{Mode: fs.ModeSymlink | 0o777}, ".profile"}
	return m
}

var clock = time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)

func person(name string) accounts.User {
	return accounts.User{Name: name, Shell: "/bin/bash", Home: "/home/" + name}
}

func (m memory) String() string {
	names := []string{}
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		e := m[name]
		fmt.Fprintf(&out, "%s %v %d:%d %q\n", name, e.Mode, e.UID, e.GID, e.text)
	}
	return out.String()
}

// added returns what the lines of file name in m have that before has not.
func added(before, m memory, name string) string {
	var lines []string
	for line := range strings.Lines(m[name].text) {
		if !strings.Contains(before[name].text, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestAPersonWithEverything(t *testing.T) {
	m := sample()
	u := person("admin")
	u.Groups = []string{"adm", "sudo"}
	u.SSHKeys = []string{"ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two\n", "ssh-ed25519 AAAA one"}
	u.Password = "$6$salt$hash"
	u.Sudo = accounts.NeedNoPassword
	made, err := accounts.Add(m, clock, []accounts.User{u, person("second")})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(made) != "[{admin 1000 1000 /home/admin} {second 1001 1001 /home/second}]" {
		t.Errorf("made %v", made)
	}
	for name, want := range map[string]string{
		"etc/passwd":  "admin:x:1000:1000::/home/admin:/bin/bash\nsecond:x:1001:1001::/home/second:/bin/bash\n",
		"etc/shadow":  "admin:$6$salt$hash:20513:0:99999:7:::\nsecond:!:20513:0:99999:7:::\n",
		"etc/group":   "adm:x:4:admin\nsudo:x:27:admin\nadmin:x:1000:\nsecond:x:1001:\n",
		"etc/gshadow": "adm:*::admin\nsudo:*::admin\nadmin:!::\nsecond:!::\n",
		"etc/subuid":  "admin:100000:65536\nsecond:165536:65536\n",
		"etc/subgid":  "admin:100000:65536\nsecond:165536:65536\n",
	} {
		if got := added(sample(), m, name); got != want {
			t.Errorf("%s: added\n%swant\n%s", name, got, want)
		}
	}
	if got := m["etc/shadow"]; got.Mode != 0o640 || got.GID != 42 {
		t.Errorf("etc/shadow has mode %v and group %d", got.Mode, got.GID)
	}
	for name, want := range map[string]string{
		"home/admin":                      `drwx------ 1000:1000 ""`,
		"home/admin/.profile":             `-rw-r--r-- 1000:1000 "# profile\n"`,
		"home/admin/.config":              `drwxr-xr-x 1000:1000 ""`,
		"home/admin/.config/run":          `-rwxr-xr-x 1000:1000 "#!/bin/sh\n"`,
		"home/admin/link":                 `Lrwxrwxrwx 1000:1000 ".profile"`,
		"home/admin/.ssh":                 `drwx------ 1000:1000 ""`,
		"home/admin/.ssh/authorized_keys": `-rw------- 1000:1000 "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n"`,
		"etc/sudoers.d":                   `drwxr-x--- 0:0 ""`,
		"etc/sudoers.d/admin":             `-r--r----- 0:0 "admin ALL=(ALL:ALL) NOPASSWD: ALL\n"`,
	} {
		e := m[name]
		if got := fmt.Sprintf("%v %d:%d %q", e.Mode, e.UID, e.GID, e.text); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestASystemUser(t *testing.T) {
	m := sample()
	number := 321
	if _, err := accounts.Add(m, clock, []accounts.User{
		{Name: "svc", Shell: "/usr/sbin/nologin", Home: "/", System: true},
		{Name: "fixed", Shell: "/usr/sbin/nologin", Home: "/var/lib/fixed", System: true, UID: &number},
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := added(sample(), m, "etc/passwd"), "svc:x:997:997::/:/usr/sbin/nologin\nfixed:x:321:321::/var/lib/fixed:/usr/sbin/nologin\n"; got != want {
		t.Errorf("passwd: %s, want %s", got, want)
	}
	if got, want := added(sample(), m, "etc/shadow"), "svc:!:20513::::::\nfixed:!:20513::::::\n"; got != want {
		t.Errorf("shadow: %s, want %s", got, want)
	}
	if _, there := m["etc/subuid"]; there {
		t.Error("a system user has subordinate ids")
	}
	if got := m["var/lib/fixed"]; got.Mode != fs.ModeDir|0o700 || got.UID != 321 || m["var/lib"].UID != 0 {
		t.Errorf("home folder: %+v", got)
	}
}

func TestRoot(t *testing.T) {
	m := sample()
	root := accounts.User{Name: "root", Shell: "/bin/sh", Home: "/root", Password: "$y$j9T$abc$def", SSHKeys: []string{"ssh-rsa AAAA"}}
	if _, err := accounts.Add(m, clock, []accounts.User{root}); err != nil {
		t.Fatal(err)
	}
	got := added(sample(), m, "etc/passwd") + added(sample(), m, "etc/shadow") + m["root/.ssh/authorized_keys"].text
	if want := "root:x:0:0:root:/root:/bin/sh\nroot:$y$j9T$abc$def:20513:0:99999:7:::\nssh-rsa AAAA\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, there := m["root/.profile"]; there {
		t.Error("the skeleton was copied into a home that is there")
	}
	root.Password = ""
	m = sample()
	if _, err := accounts.Add(m, clock, []accounts.User{root}); err != nil || m["etc/shadow"].text != shadow {
		t.Errorf("root without a password in the recipe: %v\n%s", err, m["etc/shadow"].text)
	}
}

func TestWithoutShadowFiles(t *testing.T) {
	m := sample()
	delete(m, "etc/shadow")
	delete(m, "etc/gshadow")
	u := person("a")
	u.Password = "$6$x$y"
	if _, err := accounts.Add(m, clock, []accounts.User{u}); err != nil {
		t.Fatal(err)
	}
	if got := added(sample(), m, "etc/passwd"); got != "a:$6$x$y:1000:1000::/home/a:/bin/bash\n" {
		t.Errorf("passwd: %s", got)
	}
	if _, there := m["etc/shadow"]; there {
		t.Error("a shadow file appeared")
	}
}

func TestNumbers(t *testing.T) {
	number := 1500
	m := sample()
	m["etc/group"] = entry{m["etc/group"].Attributes, group + "other:x:1500:\n"}
	m["etc/subuid"] = entry{accounts.Attributes{Mode: 0o644}, "x:165536:65536\ny:100000:10\n"}
	fixed := person("fixed")
	fixed.UID = &number
	made, err := accounts.Add(m, clock, []accounts.User{fixed, person("next"), person("another")})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(made); got != "[{fixed 1500 1501 /home/fixed} {next 1502 1502 /home/next} {another 1503 1503 /home/another}]" {
		t.Errorf("made %s", got)
	}
	if got := m["etc/subuid"].text; got != "x:165536:65536\ny:100000:10\nfixed:231072:65536\nnext:296608:65536\nanother:362144:65536\n" {
		t.Errorf("subuid: %s", got)
	}
	m = sample()
	m["etc/passwd"] = entry{m["etc/passwd"].Attributes, passwd + "last:x:59999:59999::/:/bin/sh\n+::::::\n"}
	made, err = accounts.Add(m, clock, []accounts.User{person("a")})
	if err != nil || made[0].UID != 1000 || !strings.HasSuffix(m["etc/passwd"].text, "a:x:1000:1000::/home/a:/bin/bash\n+::::::\n") {
		t.Errorf("with the highest number in use: %v, %v\n%s", made, err, m["etc/passwd"].text)
	}
}

func TestErrors(t *testing.T) {
	number := 33
	for _, test := range []struct {
		name   string
		change func(*accounts.User)
		is     error
		want   string
	}{
		{"group", func(u *accounts.User) { u.Groups = []string{"admm"} }, nil, "user u: group admm does not exist: did you mean adm?"},
		{"existing", func(u *accounts.User) { u.Name = "www-data" }, accounts.ErrExists, "user www-data: exists already, made by a package: use another name"},
		{"existing group", func(u *accounts.User) { u.Name = "adm" }, accounts.ErrExists, "a group of that name exists already"},
		{"number", func(u *accounts.User) { u.UID = &number }, nil, "number 33 belongs to another user"},
		{"name", func(u *accounts.User) { u.Name = "a:b" }, nil, `"a:b" is not a user name`},
		{"shell", func(u *accounts.User) { u.Shell = "/bin/sh\nroot2:x:0:0" }, nil, "is not an absolute path"},
		{"home", func(u *accounts.User) { u.Home = "/home/../etc" }, nil, "is not an absolute path"},
		{"password", func(u *accounts.User) { u.Password = "a:b" }, nil, "holds characters that no hash has"},
		{"key", func(u *accounts.User) { u.SSHKeys = []string{"a\nb"} }, nil, "several lines"},
		{"keys without home", func(u *accounts.User) { u.Home = "/"; u.SSHKeys = []string{"a"} }, nil, "no home folder for SSH keys"},
		{"home is a file", func(u *accounts.User) { u.Home = "/etc/passwd" }, nil, "/etc/passwd is a file"},
	} {
		u := person("u")
		test.change(&u)
		_, err := accounts.Add(sample(), clock, []accounts.User{u})
		if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	m := sample()
	delete(m, "usr/bin/sudo")
	u := person("u")
	u.Sudo = accounts.AskPassword
	if _, err := accounts.Add(m, clock, []accounts.User{u}); !errors.Is(err, accounts.ErrNoSudo) {
		t.Errorf("sudo that is not installed: %v", err)
	}
	delete(m, "etc/passwd")
	if _, err := accounts.Add(m, clock, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without passwd: %v", err)
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		user, group string
		want        string
	}{
		{"www-data", "adm", "33 4 <nil>"},
		{"www-data", "", "33 33 <nil>"},
		{"1", "", "1 1 <nil>"},
		{"1234", "", "1234 1234 <nil>"},
		{"root", "4294967294", "0 4294967294 <nil>"},
		{"ww-data", "", "0 0 user ww-data does not exist: did you mean www-data?"},
		{"root", "addm", "0 0 group addm does not exist: did you mean adm?"},
		{"root", "zzz", "0 0 group zzz does not exist: check the name, or install the package that makes it"},
	} {
		uid, gid, err := accounts.Resolve(sample(), test.user, test.group)
		if got := fmt.Sprint(uid, gid, err); got != test.want {
			t.Errorf("Resolve(%s, %s): %s, want %s", test.user, test.group, got, test.want)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(passwd, shadow, group, "", "adm")
	f.Add("root:x\n+\n:::\n", "", "adm:x:4:a,b,,\nx", "x:1:99999999999\n", "adm")
	f.Add("a:x:59999:::\na", "u:", "adm", "a:-1:5\nb:100000:600000000", "u")
	f.Fuzz(func(t *testing.T, passwd, shadow, group, subuid, member string) {
		m := sample()
		for name, text := range map[string]string{"etc/passwd": passwd, "etc/shadow": shadow, "etc/group": group, "etc/subuid": subuid} {
			m[name] = entry{m[name].Attributes, text}
		}
		u := person("u")
		u.Groups = []string{member}
		made, err := accounts.Add(m, clock, []accounts.User{u, {Name: "s", Shell: "/bin/sh", Home: "/", System: true}})
		if err != nil {
			return
		}
		if made[0].UID < 1000 || made[1].UID >= 1000 || made[1].UID < 100 {
			t.Errorf("numbers %v", made)
		}
		if uid, gid, err := accounts.Resolve(m, "u", "u"); err != nil || uid != made[0].UID || gid != made[0].GID {
			t.Errorf("made %v, found %d:%d, %v", made, uid, gid, err)
		}
	})
}
