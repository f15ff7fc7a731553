package recipes

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultHealth is the interval and the timeout of a health check, as podman and docker have them.
const defaultHealth = 30 * time.Second

// A Port of the machine leads to one of a container.
type Port struct {
	Address   string // of the machine; empty is every one
	Host      int
	Container int
	Protocol  string // tcp or udp
}

func (p *Port) parse(text string) error {
	complain := func(why string) error {
		return fmt.Errorf("port %q %s: write [ADDRESS:]PORT:CONTAINERPORT[/tcp|/udp], such as 80:8080", shorten(text), why)
	}
	rest, protocol, given := strings.Cut(text, "/")
	if !given {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return complain("is neither tcp nor udp")
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return complain("says only one port")
	}
	host, container, address := rest[:i], rest[i+1:], ""
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		address, host = host[:j], host[j+1:]
		bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		parsed, err := netip.ParseAddr(bare)
		if err != nil || parsed.Zone() != "" || parsed.Is6() != (bare != address) {
			return complain("has a malformed address")
		}
		if address = parsed.String(); parsed.IsUnspecified() && parsed.Is4() {
			address = ""
		}
	}
	*p = Port{Address: address, Protocol: protocol}
	for _, number := range []struct {
		text string
		to   *int
	}{{host, &p.Host}, {container, &p.Container}} {
		n, err := strconv.Atoi(number.text)
		switch {
		case strings.Contains(number.text, "-"):
			return complain("is a range, of which each is written by itself")
		case err != nil || n < 1 || n > 65535 || number.text[0] == '+':
			return complain("has a number that is not from 1 to 65535")
		}
		*number.to = n
	}
	return nil
}

// String returns the port as podman and docker read it.
func (p Port) String() string {
	text := fmt.Sprintf("%d:%d/%s", p.Host, p.Container, p.Protocol)
	switch {
	case strings.Contains(p.Address, ":"):
		text = "[" + p.Address + "]:" + text
	case p.Address != "":
		text = p.Address + ":" + text
	}
	return text
}

// MarshalJSON writes the port as text.
func (p Port) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, p.String()), nil }

// A Volume is a folder of the machine, or a named volume of the runtime, in a container.
type Volume struct {
	Source  string // an absolute path, or a volume's name
	Path    string // in the container
	Options []string
}

// volumeOptions are those of podman; of them docker knows the ones that are true.
var volumeOptions = map[string]bool{
	"ro": true, "rw": true, "z": true, "Z": true, "nocopy": true,
	"shared": true, "rshared": true, "slave": true, "rslave": true, "private": true, "rprivate": true,
	"U": false, "copy": false, "exec": false, "noexec": false, "dev": false, "nodev": false, "suid": false, "nosuid": false,
}

func (v *Volume) parse(text string) error {
	complain := func(why string) error {
		return fmt.Errorf("volume %q %s: write SOURCE:PATH[:OPTIONS], such as /data/web:/srv:ro", shorten(text), why)
	}
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return complain("has not two or three parts")
	}
	*v = Volume{Source: parts[0], Path: parts[1]}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(text) > 8191 {
		return complain("has control characters, or is too long")
	}
	if strings.ContainsAny(v.Source+v.Path, " \\\"'$%,") {
		return complain("has a blank, a comma, a quote or one of \\ $ %, which a unit cannot hold")
	}
	if !strings.HasPrefix(v.Source, "/") && !volumeName(v.Source) {
		return complain("has a source that is neither an absolute path nor a volume's name")
	}
	for _, name := range []string{v.Source, v.Path} {
		if strings.HasPrefix(name, "/") && path.Clean(name) != name {
			return complain("has a path that is not in its shortest form, " + path.Clean(name))
		}
	}
	if !strings.HasPrefix(v.Path, "/") || v.Path == "/" {
		return complain("has a path in the container that is not absolute, or its root")
	}
	if len(parts) == 3 {
		v.Options = strings.Split(parts[2], ",")
		for _, option := range v.Options {
			if _, known := volumeOptions[option]; !known {
				return complain(fmt.Sprintf("has an option %q that is not known", shorten(option)))
			}
		}
	}
	return nil
}

// volumeName reports whether text names a volume, by the rule that podman and docker share.
func volumeName(text string) bool {
	for i, r := range text {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case i > 0 && strings.ContainsRune("_.-", r):
		default:
			return false
		}
	}
	return len(text) > 1 && len(text) <= 63
}

// Named says that the runtime keeps the volume, by name, among its own state.
func (v Volume) Named() bool { return !strings.HasPrefix(v.Source, "/") }

// ReadOnly says that the container cannot write to the volume.
func (v Volume) ReadOnly() bool { return slices.Contains(v.Options, "ro") }

// String returns the volume as podman and docker read it.
func (v Volume) String() string {
	text := v.Source + ":" + v.Path
	if len(v.Options) > 0 {
		text += ":" + strings.Join(v.Options, ",")
	}
	return text
}

// MarshalJSON writes the volume as text.
func (v Volume) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, v.String()), nil }

// splitWords takes a text apart at blanks. Single quotes, double quotes and backslashes hold together what a POSIX
// shell would hold together; nothing is expanded. It fails on a quote without an end.
func splitWords(text string) (words []string, ok bool) {
	var word strings.Builder
	var quote rune
	inside, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\\\"$`", r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inside = true, true
		case r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case strings.ContainsRune(" \t\n", r):
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words, quote == 0 && !escaped
}
