package document

// A Place turns lines and columns of a text, both from 1, into positions.
type Place func(line, column int) Position

// InFile is the place of a file's own lines.
func InFile(name string) Place {
	return func(line, column int) Position { return Position{name, line, column} }
}

// Below is the place of text that begins that many lines below the first one of at.
func (at Place) Below(lines int) Place {
	return func(line, column int) Position { return at(line+lines, column) }
}

// A Source is data with its place.
type Source struct {
	Name string // shown to people
	Data []byte
	At   Place
}
