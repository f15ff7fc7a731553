package distro

import (
	"io/fs"
	"sort"
	"strings"
)

// An aptConf is apt's configuration: values by lower-case name, the parts joined
// by "::". Lists, which have no names, are left out.
type aptConf map[string]string

// maxAptFile bounds the size of apt's files that are read, in bytes.
const maxAptFile = 1 << 20

// readAptConf reads apt.conf.d and apt.conf of an /etc/apt, in apt's order
// (apt.conf(5)). Files that cannot be read are left out, as are those that apt
// ignores for their names.
func readAptConf(apt fs.FS) (conf aptConf, where map[string]string) {
	conf, where = aptConf{}, map[string]string{}
	for _, name := range append(listFiles(apt, "apt.conf.d", "", ".conf"), "apt.conf") {
		data, err := readSmall(apt, name)
		if err != nil {
			continue
		}
		for k, v := range parseAptConf(string(data)) {
			conf[k], where[k] = v, name
		}
	}
	return conf, where
}

// parseAptConf reads the syntax of apt.conf(5): names with "::" or nested in
// braces, quoted values, semicolons, comments.
func parseAptConf(text string) aptConf {
	conf := aptConf{}
	var scope []string // names of the open braces
	var words []string // of the statement so far
	for {
		var tok string
		var quoted bool
		tok, quoted, text = aptToken(text)
		switch {
		case tok == "" && !quoted:
			return conf
		case tok == "{" && !quoted:
			name := ""
			if len(words) > 0 {
				name = words[0]
			}
			if len(scope) < 64 {
				scope = append(scope, name)
			} else {
				return conf // nested beyond all reason
			}
			words = nil
		case tok == "}" && !quoted:
			if len(scope) > 0 {
				scope = scope[:len(scope)-1]
			}
			words = nil
		case tok == ";" && !quoted:
			if len(words) == 2 && !strings.HasSuffix(words[0], "::") {
				name := strings.Join(append(append([]string(nil), scope...), words[0]), "::")
				conf[strings.ToLower(name)] = words[1]
			}
			words = nil
		case strings.HasPrefix(tok, "#") && !quoted && len(words) == 0:
			words = nil // #clear, #include: not followed
		default:
			words = append(words, tok)
		}
	}
}

// aptToken returns the next word, brace, semicolon or quoted text.
func aptToken(s string) (tok string, quoted bool, rest string) {
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		switch {
		case strings.HasPrefix(s, "//"), strings.HasPrefix(s, "#") && !strings.HasPrefix(s, "#clear") && !strings.HasPrefix(s, "#include"):
			i := strings.IndexByte(s, '\n')
			if i < 0 {
				return "", false, ""
			}
			s = s[i:]
			continue
		case strings.HasPrefix(s, "/*"):
			i := strings.Index(s, "*/")
			if i < 0 {
				return "", false, ""
			}
			s = s[i+2:]
			continue
		}
		break
	}
	if s == "" {
		return "", false, ""
	}
	switch s[0] {
	case '{', '}', ';':
		return s[:1], false, s[1:]
	case '"':
		i := strings.IndexByte(s[1:], '"')
		if i < 0 {
			return "", false, ""
		}
		return s[1 : 1+i], true, s[2+i:]
	}
	i := strings.IndexAny(s, " \t\r\n{};\"")
	if i < 0 {
		i = len(s)
	}
	return s[:i], false, s[i:]
}

// isOff reports whether a value says no, in the words apt knows.
func isOff(v string) bool {
	switch strings.ToLower(v) {
	case "no", "false", "without", "off", "disable", "0":
		return true
	}
	return false
}

// Proxies returns the proxies that the host's apt goes through, from
// Acquire::http::Proxy and Acquire::https::Proxy; "" where there is none. For
// https apt falls back to the one for http.
func Proxies(hostApt fs.FS) (http, https string) {
	if hostApt == nil {
		return "", ""
	}
	conf, _ := readAptConf(hostApt)
	http, https = conf["acquire::http::proxy"], conf["acquire::https::proxy"]
	if https == "" {
		https = http
	}
	if strings.EqualFold(http, "direct") {
		http = ""
	}
	if strings.EqualFold(https, "direct") {
		https = ""
	}
	return http, https
}

// listFiles lists the regular files of a folder that have one of the endings
// ("" is a name without a dot), sorted.
func listFiles(fsys fs.FS, dir string, endings ...string) []string {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		n := e.Name()
		for _, end := range endings {
			if end == "" && !strings.Contains(n, ".") || end != "" && strings.HasSuffix(n, end) && !strings.HasPrefix(n, ".") {
				names = append(names, dir+"/"+n)
				break
			}
		}
	}
	sort.Strings(names)
	return names
}

// readSmall reads a file no longer than maxAptFile.
func readSmall(fsys fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxAptFile {
		return nil, fs.ErrInvalid
	}
	return fs.ReadFile(fsys, name)
}
