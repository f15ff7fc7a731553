package cidata

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/schema"
)

// check judges all files. What cloud-init would refuse or pass over is a problem, what it only grumbles at a warning.
func (l *loader) check(seed *Seed, sources map[string]source) {
	for _, name := range []string{UserData, VendorData} {
		if s, ok := sources[name]; ok {
			l.checkParts(s)
		}
	}
	if s, ok := sources[NetworkConfig]; ok {
		l.judgedNetwork(schema.NetworkConfig(s.data), s.at)
		l.keysIn(s.data, s.at)
		n, problems := parseYAML(s.data, s.at, true)
		if n == nil {
			l.problems = append(l.problems, problems...)
		}
		l.secrets(n)
	}
	if s, ok := sources[MetaData]; ok {
		l.checkMetaData(s)
	}
	for _, f := range seed.files {
		if !slices.Contains(wellKnown, f.Path) {
			l.keysIn(f.Data, sources[f.Path].at)
		}
	}
	if l.For == ForEC2 {
		l.checkEC2(seed)
	}
}

// checkParts judges user-data or vendor-data.
func (l *loader) checkParts(s source) {
	if len(bytes.TrimSpace(s.data)) == 0 {
		return
	}
	w := &walker{visit: l.checkPart}
	w.walk(s.data, s.at)
	l.problems = append(l.problems, w.problems...)
}

func (l *loader) checkPart(p part) {
	l.keysIn(p.data, p.at)
	switch p.contentType {
	case "":
		l.problems = append(l.problems, unknownKind(p.data, p.at))
	case typeCloudConfig:
		n, problems := parseYAML(p.data, p.at, true)
		if p.archived && (n == nil || n.kind != mapping) {
			l.warn(p.at(1, 1), "passed over, since it is no mapping of a cloud-config", "begin it with what it is: "+knownLines)
			return
		}
		judged := schema.CloudConfig(p.data)
		l.judged(judged, p.at)
		if n == nil && schema.Valid(judged) {
			l.problems = append(l.problems, problems...) // what cannot be read has not been searched
		}
		l.secrets(n)
	case typeJinja:
		l.checkTemplate(p)
	case typeScript:
		l.checkScript(p)
	case typeInclude, typeIncludeOnce:
		l.checkInclude(p)
	case typeArchive, typePatch, typeBoothook, typePartHandler:
	default:
		if !slices.Contains(scriptTypes, p.contentType) {
			l.warn(p.at(1, 1), "a part of type "+quote(p.contentType)+" is passed over, unless a part-handler takes it", "use a type that cloud-init knows")
		}
	}
}

func (l *loader) warn(pos Position, what, do string) {
	l.warnings = append(l.warnings, &Error{Position: pos, What: what, Do: do})
}

// judged takes over what cloud-init's schema says.
func (l *loader) judged(problems []schema.Problem, at place) {
	for _, p := range problems {
		what := p.Message
		if p.Path != "" {
			what = p.Path + ": " + what
		}
		if e := (&Error{Position: at(p.Line, p.Column), What: what}); p.Accepted {
			l.warnings = append(l.warnings, e)
		} else {
			l.problems = append(l.problems, e)
		}
	}
}

// judgedNetwork takes over what cloud-init's schema says of a network-config. Where netplan configures the network,
// cloud-init hands a version 2 through: so a key that only netplan knows is a warning, and one that netplan does not
// know, with which the machine would have no network, a problem.
func (l *loader) judgedNetwork(problems []schema.Problem, at place) {
	for _, p := range problems {
		if name := p.Path[strings.LastIndexByte(p.Path, '.')+1:]; p.Unknown && slices.Contains(netplanKeys, name) {
			l.warn(at(p.Line, p.Column), p.Path+": netplan knows this key, cloud-init's schema does not", "use it only where netplan configures the network")
			continue
		}
		p.Accepted = p.Accepted && !p.Unknown
		l.judged([]schema.Problem{p}, at)
	}
}

// netplanKeys are keys of netplan's YAML (netplan's documentation, "YAML configuration") that cloud-init's schema of
// version 2 refuses: kinds of interfaces, and what a route may have.
var netplanKeys = []string{
	"dummy-devices", "modems", "nm-devices", "openvswitch", "tunnels", "virtual-ethernets", "vrfs", "wifis",
	"advertised-mss", "advertised-receive-window", "congestion-window", "from", "mtu", "on-link", "scope", "table",
	"type",
}

// checkTemplate judges a Jinja template as far as that is possible without the machine that fills it in: what it
// makes must be of a known kind, and where no expression is in it, it is judged like that.
func (l *loader) checkTemplate(p part) {
	trimmed := bytes.TrimLeft(p.data, " \t\r\n\v\f")
	_, rest, _ := bytes.Cut(trimmed, []byte("\n"))
	at := shifted(p.data, len(p.data)-len(rest), p.at)
	if bytes.Contains(rest, []byte("{{")) || bytes.Contains(rest, []byte("{%")) || bytes.Contains(rest, []byte("{#")) {
		if line := strings.TrimSpace(firstLine(rest)); lineKind(rest) == "" && !strings.HasPrefix(line, "{") {
			l.problems = append(l.problems, unknownKind(rest, at))
		}
		return
	}
	inner := part{name: p.name, contentType: lineKind(rest), data: rest, at: at}
	if inner.contentType == typeJinja {
		inner.contentType = ""
	}
	l.checkPart(inner)
}

// checkScript finds line ends of Windows, which the kernel takes as part of the interpreter's name.
func (l *loader) checkScript(p part) {
	if line, _, found := bytes.Cut(p.data, []byte("\n")); found && bytes.HasSuffix(line, []byte("\r")) {
		l.problems = append(l.problems, &Error{Position: p.at(1, 1), What: "the script's lines end in CR LF, so its interpreter is not found", Do: "save it with LF alone"})
	}
}

func (l *loader) checkInclude(p part) {
	for i, line := range strings.Split(string(p.data), "\n") {
		line = strings.TrimSpace(line)
		lower := strings.ToLower(line)
		for _, word := range []string{"#include-once", "#include"} {
			if strings.HasPrefix(lower, word) {
				line = strings.TrimSpace(line[len(word):])
				break
			}
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if u, err := url.Parse(line); err != nil || (u.Scheme == "" || u.Host == "" && u.Path == "") && !strings.HasPrefix(line, "/") {
			l.problem(p.at(i+1, 1), quote(line)+" is no URL to include", "write one URL in a line, such as https://example.com/user-data")
		}
	}
}

func (l *loader) checkMetaData(s source) {
	n, problems := parseYAML(s.data, s.at, true)
	l.problems = append(l.problems, problems...)
	l.keysIn(s.data, s.at)
	if len(problems) > 0 {
		return
	}
	if n == nil || n.kind != mapping {
		l.problem(s.at(1, 1), "meta-data is no mapping", "write instance-id: NAME")
		return
	}
	switch id := n.get("instance-id"); {
	case id == nil:
		l.problem(s.at(1, 1), "meta-data has no instance-id", "add one: cloud-init applies a seed once for each")
	case id.kind != scalar || id.tag == "!!null" || id.value == "":
		l.problem(id.pos, "instance-id is no text", "write a name")
	}
	if host := n.get("local-hostname"); host != nil && (host.kind != scalar || !hostnameForm.MatchString(host.value)) {
		l.problem(host.pos, "local-hostname is no host name", "use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)")
	}
}
