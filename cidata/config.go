package cidata

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
)

// A config is what a seed file says. Its keys are those of docs/cidata.md.
type config struct {
	instanceID    text
	hostname      text
	growRoot      truth
	sshKeys       []text
	sshKeyFiles   []text
	users         []user
	files         []file
	units         []unit
	network       *document.Node
	cloudConfig   *document.Node
	userData      []text
	metaData      text
	networkConfig text
	vendorData    []text
	extra         []extraFile
	pos           Position
}

type user struct {
	name, gecos, shell, home, passwordHash text
	sshKeys, sshKeyFiles, groups           []text
	primaryGroup                           text
	sudo                                   *document.Node
	uid                                    text
	system, lockPassword                   truth
	pos                                    Position
}

type file struct {
	path, content, source, owner, mode, encoding text
	append, deferred                             truth
	pos                                          Position
}

type unit struct {
	name, content, source, dropin text
	enable, start                 truth
	pos                           Position
}

// An extraFile is a further file of the seed's file system, beside those that cloud-init reads.
type extraFile struct {
	path, content, source text
	pos                   Position
}

// decode reads a seed file.
func (d *decoder) decode(n *document.Node) *config {
	c := &config{pos: n.Pos}
	d.mapping(n, "",
		key{name: "instance_id", into: &c.instanceID},
		key{name: "hostname", into: &c.hostname},
		key{name: "grow_root", into: &c.growRoot},
		key{name: "ssh_keys", into: &c.sshKeys},
		key{name: "ssh_key_files", into: &c.sshKeyFiles},
		key{name: "users", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.user(d, n, path) })
		}},
		key{name: "files", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.file(d, n, path) })
		}},
		key{name: "units", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.unit(d, n, path) })
		}},
		key{name: "network", into: &c.network},
		key{name: "cloud_config", into: &c.cloudConfig},
		key{name: "user_data", into: &c.userData},
		key{name: "meta_data", into: &c.metaData},
		key{name: "network_config", into: &c.networkConfig},
		key{name: "vendor_data", into: &c.vendorData},
		key{name: "extra_files", into: func(n *document.Node, path string) {
			d.each(n, path, func(n *document.Node, path string) { c.extraFile(d, n, path) })
		}},
	)
	d.checkTop(c)
	return c
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

// fits checks a value against a form. A value that was refused already is empty here.
func (d *decoder) fits(t text, path string, form *regexp.Regexp, do string) {
	if t.given() && !form.MatchString(t.value) {
		d.problem(t.pos, path, document.Quote(t.value)+" is not valid", do)
	}
}

func (d *decoder) checkTop(c *config) {
	d.fits(c.instanceID, "instance_id", instanceIDForm, "use up to 128 letters, digits, dots, colons, hyphens and underscores")
	d.fits(c.hostname, "hostname", hostnameForm, "use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)")
	for _, m := range []struct {
		name string
		node *document.Node
	}{{"network", c.network}, {"cloud_config", c.cloudConfig}} {
		if m.node != nil && m.node.Kind != document.Mapping {
			d.problem(m.node.Pos, m.name, "is "+m.node.Kind.String(), "write a mapping, KEY: VALUE")
		}
	}
	if c.network != nil && c.networkConfig.given() {
		d.problem(c.networkConfig.pos, "network_config", "network is given too", "remove one of the two")
	}
	d.checkTwice(c)
	keys := append(slices.Clip(c.sshKeys), c.sshKeyFiles...)
	if len(keys) > 0 && len(c.users) > 0 && !slices.ContainsFunc(c.users, func(u user) bool { return u.name.value == "default" }) {
		d.problem(keys[0].pos, "", "the keys are for the image's default user, whom users leaves out", "add - default to users, or give the keys to one of them")
	}
}

// checkTwice refuses what would undo another item.
func (d *decoder) checkTwice(c *config) {
	seen := map[string]bool{}
	for _, u := range c.users {
		if u.name.given() && seen[u.name.value] {
			d.problem(u.name.pos, "users", "user "+u.name.value+" is there twice", "put the two together")
		}
		seen[u.name.value] = true
	}
	clear(seen)
	for _, f := range c.files {
		if f.path.given() && seen[f.path.value] && !f.append.value {
			d.problem(f.path.pos, "files", f.path.value+" is there twice", "remove one of the two, or add append: true to the second")
		}
		seen[f.path.value] = true
	}
}

const formUser = "use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter"

func (c *config) user(d *decoder, n *document.Node, at string) {
	u := user{pos: n.Pos}
	if n.Kind == document.Scalar {
		u.name = d.text(n, at)
	} else {
		d.mapping(n, at,
			key{name: "name", into: &u.name, required: true},
			key{name: "ssh_keys", into: &u.sshKeys},
			key{name: "ssh_key_files", into: &u.sshKeyFiles},
			key{name: "password_hash", into: &u.passwordHash},
			key{name: "lock_password", into: &u.lockPassword},
			key{name: "groups", into: &u.groups},
			key{name: "primary_group", into: &u.primaryGroup},
			key{name: "sudo", into: &u.sudo},
			key{name: "shell", into: &u.shell},
			key{name: "gecos", into: &u.gecos},
			key{name: "home", into: &u.home},
			key{name: "uid", into: &u.uid},
			key{name: "system", into: &u.system},
		)
	}
	d.fits(u.name, at+".name", userForm, formUser)
	d.fits(u.shell, at+".shell", absoluteForm, "write an absolute path such as /bin/bash")
	d.fits(u.home, at+".home", absoluteForm, "write an absolute path such as /home/"+u.name.value)
	d.fits(u.uid, at+".uid", uidForm, "write a number")
	d.fits(u.primaryGroup, at+".primary_group", groupForm, formUser)
	for _, g := range u.groups {
		d.fits(g, at+".groups", groupForm, formUser)
	}
	if u.passwordHash.given() && !hashForm.MatchString(u.passwordHash.value) {
		d.problem(u.passwordHash.pos, at+".password_hash", "is no hash of crypt(5)", "make one with `openssl passwd -6` and put it into single quotes")
	}
	if u.name.value == "default" && n.Kind == document.Mapping && len(n.Entries) > 1 {
		d.problem(n.Pos, at, "the default user takes no further keys", "give a name of its own, or write - default and put ssh_keys at the top")
	}
	c.users = append(c.users, u)
}

func (c *config) file(d *decoder, n *document.Node, at string) {
	f := file{pos: n.Pos}
	d.mapping(n, at,
		key{name: "path", into: &f.path, required: true},
		key{name: "content", into: &f.content},
		key{name: "source", into: &f.source},
		key{name: "owner", into: &f.owner},
		key{name: "mode", into: &f.mode},
		key{name: "encoding", into: &f.encoding},
		key{name: "append", into: &f.append},
		key{name: "defer", into: &f.deferred},
	)
	d.absolute(f.path, at+".path")
	d.contents(n, at)
	d.fits(f.owner, at+".owner", ownerForm, "write USER or USER:GROUP")
	d.fits(f.mode, at+".mode", modeForm, "write three or four octal digits such as 0644")
	switch f.encoding.value {
	case "", "text":
	case "base64":
		if f.source.given() {
			d.problem(f.encoding.pos, at+".encoding", "goes with content only", "remove it: a source file is encoded where it needs to be")
		}
	default:
		d.problem(f.encoding.pos, at+".encoding", document.Quote(f.encoding.value)+" is not known", "use text or base64")
	}
	c.files = append(c.files, f)
}

func (d *decoder) absolute(t text, at string) {
	if t.given() && (!absoluteForm.MatchString(t.value) || path.Clean(t.value) != t.value) {
		d.problem(t.pos, at, document.Quote(t.value)+" is not valid", "write an absolute path without . and .. in it")
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

func (c *config) unit(d *decoder, n *document.Node, at string) {
	u := unit{pos: n.Pos}
	d.mapping(n, at,
		key{name: "name", into: &u.name, required: true},
		key{name: "content", into: &u.content},
		key{name: "source", into: &u.source},
		key{name: "dropin", into: &u.dropin},
		key{name: "enable", into: &u.enable},
		key{name: "start", into: &u.start},
	)
	d.fits(u.name, at+".name", unitForm, "write the unit's full name, such as hello.service")
	d.fits(u.dropin, at+".dropin", dropinForm, "write the drop-in's name, such as 10-local.conf")
	hasContent, hasSource := n.Get("content") != nil, n.Get("source") != nil
	switch {
	case n.Kind != document.Mapping:
	case hasContent && hasSource, u.dropin.given():
		d.contents(n, at)
	case !hasContent && !hasSource && !u.enable.given && !u.start.given:
		d.problem(n.Pos, at, "says nothing about the unit", "add content or source, or enable, or start")
	}
	if strings.Contains(u.name.value, "@.") && (u.start.value || u.enable.value) {
		d.problem(u.name.pos, at+".name", "a template cannot be enabled or started by itself", "name an instance of it in an item of its own")
	}
	c.units = append(c.units, u)
}

func (c *config) extraFile(d *decoder, n *document.Node, at string) {
	f := extraFile{pos: n.Pos}
	d.mapping(n, at,
		key{name: "path", into: &f.path, required: true},
		key{name: "content", into: &f.content},
		key{name: "source", into: &f.source},
	)
	d.contents(n, at)
	c.extra = append(c.extra, f)
}
