package cidata

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/seedfile"
	"github.com/applbuild/applbuild/cidata/userdata"
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
func (l *loader) keysIn(data []byte, at document.Place) {
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
func (l *loader) secrets(n *document.Node) {
	if n == nil || l.AllowSecrets {
		return
	}
	for _, item := range n.Items {
		l.secrets(item)
	}
	for _, e := range n.Entries {
		switch e.Key {
		case "password", "plain_text_passwd", "passwd", "hashed_passwd":
			if e.Value.Kind == document.Scalar && plainPassword(e.Value.Value) && e.Value.Tag != "!!null" {
				l.secret(e.Value.Pos, e.Key+" is a plain password")
			}
		case "chpasswd":
			l.passwordList(e.Value.Get("list"))
		case "ssh_keys":
			l.hostKeys(e.Value)
		case "write_files":
			for _, f := range e.Value.Items {
				l.encoded(f)
			}
		case "tunnels":
			l.tunnels(e.Value)
		}
		l.secrets(e.Value)
	}
}

// plainPassword reports whether a password can be read by whoever has the seed. A hash of crypt(5), a locked
// password, a random one and a template's value cannot.
func plainPassword(value string) bool {
	switch value {
	case "", "*", "!", "!!", "x", "R", "RANDOM":
		return false
	}
	return !seedfile.IsPasswordHash(strings.TrimLeft(value, "!")) && !strings.Contains(value, "{{")
}

// passwordList judges chpasswd's list of USER:PASSWORD, one text or a list.
func (l *loader) passwordList(n *document.Node) {
	if n == nil {
		return
	}
	lines := n.Items
	if n.Kind == document.Scalar {
		for line := range strings.SplitSeq(n.Value, "\n") {
			lines = append(lines, document.Text(line, n.Pos))
		}
	}
	for _, line := range lines {
		if user, password, ok := strings.Cut(strings.TrimSpace(line.Value), ":"); ok && plainPassword(password) {
			l.secret(line.Pos, "chpasswd has a plain password of "+document.Shorten(document.OneLine(user)))
		}
	}
}

// hostKeys judges ssh_keys, which holds the private keys of the host.
func (l *loader) hostKeys(n *document.Node) {
	for _, e := range n.Entries {
		if strings.HasSuffix(e.Key, "_private") && e.Value.Kind == document.Scalar && e.Value.Value != "" && privateKey([]byte(e.Value.Value)) == "" {
			l.secret(e.Value.Pos, "a private key (ssh_keys."+document.Shorten(document.OneLine(e.Key))+")")
		}
	}
}

// tunnels judges netplan's keys of WireGuard.
func (l *loader) tunnels(n *document.Node) {
	for _, e := range n.Entries {
		for _, name := range []string{"key", "keys"} {
			k := e.Value.Get(name)
			if private := k.Get("private"); private != nil {
				k = private
			}
			if k != nil && k.Kind == document.Scalar && k.Value != "" && !strings.HasPrefix(k.Value, "/") {
				l.secret(k.Pos, "holds a tunnel's private key")
			}
		}
	}
}

// encoded looks for private keys in what write_files holds in another encoding.
func (l *loader) encoded(f *document.Node) {
	content, encoding := f.Get("content"), f.Get("encoding")
	if content == nil || content.Kind != document.Scalar {
		return
	}
	data := []byte(content.Value)
	switch {
	case content.Tag == "!!binary":
	case encoding == nil || !strings.Contains(encoding.Value, "b64") && !strings.Contains(encoding.Value, "base64"):
		return
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, bytes.Join(bytes.Fields(data), nil))
	if err != nil {
		return
	}
	if userdata.IsGzip(decoded) {
		if r, err := gzip.NewReader(bytes.NewReader(decoded)); err == nil {
			decoded, _ = io.ReadAll(io.LimitReader(r, maxFile)) // what can be read of a damaged one
		}
	}
	if kind := privateKey(decoded); kind != "" {
		l.secret(content.Pos, "holds a private key ("+kind+")")
	}
}
