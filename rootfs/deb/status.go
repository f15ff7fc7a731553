package deb

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// statusFields is the order in which dpkg writes the fields that it knows;
// all others follow in the order of the control file. Lists of packages
// among them are brought into one form.
var statusFields = []struct {
	name     string
	relation bool
}{
	{"Package", false},
	{"Essential", false},
	{"Protected", false},
	{"Status", false},
	{"Priority", false},
	{"Section", false},
	{"Installed-Size", false},
	{"Origin", false},
	{"Maintainer", false},
	{"Bugs", false},
	{"Architecture", false},
	{"Multi-Arch", false},
	{"Source", false},
	{"Version", false},
	{"Replaces", true},
	{"Provides", true},
	{"Depends", true},
	{"Pre-Depends", true},
	{"Recommends", true},
	{"Suggests", true},
	{"Breaks", true},
	{"Conflicts", true},
	{"Enhances", true},
	{"Conffiles", false},
	{"Description", false},
}

// notInStatus are fields that dpkg reads and keeps elsewhere or nowhere.
var notInStatus = []string{"Filename", "Size", "MD5sum", "Config-Version", "Triggers-Pending", "Triggers-Awaited"}

// Status is the text of dpkg's status file: one paragraph a package, sorted
// by name and architecture, in dpkg's own form.
func (d *Database) Status() []byte {
	sorted := slices.Clone(d.packages)
	slices.SortFunc(sorted, func(a, b *Package) int {
		return cmp.Or(
			strings.Compare(a.Control.Name(), b.Control.Name()),
			strings.Compare(a.Control.Arch(), b.Control.Arch()))
	})
	var b []byte
	for _, p := range sorted {
		b = p.appendStatus(b, d.available[p.Control.Name()+":"+p.Control.Arch()])
		b = append(b, '\n')
	}
	return b
}

// appendStatus appends the paragraph of one package.
func (p *Package) appendStatus(b []byte, archive available) []byte {
	control := p.Control.Paragraph
	raw := rawFields(p.Control.text)
	add := func(name, value string) {
		if value != "" {
			b = append(b, name+": "+value+"\n"...)
		}
	}
	known := map[string]bool{}
	for _, name := range notInStatus {
		known[strings.ToLower(name)] = true
	}
	for _, field := range statusFields {
		known[strings.ToLower(field.name)] = true
		value := control.Get(field.name)
		switch field.name {
		case "Status":
			add(field.name, "install ok "+p.State)
		case "Conffiles":
			b = p.appendConffiles(b)
		case "Essential", "Protected", "Multi-Arch":
			if value != "no" {
				add(field.name, value)
			}
		case "Priority":
			add(field.name, strings.ToLower(cmp.Or(archive.priority, value)))
		case "Section":
			add(field.name, cmp.Or(archive.section, value))
		default:
			if field.relation {
				add(field.name, formatRelations(value))
			} else {
				add(field.name, raw[strings.ToLower(field.name)])
			}
		}
	}
	for _, field := range control {
		if name := strings.ToLower(field.Name); !known[name] {
			add(field.Name, raw[name])
		}
	}
	return b
}

// rawFields takes a control file apart as dpkg does: a value is kept byte by
// byte, continuation lines with their mark, but for the blanks around it as
// a whole. The file was found to be well-formed before.
func rawFields(text []byte) map[string]string {
	fields := map[string]string{}
	name := ""
	for line := range strings.Lines(string(text)) {
		if line[0] == ' ' || line[0] == '\t' {
			fields[name] += line
			continue
		}
		var value string
		name, value, _ = strings.Cut(line, ":")
		name = strings.ToLower(name)
		fields[name] = strings.TrimLeft(value, " \t")
	}
	for name, value := range fields {
		fields[name] = strings.TrimRight(value, " \t\r\n")
	}
	return fields
}

func (p *Package) appendConffiles(b []byte) []byte {
	if len(p.conffiles) == 0 {
		return b
	}
	b = append(b, "Conffiles:\n"...)
	for _, c := range p.conffiles {
		b = append(b, " "+c.path+" "+c.hash...)
		if c.obsolete {
			b = append(b, " obsolete"...)
		}
		if c.remove {
			b = append(b, " remove-on-upgrade"...)
		}
		b = append(b, '\n')
	}
	return b
}

// relation takes one alternative of a dependency apart: name, operator and
// version.
var relation = regexp.MustCompile(`^([^\s(]+)\s*(?:\(\s*(<<|<=|<|=|>=|>>|>)?\s*([^\s)]+)\s*\))?$`)

// formatRelations writes a list of packages with the spaces where dpkg has
// them. What it does not understand is left as it is, for dpkg to refuse.
func formatRelations(list string) string {
	if list == "" {
		return ""
	}
	groups := strings.Split(list, ",")
	for i, group := range groups {
		alternatives := strings.Split(group, "|")
		for j, alternative := range alternatives {
			alternatives[j] = formatRelation(strings.TrimSpace(alternative))
		}
		groups[i] = strings.Join(alternatives, " | ")
	}
	groups = slices.DeleteFunc(groups, func(s string) bool { return s == "" })
	return strings.Join(groups, ", ")
}

func formatRelation(s string) string {
	m := relation.FindStringSubmatch(s)
	if m == nil {
		return s
	}
	if m[3] == "" {
		return m[1]
	}
	op := m[2]
	switch op {
	case "":
		op = "="
	case "<": // obsolete spellings of these two
		op = "<="
	case ">":
		op = ">="
	}
	return m[1] + " (" + op + " " + m[3] + ")"
}
