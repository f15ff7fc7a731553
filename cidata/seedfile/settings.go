package seedfile

import "github.com/applbuild/applbuild/cidata/document"

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

// Flagged is the place of a value that the flag --name gives.
func Flagged(name string) document.Position { return document.Position{File: "--" + name} }

// Lay lays the settings over root, a seed file's mapping.
func (s Settings) Lay(root *document.Node) document.Errors {
	problems := s.layUsers(root)
	for _, v := range []struct{ value, key, flag string }{
		{s.InstanceID, "instance_id", "instance-id"},
		{s.Hostname, "hostname", "hostname"},
		{s.MetaData, "meta_data", "meta-data"},
		{s.NetworkConfig, "network_config", "network-config"},
	} {
		if v.value != "" {
			root.Set(v.key, document.Text(v.value, Flagged(v.flag)))
		}
	}
	if s.GrowRoot {
		root.Set("grow_root", document.Bool(true, Flagged("grow-root")))
	}
	for _, name := range s.UserData {
		appendTo(root, "user_data", document.Text(name, Flagged("user-data")))
	}
	for _, name := range s.VendorData {
		appendTo(root, "vendor_data", document.Text(name, Flagged("vendor-data")))
	}
	switch {
	case s.NetworkConfig != "" && s.Network == "":
		root.Remove("network")
	case s.Network != "" && s.NetworkConfig == "":
		root.Remove("network_config")
	case s.Network != "":
		problems = append(problems, &document.Error{Position: Flagged("network"), What: "--network-config is given too", Do: "leave one of the two out"})
	}
	return problems
}

// layUsers lays the users and their keys over root.
func (s Settings) layUsers(root *document.Node) document.Errors {
	var problems document.Errors
	hasUsers := root.Get("users") != nil
	switch {
	case s.User != "":
		u := namedUser(root, s.User, "user")
		for _, name := range s.SSHKeyFiles {
			appendTo(u, "ssh_key_files", document.Text(name, Flagged("ssh-key")))
		}
		if s.PasswordHash != "" {
			u.Set("password_hash", document.Text(s.PasswordHash, Flagged("password-hash")))
		}
	case s.PasswordHash != "":
		problems = append(problems, &document.Error{Position: Flagged("password-hash"), What: "belongs to no user", Do: "add --user NAME"})
	default:
		for _, name := range s.SSHKeyFiles {
			appendTo(root, "ssh_key_files", document.Text(name, Flagged("ssh-key")))
		}
	}
	if s.Vagrant != "" {
		appendTo(namedUser(root, "vagrant", "vagrant"), "ssh_key_files", document.Text(s.Vagrant, Flagged("vagrant")))
	}
	if users := root.Get("users"); users != nil && !hasUsers && (root.Get("ssh_keys") != nil || root.Get("ssh_key_files") != nil) {
		// The keys are for the default user, whom a list of users would leave out.
		users.Items = append([]*document.Node{document.Text("default", users.Pos)}, users.Items...)
	}
	return problems
}

// appendTo appends item to a list of n. What is no list there is left for the decoder to refuse.
func appendTo(n *document.Node, key string, item *document.Node) {
	list := n.Get(key)
	switch {
	case list == nil:
		n.Set(key, document.List(item.Pos, item))
	case list.Kind == document.Sequence:
		list.Items = append(list.Items, item)
	case list.Kind == document.Scalar:
		n.Set(key, document.List(list.Pos, list, item))
	}
}

// namedUser returns the item of users with this name, a new one where there is none.
func namedUser(root *document.Node, name, flagName string) *document.Node {
	pos := Flagged(flagName)
	users := root.Get("users")
	if users == nil {
		users = document.List(pos)
		root.Set("users", users)
	}
	for i, u := range users.Items {
		if u.Kind == document.Scalar && u.Value == name { // the short form
			u = document.Map(u.Pos)
			u.Set("name", document.Text(name, u.Pos))
			users.Items[i] = u
		}
		if n := u.Get("name"); n != nil && n.Kind == document.Scalar && n.Value == name {
			return u
		}
	}
	u := document.Map(pos)
	u.Set("name", document.Text(name, pos))
	u.Set("sudo", document.Bool(true, pos))
	u.Set("shell", document.Text("/bin/bash", pos))
	users.Items = append(users.Items, u)
	return u
}

// FromFlag reports whether a flag gave the value: file names in it are not relative to the seed file.
func FromFlag(pos document.Position) bool {
	return pos.Line == 0 && len(pos.File) > 2 && pos.File[:2] == "--"
}
