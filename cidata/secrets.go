package cidata

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
	"strings"
)

// keyForms are the beginnings of private keys: PEM (RFC 7468) and what is written like it, age (age-encryption.org/v1),
// PuTTY and WireGuard (wg(8)).
var keyForms = regexp.MustCompile(`-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----|AGE-SECRET-KEY-1[0-9A-Z]{20,}|AGE-SECRET-KEY-PQ-1[0-9A-Z]{20,}|PuTTY-User-Key-File-[0-9]+:|PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{43}=`)

// privateKey names the kind of the first private key in data, "" where there is none.
func privateKey(data []byte) string { return keyName(keyForms.Find(data)) }

func keyName(found []byte) string {
	switch text := string(found); {
	case text == "":
		return ""
	case strings.HasPrefix(text, "AGE"):
		return "age"
	case strings.HasPrefix(text, "PuTTY"):
		return "PuTTY"
	case strings.HasPrefix(text, "PrivateKey"):
		return "WireGuard"
	default:
		return strings.Trim(text, "-")[len("BEGIN "):]
	}
}

const allowSecrets = "keep it out of the seed, or use --allow-secrets"

func (l *loader) secret(pos Position, what string) {
	if !l.AllowSecrets {
		l.problems = append(l.problems, &Error{Position: pos, What: what, Do: allowSecrets, Err: ErrSecret})
	}
}

// keysIn refuses private keys in the text of data.
func (l *loader) keysIn(data []byte, at place) {
	if l.AllowSecrets {
		return
	}
	for _, found := range keyForms.FindAllIndex(data, 20) {
		line := 1 + bytes.Count(data[:found[0]], []byte("\n"))
		column := found[0] - bytes.LastIndexByte(data[:found[0]], '\n')
		l.secret(at(line, column), "holds a private key ("+keyName(data[found[0]:found[1]])+")")
	}
}

// secrets refuses private keys and plain passwords among the values of a cloud-config or network-config.
func (l *loader) secrets(n *node) {
	if n == nil || l.AllowSecrets {
		return
	}
	for _, item := range n.items {
		l.secrets(item)
	}
	for _, e := range n.entries {
		switch e.key {
		case "password", "plain_text_passwd", "passwd", "hashed_passwd":
			if e.value.kind == scalar && plainPassword(e.value.value) && e.value.tag != "!!null" {
				l.secret(e.value.pos, e.key+" is a plain password")
			}
		case "chpasswd":
			l.passwordList(e.value.get("list"))
		case "ssh_keys":
			l.hostKeys(e.value)
		case "write_files":
			for _, f := range e.value.items {
				l.encoded(f)
			}
		case "tunnels":
			l.tunnels(e.value)
		}
		l.secrets(e.value)
	}
}

// plainPassword reports whether a password can be read by whoever has the seed. A hash of crypt(5), a locked
// password, a random one and a template's value cannot.
func plainPassword(value string) bool {
	switch value {
	case "", "*", "!", "!!", "x", "R", "RANDOM":
		return false
	}
	return !hashForm.MatchString(strings.TrimLeft(value, "!")) && !strings.Contains(value, "{{")
}

// passwordList judges chpasswd's list of USER:PASSWORD, one text or a list.
func (l *loader) passwordList(n *node) {
	if n == nil {
		return
	}
	lines := n.items
	if n.kind == scalar {
		for line := range strings.SplitSeq(n.value, "\n") {
			lines = append(lines, &node{value: line, pos: n.pos})
		}
	}
	for _, line := range lines {
		if user, password, ok := strings.Cut(strings.TrimSpace(line.value), ":"); ok && plainPassword(password) {
			l.secret(line.pos, "chpasswd has a plain password of "+shorten(oneLine(user)))
		}
	}
}

// hostKeys judges ssh_keys, which holds the private keys of the host.
func (l *loader) hostKeys(n *node) {
	for _, e := range n.entries {
		if strings.HasSuffix(e.key, "_private") && e.value.kind == scalar && e.value.value != "" && privateKey([]byte(e.value.value)) == "" {
			l.secret(e.value.pos, "a private key (ssh_keys."+shorten(oneLine(e.key))+")")
		}
	}
}

// tunnels judges netplan's keys of WireGuard.
func (l *loader) tunnels(n *node) {
	for _, e := range n.entries {
		for _, name := range []string{"key", "keys"} {
			k := e.value.get(name)
			if private := k.get("private"); private != nil {
				k = private
			}
			if k != nil && k.kind == scalar && k.value != "" && !strings.HasPrefix(k.value, "/") {
				l.secret(k.pos, "holds a tunnel's private key")
			}
		}
	}
}

// encoded looks for private keys in what write_files holds in another encoding.
func (l *loader) encoded(f *node) {
	content, encoding := f.get("content"), f.get("encoding")
	if content == nil || content.kind != scalar {
		return
	}
	data := []byte(content.value)
	switch {
	case content.tag == "!!binary":
	case encoding == nil || !strings.Contains(encoding.value, "b64") && !strings.Contains(encoding.value, "base64"):
		return
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, bytes.Join(bytes.Fields(data), nil))
	if err != nil {
		return
	}
	if isGzip(decoded) {
		if r, err := gzip.NewReader(bytes.NewReader(decoded)); err == nil {
			decoded, _ = io.ReadAll(io.LimitReader(r, maxFile)) // what can be read of a damaged one
		}
	}
	if kind := privateKey(decoded); kind != "" {
		l.secret(content.pos, "holds a private key ("+kind+")")
	}
}
