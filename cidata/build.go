package cidata

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
)

const cloudConfigHeader = "#cloud-config\n"

// userData returns user-data: what the seed file describes, then the files that it names.
func (l *loader) userData(c *config) (document.Source, bool) {
	n := l.cloudConfig(c)
	if len(n.Entries) == 0 && len(c.userData) > 0 {
		return l.multipart(c.userData, nil)
	}
	made, ok := l.rendered(n, "seed.yml", cloudConfigHeader)
	if !ok || len(c.userData) == 0 {
		made.Name = UserData
		return made, ok
	}
	return l.multipart(c.userData, &made)
}

// cloudConfig returns the cloud-config of all keys of a seed file.
func (l *loader) cloudConfig(c *config) *document.Node {
	n := document.Map(c.pos)
	if c.hostname.given() && l.For == ForEC2 {
		host, _, dotted := strings.Cut(c.hostname.value, ".")
		n.Set("hostname", document.Text(host, c.hostname.pos))
		if dotted {
			n.Set("fqdn", document.Text(c.hostname.value, c.hostname.pos))
		}
	}
	if keys := l.keys(c.sshKeys, c.sshKeyFiles); keys != nil {
		n.Set("ssh_authorized_keys", keys)
	}
	var users, files, commands []*document.Node
	for _, u := range c.users {
		users = append(users, l.user(u))
	}
	for _, f := range c.files {
		if item := l.file(f, c.users); item != nil {
			files = append(files, item)
		}
	}
	for _, u := range c.units {
		if item := l.unitFile(u); item != nil {
			files = append(files, item)
		}
	}
	commands = unitCommands(c.units)
	for _, list := range []struct {
		key   string
		items []*document.Node
	}{{"users", users}, {"write_files", files}, {"runcmd", commands}} {
		if len(list.items) > 0 {
			n.Set(list.key, document.List(list.items[0].Pos, list.items...))
		}
	}
	if c.growRoot.given {
		mode := "off"
		if c.growRoot.value {
			mode = "auto"
		}
		grow := document.Map(c.growRoot.pos)
		grow.Set("mode", document.Text(mode, c.growRoot.pos))
		grow.Set("devices", document.List(c.growRoot.pos, document.Text("/", c.growRoot.pos)))
		n.Set("growpart", grow)
		n.Set("resize_rootfs", document.Bool(c.growRoot.value, c.growRoot.pos))
	}
	if c.cloudConfig != nil {
		l.sameUsers(c)
		l.merge(n, c.cloudConfig, "cloud_config")
	}
	return n
}

// sameUsers refuses a user that is both among users and in cloud_config.
func (l *loader) sameUsers(c *config) {
	list := c.cloudConfig.Get("users")
	if list == nil {
		return
	}
	for _, item := range list.Items {
		name := item.Get("name")
		if name == nil {
			name = item
		}
		for _, u := range c.users {
			if name.Kind == document.Scalar && name.Value == u.name.value {
				l.problem(name.Pos, "cloud_config.users: user "+u.name.value+" is among the seed's users too", "put the two together")
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
			l.merge(there, e.Value, join(at, e.Key))
		case document.Same(there, e.Value):
		default:
			l.problem(e.Pos, join(at, e.Key)+" is set by another key of the seed too ("+there.Pos.String()+")", "remove one of the two")
		}
	}
}

// keys returns the public keys of a user, nil where there are none.
func (l *loader) keys(keys, files []text) *document.Node {
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
		if k.given() {
			add(strings.TrimSpace(k.value), k.pos)
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
func (l *loader) user(u user) *document.Node {
	if u.name.value == "default" {
		return document.Text("default", u.name.pos)
	}
	n := document.Map(u.pos)
	set := func(key string, t text) {
		if t.given() {
			n.Set(key, document.Text(t.value, t.pos))
		}
	}
	set("name", u.name)
	set("gecos", u.gecos)
	set("primary_group", u.primaryGroup)
	if len(u.groups) > 0 {
		list := document.List(u.groups[0].pos)
		for _, g := range u.groups {
			list.Items = append(list.Items, document.Text(g.value, g.pos))
		}
		n.Set("groups", list)
	}
	switch {
	case u.sudo == nil:
	case u.sudo.Tag != "!!bool" || u.sudo.Kind != document.Scalar:
		n.Set("sudo", u.sudo)
	case u.sudo.Value == "true":
		n.Set("sudo", document.Text("ALL=(ALL) NOPASSWD:ALL", u.sudo.Pos))
	}
	set("shell", u.shell)
	set("homedir", u.home)
	if u.uid.given() {
		n.Set("uid", document.Int(decimal(u.uid.value), u.uid.pos))
	}
	if u.system.given {
		n.Set("system", document.Bool(u.system.value, u.system.pos))
	}
	set("passwd", u.passwordHash)
	switch {
	case u.lockPassword.given:
		n.Set("lock_passwd", document.Bool(u.lockPassword.value, u.lockPassword.pos))
	case u.passwordHash.given():
		n.Set("lock_passwd", document.Bool(false, u.passwordHash.pos))
	}
	if keys := l.keys(u.sshKeys, u.sshKeyFiles); keys != nil {
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
func (l *loader) file(f file, users []user) *document.Node {
	n := document.Map(f.pos)
	n.Set("path", document.Text(f.path.value, f.path.pos))
	if !l.content(n, f.content, f.source, f.encoding.value == "base64") {
		return nil
	}
	if f.owner.given() {
		n.Set("owner", document.Text(f.owner.value, f.owner.pos))
	}
	if f.mode.given() {
		n.Set("permissions", document.Text(fmt.Sprintf("%04s", f.mode.value), f.mode.pos))
	}
	if f.append.given {
		n.Set("append", document.Bool(f.append.value, f.append.pos))
	}
	owner, _, _ := strings.Cut(f.owner.value, ":")
	switch {
	case f.deferred.given:
		n.Set("defer", document.Bool(f.deferred.value, f.deferred.pos))
	case slices.ContainsFunc(users, func(u user) bool { return u.name.value == owner && owner != "" && owner != "root" }):
		n.Set("defer", document.Bool(true, f.owner.pos))
	}
	return n
}

// content sets the content of a file, in base64 where it is not text.
func (l *loader) content(n *document.Node, content, from text, isBase64 bool) bool {
	data, pos := []byte(content.value), content.pos
	if pos.File == "" {
		pos = n.Pos // an empty file
	}
	if from.given() {
		s, ok := l.read(from)
		if !ok {
			return false
		}
		data, pos = s.Data, from.pos
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
func (l *loader) unitFile(u unit) *document.Node {
	if !u.content.given() && !u.source.given() {
		return nil
	}
	n := document.Map(u.pos)
	name := path.Join(unitFolder, u.name.value)
	pos := u.name.pos
	if u.dropin.given() {
		name, pos = path.Join(unitFolder, u.name.value+".d", u.dropin.value), u.dropin.pos
	}
	n.Set("path", document.Text(name, pos))
	if !l.content(n, u.content, u.source, false) {
		return nil
	}
	content := n.Get("content")
	if n.Get("encoding") != nil || !hasSection(content.Value) {
		l.problem(content.Pos, "unit "+u.name.value+" has no section", "write systemd's syntax, beginning with [Unit] or [Service]")
		return nil
	}
	if u.enable.value && !u.dropin.given() && !strings.Contains(content.Value, "[Install]") {
		l.problem(u.enable.pos, "unit "+u.name.value+" has no section [Install], so it cannot be enabled", "add [Install] with WantedBy=multi-user.target, or remove enable")
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
func unitCommands(units []unit) []*document.Node {
	var commands []*document.Node
	run := func(pos Position, words ...string) {
		list := document.List(pos)
		for _, word := range words {
			list.Items = append(list.Items, document.Text(word, pos))
		}
		commands = append(commands, list)
	}
	if i := slices.IndexFunc(units, func(u unit) bool { return u.content.given() || u.source.given() }); i >= 0 {
		run(units[i].pos, "systemctl", "daemon-reload")
	}
	for _, u := range units {
		written := u.content.given() || u.source.given()
		switch {
		case u.enable.value:
			run(u.enable.pos, "systemctl", "enable", u.name.value)
		case u.enable.given && !written:
			run(u.enable.pos, "systemctl", "disable", u.name.value)
		}
		switch {
		case u.start.value && u.dropin.given():
			run(u.start.pos, "systemctl", "--no-block", "restart", u.name.value)
		case u.start.value:
			run(u.start.pos, "systemctl", "--no-block", "start", u.name.value)
		case u.start.given && !written:
			run(u.start.pos, "systemctl", "--no-block", "stop", u.name.value)
		}
	}
	return commands
}
