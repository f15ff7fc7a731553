package cidata

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// multipart returns the files that names name as one user-data: a single one as it is, several as a MIME message
// (RFC 2046, section 5.1.3). first is a part to begin with, where there is one.
func (l *loader) multipart(names []text, first *source) (source, bool) {
	var parts []source
	if first != nil {
		parts = append(parts, *first)
	}
	for _, name := range names {
		s, ok := l.read(name)
		if !ok {
			return source{}, false
		}
		if len(s.data) == 0 {
			l.problem(name.pos, quote(s.name)+" is empty", "leave it out")
			return source{}, false
		}
		parts = append(parts, s)
	}
	switch len(parts) {
	case 0:
		return source{}, false
	case 1:
		return parts[0], true
	}
	types := make([]string, len(parts))
	for i := range parts {
		p := l.unpacked(parts[i])
		parts[i] = p
		if types[i] = kindOf(p.data); types[i] == "" && len(l.problems) == 0 {
			l.problems = append(l.problems, unknownKind(p.data, p.at))
		}
	}
	if len(l.problems) > 0 {
		return source{}, false
	}
	l.replaced(parts, types)
	data, lines := message(parts, types)
	return source{"message", data, func(line, column int) Position {
		for i := len(parts) - 1; i >= 0; i-- {
			if lines[i] > 0 && line >= lines[i] {
				return parts[i].at(line-lines[i]+1, column)
			}
		}
		return parts[0].at(1, 1)
	}}, true
}

// unpacked undoes gzip: in a message cloud-init unpacks text only, and only if it is ASCII.
func (l *loader) unpacked(p source) source {
	w := &walker{}
	for depth := 0; isGzip(p.data) && depth < maxPartDepth && len(w.problems) == 0; depth++ {
		w.gunzip(p.data, p.at, func(data []byte, at place) { p.data, p.at = data, at })
	}
	l.problems = append(l.problems, w.problems...)
	return p
}

// message writes parts as a MIME message. lines holds the line at which each begins.
func message(parts []source, types []string) (data []byte, lines []int) {
	var out bytes.Buffer
	boundary := boundaryFor(parts)
	fmt.Fprintf(&out, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\nNumber-Attachments: %d\n\n", boundary, len(parts))
	for i, p := range parts {
		fmt.Fprintf(&out, "--%s\n", boundary)
		if types[i] == typeMIME {
			// A message in a message brings headers of its own.
			lines = append(lines, 1+bytes.Count(out.Bytes(), []byte("\n")))
			out.Write(p.data)
			out.WriteString("\n")
			continue
		}
		plain, charset := isPlain(p.data), ""
		if strings.HasPrefix(types[i], "text/") && utf8.Valid(p.data) {
			charset = `; charset="us-ascii"`
			if !isASCII(p.data) {
				charset = `; charset="utf-8"`
			}
		}
		encoding := "base64"
		if plain {
			encoding = "7bit"
		}
		fmt.Fprintf(&out, "Content-Type: %s%s\nMIME-Version: 1.0\nContent-Transfer-Encoding: %s\nContent-Disposition: attachment; filename=\"%s\"\n\n",
			types[i], charset, encoding, numbered(i, p.name))
		lines = append(lines, 1+bytes.Count(out.Bytes(), []byte("\n")))
		if plain {
			out.Write(p.data)
		} else {
			encoded := base64.StdEncoding.EncodeToString(p.data)
			for ; len(encoded) > 76; encoded = encoded[76:] {
				out.WriteString(encoded[:76] + "\n")
			}
			out.WriteString(encoded)
		}
		out.WriteString("\n")
	}
	fmt.Fprintf(&out, "--%s--\n", boundary)
	return out.Bytes(), lines
}

// boundaryFor returns a line that stands in none of the parts, the same for the same parts.
func boundaryFor(parts []source) string {
	hash := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(hash, "%d ", len(p.data))
		hash.Write(p.data)
	}
	for {
		boundary := "===============" + hex.EncodeToString(hash.Sum(nil)[:16]) + "=="
		inside := false
		for _, p := range parts {
			inside = inside || bytes.Contains(p.data, []byte(boundary))
		}
		if !inside {
			return boundary
		}
		hash.Write([]byte(boundary))
	}
}

func isASCII(data []byte) bool {
	for _, b := range data {
		if b >= 0x80 {
			return false
		}
	}
	return true
}

// isPlain reports whether data can stand in a message as it is (RFC 2045, section 2.7, with lines that end in LF).
func isPlain(data []byte) bool {
	if !isASCII(data) || bytes.ContainsAny(data, "\r\x00") {
		return false
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		if len(line) > 998 || bytes.HasPrefix(line, []byte("From ")) {
			return false
		}
	}
	return true
}

// replaced warns of keys that a later cloud-config takes from an earlier one: cloud-init's default is that the last
// part wins.
func (l *loader) replaced(parts []source, types []string) {
	first := map[string]Position{}
	for i, p := range parts {
		if types[i] != typeCloudConfig {
			continue
		}
		n, problems := parseYAML(p.data, p.at, true)
		if n == nil || len(problems) > 0 {
			continue // said by the check of the part
		}
		merges := n.get("merge_how") != nil || n.get("merge_type") != nil
		for _, e := range n.entries {
			if earlier, ok := first[e.key]; ok && !merges {
				l.warnings = append(l.warnings, &Error{Position: e.pos,
					What: fmt.Sprintf("%s replaces that of an earlier part (%s)", e.key, earlier),
					Do:   "put the two into one file, or add merge_how to this one"})
			}
			first[e.key] = e.pos
		}
	}
}
