package cidata

import "fmt"

// Settings are values from a command line. They are laid over those of a seed file: single values replace, lists are
// appended. Names of files are opened as they are.
type Settings struct {
	InstanceID    string
	Hostname      string
	User          string   // a user to make, who may use sudo without a password
	SSHKeyFiles   []string // files of public keys for User, else for the image's default user
	PasswordHash  string   // crypt(5) hash for User
	GrowRoot      bool     // grow the root partition and file system
	Network       string   // file with netplan version 2
	UserData      []string // files of user-data
	MetaData      string   // file of meta-data
	NetworkConfig string   // file of network-config, passed byte for byte
	VendorData    []string // files of vendor-data
	Vagrant       string   // file with the public key of a user vagrant
}

func flagged(name string) Position { return Position{File: "--" + name} }

// lay lays the settings over root.
func (s Settings) lay(root *node) Errors {
	problems := s.layUsers(root)
	for _, v := range []struct{ value, key, flag string }{
		{s.InstanceID, "instance_id", "instance-id"},
		{s.Hostname, "hostname", "hostname"},
		{s.MetaData, "meta_data", "meta-data"},
		{s.NetworkConfig, "network_config", "network-config"},
	} {
		if v.value != "" {
			root.set(v.key, textNode(v.value, flagged(v.flag)))
		}
	}
	if s.GrowRoot {
		root.set("grow_root", boolNode(true, flagged("grow-root")))
	}
	for _, name := range s.UserData {
		appendTo(root, "user_data", textNode(name, flagged("user-data")))
	}
	for _, name := range s.VendorData {
		appendTo(root, "vendor_data", textNode(name, flagged("vendor-data")))
	}
	switch {
	case s.NetworkConfig != "" && s.Network == "":
		root.remove("network")
	case s.Network != "" && s.NetworkConfig == "":
		root.remove("network_config")
	case s.Network != "":
		problems = append(problems, &Error{Position: flagged("network"), What: "--network-config is given too", Do: "leave one of the two out"})
	}
	return problems
}

// layUsers lays the users and their keys over root.
func (s Settings) layUsers(root *node) Errors {
	var problems Errors
	hasUsers := root.get("users") != nil
	switch {
	case s.User != "":
		u := namedUser(root, s.User, "user")
		for _, name := range s.SSHKeyFiles {
			appendTo(u, "ssh_key_files", textNode(name, flagged("ssh-key")))
		}
		if s.PasswordHash != "" {
			u.set("password_hash", textNode(s.PasswordHash, flagged("password-hash")))
		}
	case s.PasswordHash != "":
		problems = append(problems, &Error{Position: flagged("password-hash"), What: "belongs to no user", Do: "add --user NAME"})
	default:
		for _, name := range s.SSHKeyFiles {
			appendTo(root, "ssh_key_files", textNode(name, flagged("ssh-key")))
		}
	}
	if s.Vagrant != "" {
		appendTo(namedUser(root, "vagrant", "vagrant"), "ssh_key_files", textNode(s.Vagrant, flagged("vagrant")))
	}
	if users := root.get("users"); users != nil && !hasUsers && (root.get("ssh_keys") != nil || root.get("ssh_key_files") != nil) {
		// The keys are for the default user, whom a list of users would leave out.
		users.items = append([]*node{textNode("default", users.pos)}, users.items...)
	}
	return problems
}

// appendTo appends item to a list of n. What is no list there is left for the decoder to refuse.
func appendTo(n *node, key string, item *node) {
	list := n.get(key)
	switch {
	case list == nil:
		n.set(key, listNode(item.pos, item))
	case list.kind == sequence:
		list.items = append(list.items, item)
	case list.kind == scalar:
		n.set(key, listNode(list.pos, list, item))
	}
}

// namedUser returns the item of users with this name, a new one where there is none.
func namedUser(root *node, name, flagName string) *node {
	pos := flagged(flagName)
	users := root.get("users")
	if users == nil {
		users = listNode(pos)
		root.set("users", users)
	}
	for i, u := range users.items {
		if u.kind == scalar && u.value == name { // the short form
			u = mapNode(u.pos)
			u.set("name", textNode(name, u.pos))
			users.items[i] = u
		}
		if n := u.get("name"); n != nil && n.kind == scalar && n.value == name {
			return u
		}
	}
	u := mapNode(pos)
	u.set("name", textNode(name, pos))
	u.set("sudo", boolNode(true, pos))
	u.set("shell", textNode("/bin/bash", pos))
	users.items = append(users.items, u)
	return u
}

// fromFlag reports whether a flag gave the value: file names in it are not relative to the seed file.
func fromFlag(pos Position) bool { return pos.Line == 0 && len(pos.File) > 2 && pos.File[:2] == "--" }

// missing is the error for a file that cannot be read.
func missing(t text, err error) *Error {
	return &Error{Position: t.pos, What: fmt.Sprint("cannot be read: ", err), Do: "name a file that is there", Err: err}
}
