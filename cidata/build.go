package cidata

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/seedfile"
)

const cloudConfigHeader = "#cloud-config\n"

// userData returns user-data: what the seed file describes, then the files that it names.
func (l *loader) userData(c *seedfile.Config) (document.Source, bool) {
	n := l.cloudConfig(c)
	if len(n.Entries) == 0 && len(c.UserData) > 0 {
		return l.multipart(c.UserData, nil)
	}
	made, ok := l.rendered(n, "seed.yml", cloudConfigHeader)
	if !ok || len(c.UserData) == 0 {
		made.Name = UserData
		return made, ok
	}
	return l.multipart(c.UserData, &made)
}

// cloudConfig returns the cloud-config of all keys of a seed file.
func (l *loader) cloudConfig(c *seedfile.Config) *document.Node {
	n := document.Map(c.Pos)
	if c.Hostname.Given() && l.For == ForEC2 {
		host, _, dotted := strings.Cut(c.Hostname.Value, ".")
		n.Set("hostname", document.Text(host, c.Hostname.Pos))
		if dotted {
			n.Set("fqdn", document.Text(c.Hostname.Value, c.Hostname.Pos))
		}
	}
	if keys := l.keys(c.SSHKeys, c.SSHKeyFiles); keys != nil {
		n.Set("ssh_authorized_keys", keys)
	}
	var users, files, commands []*document.Node
	for _, u := range c.Users {
		users = append(users, l.user(u))
	}
	for _, f := range c.Files {
		if item := l.file(f, c.Users); item != nil {
			files = append(files, item)
		}
	}
	for _, u := range c.Units {
		if item := l.unitFile(u); item != nil {
			files = append(files, item)
		}
	}
	commands = unitCommands(c.Units)
	for _, list := range []struct {
		key   string
		items []*document.Node
	}{{"users", users}, {"write_files", files}, {"runcmd", commands}} {
		if len(list.items) > 0 {
			n.Set(list.key, document.List(list.items[0].Pos, list.items...))
		}
	}
	if c.GrowRoot.Given {
		mode := "off"
		if c.GrowRoot.Value {
			mode = "auto"
		}
		grow := document.Map(c.GrowRoot.Pos)
		grow.Set("mode", document.Text(mode, c.GrowRoot.Pos))
		grow.Set("devices", document.List(c.GrowRoot.Pos, document.Text("/", c.GrowRoot.Pos)))
		n.Set("growpart", grow)
		n.Set("resize_rootfs", document.Bool(c.GrowRoot.Value, c.GrowRoot.Pos))
	}
	if c.CloudConfig != nil {
		l.sameUsers(c)
		l.merge(n, c.CloudConfig, "cloud_config")
	}
	return n
}

// sameUsers refuses a user that is both among users and in cloud_config.
func (l *loader) sameUsers(c *seedfile.Config) {
	list := c.CloudConfig.Get("users")
	if list == nil {
		return
	}
	for _, item := range list.Items {
		name := item.Get("name")
		if name == nil {
			name = item
		}
		for _, u := range c.Users {
			if name.Kind == document.Scalar && name.Value == u.Name.Value {
				l.problem(name.Pos, "cloud_config.users: user "+u.Name.Value+" is among the seed's users too", "put the two together")
			}
		}
	}
}

// merge lays from beneath n: lists are appended, mappings merged, and a single value may be set in one of the two only.
func (l *loader) merge(n, from *document.Node, at string) {
	for _, e := range from.Entries {
		there := n.Get(e.Key)
		switch {
		case there == nil:
			n.Entries = append(n.Entries, e)
		case there.Kind == document.Sequence && e.Value.Kind == document.Sequence:
			there.Items = append(slices.Clip(there.Items), e.Value.Items...)
		case there.Kind == document.Mapping && e.Value.Kind == document.Mapping:
			l.merge(there, e.Value, at+"."+e.Key)
		case document.Same(there, e.Value):
		default:
			l.problem(e.Pos, at+"."+e.Key+" is set by another key of the seed too ("+there.Pos.String()+")", "remove one of the two")
		}
	}
}

// keys returns the public keys of a user, nil where there are none.
func (l *loader) keys(keys, files []seedfile.Text) *document.Node {
	list := document.List(Position{})
	add := func(line string, pos Position) {
		if what := checkKey(line); what != "" {
			do := "use the line of the .pub file, such as ssh-ed25519 AAAA… NAME"
			l.problems = append(l.problems, &Error{Position: pos, What: what, Do: do})
			return
		}
		list.Items = append(list.Items, document.Text(line, pos))
	}
	for _, k := range keys {
		if k.Given() {
			add(strings.TrimSpace(k.Value), k.Pos)
		}
	}
	for _, name := range files {
		s, ok := l.read(name)
		if !ok {
			continue
		}
		if kind := privateKey(s.Data); kind != "" {
			l.problems = append(l.problems, &Error{Position: s.At(1, 1), What: "is a private key (" + kind + ")", Do: "name the public key beside it, " + s.Name + ".pub", Err: ErrSecret})
			continue
		}
		found := false
		for i, line := range strings.Split(string(s.Data), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				found = true
				add(line, s.At(i+1, 1))
			}
		}
		if !found {
			l.problem(s.At(1, 1), "holds no SSH public key", "name a .pub file")
		}
	}
	if len(list.Items) == 0 {
		return nil
	}
	list.Pos = list.Items[0].Pos
	return list
}

// user returns a user as cc_users_groups takes it.
func (l *loader) user(u seedfile.User) *document.Node {
	if u.Name.Value == "default" {
		return document.Text("default", u.Name.Pos)
	}
	n := document.Map(u.Pos)
	set := func(key string, t seedfile.Text) {
		if t.Given() {
			n.Set(key, document.Text(t.Value, t.Pos))
		}
	}
	set("name", u.Name)
	set("gecos", u.Gecos)
	set("primary_group", u.PrimaryGroup)
	if len(u.Groups) > 0 {
		list := document.List(u.Groups[0].Pos)
		for _, g := range u.Groups {
			list.Items = append(list.Items, document.Text(g.Value, g.Pos))
		}
		n.Set("groups", list)
	}
	switch {
	case u.Sudo == nil:
	case u.Sudo.Tag != "!!bool" || u.Sudo.Kind != document.Scalar:
		n.Set("sudo", u.Sudo)
	case u.Sudo.Value == "true":
		n.Set("sudo", document.Text("ALL=(ALL) NOPASSWD:ALL", u.Sudo.Pos))
	}
	set("shell", u.Shell)
	set("homedir", u.Home)
	if u.UID.Given() {
		n.Set("uid", document.Int(decimal(u.UID.Value), u.UID.Pos))
	}
	if u.System.Given {
		n.Set("system", document.Bool(u.System.Value, u.System.Pos))
	}
	set("passwd", u.PasswordHash)
	switch {
	case u.LockPassword.Given:
		n.Set("lock_passwd", document.Bool(u.LockPassword.Value, u.LockPassword.Pos))
	case u.PasswordHash.Given():
		n.Set("lock_passwd", document.Bool(false, u.PasswordHash.Pos))
	}
	if keys := l.keys(u.SSHKeys, u.SSHKeyFiles); keys != nil {
		n.Set("ssh_authorized_keys", keys)
	}
	return n
}

// decimal drops leading zeros, which YAML 1.1 takes as octal.
func decimal(digits string) string {
	if trimmed := strings.TrimLeft(digits, "0"); trimmed != "" {
		return trimmed
	}
	return "0"
}

// file returns a file as cc_write_files takes it. One that belongs to a user of the seed is written after the users are
// made.
func (l *loader) file(f seedfile.File, users []seedfile.User) *document.Node {
	n := document.Map(f.Pos)
	n.Set("path", document.Text(f.Path.Value, f.Path.Pos))
	if !l.content(n, f.Content, f.Source, f.Encoding.Value == "base64") {
		return nil
	}
	if f.Owner.Given() {
		n.Set("owner", document.Text(f.Owner.Value, f.Owner.Pos))
	}
	if f.Mode.Given() {
		n.Set("permissions", document.Text(fmt.Sprintf("%04s", f.Mode.Value), f.Mode.Pos))
	}
	if f.Append.Given {
		n.Set("append", document.Bool(f.Append.Value, f.Append.Pos))
	}
	owner, _, _ := strings.Cut(f.Owner.Value, ":")
	switch {
	case f.Deferred.Given:
		n.Set("defer", document.Bool(f.Deferred.Value, f.Deferred.Pos))
	case slices.ContainsFunc(users, func(u seedfile.User) bool { return u.Name.Value == owner && owner != "" && owner != "root" }):
		n.Set("defer", document.Bool(true, f.Owner.Pos))
	}
	return n
}

// content sets the content of a file, in base64 where it is not text.
func (l *loader) content(n *document.Node, content, from seedfile.Text, isBase64 bool) bool {
	data, pos := []byte(content.Value), content.Pos
	if pos.File == "" {
		pos = n.Pos // an empty file
	}
	if from.Given() {
		s, ok := l.read(from)
		if !ok {
			return false
		}
		data, pos = s.Data, from.Pos
	}
	switch {
	case isBase64:
		joined := strings.Join(strings.Fields(string(data)), "")
		if _, err := base64.StdEncoding.DecodeString(joined); err != nil {
			l.problem(pos, "content is not base64: "+err.Error(), "make it with `base64 FILE`, or remove encoding")
			return false
		}
		n.Set("encoding", document.Text("b64", pos))
		n.Set("content", document.Text(joined, pos))
	case !document.IsText(data):
		n.Set("encoding", document.Text("b64", pos))
		n.Set("content", document.Text(base64.StdEncoding.EncodeToString(data), pos))
	default:
		n.Set("content", document.Text(string(data), pos))
	}
	return true
}

const unitFolder = "/etc/systemd/system"

// unitFile returns the file of a unit or drop-in, nil where there is none to write.
func (l *loader) unitFile(u seedfile.Unit) *document.Node {
	if !u.Content.Given() && !u.Source.Given() {
		return nil
	}
	n := document.Map(u.Pos)
	name := path.Join(unitFolder, u.Name.Value)
	pos := u.Name.Pos
	if u.Dropin.Given() {
		name, pos = path.Join(unitFolder, u.Name.Value+".d", u.Dropin.Value), u.Dropin.Pos
	}
	n.Set("path", document.Text(name, pos))
	if !l.content(n, u.Content, u.Source, false) {
		return nil
	}
	content := n.Get("content")
	if n.Get("encoding") != nil || !hasSection(content.Value) {
		l.problem(content.Pos, "unit "+u.Name.Value+" has no section", "write systemd's syntax, beginning with [Unit] or [Service]")
		return nil
	}
	if u.Enable.Value && !u.Dropin.Given() && !strings.Contains(content.Value, "[Install]") {
		l.problem(u.Enable.Pos, "unit "+u.Name.Value+" has no section [Install], so it cannot be enabled", "add [Install] with WantedBy=multi-user.target, or remove enable")
		return nil
	}
	n.Set("permissions", document.Text("0644", pos))
	return n
}

func hasSection(content string) bool {
	for line := range strings.SplitSeq(content, "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			return true
		}
	}
	return false
}

// unitCommands returns what systemctl is asked to do with units, as cc_runcmd takes it. Nothing is waited for: a unit
// may be ordered after cloud-init itself.
func unitCommands(units []seedfile.Unit) []*document.Node {
	var commands []*document.Node
	run := func(pos Position, words ...string) {
		list := document.List(pos)
		for _, word := range words {
			list.Items = append(list.Items, document.Text(word, pos))
		}
		commands = append(commands, list)
	}
	if i := slices.IndexFunc(units, func(u seedfile.Unit) bool { return u.Content.Given() || u.Source.Given() }); i >= 0 {
		run(units[i].Pos, "systemctl", "daemon-reload")
	}
	for _, u := range units {
		written := u.Content.Given() || u.Source.Given()
		switch {
		case u.Enable.Value:
			run(u.Enable.Pos, "systemctl", "enable", u.Name.Value)
		case u.Enable.Given && !written:
			run(u.Enable.Pos, "systemctl", "disable", u.Name.Value)
		}
		switch {
		case u.Start.Value && u.Dropin.Given():
			run(u.Start.Pos, "systemctl", "--no-block", "restart", u.Name.Value)
		case u.Start.Value:
			run(u.Start.Pos, "systemctl", "--no-block", "start", u.Name.Value)
		case u.Start.Given && !written:
			run(u.Start.Pos, "systemctl", "--no-block", "stop", u.Name.Value)
		}
	}
	return commands
}
