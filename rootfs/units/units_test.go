package units_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/rootfs/units"
)

// memory is a tree in memory: contents by name, or "-> target" for a link. Links are not followed.
type memory map[string]string

func (m memory) ReadFile(name string) ([]byte, error) {
	text, ok := m[name]
	if !ok || strings.HasPrefix(text, "-> ") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

func (m memory) ReadLink(name string) (string, error) {
	text, ok := m[name]
	if !ok {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
	}
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		return target, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

func (m memory) List(dir string) ([]string, error) {
	var names []string
	for name := range m {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			names = append(names, first)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (m memory) Symlink(target, name string) error { m[name] = "-> " + target; return nil }
func (m memory) Remove(name string) error          { delete(m, name); return nil }

const lib = "usr/lib/systemd/system/"

func install(lines ...string) string {
	return "[Service]\nExecStart=/bin/true\n[Install]\n" + strings.Join(lines, "\n") + "\n"
}

// sample is a tree with a unit of every kind.
func sample() memory {
	return memory{
		lib + "a.service":                                           install("WantedBy=multi-user.target", "Alias=alias-of-a.service"),
		lib + "also.service":                                        install("WantedBy=multi-user.target other.target", "Also=also.socket nonesuch.service masked.service static.service"),
		lib + "also.socket":                                         install("WantedBy=sockets.target", "Also=also.service"),
		lib + "required.service":                                    install("RequiredBy=x.service", "RequiredBy=y.service"),
		lib + "t@.service":                                          install("WantedBy=multi-user.target"),
		lib + "d@.service":                                          install("WantedBy=multi-user.target", "DefaultInstance=dflt", "Alias=dd@.service"),
		lib + "tt@.service":                                         install("WantedBy=tt@.target"),
		lib + "spec@.service":                                       install("WantedBy=%p-%i.target", "Alias=spec-%j@.service"),
		lib + "empty-assignment.service":                            install("WantedBy=one.target", "WantedBy=", "WantedBy=two.target"),
		lib + "continued.service":                                   install("WantedBy=one.target \\", "# in between", "  two.target"),
		lib + "dropped.service":                                     install("WantedBy=one.target"),
		lib + "dropped.service.d/10-a.conf":                         "[Install]\nWantedBy=\nWantedBy=from-lib.target\n",
		lib + "dropped.service.d/20-b.conf":                         "[Install]\nWantedBy=second.target\n",
		"etc/systemd/system/dropped.service.d/10-a.conf":            "[Install]\nWantedBy=from-etc.target\n",
		lib + "static.service":                                      "[Service]\nExecStart=/bin/true\n",
		lib + "masked.service":                                      install("WantedBy=multi-user.target"),
		"etc/systemd/system/masked.service":                         "-> /dev/null",
		lib + "link.service":                                        "-> a.service",
		"etc/systemd/system/own.service":                            install("WantedBy=multi-user.target"),
		"usr/local/lib/systemd/system/over.service":                 install("WantedBy=local.target"),
		lib + "over.service":                                        install("WantedBy=lib.target"),
		lib + "multi-user.target":                                   "[Unit]\nDescription=x\n",
		lib + "on.service":                                          install("WantedBy=multi-user.target"),
		lib + "on@.service":                                         install("WantedBy=multi-user.target"),
		"etc/systemd/system/multi-user.target.wants/on.service":     "-> /" + lib + "on.service",
		"etc/systemd/system/graphical.target.wants/on.service":      "-> ../../../../" + lib + "on.service",
		"etc/systemd/system/also-on.service":                        "-> /" + lib + "on.service",
		"etc/systemd/system/multi-user.target.wants/on@one.service": "-> /" + lib + "on@.service",
		"etc/systemd/system/multi-user.target.wants/on@two.service": "-> /" + lib + "on@.service",
		"etc/systemd/system/multi-user.target.wants/stray.service":  "-> /" + lib + "stray.service",
	}
}

// operations are tried one by one on the sample, here and by systemctl.
var operations = []struct {
	verb, unit string
	want       string // changes, or part of the error
}{
	{"enable", "a.service", "+alias-of-a.service +multi-user.target.wants/a.service"},
	{"enable", "also.service", "+multi-user.target.wants/also.service +other.target.wants/also.service +sockets.target.wants/also.socket"},
	{"enable", "also.socket", "+multi-user.target.wants/also.service +other.target.wants/also.service +sockets.target.wants/also.socket"},
	{"enable", "required.service", "+x.service.requires/required.service +y.service.requires/required.service"},
	{"enable", "t@x.service", "+multi-user.target.wants/t@x.service"},
	{"enable", "d@.service", "+dd@.service +multi-user.target.wants/d@dflt.service"},
	{"enable", "d@q.service", "+dd@q.service +multi-user.target.wants/d@q.service"},
	{"enable", "tt@.service", "+tt@.target.wants/tt@.service"},
	{"enable", "tt@x.service", "+tt@.target.wants/tt@x.service"},
	{"enable", "spec@in.service", "+spec-in.target.wants/spec@in.service +spec-spec@in.service"},
	{"enable", "empty-assignment.service", "+two.target.wants/empty-assignment.service"},
	{"enable", "continued.service", "+one.target.wants/continued.service +two.target.wants/continued.service"},
	{"enable", "dropped.service", "+from-etc.target.wants/dropped.service +one.target.wants/dropped.service +second.target.wants/dropped.service"},
	{"enable", "masked.service", "error: the unit is masked"},
	{"enable", "link.service", "+alias-of-a.service +multi-user.target.wants/a.service"},
	{"enable", "own.service", "+multi-user.target.wants/own.service"},
	{"enable", "over.service", "+local.target.wants/over.service"},
	{"enable", "on.service", ""},
	{"enable", "t@.service", "error: is a template without DefaultInstance"},
	{"enable", "nonesuch.service", "error: unit nonesuch.service does not exist"},
	{"disable", "on.service", "-also-on.service -graphical.target.wants/on.service -multi-user.target.wants/on.service"},
	{"disable", "on@.service", "-multi-user.target.wants/on@one.service -multi-user.target.wants/on@two.service"},
	{"disable", "on@one.service", "-multi-user.target.wants/on@one.service"},
	{"disable", "a.service", ""},
	{"disable", "masked.service", ""},
	{"mask", "a.service", "+a.service"},
	{"mask", "masked.service", ""},
	{"mask", "own.service", "error: something else has that name"},
	{"mask", "boot-efi.mount", "+boot-efi.mount"},
	{"mask", "t@x.service", "+t@x.service"},
}

func do(t units.Tree, verb, unit string) ([]units.Change, error) {
	switch verb {
	case "enable":
		return units.Enable(t, unit)
	case "disable":
		return units.Disable(t, unit)
	}
	return units.Mask(t, unit)
}

// difference lists the links of after that are not in before, and those of before that are not in after.
func difference(before, after memory) string {
	var changes []string
	for name, text := range after {
		if before[name] != text {
			changes = append(changes, "+"+strings.TrimPrefix(name, "etc/systemd/system/"))
		}
	}
	for name := range before {
		if _, kept := after[name]; !kept {
			changes = append(changes, "-"+strings.TrimPrefix(name, "etc/systemd/system/"))
		}
	}
	slices.Sort(changes)
	return strings.Join(changes, " ")
}

func TestOperations(t *testing.T) {
	for _, op := range operations {
		t.Run(op.verb+" "+op.unit, func(t *testing.T) {
			tree := sample()
			changes, err := do(tree, op.verb, op.unit)
			if want, isError := strings.CutPrefix(op.want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
				return
			}
			got := difference(sample(), tree)
			if err != nil || got != op.want || (len(changes) == 0) != (got == "") {
				t.Errorf("%s, %v; want %s; changes %v", got, err, op.want, changes)
			}
			for _, c := range changes {
				if target, err := tree.ReadLink(strings.TrimPrefix(c.Path, "/")); c.Target != "" && (err != nil || target != c.Target) {
					t.Errorf("change %v, but the link leads to %q (%v)", c, target, err)
				}
			}
			if again, err := do(tree, op.verb, op.unit); err != nil || len(again) != 0 {
				t.Errorf("a second time: %v, %v", again, err)
			}
		})
	}
}

// TestAliasesStandForTheirUnits: systemctl refuses links in /etc that no Alias= explains; a recipe may use them.
func TestAliasesStandForTheirUnits(t *testing.T) {
	tree := sample()
	if changes, err := units.Enable(tree, "also-on.service"); err != nil || len(changes) != 0 {
		t.Errorf("enabling an enabled unit by its alias: %v, %v", changes, err)
	}
	changes, err := units.Disable(tree, "also-on.service")
	if got := difference(sample(), tree); err != nil || len(changes) != 3 || !strings.Contains(got, "-multi-user.target.wants/on.service") {
		t.Errorf("disabling a unit by its alias: %s, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		unit string
		is   error
		want string
	}{
		{"ony.service", nil, "unit ony.service does not exist: did you mean on.service"},
		{"masked.service", units.ErrMasked, "masked.service: the unit is masked by /etc/systemd/system/masked.service: remove it from"},
		{"static.service", units.ErrNoInstall, "static.service: the unit has no [Install] section: it starts when another unit wants it"},
		{"t@.service", nil, "name an instance, such as t@NAME.service"},
		{"../../x.service", nil, `"../../x.service" is not a unit's name`},
		{"a", nil, `"a" is not a unit's name`},
		{"loop.service", nil, "more than 16 links"},
		{"bad-alias.service", nil, `"x.socket" cannot be its alias`},
		{"evil-target.service", nil, `is not a unit's name`},
		{"runtime.service", nil, "the specifier %H"},
		{"void.service", units.ErrMasked, "empty file"},
		{"taken.service", units.ErrExists, "is a link to /usr/lib/systemd/system/on.service: something else has that name"},
	} {
		tree := sample()
		tree[lib+"loop.service"] = "-> loop2.service"
		tree[lib+"loop2.service"] = "-> loop.service"
		tree[lib+"bad-alias.service"] = install("Alias=x.socket")
		tree[lib+"evil-target.service"] = install("WantedBy=../../../../etc/x.target")
		tree[lib+"runtime.service"] = install("WantedBy=%H.target")
		tree[lib+"void.service"] = ""
		tree[lib+"taken.service"] = install("Alias=also-on.service")
		_, err := units.Enable(tree, test.unit)
		if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("enable %s: %v, want %s", test.unit, err, test.want)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("an error of several lines: %v", err)
		}
	}
	var unknown *units.UnknownError
	if _, err := units.Disable(sample(), "ony.service"); !errors.As(err, &unknown) || unknown.Near[0] != "on.service" {
		t.Errorf("disabling an unknown unit: %v", err)
	}
}

// write lays the tree down in a folder.
func (m memory) write(t *testing.T, root string) {
	t.Helper()
	for name, text := range m {
		at := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = errors.Join(err, os.Symlink(target, at))
		} else {
			err = errors.Join(err, os.WriteFile(at, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read reads the tree in a folder.
func read(t *testing.T, root string) memory {
	t.Helper()
	m := memory{}
	err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(root, at)
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(at)
			m[name] = "-> " + target
			return err
		}
		data, err := os.ReadFile(at)
		m[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func FuzzEnable(f *testing.F) {
	f.Add("[Install]\nWantedBy=a.target\nAlias=%p.service\n", "u.service")
	f.Add("[Install]\nAlso=u@.service u@a.service\\\n b.service\nDefaultInstance=%i\n", "u@x.service")
	f.Add("[Install]\nRequiredBy=../x.target \"y.target\"\nUpheldBy=z@.service", "u@.service")
	f.Fuzz(func(t *testing.T, text, name string) {
		tree := memory{lib + "u.service": text, lib + "u@.service": text, lib + "u.socket": "-> u.service"}
		changes, err := units.Enable(tree, name)
		if err != nil {
			return
		}
		for _, c := range changes {
			rest, ok := strings.CutPrefix(c.Path, "/etc/systemd/system/")
			if !ok || strings.Count(rest, "/") > 1 || strings.Contains(c.Path, "..") && strings.Contains("/"+rest+"/", "/../") {
				t.Errorf("a link at %s", c.Path)
			}
		}
		if _, err := units.Disable(tree, name); err != nil {
			t.Errorf("enabled, but not disabled: %v", err)
		}
	})
}
