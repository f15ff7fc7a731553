package deb

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// A Member is one file of a package's control archive.
type Member struct {
	Name string // "postinst", without any folder
	Mode int64  // permission bits, 07777
	Data []byte
}

// Control is what a package's control archive holds.
type Control struct {
	Paragraph deb822.Paragraph // the control file
	Members   []Member         // all members but the control file, in order
	Conffiles []Conffile
	Triggers  []Trigger

	text []byte // the control file as it was shipped
}

// A Conffile is one line of the conffiles member, deb-conffiles(5).
type Conffile struct {
	Path            string // absolute: "/etc/issue"
	RemoveOnUpgrade bool   // not shipped; an older version's is to be removed
}

// A Trigger is one line of the triggers member, deb-triggers(5).
type Trigger struct {
	Name     string // "/usr/share/man" or "ldconfig"
	Interest bool   // the package wants to hear of it; else it activates it
	NoAwait  bool
}

// Name is the package's name.
func (c *Control) Name() string { return c.Paragraph.Get("Package") }

// Version is the package's version.
func (c *Control) Version() string { return c.Paragraph.Get("Version") }

// Arch is the package's architecture, "all" included.
func (c *Control) Arch() string { return c.Paragraph.Get("Architecture") }

// Essential says that the package is marked as essential.
func (c *Control) Essential() bool { return c.Paragraph.Get("Essential") == "yes" }

// MultiArchSame says that the package may be there for several
// architectures at once.
func (c *Control) MultiArchSame() bool { return c.Paragraph.Get("Multi-Arch") == "same" }

// Qualified is the name as dpkg writes it in its own files and in the names
// of them: with the architecture for packages that are Multi-Arch: same.
func (c *Control) Qualified() string {
	if c.MultiArchSame() {
		return c.Name() + ":" + c.Arch()
	}
	return c.Name()
}

// Member returns the control member of that name.
func (c *Control) Member(name string) (Member, bool) {
	for _, m := range c.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// Control reads the control archive. Errors match ErrFormat.
func (f *File) Control() (*Control, error) {
	d := &decoders{}
	defer d.close()
	return f.readControl(d)
}

func (f *File) readControl(d *decoders) (*Control, error) {
	r, err := d.openMember(f, f.control, "control.tar")
	if err != nil {
		return nil, err
	}
	c, err := readControl(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.control.name, err)
	}
	return c, nil
}

func readControl(r io.Reader) (*Control, error) {
	bounded := &boundedReader{r: r, left: maxControlArchive}
	tr := tar.NewReader(bounded)
	c := &Control{}
	seen := map[string]bool{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return nil, err
		}
		if name == "." && h.Typeflag == tar.TypeDir {
			continue
		}
		switch {
		case h.Typeflag != tar.TypeReg:
			return nil, formatError("control member %s is no plain file", name)
		case strings.Contains(name, "/") || strings.HasPrefix(name, "-"):
			return nil, formatError("control member name %q", name)
		case seen[name]:
			return nil, formatError("control member %s twice", name)
		case len(seen) == maxControlMembers:
			return nil, formatError("more than %d control members", maxControlMembers)
		case h.Size > maxControlMember:
			return nil, formatError("control member %s of %d bytes", name, h.Size)
		}
		seen[name] = true
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("%w: control member %s: %w", ErrFormat, name, err)
		}
		if name == "control" {
			c.text = data
		} else {
			c.Members = append(c.Members, Member{Name: name, Mode: h.Mode & 0o7777, Data: data})
		}
	}
	if err := drain(bounded); err != nil {
		return nil, err
	}
	return c, c.parse()
}

// parse reads the members that this package knows about.
func (c *Control) parse() error {
	reader := deb822.NewReader(bytes.NewReader(c.text))
	p, err := reader.Next()
	if err == io.EOF {
		return formatError("no control file")
	}
	if err != nil {
		return fmt.Errorf("%w: control: %w", ErrFormat, err)
	}
	if _, err := reader.Next(); err != io.EOF {
		return formatError("control: more than one paragraph")
	}
	c.Paragraph = p
	if !validName(c.Name()) {
		return formatError("control: package name %q", c.Name())
	}
	if c.Version() == "" || strings.ContainsAny(c.Version(), " \n/") {
		return formatError("control: version %q of %s", c.Version(), c.Name())
	}
	if !validArch(c.Arch()) {
		return formatError("control: architecture %q of %s", c.Arch(), c.Name())
	}
	if m, ok := c.Member("conffiles"); ok {
		if c.Conffiles, err = parseConffiles(m.Data); err != nil {
			return err
		}
	}
	if m, ok := c.Member("triggers"); ok {
		if c.Triggers, err = parseTriggers(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// validName follows dpkg's pkg_name_is_invalid. A name becomes part of file
// names, so nothing else may pass.
func validName(s string) bool {
	if s == "" || len(s) > 200 || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && strings.IndexByte("-+._", s[i]) < 0 {
			return false
		}
	}
	return true
}

func validArch(s string) bool {
	if s == "" || len(s) > 60 || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func alnum(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

func parseConffiles(data []byte) ([]Conffile, error) {
	var list []Conffile
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, " \t\n\r")
		if line == "" {
			continue
		}
		var c Conffile
		if !strings.HasPrefix(line, "/") {
			flag, path, _ := strings.Cut(line, " ")
			if flag != "remove-on-upgrade" {
				return nil, formatError("conffiles: line %q", line)
			}
			c.RemoveOnUpgrade = true
			line = path
		}
		clean, err := cleanName(strings.TrimPrefix(line, "/"))
		if err != nil || !strings.HasPrefix(line, "/") || clean == "." {
			return nil, formatError("conffiles: path %q", line)
		}
		c.Path = "/" + clean
		list = append(list, c)
	}
	return list, nil
}

func parseTriggers(data []byte) ([]Trigger, error) {
	var list []Trigger
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		directive, name, _ := strings.Cut(line, " ")
		if tab, rest, ok := strings.Cut(line, "\t"); ok && len(tab) < len(directive) {
			directive, name = tab, rest
		}
		t := Trigger{Name: strings.TrimSpace(name)}
		switch directive {
		case "interest", "interest-await":
			t.Interest = true
		case "interest-noawait":
			t.Interest, t.NoAwait = true, true
		case "activate", "activate-await":
		case "activate-noawait":
			t.NoAwait = true
		default:
			return nil, formatError("triggers: directive %q", directive)
		}
		if !validTrigger(t.Name) {
			return nil, formatError("triggers: trigger name %q", t.Name)
		}
		list = append(list, t)
	}
	return list, nil
}

// validTrigger accepts the two kinds of names: an absolute path, and a word
// of the form of a package name, which becomes a file name.
func validTrigger(s string) bool {
	if !strings.HasPrefix(s, "/") {
		// The last are files of dpkg's own where named triggers have theirs.
		return validName(s) && !strings.Contains(s, "_") && s != "File" && s != "Unincorp" && s != "Lock"
	}
	if len(s) == 1 || !isClean(s[1:]) {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
