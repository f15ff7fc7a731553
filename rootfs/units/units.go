// Package units enables, disables and masks systemd units in a tree that is not running, as systemctl --root does:
// by reading the [Install] sections of unit files and editing symbolic links in /etc/systemd/system.
//
// It follows systemctl(1) and the section "[Install] Section Options" of systemd.unit(5), without what does not
// exist in an image: SysV scripts, units of users, transient and generated units. Where systemctl only prints a
// notice for a unit that cannot be enabled because nothing says when it should start, Enable returns an error: in a
// recipe it is a mistake.
package units

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// A Tree is the file system that is edited. Names are slash-separated and relative to its root, without a leading
// slash. Links in the middle of a name are followed inside the tree.
type Tree interface {
	// ReadFile returns the contents of a file, following a link at its end; fs.ErrNotExist when there is none.
	ReadFile(name string) ([]byte, error)
	// ReadLink returns the target of the link that name itself is, an error that matches fs.ErrNotExist when there
	// is nothing of that name, and any other error when it is no link.
	ReadLink(name string) (string, error)
	// List returns the names in a folder, sorted; none and no error where there is no such folder.
	List(dir string) ([]string, error)
	// Symlink makes a link, and the folders above it that are missing.
	Symlink(target, name string) error
	// Remove removes a link.
	Remove(name string) error
}

// Errors that a unit cannot be enabled for; errors.Is finds them. A unit that does not exist is an [*UnknownError].
var (
	ErrMasked    = errors.New("the unit is masked")
	ErrNoInstall = errors.New("the unit has no [Install] section")
	ErrExists    = errors.New("something else has that name")
)

// An UnknownError says that no unit file of a name exists.
type UnknownError struct {
	Unit string
	Near []string // units with similar names, closest first
}

func (e *UnknownError) Error() string {
	text := "unit " + e.Unit + " does not exist"
	if len(e.Near) > 0 {
		return text + ": did you mean " + strings.Join(e.Near, " or ") + "?"
	}
	return text + ": check the name, or install the package that has it"
}

// A Change is a link that was made or removed.
type Change struct {
	Path   string // absolute path of the link
	Target string // of a link that was made; empty for one that was removed
}

// configDir is where links are made.
const configDir = "etc/systemd/system"

// searchPath lists the folders with unit files that exist in an image, first come first served (systemd.unit(5),
// "Unit File Load Path").
var searchPath = [...]string{
	"etc/systemd/system.control",
	configDir,
	"etc/systemd/system.attached",
	"usr/local/lib/systemd/system",
	"usr/lib/systemd/system",
	"lib/systemd/system",
}

// Enable makes the links that the [Install] sections of the named units ask for, and those of the units named there
// by Also=. A name may be an instance of a template, or an alias.
func Enable(t Tree, names ...string) ([]Change, error) {
	e := editor{tree: t}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return e.changes, err
		}
		if err := e.enable(name); err != nil {
			return e.changes, err
		}
	}
	return e.changes, nil
}

// Disable removes all links in /etc/systemd/system that have the names of the given units, or lead to them, and those
// of the units that their [Install] sections name by Also=. A unit that is masked stays as it is.
func Disable(t Tree, names ...string) ([]Change, error) {
	e := editor{tree: t}
	gone := map[string]bool{}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, err
		}
		if err := e.collect(name, gone); err != nil {
			return nil, err
		}
	}
	return e.changes, e.unlink(configDir, gone)
}

// Mask links the named units to /dev/null, so that nothing starts them. A unit need not exist to be masked.
func Mask(t Tree, names ...string) ([]Change, error) {
	e := editor{tree: t}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return e.changes, err
		}
		if err := e.link("/dev/null", name, false); err != nil {
			return e.changes, err
		}
	}
	return e.changes, nil
}

func checkName(name string) error {
	if !validName(name) {
		return fmt.Errorf("%q is not a unit's name: write it in full, such as ssh.service", name)
	}
	return nil
}

// types are the suffixes of unit files.
var types = []string{".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".swap", ".slice", ".device", ".scope"}

// validName follows unit_name_is_valid: letters, digits and :-_.\ before the type, and at most one part after an @.
func validName(name string) bool {
	suffix := path.Ext(name)
	stem := strings.TrimSuffix(name, suffix)
	if len(name) > 255 || stem == "" || stem[0] == '@' || !slices.Contains(types, suffix) {
		return false
	}
	for i := range len(stem) {
		c := stem[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune(`:-_.\@`, rune(c)) {
			return false
		}
	}
	return true
}

// template returns foo@.service for foo@bar.service, and whether name is an instance at all.
func template(name string) (string, bool) {
	prefix, rest, found := strings.Cut(name, "@")
	suffix := path.Ext(name)
	if !found || rest == suffix {
		return "", false
	}
	return prefix + "@" + suffix, true
}

// isTemplate reports whether name is foo@.service.
func isTemplate(name string) bool {
	_, rest, found := strings.Cut(name, "@")
	return found && rest == path.Ext(name)
}

// instantiate returns foo@bar.service for foo@.service and bar.
func instantiate(name, instance string) string {
	prefix, rest, _ := strings.Cut(name, "@")
	return prefix + "@" + instance + rest
}

// An editor enables or disables the units of one call.
type editor struct {
	tree    Tree
	done    []string
	changes []Change
}

// enable enables one unit and, once each, those it names by Also=.
func (e *editor) enable(name string) error {
	u, err := e.find(name)
	if err != nil {
		return err
	}
	if slices.Contains(e.done, u.name) {
		return nil
	}
	e.done = append(e.done, u.name)
	if len(u.alias)+len(u.wantedBy)+len(u.requiredBy)+len(u.upheldBy)+len(u.also) == 0 {
		return fmt.Errorf("%s: %w: it starts when another unit wants it; remove it from the units to enable", u.name, ErrNoInstall)
	}
	if err := e.apply(u); err != nil {
		return err
	}
	for _, also := range u.also {
		err := e.enable(also)
		var unknown *UnknownError
		// As for systemctl, what another unit brings along may be missing, masked or without a section of its own.
		if err != nil && !errors.As(err, &unknown) && !errors.Is(err, ErrMasked) && !errors.Is(err, ErrNoInstall) {
			return err
		}
	}
	return nil
}

// apply makes the links of one unit.
func (e *editor) apply(u *unit) error {
	for _, alias := range u.alias {
		name, err := u.aliasName(alias)
		if err != nil {
			return err
		}
		if name == "" || name == u.name {
			continue
		}
		if err := e.link("/"+u.path, name, false); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		units  []string
		suffix string
	}{{u.wantedBy, ".wants"}, {u.requiredBy, ".requires"}, {u.upheldBy, ".upholds"}} {
		for _, target := range list.units {
			name := u.name
			if isTemplate(name) && u.defaultInstance != "" {
				name = instantiate(name, u.defaultInstance)
			}
			if !validName(target) {
				return fmt.Errorf("%s: %q in its [Install] section is not a unit's name: correct /%s", u.name, target, u.path)
			}
			if isTemplate(name) && !isTemplate(target) {
				return fmt.Errorf("%s is a template without DefaultInstance=: name an instance, such as %s", name, instantiate(name, "NAME"))
			}
			if err := e.link("/"+u.path, target+list.suffix+"/"+name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes a link in /etc/systemd/system. One that leads there already is left alone, one that leads elsewhere is
// replaced where replace says so.
func (e *editor) link(target, name string, replace bool) error {
	at := configDir + "/" + name
	if "/"+at == target {
		return nil
	}
	switch old, err := e.tree.ReadLink(at); {
	case err == nil && e.same(at, old, target):
		return nil
	case err == nil && !replace:
		return fmt.Errorf("/%s is a link to %s: %w: remove it first", at, old, ErrExists)
	case err == nil:
		if err := e.tree.Remove(at); err != nil {
			return err
		}
		e.changes = append(e.changes, Change{Path: "/" + at})
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("/%s is not a link: %w: remove it first", at, ErrExists)
	}
	if err := e.tree.Symlink(target, at); err != nil {
		return err
	}
	e.changes = append(e.changes, Change{"/" + at, target})
	return nil
}

// same reports whether a link at name with target old leads to target; /lib and /usr/lib are one folder.
func (e *editor) same(name, old, target string) bool {
	merged := func(p string) string {
		if strings.HasPrefix(p, "/lib/") {
			return "/usr" + p
		}
		return p
	}
	return merged("/"+absolute(name, old)) == merged(target)
}

// absolute returns the target of the link at name, relative to the root.
func absolute(name, target string) string {
	if !strings.HasPrefix(target, "/") {
		target = "/" + path.Dir(name) + "/" + target
	}
	return strings.TrimPrefix(path.Clean(target), "/")
}

// collect adds a unit to those that are to be disabled, with the units it names by Also=.
func (e *editor) collect(name string, gone map[string]bool) error {
	if gone[name] {
		return nil
	}
	u, err := e.find(name)
	if errors.Is(err, ErrMasked) {
		return nil
	}
	if err != nil {
		return err
	}
	gone[name], gone[u.name] = true, true
	for _, also := range u.also {
		var unknown *UnknownError
		if err := e.collect(also, gone); err != nil && !errors.As(err, &unknown) {
			return err
		}
	}
	return nil
}

// unlink removes the links in dir and the folders below it that have a name of gone or lead to one.
func (e *editor) unlink(dir string, gone map[string]bool) error {
	names, err := e.tree.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		at := dir + "/" + name
		target, err := e.tree.ReadLink(at)
		if err != nil {
			if dir == configDir && linkFolder(name) {
				if err := e.unlink(at, gone); err != nil {
					return err
				}
			}
			continue
		}
		mask := dir == configDir && target == "/dev/null"
		if !validName(name) || mask || !gone[name] && !gone[path.Base(target)] {
			continue
		}
		if err := e.tree.Remove(at); err != nil {
			return err
		}
		e.changes = append(e.changes, Change{Path: "/" + at})
	}
	return nil
}

// linkFolder reports whether a folder of that name holds links to units.
func linkFolder(name string) bool {
	return slices.Contains([]string{".wants", ".requires", ".upholds"}, path.Ext(name))
}

// near returns the names of units like name.
func (e *editor) near(name string) []string {
	var all []string
	for _, dir := range searchPath {
		names, err := e.tree.List(dir)
		if err != nil {
			continue
		}
		for _, n := range names {
			if validName(n) {
				all = append(all, n)
			}
		}
	}
	return nearest.Names(name, all, 2)
}
