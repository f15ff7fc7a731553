package userdata

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/applbuild/applbuild/cidata/document"
)

// Join puts parts together to one user-data, a MIME message (RFC 2046, section 5.1.3). Two or more are needed. What
// is wrong with a part is among problems, and there is no source then; warnings are of keys that a later cloud-config
// takes from an earlier one. The same parts give the same bytes.
func Join(parts []document.Source) (joined document.Source, warnings, problems document.Errors) {
	parts = slices.Clone(parts)
	types := make([]string, len(parts))
	for i := range parts {
		var wrong document.Errors
		parts[i], wrong = unpacked(parts[i])
		problems = append(problems, wrong...)
		if types[i] = typeOfFile(parts[i].Data); types[i] == "" && len(wrong) == 0 {
			problems = append(problems, UnknownType(parts[i].Data, parts[i].At))
		}
	}
	if len(problems) > 0 {
		return document.Source{}, nil, problems
	}
	data, lines := message(parts, types)
	return document.Source{Name: "message", Data: data, At: func(line, column int) document.Position {
		for i := len(parts) - 1; i >= 0; i-- {
			if lines[i] > 0 && line >= lines[i] {
				return parts[i].At(line-lines[i]+1, column)
			}
		}
		return parts[0].At(1, 1)
	}}, replaced(parts, types), nil
}

// unpacked undoes gzip: in a message cloud-init unpacks text only, and only if it is ASCII.
func unpacked(p document.Source) (document.Source, document.Errors) {
	w := &walker{}
	for depth := 0; IsGzip(p.Data) && depth < maxPartDepth && len(w.problems) == 0; depth++ {
		w.gunzip(p.Data, p.At, func(data []byte, at document.Place) { p.Data, p.At = data, at })
	}
	return p, w.problems
}

// message writes parts as a MIME message. lines holds the line at which each begins.
func message(parts []document.Source, types []string) (data []byte, lines []int) {
	var out bytes.Buffer
	boundary := boundaryFor(parts)
	fmt.Fprintf(&out, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\nNumber-Attachments: %d\n\n", boundary, len(parts))
	for i, p := range parts {
		fmt.Fprintf(&out, "--%s\n", boundary)
		if types[i] == typeMIME {
			// A message in a message brings headers of its own.
			lines = append(lines, 1+bytes.Count(out.Bytes(), []byte("\n")))
			out.Write(p.Data)
			out.WriteString("\n")
			continue
		}
		plain, charset := isPlain(p.Data), ""
		if strings.HasPrefix(types[i], "text/") && utf8.Valid(p.Data) {
			charset = `; charset="us-ascii"`
			if !isASCII(p.Data) {
				charset = `; charset="utf-8"`
			}
		}
		encoding := "base64"
		if plain {
			encoding = "7bit"
		}
		fmt.Fprintf(&out, "Content-Type: %s%s\nMIME-Version: 1.0\nContent-Transfer-Encoding: %s\nContent-Disposition: attachment; filename=\"%s\"\n\n",
			types[i], charset, encoding, numbered(i, p.Name))
		lines = append(lines, 1+bytes.Count(out.Bytes(), []byte("\n")))
		if plain {
			out.Write(p.Data)
		} else {
			encoded := base64.StdEncoding.EncodeToString(p.Data)
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
func boundaryFor(parts []document.Source) string {
	hash := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(hash, "%d ", len(p.Data))
		hash.Write(p.Data)
	}
	for {
		boundary := "===============" + hex.EncodeToString(hash.Sum(nil)[:16]) + "=="
		inside := false
		for _, p := range parts {
			inside = inside || bytes.Contains(p.Data, []byte(boundary))
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
func replaced(parts []document.Source, types []string) (warnings document.Errors) {
	first := map[string]document.Position{}
	for i, p := range parts {
		if types[i] != CloudConfig {
			continue
		}
		n, problems := document.ParseMerged(p.Data, p.At)
		if n == nil || len(problems) > 0 {
			continue // said by whoever checks the part
		}
		merges := n.Get("merge_how") != nil || n.Get("merge_type") != nil
		for _, e := range n.Entries {
			if earlier, ok := first[e.Key]; ok && !merges {
				warnings = append(warnings, &document.Error{Position: e.Pos,
					What: fmt.Sprintf("%s replaces that of an earlier part (%s)", e.Key, earlier),
					Do:   "put the two into one file, or add merge_how to this one"})
			}
			first[e.Key] = e.Pos
		}
	}
	return warnings
}

// numbered is the name of a part: cloud-init runs scripts in the order of their names, and two of one name would
// replace each other.
func numbered(i int, name string) string {
	name = strings.Map(func(r rune) rune {
		if r > 0x20 && r < 0x7f && !strings.ContainsRune(`"/\;`, r) {
			return r
		}
		return '_'
	}, path.Base(name))
	return fmt.Sprintf("%02d-%s", i+1, strings.TrimLeft(name, "."))
}
