package units

import (
	"fmt"
	"strings"
)

// A unit is a file of sections with lines KEY=VALUE.
type unit struct {
	text    strings.Builder
	section string
}

// set adds a line. Values are as the file has them.
func (u *unit) set(section, key string, values ...string) {
	for _, value := range values {
		if u.section != section {
			if u.section != "" {
				u.text.WriteString("\n")
			}
			fmt.Fprintf(&u.text, "[%s]\n", section)
			u.section = section
		}
		fmt.Fprintf(&u.text, "%s=%s\n", key, value)
	}
}

func (u *unit) bytes() []byte { return []byte(u.text.String()) }

// quote writes a word so that systemd, and podman's generator, read it as the
// one word that it is (systemd.syntax(7), "Quoting"), with % and $ as they are:
// both double them in what becomes a command line (systemd.service(5),
// "Command lines").
func quote(word string) string {
	return quoted(strings.ReplaceAll(verbatim(word), "\x00", ""))
}

// verbatim doubles what systemd would expand.
func verbatim(text string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(text)
}

func quoted(word string) string {
	plain := func(r rune) bool {
		return r > 0x7f || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/.,:=_-+@%$[]{}~^&*()<>?!|", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	var out strings.Builder
	out.WriteByte('"')
	for i := range len(word) {
		switch b := word[i]; {
		case b == '\n':
			out.WriteString(`\n`)
		case b == '\t':
			out.WriteString(`\t`)
		case b == '"' || b == '\\':
			out.WriteByte('\\')
			out.WriteByte(b)
		case b < 0x20 || b == 0x7f:
			fmt.Fprintf(&out, `\x%02x`, b)
		default:
			out.WriteByte(b)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// command joins words to a command line.
func command(words ...string) string {
	parts := make([]string, len(words))
	for i, word := range words {
		parts[i] = quote(word)
	}
	return strings.Join(parts, " ")
}
