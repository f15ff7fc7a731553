package recipes

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

func (c *checker) users() {
	names, numbers := map[string]int{}, map[int]int{}
	for i, u := range c.recipe.Users {
		at := fmt.Sprintf("users[%d]", i)
		if j, twice := names[u.Name]; twice {
			c.add(at+".name", u.Name+" is there already, at "+c.recipe.Position(fmt.Sprintf("users[%d].name", j)).String(), "remove one of the two")
		}
		names[u.Name] = i
		if u.UID != nil {
			if j, twice := numbers[*u.UID]; twice {
				c.add(at+".uid", fmt.Sprintf("%d is the number of %s already", *u.UID, c.recipe.Users[j].Name), "use another")
			}
			numbers[*u.UID] = i
		}
		c.user(u, at)
	}
}

func (c *checker) user(u User, at string) {
	if u.Name == "root" {
		c.rootUser(u, at)
	} else if u.UID != nil && *u.UID == 0 {
		c.add(at+".uid", "0 is root's number", "use another; sudo: true lets a user do what root may")
	} else if u.UID != nil && u.System && *u.UID > 999 {
		c.add(at+".uid", fmt.Sprintf("%d is not a system user's number", *u.UID), "use one from 1 to 999, or remove system: true")
	}
	c.path(at+".home", u.Home)
	c.path(at+".shell", u.Shell)
	if strings.Contains(u.Home+u.Shell, ":") {
		c.add(at, "home and shell cannot hold a colon", "use another path")
	}
	if (u.Password == "" || u.Password == "!" || u.Password == "*") && u.Sudo == SudoPassword {
		c.add(at+".sudo", "sudo would ask for a password, and "+u.Name+" has none", "use sudo: nopasswd, or give the user a password")
	}
	c.repeated(at+".groups", u.Groups, func(s string) string { return s })
	c.repeated(at+".ssh_keys", u.SSHKeys, func(s string) string { return s })
	for i, key := range u.SSHKeys {
		c.sshKey(fmt.Sprintf("%s.ssh_keys[%d]", at, i), key)
	}
	if len(u.SSHKeys) > 0 && u.Home == "/" {
		c.add(at+".ssh_keys", "a user without a home folder has no place for keys", "set home")
	}
}

// rootUser checks what is said about root, who is there already.
func (c *checker) rootUser(u User, at string) {
	if u.UID != nil && *u.UID != 0 {
		c.add(at+".uid", "root's number is 0", "remove it")
	}
	for _, field := range []string{"sudo", "system"} {
		if (field == "sudo" && u.Sudo != SudoNo) || (field == "system" && u.System) {
			c.add(at+"."+field, "means nothing for root", "remove it")
		}
	}
	if u.Home != "/root" {
		c.add(at+".home", "root's home folder is /root", "remove it")
	}
}

// keyType finds the type and the key in a line of authorized_keys, which may have options before and a comment after.
var keyType = regexp.MustCompile(`(^|[ \t])(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com|ssh-(ed25519|rsa)-cert-v01@openssh\.com) +[A-Za-z0-9+/]{40,}={0,2}([ \t]|$)`)

func (c *checker) sshKey(at, key string) {
	switch {
	case strings.Contains(key, "PRIVATE KEY"):
		c.add(at, "is a private key", "write the public one, the file that ends in .pub, and never a private key into a recipe")
	case strings.ContainsAny(strings.TrimSpace(key), "\n\r"):
		c.add(at, "has several lines", "write one key in each item")
	case !keyType.MatchString(key):
		c.add(at, strconv.Quote(shorten(key))+" is not a public key", "write a line as in a .pub file: ssh-ed25519 AAAA… name")
	}
}
