package deb

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/rootfs/deb822"
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
		b = p.status().AppendText(b)
		b = append(b, '\n')
	}
	return b
}

// status is the paragraph of one package.
func (p *Package) status() deb822.Paragraph {
	control := p.Control.Paragraph
	var out deb822.Paragraph
	known := map[string]bool{}
	for _, field := range statusFields {
		known[strings.ToLower(field.name)] = true
		value := control.Get(field.name)
		switch field.name {
		case "Status":
			value = "install ok " + p.State
		case "Conffiles":
			value = p.conffilesField()
		case "Essential", "Protected", "Multi-Arch":
			if value == "no" {
				value = ""
			}
		case "Priority":
			value = strings.ToLower(value)
		}
		if field.relation {
			value = formatRelations(value)
		}
		if value != "" {
			out = append(out, deb822.Field{Name: field.name, Value: value})
		}
	}
	for _, name := range notInStatus {
		known[strings.ToLower(name)] = true
	}
	for _, field := range control {
		if !known[strings.ToLower(field.Name)] {
			out = append(out, field)
		}
	}
	return out
}

func (p *Package) conffilesField() string {
	var b strings.Builder
	for _, c := range p.conffiles {
		b.WriteString("\n" + c.path + " " + c.hash)
		if c.obsolete {
			b.WriteString(" obsolete")
		}
		if c.remove {
			b.WriteString(" remove-on-upgrade")
		}
	}
	return b.String()
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
