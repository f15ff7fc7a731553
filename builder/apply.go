package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/accounts"
	"github.com/applbuild/applbuild/rootfs/overlay"
	"github.com/applbuild/applbuild/rootfs/tree"
	"github.com/applbuild/applbuild/rootfs/units"
)

// apply changes the tree as the recipe says. The tree reads the contents of
// copied files when it is written: close is called after that, also when apply
// failed.
func (e *edits) apply(t *tree.Tree, clock time.Time) (close func(), err error) {
	var closers []func() error
	close = func() {
		for _, c := range closers {
			c()
		}
	}
	steps := []func() error{
		func() error { return applyOverlay(t, e.Overlay) },
		func() error { return e.describe(t) },
		func() error { return e.settings(t) },
		func() error { return e.users(t, clock) },
		func() error {
			for i := range e.Files {
				c, err := e.Files[i].put(t, t)
				if err != nil {
					return fmt.Errorf("%s: file /%s: %w", e.Files[i].At, e.Files[i].Path, err)
				}
				closers = append(closers, c)
			}
			return nil
		},
		func() error { return e.units(t) },
		func() error { return e.remove(t) },
		func() error { return e.check(t) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return close, err
		}
	}
	return close, nil
}

// applyOverlay lays down what every appliance gets. A folder that is there
// keeps its mode.
func applyOverlay(t *tree.Tree, files []overlay.File) error {
	for _, f := range files {
		var err error
		switch {
		case f.Mode.IsDir():
			if _, there := t.Lookup(f.Path); !there {
				err = t.Mkdir(f.Path, permissions(f.Mode), 0, 0)
			}
		case f.Mode&fs.ModeSymlink != 0:
			err = t.Symlink(f.Link, f.Path)
		default:
			err = t.WriteFile(f.Path, f.Content, permissions(f.Mode), 0, 0)
		}
		if err != nil {
			return fmt.Errorf("overlay: %w", err)
		}
	}
	return nil
}

// permissions are the bits of a mode as tar has them.
func permissions(mode fs.FileMode) int64 {
	bits := int64(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// describe says in os-release which image this is (os-release(5)), and tells
// apt where the distribution's packages are.
func (e *edits) describe(t *tree.Tree) error {
	entry, err := t.Resolve("etc/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := t.ReadFile(entry.Path)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(strings.TrimRight(string(data), "\n") + "\n")
	keys := make([]string, 0, len(e.Image))
	for key := range e.Image {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		fmt.Fprintf(&b, "%s=%q\n", key, e.Image[key])
	}
	if err := t.WriteFile(entry.Path, []byte(b.String()), entry.Mode, entry.UID, entry.GID); err != nil {
		return err
	}
	if e.Sources == "" {
		return nil
	}
	name := "etc/apt/sources.list.d/" + e.SourcesFile
	if _, there := t.Lookup(name); there {
		return nil
	}
	return t.WriteFile(name, []byte(e.Sources), 0o644, 0, 0)
}

// settings are the host name, the locale and the time zone.
func (e *edits) settings(t *tree.Tree) error {
	if e.Hostname != "" {
		if err := t.WriteFile("etc/hostname", []byte(e.Hostname+"\n"), 0o644, 0, 0); err != nil {
			return err
		}
		short, _, _ := strings.Cut(e.Hostname, ".")
		names := e.Hostname
		if short != e.Hostname {
			names += " " + short
		}
		hosts := "127.0.0.1\tlocalhost\n127.0.1.1\t" + names + "\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
		if _, there := t.Lookup("etc/hosts"); !there {
			if err := t.WriteFile("etc/hosts", []byte(hosts), 0o644, 0, 0); err != nil {
				return err
			}
		}
	}
	if e.Locale != "" {
		text := []byte("LANG=" + e.Locale + "\n")
		if err := t.WriteFile("etc/locale.conf", text, 0o644, 0, 0); err != nil {
			return err
		}
		if _, err := t.Resolve("etc/default"); err == nil {
			if err := t.WriteFile("etc/default/locale", text, 0o644, 0, 0); err != nil {
				return err
			}
		}
	}
	return e.timezone(t)
}

// utc is what a machine without tzdata has anyway.
const utc = "Etc/UTC"

func (e *edits) timezone(t *tree.Tree) error {
	if e.Timezone == "" {
		return nil
	}
	if _, err := t.Resolve("usr/share/zoneinfo/" + e.Timezone); err != nil {
		if e.Timezone == utc {
			return nil
		}
		return fmt.Errorf("timezone %s: tzdata has no such zone: write one of `timedatectl list-timezones`", e.Timezone)
	}
	if err := t.Symlink("/usr/share/zoneinfo/"+e.Timezone, "etc/localtime"); err != nil {
		return err
	}
	return t.WriteFile("etc/timezone", []byte(e.Timezone+"\n"), 0o644, 0, 0)
}

// users makes the recipe's accounts.
func (e *edits) users(t *tree.Tree, clock time.Time) error {
	var list []accounts.User
	for _, u := range e.Users {
		user := accounts.User{
			Name: u.Name, UID: u.UID, Groups: u.Groups, Shell: u.Shell, Home: u.Home,
			SSHKeys: u.SSHKeys, Password: u.Password, System: u.System,
		}
		switch u.Sudo {
		case recipes.SudoPassword:
			user.Sudo = accounts.AskPassword
		case recipes.SudoNoPassword:
			user.Sudo = accounts.NeedNoPassword
		}
		list = append(list, user)
	}
	if _, err := accounts.Add(accountTree{editTree{t}}, clock, list); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	return nil
}

// put puts a file into a tree, with the numbers that another one, or the same,
// has for its owner.
func (f *fileEdit) put(t, owners *tree.Tree) (close func() error, err error) {
	nothing := func() error { return nil }
	uid, gid, err := accounts.Resolve(accountTree{editTree{owners}}, f.Owner.User, f.Owner.Group)
	if err != nil {
		return nothing, err
	}
	switch f.Type {
	case fs.ModeDir:
		return nothing, t.Mkdir(f.Path, f.Mode, uid, gid)
	case fs.ModeSymlink:
		return nothing, t.Put(&tree.Entry{Path: f.Path, Typeflag: tree.TypeSymlink, Mode: f.Mode, UID: uid, GID: gid, Linkname: f.Link})
	}
	content, close, err := f.open()
	if err != nil {
		return nothing, err
	}
	return close, t.Put(tree.NewFile(tree.Entry{Path: f.Path, Mode: f.Mode, UID: uid, GID: gid}, content, f.Size))
}

// units enables, disables and masks, in this order: a unit that is masked
// stays so.
func (e *edits) units(t *tree.Tree) error {
	if _, err := units.Enable(editTree{t}, e.Units.Enable...); err != nil {
		return fmt.Errorf("units.enable: %w", err)
	}
	if _, err := units.Disable(editTree{t}, e.Units.Disable...); err != nil {
		return fmt.Errorf("units.disable: %w", err)
	}
	if _, err := units.Mask(editTree{t}, e.Units.Mask...); err != nil {
		return fmt.Errorf("units.mask: %w", err)
	}
	return nil
}

// remove takes out what the recipe names, and the kernel, which is in the
// unified kernel image.
func (e *edits) remove(t *tree.Tree) error {
	var gone []string
	err := t.Walk(func(entry *tree.Entry) error {
		if !e.removes(entry) {
			return nil
		}
		gone = append(gone, entry.Path)
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range gone {
		if err := t.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

func (e *edits) removes(entry *tree.Entry) bool {
	name := entry.Path
	switch {
	case name == ".":
		return false
	case path.Dir(name) == "boot" && !entry.IsDir() || isModulesKernel(name):
		return true
	case e.Remove.Documentation && documentation(entry):
		return true
	}
	return e.Remove.Match("/" + name)
}

// documentation says what the recipe's remove.documentation takes: all but
// the licences, which must go with the programs.
func documentation(entry *tree.Entry) bool {
	for _, dir := range []string{"usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/doc-base", "usr/share/gtk-doc", "usr/share/linda"} {
		if entry.Path == dir {
			return true
		}
	}
	below, ok := strings.CutPrefix(entry.Path, "usr/share/doc/")
	if !ok {
		return false
	}
	// usr/share/doc/PACKAGE may be a link to another package's folder.
	parts := strings.Split(below, "/")
	return len(parts) == 2 && parts[1] != "copyright"
}

// check refuses a tree that cannot start.
func (e *edits) check(t *tree.Tree) error {
	if !e.Boots {
		return nil
	}
	if _, err := t.Resolve("usr/sbin/init"); err == nil {
		return nil
	}
	return errors.New("the tree has no /sbin/init: add systemd-sysv to packages, or boot: none for a disk that doesn't boot")
}
