package cidata

import "testing"

func TestPublicKeysAreToldFromOthers(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID9oaUF/SaHhu3KFeh8PM9t0oTkpCyDTdjmuS/i4GJQ3"
	for line, right := range map[string]bool{
		key:                         true,
		key + " me@host":            true,
		"no-pty " + key:             true,
		`command="a b \" c" ` + key: true,
		`command="a b c ` + key:     false,
		"sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA": false,
		"ssh-rsa " + key[12:]: false,
		"ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAA": true,
		key[:40]:                    false,
		key[:len(key)-3]:            false,
		"ssh-ed25519":               false,
		"ssh-ed25519 AAAA":          false,
		"ssh-ed25519 %%%%":          false,
		"ssh-dss AAAAB3NzaC1kc3MA":  false,
		"a b " + key:                false,
		"":                          false,
		"ssh-ed25519 /////w==":      false,
		"-----BEGIN PRIVATE KEY---": false,
	} {
		if what := checkKey(line); (what == "") != right {
			t.Errorf("%q: %q", line, what)
		}
	}
}
