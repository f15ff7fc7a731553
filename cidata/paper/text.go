package paper

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// upper is what WinAnsiEncoding has from 0x80 to 0x9f; U+FFFD where it has nothing.
const upper = "€\uFFFD‚ƒ„…†‡ˆ‰Š‹Œ\uFFFDŽ\uFFFD\uFFFD‘’“”•–—˜™š›œ\uFFFDžŸ"

// winAnsiByte returns a character's byte in WinAnsiEncoding, 0 where it has none, or one that nobody would see: a blank
// that does not break, a hyphen that may not be there.
func winAnsiByte(r rune) byte {
	switch {
	case r >= ' ' && r <= '~', r > 0xa0 && r <= 0xff && r != 0xad:
		return byte(r)
	case r == utf8.RuneError:
		return 0
	}
	at := byte(0x80)
	for _, u := range upper {
		if u == r {
			return at
		}
		at++
	}
	return 0
}

// span is a piece of a line that is set in one weight.
type span struct {
	text []byte // in WinAnsiEncoding
	bold bool
}

// winAnsi is text in WinAnsiEncoding, with what that lacks as \u{…}.
func winAnsi(text string) []byte {
	var out []byte
	for _, s := range spans(text) {
		out = append(out, s.text...)
	}
	return out
}

const tabWidth = 8

// spans is a line of text in WinAnsiEncoding. What cannot be printed or would not be seen is written out in bold type:
// tabs as » and blanks up to the next column divisible by 8, the rest as \u{…}, bytes that are no UTF-8 as \x{…}.
func spans(line string) []span {
	var out []span
	column := 0
	put := func(text []byte, bold bool) {
		column += len(text)
		if n := len(out); n > 0 && out[n-1].bold == bold {
			out[n-1].text = append(out[n-1].text, text...)
			return
		}
		out = append(out, span{text, bold})
	}
	for i, r := range line {
		b := winAnsiByte(r)
		switch {
		case b != 0:
			put([]byte{b}, false)
		case r == '\t':
			width := tabWidth - column%tabWidth
			put([]byte{0xbb}, true)
			put([]byte(strings.Repeat(" ", width-1)), true)
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], string(utf8.RuneError)):
			put(fmt.Appendf(nil, `\x{%02X}`, line[i]), true)
		default:
			put(fmt.Appendf(nil, `\u{%04X}`, r), true)
		}
	}
	return out
}

// wrap cuts a line after width characters. It never returns none.
func wrap(line []span, width int) [][]span {
	var out [][]span
	var current []span
	room := width
	for _, s := range line {
		for len(s.text) > 0 {
			if room == 0 {
				out, current, room = append(out, current), nil, width
			}
			n := min(room, len(s.text))
			current = append(current, span{s.text[:n], s.bold})
			s.text, room = s.text[n:], room-n
		}
	}
	return append(out, current)
}

// isText reports whether a file can be printed as lines: no byte 0 in it, and no more than one in eight that is not
// UTF-8.
func isText(data []byte) bool {
	bad := 0
	for i, r := range string(data) {
		if r == 0 {
			return false
		}
		if r == utf8.RuneError && !strings.HasPrefix(string(data[i:min(i+utf8.UTFMax, len(data))]), string(utf8.RuneError)) {
			bad++
		}
	}
	return bad*8 <= len(data)
}
