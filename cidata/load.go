package cidata

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/applbuild/applbuild/cidata/iso"
)

// Targets that LoadOptions.For may name.
const (
	ForNoCloud = ""
	ForEC2     = "ec2"
)

// LoadOptions say how a seed is made.
type LoadOptions struct {
	Settings     Settings
	AllowSecrets bool      // let private keys and plain passwords in
	For          string    // ForNoCloud or ForEC2
	Time         time.Time // date of files and file system; the zero value is 1980-01-01, the earliest that FAT knows

	readFile func(name string) ([]byte, error) // in tests; nil reads the host's files
}

// Load makes a seed from the seed file name and the settings, or from the settings alone where name is empty. Its
// error is [Errors] when the seed is wrong.
func Load(name string, o LoadOptions) (*Seed, error) {
	if o.readFile == nil {
		o.readFile = readFile
	}
	if o.For != ForNoCloud && o.For != ForEC2 {
		return nil, &Error{Position: flagged("for"), What: quote(o.For) + " is not known", Do: "use " + ForEC2 + ", or leave it out"}
	}
	l := &loader{LoadOptions: o, dir: filepath.Dir(name), top: Position{File: "the command line"}}
	root := mapNode(l.top)
	if name != "" {
		l.top = Position{name, 1, 1}
		data, err := o.readFile(name)
		if err != nil {
			return nil, fmt.Errorf("seed file: %w: name a file that is there", err)
		}
		node, problems := parseYAML(data, inFile(name), false)
		if len(problems) > 0 {
			return nil, problems.err()
		}
		switch {
		case node == nil:
			root.pos = l.top
		case node.kind != mapping:
			return nil, Errors{{Position: node.pos, What: "is " + node.kind.String(), Do: "write a mapping, KEY: VALUE"}}
		default:
			root = node
		}
		if line := firstLine(data); strings.HasPrefix(line, "#cloud-config") {
			return nil, Errors{{Position: l.top, What: "is user-data itself", Do: "give it with --user-data " + name + ", or put it beneath cloud_config"}}
		}
	}
	return l.load(root)
}

func firstLine(data []byte) string {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return strings.TrimRight(string(line), "\r")
}

// readFile reads a file of the host that is not larger than a seed may hold.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB: %w", name, maxFile>>20, ErrTooLarge)
	}
	return data, err
}

// A loader makes one seed.
type loader struct {
	LoadOptions
	dir      string // that file names of the seed file are relative to
	top      Position
	problems Errors
	warnings Errors
	total    int
}

func (l *loader) problem(pos Position, what, do string) {
	l.problems = append(l.problems, &Error{Position: pos, What: what, Do: do})
}

// A source is data with its place.
type source struct {
	name string // shown to people, and the base of a part's name
	data []byte
	at   place
}

// read returns the file that t names.
func (l *loader) read(t text) (source, bool) {
	if !t.given() {
		return source{}, false
	}
	name := t.value
	if !fromFlag(t.pos) && !filepath.IsAbs(name) {
		name = filepath.Join(l.dir, filepath.FromSlash(name))
	}
	data, err := l.readFile(name)
	if err != nil {
		l.problems = append(l.problems, missing(t, err))
		return source{}, false
	}
	if l.total += len(data); l.total > maxTotal {
		l.problems = append(l.problems, &Error{Position: t.pos, What: "all files together are too large", Do: fmt.Sprintf("stay below %d MiB", maxTotal>>20), Err: ErrTooLarge})
		return source{}, false
	}
	return source{name, data, inFile(name)}, true
}

// load makes the seed that root describes.
func (l *loader) load(root *node) (*Seed, error) {
	if problems := l.Settings.lay(root); len(problems) > 0 {
		return nil, problems.err()
	}
	l.netplanFlag(root)
	d := &decoder{}
	c := d.decode(root)
	l.problems = append(l.problems, d.problems...)
	if len(l.problems) > 0 {
		return nil, l.problems.err()
	}
	seed := &Seed{time: l.Time, label: Label}
	sources := map[string]source{}
	if s, ok := l.userData(c); ok {
		sources[UserData] = s
	}
	if s, ok := l.multipart(c.vendorData, nil); ok {
		sources[VendorData] = s
	}
	if s, ok := l.network(c); ok {
		sources[NetworkConfig] = s
	}
	for _, name := range wellKnown {
		if s, ok := sources[name]; ok {
			seed.add(name, s.data)
		}
	}
	l.extraFiles(seed, c, sources)
	if s, ok := l.metaData(c, seed.files); ok {
		sources[MetaData] = s
		seed.add(MetaData, s.data)
	}
	if len(l.problems) > 0 {
		return nil, l.problems.err()
	}
	l.check(seed, sources)
	seed.warnings = l.warnings.once()
	return seed, l.problems.err()
}

// netplanFlag puts the file of --network in place of the seed file's network.
func (l *loader) netplanFlag(root *node) {
	s, ok := l.read(text{l.Settings.Network, flagged("network")})
	if !ok {
		return
	}
	n, problems := parseYAML(s.data, s.at, true)
	l.problems = append(l.problems, problems...)
	if len(problems) == 0 && n == nil {
		l.problem(s.at(1, 1), "is empty", "write netplan's YAML, version 2")
	}
	if n != nil {
		root.set("network", n)
	}
}

// network returns network-config.
func (l *loader) network(c *config) (source, bool) {
	if c.network == nil {
		return l.read(c.networkConfig)
	}
	n := c.network
	if inner := n.get("network"); inner != nil && len(n.entries) == 1 && inner.kind == mapping {
		n = inner
	}
	if n.get("version") == nil {
		version := &node{tag: "!!int", value: "2", pos: n.pos}
		n.entries = append([]entry{{"version", n.pos, version, "!!str"}}, n.entries...)
	}
	return l.rendered(n, NetworkConfig, "")
}

func (l *loader) rendered(n *node, name, header string) (source, bool) {
	data, at, err := render(n, header)
	if err != nil {
		l.problems = append(l.problems, &Error{What: err.Error(), Err: err})
		return source{}, false
	}
	return source{name, data, at}, true
}

// metaData returns meta-data. It names the instance-id, by default the digest of all other files and of the rest of
// meta-data.
func (l *loader) metaData(c *config, others []File) (source, bool) {
	given, ok := l.read(c.metaData)
	n := mapNode(c.pos)
	if ok {
		parsed, problems := parseYAML(given.data, given.at, true)
		if len(problems) > 0 {
			l.problems = append(l.problems, problems...)
			return source{}, false
		}
		if parsed != nil {
			n = parsed
		}
		if n.kind != mapping {
			l.problem(n.pos, "meta-data is "+n.kind.String(), "write a mapping, KEY: VALUE")
			return source{}, false
		}
	}
	changed := false
	for _, add := range []struct {
		key   string
		value text
	}{{"local-hostname", c.hostname}, {"instance-id", c.instanceID}} {
		switch there := n.get(add.key); {
		case !add.value.given():
		case there == nil:
			n.set(add.key, textNode(add.value.value, add.value.pos))
			changed = true
		case there.value != add.value.value:
			l.problem(add.value.pos, "meta-data sets "+add.key+" too ("+there.pos.String()+")", "remove one of the two")
		}
	}
	if n.get("instance-id") == nil {
		rest, _, err := render(n, "")
		if err != nil {
			l.problems = append(l.problems, &Error{What: err.Error(), Err: err})
			return source{}, false
		}
		all := append([]File{{MetaData, rest}}, others...)
		n.entries = append([]entry{{"instance-id", n.pos, textNode(digest(all), n.pos), "!!str"}}, n.entries...)
		changed = true
	}
	if ok && !changed {
		return given, true
	}
	return l.rendered(n, MetaData, "")
}

// extraFiles adds the further files.
func (l *loader) extraFiles(seed *Seed, c *config, sources map[string]source) {
	lower := map[string]bool{}
	for _, name := range wellKnown {
		lower[name] = true
	}
	for _, f := range c.extra {
		name := f.path.value
		switch {
		case !cleanPath(name):
			l.problem(f.path.pos, "extra file "+quote(name)+" is not a path inside of the seed", "write a relative path such as scripts/setup.sh, of up to seven parts and 200 characters")
			continue
		case lower[strings.ToLower(name)]:
			l.problem(f.path.pos, "extra file "+quote(name)+" is there twice", "give it another name; upper and lower case count as the same")
			continue
		}
		lower[strings.ToLower(name)] = true
		s := source{name, []byte(f.content.value), func(int, int) Position { return f.content.pos }}
		if f.source.given() {
			var ok bool
			if s, ok = l.read(f.source); !ok {
				continue
			}
		}
		sources[name] = s
		seed.add(name, s.data)
	}
	l.folders(seed, c, lower)
}

// folders refuses a folder that is a file too, or is written in two ways: FAT does not tell upper from lower case.
func (l *loader) folders(seed *Seed, c *config, files map[string]bool) {
	spelled := map[string]string{}
	for _, f := range seed.files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			lower := strings.ToLower(dir)
			if files[lower] {
				l.problem(c.pos, "extra file "+quote(f.Path)+" lies below a file", "give one of them another name")
			}
			if other := spelled[lower]; other != "" && other != dir {
				l.problem(c.pos, "extra files lie in "+quote(other)+" and "+quote(dir), "write the folder in one way; upper and lower case count as the same")
			}
			spelled[lower] = dir
		}
	}
}

// cleanPath reports whether name is a relative path that every file system of a seed can hold.
func cleanPath(name string) bool {
	if name == "" || len(name) > 200 || path.Clean(name) != name || path.IsAbs(name) || name == "." || name == ".." || strings.HasPrefix(name, "../") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
			return false
		}
	}
	return strings.Count(name, "/") < iso.MaxDepth-1 && !strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd || strings.ContainsRune(`\:*?"<>|`, r) })
}
