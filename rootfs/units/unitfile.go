package units

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds on what unit files may make of a call.
const (
	maxLinks    = 16      // links that are followed from a name to a unit file
	maxUnitFile = 1 << 20 // bytes, the limit of systemd's own configuration parser
)

// A unit is a unit file with what its [Install] section says, specifiers replaced.
type unit struct {
	name string // what it is enabled as
	path string // of the file, relative to the root

	alias, wantedBy, requiredBy, upheldBy, also []string
	defaultInstance                             string
}

// find looks a unit up by its name, following aliases, and reads it.
func (e *editor) find(name string) (*unit, error) {
	current := name
	for range maxLinks {
		at, link := e.lookup(current)
		if at == "" {
			return nil, &UnknownError{Unit: name, Near: e.near(name)}
		}
		if link == "" {
			return e.read(current, at)
		}
		target := absolute(at, link)
		if link == "/dev/null" {
			return nil, fmt.Errorf("%s: %w by /%s: remove it from the units to enable, or from those to mask", current, ErrMasked, at)
		}
		next := path.Base(target)
		if instance, ok := instanceOf(current); ok && isTemplate(next) {
			next = instantiate(next, instance)
		}
		if next == current || !validName(next) || !inSearchPath(target) {
			// The link leads to a file elsewhere, which is this unit's (systemctl link).
			return e.read(current, target)
		}
		current = next
	}
	return nil, fmt.Errorf("unit %s: more than %d links from its name to its file: remove some", name, maxLinks)
}

// instanceOf returns bar for foo@bar.service.
func instanceOf(name string) (string, bool) {
	if _, ok := template(name); !ok {
		return "", false
	}
	_, rest, _ := strings.Cut(name, "@")
	return strings.TrimSuffix(rest, path.Ext(rest)), true
}

func inSearchPath(name string) bool { return slices.Contains(searchPath[:], path.Dir(name)) }

// lookup returns the first entry of the search path of a unit, or of its template, and its target if it is a link.
func (e *editor) lookup(name string) (at, link string) {
	names := []string{name}
	if t, ok := template(name); ok {
		names = append(names, t)
	}
	for _, n := range names {
		for _, dir := range searchPath {
			at := dir + "/" + n
			target, err := e.tree.ReadLink(at)
			if err == nil {
				return at, target
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return at, ""
			}
		}
	}
	return "", ""
}

// read reads the unit file at, and the drop-in files of the unit.
func (e *editor) read(name, at string) (*unit, error) {
	data, err := e.tree.ReadFile(at)
	if err != nil {
		return nil, fmt.Errorf("unit %s: %w", name, err)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: %w by the empty file /%s: remove it from the units to enable", name, ErrMasked, at)
	}
	if len(data) > maxUnitFile {
		return nil, fmt.Errorf("unit %s: /%s is larger than %d bytes: shorten it", name, at, maxUnitFile)
	}
	u := &unit{name: name, path: at}
	if err := u.parse(data); err != nil {
		return nil, err
	}
	return u, e.readDropIns(u)
}

// readDropIns reads the files of folders such as foo.service.d, in the order of their names; one of a folder earlier in
// the search path hides those of its name in later ones.
func (e *editor) readDropIns(u *unit) error {
	files := map[string]string{}
	names := []string{u.name}
	if t, ok := template(u.name); ok {
		names = append(names, t)
	}
	for _, dir := range searchPath {
		for _, name := range names {
			list, err := e.tree.List(dir + "/" + name + ".d")
			if err != nil {
				return err
			}
			for _, file := range list {
				if _, hidden := files[file]; !hidden && strings.HasSuffix(file, ".conf") {
					files[file] = dir + "/" + name + ".d/" + file
				}
			}
		}
	}
	order := make([]string, 0, len(files))
	for file := range files {
		order = append(order, file)
	}
	slices.Sort(order)
	for _, file := range order {
		data, err := e.tree.ReadFile(files[file])
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link to /dev/null, which takes the file of that name away
		}
		if err != nil {
			return err
		}
		if len(data) > maxUnitFile {
			return fmt.Errorf("unit %s: /%s is larger than %d bytes: shorten it", u.name, files[file], maxUnitFile)
		}
		if err := u.parse(data); err != nil {
			return err
		}
	}
	return nil
}

// parse adds what the [Install] sections in data say (syntax: systemd.syntax(7)).
func (u *unit) parse(data []byte) error {
	section := ""
	for line := range logicalLines(string(data)) {
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if section != "Install" || !found {
			continue
		}
		if err := u.set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// logicalLines yields the lines of a unit file, joined where they end in a backslash, without comments and blanks.
func logicalLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		joined := ""
		for line := range strings.Lines(text) {
			line = strings.Trim(line, " \t\r\n")
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue // also between the parts of a joined line
			}
			if part, ok := strings.CutSuffix(line, `\`); ok {
				joined += part + " "
				continue
			}
			if line = strings.TrimSpace(joined + line); line != "" && !yield(line) {
				return
			}
			joined = ""
		}
		if joined = strings.TrimSpace(joined); joined != "" {
			yield(joined)
		}
	}
}

func (u *unit) set(key, value string) error {
	lists := map[string]*[]string{"Alias": &u.alias, "WantedBy": &u.wantedBy, "RequiredBy": &u.requiredBy, "UpheldBy": &u.upheldBy, "Also": &u.also}
	list, known := lists[key]
	switch {
	case key == "DefaultInstance":
		instance, err := u.expand(value)
		if err != nil {
			return err
		}
		u.defaultInstance = instance
		return nil
	case !known:
		return nil
	case value == "":
		*list = nil
		return nil
	}
	for word := range strings.FieldsSeq(value) {
		name, err := u.expand(strings.Trim(word, `"'`))
		if err != nil {
			return err
		}
		*list = append(*list, name)
	}
	return nil
}

// expand replaces the specifiers of systemd.unit(5) that depend on the unit's name alone.
func (u *unit) expand(text string) (string, error) {
	suffix := path.Ext(u.name)
	stem := strings.TrimSuffix(u.name, suffix)
	prefix, instance, _ := strings.Cut(stem, "@")
	if instance == "" {
		instance = u.defaultInstance
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		switch text[i] {
		case '%':
			out.WriteByte('%')
		case 'n':
			out.WriteString(u.name)
		case 'N':
			out.WriteString(stem)
		case 'p':
			out.WriteString(prefix)
		case 'i':
			out.WriteString(instance)
		case 'j':
			out.WriteString(prefix[strings.LastIndexByte(prefix, '-')+1:])
		default:
			return "", fmt.Errorf("unit %s: the specifier %%%c in its [Install] section is known only on a running machine: make the link with files: in the recipe", u.name, text[i])
		}
	}
	return out.String(), nil
}

// aliasName returns the name of the link that alias asks for: an instance where the alias is a template and the unit
// an instance, nothing where a template has no instance to be an alias with.
func (u *unit) aliasName(alias string) (string, error) {
	if !validName(alias) || path.Ext(alias) != path.Ext(u.name) {
		return "", fmt.Errorf("%s: %q cannot be its alias: it must be a unit's name of the same type; correct /%s", u.name, alias, u.path)
	}
	if slices.Contains([]string{".mount", ".slice", ".swap", ".automount"}, path.Ext(alias)) {
		return "", fmt.Errorf("%s: units of this type have no aliases: correct /%s", u.name, u.path)
	}
	instance, isInstance := instanceOf(u.name)
	_, aliasIsInstance := instanceOf(alias)
	switch {
	case isTemplate(alias) && isInstance:
		return instantiate(alias, instance), nil
	case isTemplate(u.name) && u.defaultInstance == "" && !isTemplate(alias) && !aliasIsInstance:
		return "", fmt.Errorf("%s is a template and %s is not: name an instance of it to enable", u.name, alias)
	}
	return alias, nil
}
