package cidata

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/schema"
	"github.com/applbuild/applbuild/cidata/seedfile"
	"github.com/applbuild/applbuild/cidata/userdata"
)

// check judges all files. What cloud-init would refuse or pass over is a problem, what it only grumbles at a warning.
func (l *loader) check(seed *Seed, sources map[string]document.Source) {
	for _, name := range []string{UserData, VendorData} {
		if s, ok := sources[name]; ok {
			l.checkParts(s)
		}
	}
	if s, ok := sources[NetworkConfig]; ok {
		l.judgedNetwork(l.judge.NetworkConfig(s.Data), s.At)
		l.keysIn(s.Data, s.At)
		n, problems := document.ParseMerged(s.Data, s.At)
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
			l.keysIn(f.Data, sources[f.Path].At)
		}
	}
	if l.For == ForEC2 {
		l.checkEC2(seed)
	}
}

// checkParts judges user-data or vendor-data.
func (l *loader) checkParts(s document.Source) {
	if len(bytes.TrimSpace(s.Data)) == 0 {
		return
	}
	problems := userdata.Walk(s.Data, s.At, l.checkPart)
	l.problems = append(l.problems, problems...)
}

func (l *loader) checkPart(p userdata.Part) {
	l.keysIn(p.Data, p.At)
	switch p.Type {
	case "":
		l.problems = append(l.problems, userdata.UnknownType(p.Data, p.At))
	case userdata.CloudConfig:
		n, problems := document.ParseMerged(p.Data, p.At)
		if p.Archived && (n == nil || n.Kind != document.Mapping) {
			l.warn(p.At(1, 1), "passed over, since it is no mapping of a cloud-config", "begin it with what it is: "+userdata.Beginnings)
			return
		}
		judged := l.judge.CloudConfig(p.Data)
		l.judged(judged, p.At)
		if n == nil && schema.Valid(judged) {
			l.problems = append(l.problems, problems...) // what cannot be read has not been searched
		}
		l.secrets(n)
	case userdata.Jinja:
		l.checkTemplate(p)
	case userdata.Script:
		l.checkScript(p)
	case userdata.Include, userdata.IncludeOnce:
		l.checkInclude(p)
	case userdata.Archive, userdata.JSONPatch, userdata.Boothook, userdata.PartHandler:
	default:
		if !userdata.IsTimedScript(p.Type) {
			l.warn(p.At(1, 1), "a part of type "+document.Quote(p.Type)+" is passed over, unless a part-handler takes it", "use a type that cloud-init knows")
		}
	}
}

func (l *loader) warn(pos Position, what, do string) {
	l.warnings = append(l.warnings, &Error{Position: pos, What: what, Do: do})
}

// judged takes over what cloud-init's schema says.
func (l *loader) judged(problems []schema.Problem, at document.Place) {
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
func (l *loader) judgedNetwork(problems []schema.Problem, at document.Place) {
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
func (l *loader) checkTemplate(p userdata.Part) {
	trimmed := bytes.TrimLeft(p.Data, " \t\r\n\v\f")
	_, rest, _ := bytes.Cut(trimmed, []byte("\n"))
	at := p.At.Below(bytes.Count(p.Data[:len(p.Data)-len(rest)], []byte("\n")))
	if bytes.Contains(rest, []byte("{{")) || bytes.Contains(rest, []byte("{%")) || bytes.Contains(rest, []byte("{#")) {
		if line := strings.TrimSpace(userdata.FirstLine(rest)); userdata.TypeOf(rest) == "" && !strings.HasPrefix(line, "{") {
			l.problems = append(l.problems, userdata.UnknownType(rest, at))
		}
		return
	}
	inner := userdata.Part{Name: p.Name, Type: userdata.TypeOf(rest), Data: rest, At: at}
	if inner.Type == userdata.Jinja {
		inner.Type = ""
	}
	l.checkPart(inner)
}

// checkScript finds line ends of Windows, which the kernel takes as part of the interpreter's name.
func (l *loader) checkScript(p userdata.Part) {
	if line, _, found := bytes.Cut(p.Data, []byte("\n")); found && bytes.HasSuffix(line, []byte("\r")) {
		l.problems = append(l.problems, &Error{Position: p.At(1, 1), What: "the script's lines end in CR LF, so its interpreter is not found", Do: "save it with LF alone"})
	}
}

func (l *loader) checkInclude(p userdata.Part) {
	for i, line := range strings.Split(string(p.Data), "\n") {
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
			l.problem(p.At(i+1, 1), document.Quote(line)+" is no URL to include", "write one URL in a line, such as https://example.com/user-data")
		}
	}
}

func (l *loader) checkMetaData(s document.Source) {
	n, problems := document.ParseMerged(s.Data, s.At)
	l.problems = append(l.problems, problems...)
	l.keysIn(s.Data, s.At)
	if len(problems) > 0 {
		return
	}
	if n == nil || n.Kind != document.Mapping {
		l.problem(s.At(1, 1), "meta-data is no mapping", "write instance-id: NAME")
		return
	}
	switch id := n.Get("instance-id"); {
	case id == nil:
		l.problem(s.At(1, 1), "meta-data has no instance-id", "add one: cloud-init applies a seed once for each")
	case id.Kind != document.Scalar || id.Tag == "!!null" || id.Value == "":
		l.problem(id.Pos, "instance-id is no text", "write a name")
	}
	if host := n.Get("local-hostname"); host != nil && (host.Kind != document.Scalar || !seedfile.IsHostname(host.Value)) {
		l.problem(host.Pos, "local-hostname is no host name", "use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)")
	}
}
