package cidata

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/iso"
	"github.com/applbuild/applbuild/cidata/schema"
	"github.com/applbuild/applbuild/cidata/seedfile"
	"github.com/applbuild/applbuild/cidata/userdata"
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
		return nil, &Error{Position: seedfile.Flagged("for"), What: document.Quote(o.For) + " is not known", Do: "use " + ForEC2 + ", or leave it out"}
	}
	l := &loader{LoadOptions: o, dir: filepath.Dir(name), judge: schema.New(), top: Position{File: "the command line"}}
	root := document.Map(l.top)
	if name != "" {
		l.top = Position{File: name, Line: 1, Column: 1}
		data, err := o.readFile(name)
		if err != nil {
			return nil, fmt.Errorf("seed file: %w: name a file that is there", err)
		}
		node, problems := document.Parse(data, document.InFile(name))
		if len(problems) > 0 {
			return nil, problems.Err()
		}
		switch {
		case node == nil:
			root.Pos = l.top
		case node.Kind != document.Mapping:
			return nil, Errors{{Position: node.Pos, What: "is " + node.Kind.String(), Do: "write a mapping, KEY: VALUE"}}
		default:
			root = node
		}
		if line := userdata.FirstLine(data); strings.HasPrefix(line, "#cloud-config") {
			return nil, Errors{{Position: l.top, What: "is user-data itself", Do: "give it with --user-data " + name + ", or put it beneath cloud_config"}}
		}
	}
	return l.load(root)
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
	judge    *schema.Judge
	problems Errors
	warnings Errors
	total    int
}

func (l *loader) problem(pos Position, what, do string) {
	l.problems = append(l.problems, &Error{Position: pos, What: what, Do: do})
}

// read returns the file that t names.
func (l *loader) read(t seedfile.Text) (document.Source, bool) {
	if !t.Given() {
		return document.Source{}, false
	}
	name := t.Value
	if !seedfile.FromFlag(t.Pos) && !filepath.IsAbs(name) {
		name = filepath.Join(l.dir, filepath.FromSlash(name))
	}
	data, err := l.readFile(name)
	if err != nil {
		l.problems = append(l.problems, &Error{Position: t.Pos, What: fmt.Sprint("cannot be read: ", err), Do: "name a file that is there", Err: err})
		return document.Source{}, false
	}
	if l.total += len(data); l.total > maxTotal {
		l.problems = append(l.problems, &Error{Position: t.Pos, What: "all files together are too large", Do: fmt.Sprintf("stay below %d MiB", maxTotal>>20), Err: ErrTooLarge})
		return document.Source{}, false
	}
	return document.Source{Name: name, Data: data, At: document.InFile(name)}, true
}

// multipart returns the files that names name as one user-data: a single one as it is, several as a MIME message. first
// is a part to begin with, where there is one.
func (l *loader) multipart(names []seedfile.Text, first *document.Source) (document.Source, bool) {
	var parts []document.Source
	if first != nil {
		parts = append(parts, *first)
	}
	for _, name := range names {
		s, ok := l.read(name)
		if !ok {
			return document.Source{}, false
		}
		if len(s.Data) == 0 {
			l.problem(name.Pos, document.Quote(s.Name)+" is empty", "leave it out")
			return document.Source{}, false
		}
		parts = append(parts, s)
	}
	switch len(parts) {
	case 0:
		return document.Source{}, false
	case 1:
		return parts[0], true
	}
	joined, warnings, problems := userdata.Join(parts)
	l.warnings = append(l.warnings, warnings...)
	l.problems = append(l.problems, problems...)
	return joined, len(problems) == 0
}

// load makes the seed that root describes.
func (l *loader) load(root *document.Node) (*Seed, error) {
	if problems := l.Settings.Lay(root); len(problems) > 0 {
		return nil, problems.Err()
	}
	l.netplanFlag(root)
	c, problems := seedfile.Decode(root)
	l.problems = append(l.problems, problems...)
	if len(l.problems) > 0 {
		return nil, l.problems.Err()
	}
	seed := &Seed{time: l.Time, label: Label}
	sources := map[string]document.Source{}
	if s, ok := l.userData(c); ok {
		sources[UserData] = s
	}
	if s, ok := l.multipart(c.VendorData, nil); ok {
		sources[VendorData] = s
	}
	if s, ok := l.network(c); ok {
		sources[NetworkConfig] = s
	}
	for _, name := range wellKnown {
		if s, ok := sources[name]; ok {
			seed.add(name, s.Data)
		}
	}
	l.extraFiles(seed, c, sources)
	if s, ok := l.metaData(c, seed.files); ok {
		sources[MetaData] = s
		seed.add(MetaData, s.Data)
	}
	if len(l.problems) > 0 {
		return nil, l.problems.Err()
	}
	l.check(seed, sources)
	seed.warnings = l.warnings.Once()
	return seed, l.problems.Err()
}

// netplanFlag puts the file of --network in place of the seed file's network.
func (l *loader) netplanFlag(root *document.Node) {
	s, ok := l.read(seedfile.Text{Value: l.Settings.Network, Pos: seedfile.Flagged("network")})
	if !ok {
		return
	}
	n, problems := document.ParseMerged(s.Data, s.At)
	l.problems = append(l.problems, problems...)
	if len(problems) == 0 && n == nil {
		l.problem(s.At(1, 1), "is empty", "write netplan's YAML, version 2")
	}
	if n != nil {
		root.Set("network", n)
	}
}

// network returns network-config.
func (l *loader) network(c *seedfile.Config) (document.Source, bool) {
	if c.Network == nil {
		return l.read(c.NetworkConfig)
	}
	n := c.Network
	if inner := n.Get("network"); inner != nil && len(n.Entries) == 1 && inner.Kind == document.Mapping {
		n = inner
	}
	if n.Get("version") == nil {
		n.Prepend("version", document.Int("2", n.Pos))
	}
	return l.rendered(n, NetworkConfig, "")
}

func (l *loader) rendered(n *document.Node, name, header string) (document.Source, bool) {
	data, at, err := document.Render(n, header)
	if err != nil {
		l.problems = append(l.problems, &Error{What: err.Error(), Err: err})
		return document.Source{}, false
	}
	return document.Source{Name: name, Data: data, At: at}, true
}

// metaData returns meta-data. It names the instance-id, by default the digest of all other files and of the rest of
// meta-data.
func (l *loader) metaData(c *seedfile.Config, others []File) (document.Source, bool) {
	given, ok := l.read(c.MetaData)
	n := document.Map(c.Pos)
	if ok {
		parsed, problems := document.ParseMerged(given.Data, given.At)
		if len(problems) > 0 {
			l.problems = append(l.problems, problems...)
			return document.Source{}, false
		}
		if parsed != nil {
			n = parsed
		}
		if n.Kind != document.Mapping {
			l.problem(n.Pos, "meta-data is "+n.Kind.String(), "write a mapping, KEY: VALUE")
			return document.Source{}, false
		}
	}
	changed := false
	for _, add := range []struct {
		key   string
		value seedfile.Text
	}{{"local-hostname", c.Hostname}, {"instance-id", c.InstanceID}} {
		switch there := n.Get(add.key); {
		case !add.value.Given():
		case there == nil:
			n.Set(add.key, document.Text(add.value.Value, add.value.Pos))
			changed = true
		case there.Value != add.value.Value:
			l.problem(add.value.Pos, "meta-data sets "+add.key+" too ("+there.Pos.String()+")", "remove one of the two")
		}
	}
	if n.Get("instance-id") == nil {
		rest, _, err := document.Render(n, "")
		if err != nil {
			l.problems = append(l.problems, &Error{What: err.Error(), Err: err})
			return document.Source{}, false
		}
		all := append([]File{{MetaData, rest}}, others...)
		n.Prepend("instance-id", document.Text(digest(all), n.Pos))
		changed = true
	}
	if ok && !changed {
		return given, true
	}
	return l.rendered(n, MetaData, "")
}

// extraFiles adds the further files.
func (l *loader) extraFiles(seed *Seed, c *seedfile.Config, sources map[string]document.Source) {
	lower := map[string]bool{}
	for _, name := range wellKnown {
		lower[name] = true
	}
	for _, f := range c.Extra {
		name := f.Path.Value
		switch {
		case !cleanPath(name):
			l.problem(f.Path.Pos, "extra file "+document.Quote(name)+" is not a path inside of the seed", "write a relative path such as scripts/setup.sh, of up to seven parts and 200 characters")
			continue
		case lower[strings.ToLower(name)]:
			l.problem(f.Path.Pos, "extra file "+document.Quote(name)+" is there twice", "give it another name; upper and lower case count as the same")
			continue
		}
		lower[strings.ToLower(name)] = true
		s := document.Source{Name: name, Data: []byte(f.Content.Value), At: func(int, int) Position { return f.Content.Pos }}
		if f.Source.Given() {
			var ok bool
			if s, ok = l.read(f.Source); !ok {
				continue
			}
		}
		sources[name] = s
		seed.add(name, s.Data)
	}
	l.folders(seed, c, lower)
}

// folders refuses a folder that is a file too, or is written in two ways: FAT does not tell upper from lower case.
func (l *loader) folders(seed *Seed, c *seedfile.Config, files map[string]bool) {
	spelled := map[string]string{}
	for _, f := range seed.files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			lower := strings.ToLower(dir)
			if files[lower] {
				l.problem(c.Pos, "extra file "+document.Quote(f.Path)+" lies below a file", "give one of them another name")
			}
			if other := spelled[lower]; other != "" && other != dir {
				l.problem(c.Pos, "extra files lie in "+document.Quote(other)+" and "+document.Quote(dir), "write the folder in one way; upper and lower case count as the same")
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
