package seedfile

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
)

// A Config is what a seed file says. Its keys are those of docs/cidata.md.
type Config struct {
	InstanceID    Text
	Hostname      Text
	GrowRoot      Truth
	SSHKeys       []Text
	SSHKeyFiles   []Text
	Users         []User
	Files         []File
	Units         []Unit
	Network       *document.Node // a mapping, nil where there is none
	CloudConfig   *document.Node // a mapping, nil where there is none
	UserData      []Text
	MetaData      Text
	NetworkConfig Text
	VendorData    []Text
	Extra         []ExtraFile
	Pos           document.Position
}

// A User is one to make in the guest; the name default stands for the image's own.
type User struct {
	Name, Gecos, Shell, Home, PasswordHash Text
	SSHKeys, SSHKeyFiles, Groups           []Text
	PrimaryGroup                           Text
	Sudo                                   *document.Node
	UID                                    Text
	System, LockPassword                   Truth
	Pos                                    document.Position
}

// A File is one to write in the guest.
type File struct {
	Path, Content, Source, Owner, Mode, Encoding Text
	Append, Deferred                             Truth
	Pos                                          document.Position
}

// A Unit is a unit of systemd's, or a drop-in for one, to write, enable or start.
type Unit struct {
	Name, Content, Source, Dropin Text
	Enable, Start                 Truth
	Pos                           document.Position
}

// An ExtraFile is a further file of the seed's file system, beside those that cloud-init reads.
type ExtraFile struct {
	Path, Content, Source Text
	Pos                   document.Position
}

// Decode reads a seed file. The problems say what in it does not fit.
func Decode(n *document.Node) (*Config, document.Errors) {
	d := &decoder{}
	c := &Config{Pos: n.Pos}
	d.mapping(n, "",
		key{name: "instance_id", into: &c.InstanceID},
		key{name: "hostname", into: &c.Hostname},
		key{name: "grow_root", into: &c.GrowRoot},
		key{name: "ssh_keys", into: &c.SSHKeys},
		key{name: "ssh_key_files", into: &c.SSHKeyFiles},
		key{name: "users", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.user(d, n, path) })
		}},
		key{name: "files", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.file(d, n, path) })
		}},
		key{name: "units", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.unit(d, n, path) })
		}},
		key{name: "network", into: &c.Network},
		key{name: "cloud_config", into: &c.CloudConfig},
		key{name: "user_data", into: &c.UserData},
		key{name: "meta_data", into: &c.MetaData},
		key{name: "network_config", into: &c.NetworkConfig},
		key{name: "vendor_data", into: &c.VendorData},
		key{name: "extra_files", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.extraFile(d, n, path) })
		}},
	)
	d.checkTop(c)
	return c, d.problems
}

var (
	instanceIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
	hostnameForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	userForm       = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	groupForm      = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)
	hashForm       = regexp.MustCompile(`^\$[A-Za-z0-9]{1,8}\$[./A-Za-z0-9$=,-]{8,}$`) // crypt(5)
	ownerForm      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$`)
	modeForm       = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	uidForm        = regexp.MustCompile(`^[0-9]{1,9}$`)
	unitForm       = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]{1,240}[.](service|socket|target|timer|path|mount|automount|swap|slice)$`)
	dropinForm     = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,240}[.]conf$`)
	absoluteForm   = regexp.MustCompile(`^(/[^/\x00-\x1f]+)+$`)
)

// IsHostname reports whether a name is a host's: labels of letters, digits and hyphens (RFC 1123, section 2.1).
func IsHostname(name string) bool { return hostnameForm.MatchString(name) }

// IsPasswordHash reports whether a text is a hash of crypt(5), as opposed to a plain password.
func IsPasswordHash(text string) bool { return hashForm.MatchString(text) }

// fits checks a value against a form. A value that was refused already is empty here.
func (d *decoder) fits(t Text, path string, form *regexp.Regexp, do string) {
	if t.Given() && !form.MatchString(t.Value) {
		d.problem(t.Pos, path, document.Quote(t.Value)+" is not valid", do)
	}
}

func (d *decoder) checkTop(c *Config) {
	d.fits(c.InstanceID, "instance_id", instanceIDForm, "use up to 128 letters, digits, dots, colons, hyphens and underscores")
	d.fits(c.Hostname, "hostname", hostnameForm, "use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)")
	for _, m := range []struct {
		name string
		node *document.Node
	}{{"network", c.Network}, {"cloud_config", c.CloudConfig}} {
		if m.node != nil && m.node.Kind != document.Mapping {
			d.problem(m.node.Pos, m.name, "is "+m.node.Kind.String(), "write a mapping, KEY: VALUE")
		}
	}
	if c.Network != nil && c.NetworkConfig.Given() {
		d.problem(c.NetworkConfig.Pos, "network_config", "network is given too", "remove one of the two")
	}
	d.checkTwice(c)
	keys := append(slices.Clip(c.SSHKeys), c.SSHKeyFiles...)
	if len(keys) > 0 && len(c.Users) > 0 && !slices.ContainsFunc(c.Users, func(u User) bool { return u.Name.Value == "default" }) {
		d.problem(keys[0].Pos, "", "the keys are for the image's default user, whom users leaves out", "add - default to users, or give the keys to one of them")
	}
}

// checkTwice refuses what would undo another item.
func (d *decoder) checkTwice(c *Config) {
	seen := map[string]bool{}
	for _, u := range c.Users {
		if u.Name.Given() && seen[u.Name.Value] {
			d.problem(u.Name.Pos, "users", "user "+u.Name.Value+" is there twice", "put the two together")
		}
		seen[u.Name.Value] = true
	}
	clear(seen)
	for _, f := range c.Files {
		if f.Path.Given() && seen[f.Path.Value] && !f.Append.Value {
			d.problem(f.Path.Pos, "files", f.Path.Value+" is there twice", "remove one of the two, or add append: true to the second")
		}
		seen[f.Path.Value] = true
	}
}

const formUser = "use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter"

func (c *Config) user(d *decoder, n *document.Node, at string) {
	u := User{Pos: n.Pos}
	if n.Kind == document.Scalar {
		u.Name = d.text(n, at)
	} else {
		d.mapping(n, at,
			key{name: "name", into: &u.Name, required: true},
			key{name: "ssh_keys", into: &u.SSHKeys},
			key{name: "ssh_key_files", into: &u.SSHKeyFiles},
			key{name: "password_hash", into: &u.PasswordHash},
			key{name: "lock_password", into: &u.LockPassword},
			key{name: "groups", into: &u.Groups},
			key{name: "primary_group", into: &u.PrimaryGroup},
			key{name: "sudo", into: &u.Sudo},
			key{name: "shell", into: &u.Shell},
			key{name: "gecos", into: &u.Gecos},
			key{name: "home", into: &u.Home},
			key{name: "uid", into: &u.UID},
			key{name: "system", into: &u.System},
		)
	}
	d.fits(u.Name, at+".name", userForm, formUser)
	d.fits(u.Shell, at+".shell", absoluteForm, "write an absolute path such as /bin/bash")
	d.fits(u.Home, at+".home", absoluteForm, "write an absolute path such as /home/"+u.Name.Value)
	d.fits(u.UID, at+".uid", uidForm, "write a number")
	d.fits(u.PrimaryGroup, at+".primary_group", groupForm, formUser)
	for _, g := range u.Groups {
		d.fits(g, at+".groups", groupForm, formUser)
	}
	if u.PasswordHash.Given() && !hashForm.MatchString(u.PasswordHash.Value) {
		d.problem(u.PasswordHash.Pos, at+".password_hash", "is no hash of crypt(5)", "make one with `openssl passwd -6` and put it into single quotes")
	}
	if u.Name.Value == "default" && n.Kind == document.Mapping && len(n.Entries) > 1 {
		d.problem(n.Pos, at, "the default user takes no further keys", "give a name of its own, or write - default and put ssh_keys at the top")
	}
	c.Users = append(c.Users, u)
}

func (c *Config) file(d *decoder, n *document.Node, at string) {
	f := File{Pos: n.Pos}
	d.mapping(n, at,
		key{name: "path", into: &f.Path, required: true},
		key{name: "content", into: &f.Content},
		key{name: "source", into: &f.Source},
		key{name: "owner", into: &f.Owner},
		key{name: "mode", into: &f.Mode},
		key{name: "encoding", into: &f.Encoding},
		key{name: "append", into: &f.Append},
		key{name: "defer", into: &f.Deferred},
	)
	d.absolute(f.Path, at+".path")
	d.contents(n, at)
	d.fits(f.Owner, at+".owner", ownerForm, "write USER or USER:GROUP")
	d.fits(f.Mode, at+".mode", modeForm, "write three or four octal digits such as 0644")
	switch f.Encoding.Value {
	case "", "text":
	case "base64":
		if f.Source.Given() {
			d.problem(f.Encoding.Pos, at+".encoding", "goes with content only", "remove it: a source file is encoded where it needs to be")
		}
	default:
		d.problem(f.Encoding.Pos, at+".encoding", document.Quote(f.Encoding.Value)+" is not known", "use text or base64")
	}
	c.Files = append(c.Files, f)
}

func (d *decoder) absolute(t Text, at string) {
	if t.Given() && (!absoluteForm.MatchString(t.Value) || path.Clean(t.Value) != t.Value) {
		d.problem(t.Pos, at, document.Quote(t.Value)+" is not valid", "write an absolute path without . and .. in it")
	}
}

// contents checks that exactly one of content and source is there.
func (d *decoder) contents(n *document.Node, at string) {
	switch content, source := n.Get("content"), n.Get("source"); {
	case n.Kind != document.Mapping:
	case content == nil && source == nil:
		d.problem(n.Pos, at, "has no contents", "add content, or source with the name of a file")
	case content != nil && source != nil:
		d.problem(source.Pos, at, "has both content and source", "remove one of the two")
	}
}

func (c *Config) unit(d *decoder, n *document.Node, at string) {
	u := Unit{Pos: n.Pos}
	d.mapping(n, at,
		key{name: "name", into: &u.Name, required: true},
		key{name: "content", into: &u.Content},
		key{name: "source", into: &u.Source},
		key{name: "dropin", into: &u.Dropin},
		key{name: "enable", into: &u.Enable},
		key{name: "start", into: &u.Start},
	)
	d.fits(u.Name, at+".name", unitForm, "write the unit's full name, such as hello.service")
	d.fits(u.Dropin, at+".dropin", dropinForm, "write the drop-in's name, such as 10-local.conf")
	hasContent, hasSource := n.Get("content") != nil, n.Get("source") != nil
	switch {
	case n.Kind != document.Mapping:
	case hasContent && hasSource, u.Dropin.Given():
		d.contents(n, at)
	case !hasContent && !hasSource && !u.Enable.Given && !u.Start.Given:
		d.problem(n.Pos, at, "says nothing about the unit", "add content or source, or enable, or start")
	}
	if strings.Contains(u.Name.Value, "@.") && (u.Start.Value || u.Enable.Value) {
		d.problem(u.Name.Pos, at+".name", "a template cannot be enabled or started by itself", "name an instance of it in an item of its own")
	}
	c.Units = append(c.Units, u)
}

func (c *Config) extraFile(d *decoder, n *document.Node, at string) {
	f := ExtraFile{Pos: n.Pos}
	d.mapping(n, at,
		key{name: "path", into: &f.Path, required: true},
		key{name: "content", into: &f.Content},
		key{name: "source", into: &f.Source},
	)
	d.contents(n, at)
	c.Extra = append(c.Extra, f)
}
