package cidata

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const cloudConfigHeader = "#cloud-config\n"

// userData returns user-data: what the seed file describes, then the files that it names.
func (l *loader) userData(c *config) (source, bool) {
	n := l.cloudConfig(c)
	if len(n.entries) == 0 && len(c.userData) > 0 {
		return l.multipart(c.userData, nil)
	}
	made, ok := l.rendered(n, "seed.yml", cloudConfigHeader)
	if !ok || len(c.userData) == 0 {
		made.name = UserData
		return made, ok
	}
	return l.multipart(c.userData, &made)
}

// cloudConfig returns the cloud-config of all keys of a seed file.
func (l *loader) cloudConfig(c *config) *node {
	n := mapNode(c.pos)
	if c.hostname.given() && l.For == ForEC2 {
		host, _, dotted := strings.Cut(c.hostname.value, ".")
		n.set("hostname", textNode(host, c.hostname.pos))
		if dotted {
			n.set("fqdn", textNode(c.hostname.value, c.hostname.pos))
		}
	}
	if keys := l.keys(c.sshKeys, c.sshKeyFiles); keys != nil {
		n.set("ssh_authorized_keys", keys)
	}
	var users, files, commands []*node
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
		items []*node
	}{{"users", users}, {"write_files", files}, {"runcmd", commands}} {
		if len(list.items) > 0 {
			n.set(list.key, listNode(list.items[0].pos, list.items...))
		}
	}
	if c.growRoot.given {
		mode := "off"
		if c.growRoot.value {
			mode = "auto"
		}
		grow := mapNode(c.growRoot.pos)
		grow.set("mode", textNode(mode, c.growRoot.pos))
		grow.set("devices", listNode(c.growRoot.pos, textNode("/", c.growRoot.pos)))
		n.set("growpart", grow)
		n.set("resize_rootfs", boolNode(c.growRoot.value, c.growRoot.pos))
	}
	if c.cloudConfig != nil {
		l.sameUsers(c)
		l.merge(n, c.cloudConfig, "cloud_config")
	}
	return n
}

// sameUsers refuses a user that is both among users and in cloud_config.
func (l *loader) sameUsers(c *config) {
	list := c.cloudConfig.get("users")
	if list == nil {
		return
	}
	for _, item := range list.items {
		name := item.get("name")
		if name == nil {
			name = item
		}
		for _, u := range c.users {
			if name.kind == scalar && name.value == u.name.value {
				l.problem(name.pos, "cloud_config.users: user "+u.name.value+" is among the seed's users too", "put the two together")
			}
		}
	}
}

// merge lays from beneath n: lists are appended, mappings merged, and a single value may be set in one of the two only.
func (l *loader) merge(n, from *node, at string) {
	for _, e := range from.entries {
		there := n.get(e.key)
		switch {
		case there == nil:
			n.entries = append(n.entries, e)
		case there.kind == sequence && e.value.kind == sequence:
			there.items = append(slices.Clip(there.items), e.value.items...)
		case there.kind == mapping && e.value.kind == mapping:
			l.merge(there, e.value, join(at, e.key))
		case same(there, e.value):
		default:
			l.problem(e.pos, join(at, e.key)+" is set by another key of the seed too ("+there.pos.String()+")", "remove one of the two")
		}
	}
}

// keys returns the public keys of a user, nil where there are none.
func (l *loader) keys(keys, files []text) *node {
	list := &node{kind: sequence}
	add := func(line string, pos Position) {
		if what := checkKey(line); what != "" {
			do := "use the line of the .pub file, such as ssh-ed25519 AAAA… NAME"
			l.problems = append(l.problems, &Error{Position: pos, What: what, Do: do})
			return
		}
		list.items = append(list.items, textNode(line, pos))
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
		if kind := privateKey(s.data); kind != "" {
			l.problems = append(l.problems, &Error{Position: s.at(1, 1), What: "is a private key (" + kind + ")", Do: "name the public key beside it, " + s.name + ".pub", Err: ErrSecret})
			continue
		}
		found := false
		for i, line := range strings.Split(string(s.data), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				found = true
				add(line, s.at(i+1, 1))
			}
		}
		if !found {
			l.problem(s.at(1, 1), "holds no SSH public key", "name a .pub file")
		}
	}
	if len(list.items) == 0 {
		return nil
	}
	list.pos = list.items[0].pos
	return list
}

// user returns a user as cc_users_groups takes it.
func (l *loader) user(u user) *node {
	if u.name.value == "default" {
		return textNode("default", u.name.pos)
	}
	n := mapNode(u.pos)
	set := func(key string, t text) {
		if t.given() {
			n.set(key, textNode(t.value, t.pos))
		}
	}
	set("name", u.name)
	set("gecos", u.gecos)
	set("primary_group", u.primaryGroup)
	if len(u.groups) > 0 {
		list := &node{kind: sequence, pos: u.groups[0].pos}
		for _, g := range u.groups {
			list.items = append(list.items, textNode(g.value, g.pos))
		}
		n.set("groups", list)
	}
	switch {
	case u.sudo == nil:
	case u.sudo.tag != "!!bool" || u.sudo.kind != scalar:
		n.set("sudo", u.sudo)
	case u.sudo.value == "true":
		n.set("sudo", textNode("ALL=(ALL) NOPASSWD:ALL", u.sudo.pos))
	}
	set("shell", u.shell)
	set("homedir", u.home)
	if u.uid.given() {
		n.set("uid", &node{tag: "!!int", value: decimal(u.uid.value), pos: u.uid.pos})
	}
	if u.system.given {
		n.set("system", boolNode(u.system.value, u.system.pos))
	}
	set("passwd", u.passwordHash)
	switch {
	case u.lockPassword.given:
		n.set("lock_passwd", boolNode(u.lockPassword.value, u.lockPassword.pos))
	case u.passwordHash.given():
		n.set("lock_passwd", boolNode(false, u.passwordHash.pos))
	}
	if keys := l.keys(u.sshKeys, u.sshKeyFiles); keys != nil {
		n.set("ssh_authorized_keys", keys)
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
func (l *loader) file(f file, users []user) *node {
	n := mapNode(f.pos)
	n.set("path", textNode(f.path.value, f.path.pos))
	if !l.content(n, f.content, f.source, f.encoding.value == "base64") {
		return nil
	}
	if f.owner.given() {
		n.set("owner", textNode(f.owner.value, f.owner.pos))
	}
	if f.mode.given() {
		n.set("permissions", &node{tag: "!!str", quoted: true, value: fmt.Sprintf("%04s", f.mode.value), pos: f.mode.pos})
	}
	if f.append.given {
		n.set("append", boolNode(f.append.value, f.append.pos))
	}
	owner, _, _ := strings.Cut(f.owner.value, ":")
	switch {
	case f.deferred.given:
		n.set("defer", boolNode(f.deferred.value, f.deferred.pos))
	case slices.ContainsFunc(users, func(u user) bool { return u.name.value == owner && owner != "" && owner != "root" }):
		n.set("defer", boolNode(true, f.owner.pos))
	}
	return n
}

// content sets the content of a file, in base64 where it is not text.
func (l *loader) content(n *node, content, from text, isBase64 bool) bool {
	data, pos := []byte(content.value), content.pos
	if pos.File == "" {
		pos = n.pos // an empty file
	}
	if from.given() {
		s, ok := l.read(from)
		if !ok {
			return false
		}
		data, pos = s.data, from.pos
	}
	switch {
	case isBase64:
		joined := strings.Join(strings.Fields(string(data)), "")
		if _, err := base64.StdEncoding.DecodeString(joined); err != nil {
			l.problem(pos, "content is not base64: "+err.Error(), "make it with `base64 FILE`, or remove encoding")
			return false
		}
		n.set("encoding", textNode("b64", pos))
		n.set("content", textNode(joined, pos))
	case !isText(data):
		n.set("encoding", textNode("b64", pos))
		n.set("content", textNode(base64.StdEncoding.EncodeToString(data), pos))
	default:
		n.set("content", textNode(string(data), pos))
	}
	return true
}

// isText reports whether YAML can hold data as a string.
func isText(data []byte) bool {
	return utf8.Valid(data) && !strings.ContainsFunc(string(data), func(r rune) bool {
		return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0x2028 || r == 0x2029 || r >= 0xfffe
	})
}

const unitFolder = "/etc/systemd/system"

// unitFile returns the file of a unit or drop-in, nil where there is none to write.
func (l *loader) unitFile(u unit) *node {
	if !u.content.given() && !u.source.given() {
		return nil
	}
	n := mapNode(u.pos)
	name := path.Join(unitFolder, u.name.value)
	pos := u.name.pos
	if u.dropin.given() {
		name, pos = path.Join(unitFolder, u.name.value+".d", u.dropin.value), u.dropin.pos
	}
	n.set("path", textNode(name, pos))
	if !l.content(n, u.content, u.source, false) {
		return nil
	}
	content := n.get("content")
	if n.get("encoding") != nil || !hasSection(content.value) {
		l.problem(content.pos, "unit "+u.name.value+" has no section", "write systemd's syntax, beginning with [Unit] or [Service]")
		return nil
	}
	if u.enable.value && !u.dropin.given() && !strings.Contains(content.value, "[Install]") {
		l.problem(u.enable.pos, "unit "+u.name.value+" has no section [Install], so it cannot be enabled", "add [Install] with WantedBy=multi-user.target, or remove enable")
		return nil
	}
	n.set("permissions", textNode("0644", pos))
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
func unitCommands(units []unit) []*node {
	var commands []*node
	run := func(pos Position, words ...string) {
		list := listNode(pos)
		for _, word := range words {
			list.items = append(list.items, textNode(word, pos))
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

// numbered is the name of a part: cloud-init runs scripts in the order of their names, and two of one name would
// replace each other.
func numbered(i int, name string) string {
	name = strings.Map(func(r rune) rune {
		if r > 0x20 && r < 0x7f && !strings.ContainsRune(`"/\;`, r) {
			return r
		}
		return '_'
	}, path.Base(name))
	return fmt.Sprintf("%02d-%s", i+1, strings.TrimLeft(name, "."))
}
