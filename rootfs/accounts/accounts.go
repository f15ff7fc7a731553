// Package accounts makes users in a tree that is not running: entries in passwd, shadow, group, gshadow, subuid and
// subgid, home folders, SSH keys and sudo rules.
//
// The entries are those that useradd(8) writes (formats: passwd(5), shadow(5), group(5), gshadow(5), subuid(5)), but
// numbers and dates depend on the tree and the clock alone. Groups are not made, other than a user's own, and no
// account that a package made is changed, other than root.
package accounts

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// Attributes of a file: its type and permissions, and the numbers of its owner and group.
type Attributes struct {
	Mode     fs.FileMode
	UID, GID int
}

// A Tree is the file system that is edited. Names are slash-separated and relative to its root, without a leading
// slash. Links in the middle of a name are followed inside the tree.
type Tree interface {
	// ReadFile returns the contents of a file, following a link at its end; fs.ErrNotExist when there is none.
	ReadFile(name string) ([]byte, error)
	// ReadLink returns the target of the link that name is.
	ReadLink(name string) (string, error)
	// Stat describes name itself, without following a link at its end; fs.ErrNotExist when there is none.
	Stat(name string) (Attributes, error)
	// List returns the names in a folder, sorted; none and no error where there is no such folder.
	List(dir string) ([]string, error)
	// WriteFile makes or replaces a file.
	WriteFile(name string, data []byte, a Attributes) error
	// Mkdir makes a folder in one that exists.
	Mkdir(name string, a Attributes) error
	// Symlink makes a link.
	Symlink(target, name string, uid, gid int) error
}

// Sudo says whether a user may run everything as root.
type Sudo int

// The values of [User.Sudo].
const (
	NoSudo         Sudo = iota
	AskPassword         // after giving the user's own password
	NeedNoPassword      // at once
)

// A User is an account to make. The user named root exists: of it only Shell, Password and SSHKeys are set.
type User struct {
	Name     string
	UID      *int     // nil: the next free one
	Groups   []string // further groups, which must exist
	Shell    string   // absolute path
	Home     string   // absolute path; made from /etc/skel unless it is there, is / or is /nonexistent
	SSHKeys  []string // lines of authorized_keys
	Password string   // hash in the form of crypt(5); empty, "!" or "*": no password opens the account
	Sudo     Sudo
	System   bool // a number below 1000, no subordinate ids
}

// An Account is a user as it was made.
type Account struct {
	Name     string
	UID, GID int
	Home     string
}

// Errors that errors.Is finds in what Add returns. A group that does not exist is an [*UnknownError].
var (
	ErrExists = errors.New("exists already")
	ErrNoSudo = errors.New("sudo is not installed")
	ErrFull   = errors.New("no number is free")
)

// An UnknownError says that there is no user or group of a name.
type UnknownError struct {
	Kind string // "user" or "group"
	Name string
	Near []string // similar names, closest first
}

func (e *UnknownError) Error() string {
	text := fmt.Sprintf("%s %s does not exist", e.Kind, e.Name)
	if len(e.Near) > 0 {
		return text + ": did you mean " + strings.Join(e.Near, " or ") + "?"
	}
	return text + ": check the name, or install the package that makes it"
}

var (
	validName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	validHash = regexp.MustCompile(`^[!-9;-~]+$`)
	validPath = regexp.MustCompile(`^/[^:\x00-\x1f\x7f]*$`)
)

// Add makes users in the order they are given. clock is the day their passwords count as changed on. On an error the
// tree may hold some of the changes.
func Add(t Tree, clock time.Time, users []User) ([]Account, error) {
	db, err := open(t)
	if err != nil {
		return nil, err
	}
	var made []Account
	for _, u := range users {
		if err := u.check(); err != nil {
			return nil, err
		}
		account, err := db.add(u, clock)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", u.Name, err)
		}
		made = append(made, account)
	}
	for _, u := range users {
		for _, group := range u.Groups {
			if err := db.join(u.Name, group); err != nil {
				return nil, fmt.Errorf("user %s: %w", u.Name, err)
			}
		}
	}
	if err := db.write(); err != nil {
		return nil, err
	}
	for i, u := range users {
		if err := furnish(t, u, made[i]); err != nil {
			return nil, fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	return made, nil
}

// check refuses what would break the lines of the files.
func (u User) check() error {
	switch {
	case !validName.MatchString(u.Name):
		return fmt.Errorf("%q is not a user name: use up to 32 lower-case letters, digits, hyphens and underscores", u.Name)
	case !validPath.MatchString(u.Shell) || path.Clean(u.Shell) != u.Shell:
		return fmt.Errorf("user %s: shell %q is not an absolute path: write one such as /bin/bash", u.Name, u.Shell)
	case !validPath.MatchString(u.Home) || path.Clean(u.Home) != u.Home:
		return fmt.Errorf("user %s: home %q is not an absolute path: write one such as /home/%s", u.Name, u.Home, u.Name)
	case u.Password != "" && !validHash.MatchString(u.Password):
		return fmt.Errorf("user %s: the password's hash holds characters that no hash has: write what mkpasswd prints", u.Name)
	case u.UID != nil && (*u.UID < 0 || *u.UID > maxID):
		return fmt.Errorf("user %s: number %d is out of range: use one from 0 to %d", u.Name, *u.UID, maxID)
	}
	for _, key := range u.SSHKeys {
		if strings.ContainsAny(strings.TrimSpace(key), "\n\r\x00") {
			return fmt.Errorf("user %s: an SSH key has several lines: give one key at a time", u.Name)
		}
	}
	return nil
}

// Resolve returns the numbers of an owner. user and group are names in the tree or decimal numbers; an empty group is
// that of the user.
func Resolve(t Tree, user, group string) (uid, gid int, err error) {
	db, err := open(t)
	if err != nil {
		return 0, 0, err
	}
	uid, gid, err = db.user(user)
	if err != nil || group == "" {
		return uid, gid, err
	}
	gid, err = db.groupID(group)
	return uid, gid, err
}

// furnish makes the home folder with its keys, and the rule for sudo.
func furnish(t Tree, u User, a Account) error {
	home := strings.TrimPrefix(a.Home, "/")
	if home != "" && home != "nonexistent" {
		if err := makeHome(t, home, a); err != nil {
			return err
		}
	}
	if len(u.SSHKeys) > 0 {
		if home == "" || home == "nonexistent" {
			return fmt.Errorf("there is no home folder for SSH keys: set home")
		}
		if err := writeKeys(t, home, a, u.SSHKeys); err != nil {
			return err
		}
	}
	if u.Sudo == NoSudo || u.Name == "root" {
		return nil
	}
	return writeSudoers(t, u)
}

// makeHome makes the home folder and copies /etc/skel into it. One that is there is left as it is.
func makeHome(t Tree, home string, a Account) error {
	made, err := makeFolder(t, home, Attributes{0o700, a.UID, a.GID})
	if err != nil || !made {
		return err
	}
	return copySkeleton(t, "etc/skel", home, a, 0)
}

// makeFolder makes a folder and those above it, which belong to root, and reports whether it was not there before.
func makeFolder(t Tree, name string, a Attributes) (bool, error) {
	switch at, err := t.Stat(name); {
	case err == nil && at.Mode&fs.ModeSymlink != 0:
		return false, nil // the link's owner knows where it leads
	case err == nil && !at.Mode.IsDir():
		return false, fmt.Errorf("/%s is a file: remove it, or use another home", name)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if dir := path.Dir(name); dir != "." {
		if _, err := makeFolder(t, dir, Attributes{Mode: 0o755}); err != nil {
			return false, err
		}
	}
	return true, t.Mkdir(name, a)
}

// maxSkeleton bounds how deep /etc/skel is copied.
const maxSkeleton = 16

func copySkeleton(t Tree, from, to string, a Account, depth int) error {
	if depth > maxSkeleton {
		return fmt.Errorf("/%s is too deep: keep /etc/skel below %d levels", from, maxSkeleton)
	}
	names, err := t.List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		source, target := from+"/"+name, to+"/"+name
		at, err := t.Stat(source)
		if err != nil {
			return err
		}
		owned := Attributes{at.Mode.Perm(), a.UID, a.GID}
		switch at.Mode.Type() {
		case fs.ModeDir:
			err = errors.Join(t.Mkdir(target, owned), copySkeleton(t, source, target, a, depth+1))
		case fs.ModeSymlink:
			var link string
			if link, err = t.ReadLink(source); err == nil {
				err = t.Symlink(link, target, a.UID, a.GID)
			}
		case 0:
			var data []byte
			if data, err = t.ReadFile(source); err == nil {
				err = t.WriteFile(target, data, owned)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeKeys adds the keys that are new to the user's authorized_keys.
func writeKeys(t Tree, home string, a Account, keys []string) error {
	if _, err := makeFolder(t, home+"/.ssh", Attributes{0o700, a.UID, a.GID}); err != nil {
		return err
	}
	name := home + "/.ssh/authorized_keys"
	old, err := t.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := slices.Collect(strings.Lines(string(old)))
	if n := len(lines); n > 0 {
		lines[n-1] = strings.TrimSuffix(lines[n-1], "\n") + "\n"
	}
	for _, key := range keys {
		if line := strings.TrimSpace(key) + "\n"; !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return t.WriteFile(name, []byte(strings.Join(lines, "")), Attributes{0o600, a.UID, a.GID})
}

// writeSudoers writes a rule of its own for the user; sudo reads no file in that folder with a dot in its name, and
// user names have none.
func writeSudoers(t Tree, u User) error {
	if _, err := t.Stat("usr/bin/sudo"); err != nil {
		return fmt.Errorf("%w: add the package sudo, or remove sudo from the user", ErrNoSudo)
	}
	if _, err := makeFolder(t, "etc/sudoers.d", Attributes{Mode: 0o750}); err != nil {
		return err
	}
	rule := u.Name + " ALL=(ALL:ALL) ALL\n"
	if u.Sudo == NeedNoPassword {
		rule = u.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	}
	return t.WriteFile("etc/sudoers.d/"+u.Name, []byte(rule), Attributes{Mode: 0o440})
}

// near returns the names like name among the first fields of a table.
func near(name string, tab *table) []string {
	var names []string
	for _, line := range tab.lines {
		first, _, _ := strings.Cut(line, ":")
		names = append(names, first)
	}
	return nearest.Names(name, names, 2)
}
