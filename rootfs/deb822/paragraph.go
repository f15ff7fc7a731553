package deb822

import "strings"

// A Field is one field of a paragraph.
type Field struct {
	// Name is the field's name as it is written in the file.
	Name string
	// Value is what follows the colon without the blanks around it.
	// Continuation lines follow after "\n", each without the one blank that
	// marks it as such and without trailing blanks. The value of a field
	// whose first line is empty therefore begins with "\n".
	Value string
}

// A Paragraph is a sequence of fields in the order of the file.
type Paragraph []Field

// Get returns the value of the field of that name, compared without regard to
// the case of ASCII letters, and "" when the paragraph has none.
func (p Paragraph) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup is Get that tells an absent field from an empty one.
func (p Paragraph) Lookup(name string) (string, bool) {
	for i := range p {
		if len(p[i].Name) == len(name) && (p[i].Name == name || equalFold(p[i].Name, name)) {
			return p[i].Value, true
		}
	}
	return "", false
}

// AppendText appends the paragraph to b as it stands in a control file, without
// the empty line that separates it from the next. It is the inverse of Next.
func (p Paragraph) AppendText(b []byte) []byte {
	for _, f := range p {
		b = append(b, f.Name...)
		b = append(b, ':')
		first, rest, more := strings.Cut(f.Value, "\n")
		if first != "" {
			b = append(b, ' ')
			b = append(b, first...)
		}
		b = append(b, '\n')
		for more {
			var line string
			line, rest, more = strings.Cut(rest, "\n")
			b = append(b, ' ')
			b = append(b, line...)
			b = append(b, '\n')
		}
	}
	return b
}

// equalFold compares two strings of the same length, ASCII letters without
// regard to case.
func equalFold(a, b string) bool {
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
