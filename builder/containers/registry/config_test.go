package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestReferencesAreCompletedAsByDocker(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, test := range []struct{ text, name, id string }{
		{"nginx", "docker.io/library/nginx:latest", "latest"},
		{"nginx:1.27", "docker.io/library/nginx:1.27", "1.27"},
		{"docker.io/nginx", "docker.io/library/nginx:latest", "latest"},
		{"index.docker.io/team/nginx:1", "docker.io/team/nginx:1", "1"},
		{"team/web", "docker.io/team/web:latest", "latest"},
		{"registry.example.com/web:1.4", "registry.example.com/web:1.4", "1.4"},
		{"localhost/web", "localhost/web:latest", "latest"},
		{"localhost:5000/a/b/c:1", "localhost:5000/a/b/c:1", "1"},
		{"[::1]:5000/web:1", "[::1]:5000/web:1", "1"},
		{"nginx@" + digest, "docker.io/library/nginx@" + digest, digest},
		{"registry.example.com/web:1.4@" + digest, "registry.example.com/web:1.4", digest},
	} {
		ref, err := ParseReference(test.text)
		if err != nil || ref.Name() != test.name || ref.identifier() != test.id {
			t.Errorf("%s is %+v, %v", test.text, ref, err)
		}
	}
	for _, text := range []string{
		"", "Nginx", "nginx:", "nginx@", "nginx@sha256:12", "nginx@sha512:" + strings.Repeat("a", 128), "nginx@" + digest + "@" + digest,
		"https://registry.example.com/web", "registry.example.com/../web", "registry.example.com//web", "a b", "web:1\n2", "registry.example.com/web/:1",
	} {
		if ref, err := ParseReference(text); !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v", text, ref, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than a line: %v", text, err)
		}
	}
}

func TestMirrorsOfANameByRegistriesConf(t *testing.T) {
	const conf = `
unqualified-search-registries = ["quay.io"]
[aliases]
"web" = "quay.io/web"
[[registry]]
prefix = "docker.io"
location = "hub.example.com/proxy"
[[registry]]
location = "docker.io/library"
[[registry.mirror]]
location = "one.example.com/lib"
insecure = true
[[registry.mirror]]
location = "two.example.com"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "three.example.com"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.corp.example.com"
location = "corp.example.com/all"
mirror-by-digest-only = true
[[registry.mirror]]
location = "four.example.com"
[[registry]]
prefix = "bad.example.com/team"
blocked = true
[[registry]]
prefix = "moved.example.com/web:1"
location = "new.example.com/web:1"
`
	m, err := ParseMirrors("registries.conf", []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	const digest = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, test := range []struct{ ref, want string }{
		{"docker.io/team/web:1", "hub.example.com/proxy/team/web"},
		{"nginx:1", "one.example.com/lib/nginx! three.example.com/nginx docker.io/library/nginx"},
		{"nginx" + digest, "one.example.com/lib/nginx! two.example.com/nginx docker.io/library/nginx"},
		{"docker.io/libraryx/nginx:1", "hub.example.com/proxy/libraryx/nginx"},
		{"a.corp.example.com/web:1", "corp.example.com/all/web"},
		{"a.b.corp.example.com:5000/web" + digest, "four.example.com:5000/web corp.example.com/all:5000/web"},
		{"corp.example.com/web:1", "corp.example.com/web"},
		{"quay.io/web:1", "quay.io/web"},
		{"bad.example.com/teams/web:1", "bad.example.com/teams/web"},
	} {
		ref, err := ParseReference(test.ref)
		if err != nil {
			t.Fatal(err)
		}
		ends, err := m.endpoints(ref)
		var got []string
		for _, e := range ends {
			mark := ""
			if e.insecure {
				mark = "!"
			}
			got = append(got, e.repository+mark)
		}
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, %v; want %s", test.ref, got, err, test.want)
		}
	}
	if _, err := m.endpoints(Reference{Repository: "bad.example.com/team/web", Tag: "1"}); !errors.Is(err, ErrBlocked) {
		t.Errorf("blocked: %v", err)
	}
}

func TestRegistriesConfThatIsRefused(t *testing.T) {
	for conf, says := range map[string]string{
		"[[registry]]\nprefix = 7":                                                                            "",
		"[registries.search]\nregistries = ['a']":                                                             "version 1",
		"[[registry]]\ninsecure = true":                                                                       "is no registry",
		"[[registry]]\nlocation = \"https://a.example.com\"":                                                  "is no registry",
		"[[registry]]\nlocation = \"a.example.com\"\n[[registry.mirror]]\nlocation = \"\"":                    "mirror of",
		"[[registry]]\nlocation = \"a.io\"\n[[registry.mirror]]\nlocation = \"b.io\"\npull-from-mirror = 'x'": "digest-only",
		"[[registry]]\nlocation = \"a.io\"\n[[registry]]\nlocation = \"a.io\"":                                "twice",
	} {
		_, err := ParseMirrors("registries.conf", []byte(conf))
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", conf, err)
		}
		oneLine(t, err, "registries.conf", says)
	}
}

func TestLaterRegistriesConfReplacesAPrefix(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "registries.conf"), filepath.Join(dir, "50-site.conf")
	write(t, first, "[[registry]]\nprefix = 'a.io'\nlocation = 'b.io'\n[[registry]]\nprefix = 'c.io'\nlocation = 'd.io'\n")
	write(t, second, "[[registry]]\nprefix = 'a.io'\nlocation = 'e.io'\n")
	m, err := LoadMirrors(first, filepath.Join(dir, "missing.conf"), second)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"a.io": "e.io", "c.io": "d.io"} {
		ends, err := m.endpoints(Reference{Repository: from + "/web", Tag: "1"})
		if err != nil || len(ends) != 1 || ends[0].repository != to+"/web" {
			t.Errorf("%s: %+v, %v", from, ends, err)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeychainFindsTheMostSpecificCredential(t *testing.T) {
	dir := t.TempDir()
	tokens, podman, docker := filepath.Join(dir, "tokens"), filepath.Join(dir, "auth.json"), filepath.Join(dir, "config.json")
	write(t, tokens, "# one a line\n\nregistry.example.com/team  bearer  abc.def\nother.example.com basic eve:pass word:x\n")
	write(t, podman, `{"auths": {
		"registry.example.com": {"auth": "aG9zdDpwdw=="},
		"registry.example.com/shop": {"auth": "c2hvcDpwdw=="},
		"registry.example.com/shop/till": {"auth": "dGlsbDpwdw=="},
		"legacy.example.com": {"auth": "cGxhaW46cHc="},
		"https://legacy.example.com/v1/": {"auth": "b2xkOnB3"}}}`)
	write(t, docker, `{"auths": {
		"https://index.docker.io/v1/": {"identitytoken": "id-token"},
		"registry.example.com": {"auth": "ZG9ja2VyOnB3"}, "stored.example.com": {}},
		"credHelpers": {"gcr.example.com": "gcr", "none.example.com": "gcr", "broken.example.com": "broken", "evil.example.com": "../../bin/sh"},
		"credsStore": "pass"}`)
	run := func(_ context.Context, program, server string) ([]byte, error) {
		switch program + " " + server {
		case "docker-credential-gcr gcr.example.com":
			return []byte(`{"ServerURL":"x","Username":"<token>","Secret":"gcr-token"}`), nil
		case "docker-credential-pass stored.example.com":
			return []byte(`{"Username":"stored","Secret":"pw"}`), nil
		case "docker-credential-broken broken.example.com":
			return []byte("hunter2"), errors.New("exit status 2")
		}
		return []byte("credentials not found in native keychain\n"), errors.New("exit status 1")
	}
	k, err := LoadKeychain(KeychainFiles{TokenFile: tokens, AuthFiles: []string{filepath.Join(dir, "missing"), podman, docker}}, run)
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string]string{
		"registry.example.com/team/web":     "bearer abc.def",
		"other.example.com/web":             "eve pass word:x",
		"registry.example.com/teams/web":    "host pw",
		"registry.example.com/shop":         "shop pw",
		"registry.example.com/shop/web":     "shop pw",
		"registry.example.com/shop/till/x":  "till pw",
		"registry.example.com:5000/web":     "anonymous",
		"registry.example.com.evil.io/team": "anonymous",
		"legacy.example.com/web":            "plain pw",
		"docker.io/library/nginx":           "identity id-token",
		"gcr.example.com/web":               "identity gcr-token",
		"none.example.com/web":              "anonymous",
		"stored.example.com/web":            "stored pw",
	} {
		target, err := name.NewRepository(repo)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := k.Resolve(target)
		if err != nil {
			t.Errorf("%s: %v", repo, err)
			continue
		}
		c, err := auth.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(c.Username + " " + c.Password)
		switch {
		case auth == authn.Anonymous:
			got = "anonymous"
		case c.RegistryToken != "":
			got = "bearer " + c.RegistryToken
		case c.IdentityToken != "":
			got = "identity " + c.IdentityToken
		}
		if got != want {
			t.Errorf("%s: %s, want %s", repo, got, want)
		}
	}
	for _, host := range []string{"broken.example.com", "evil.example.com"} {
		target, _ := name.NewRepository(host + "/web")
		_, err := k.Resolve(target)
		if !errors.Is(err, ErrConfig) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v", host, err)
		}
		oneLine(t, err, docker)
	}
}

func TestMalformedCredentialsAreNotRepeated(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for _, text := range []string{
		"registry.example.com hunter2", "hunter2", "registry.example.com basic hunter2", "registry.example.com bearer hunter2 hunter2", "https://x hunter2",
	} {
		write(t, file, "\n"+text)
		_, err := LoadKeychain(KeychainFiles{TokenFile: file}, nil)
		if !errors.Is(err, ErrConfig) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
		oneLine(t, err, file+":2", "bearer TOKEN")
	}
	for _, text := range []string{
		`hunter2`, `{"auths": "hunter2"}`, `{"auths": {"a": {"auth": "hunter2"}}}`, `{"auths": {"a": {"auth": 7777}}}`, `{"credHelpers": {"a": 7777}}`,
	} {
		write(t, file, text)
		_, err := LoadKeychain(KeychainFiles{AuthFiles: []string{file}}, nil)
		if !errors.Is(err, ErrConfig) || strings.Contains(fmt.Sprint(err), "hunter2") || strings.Contains(fmt.Sprint(err), "7777") {
			t.Errorf("%q: %v", text, err)
		}
		oneLine(t, err, file)
	}
	if _, err := LoadKeychain(KeychainFiles{TokenFile: filepath.Join(dir, "missing")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a token file that is missing: %v", err)
	}
}

func FuzzParseMirrors(f *testing.F) {
	f.Add([]byte("[[registry]]\nprefix = '*.a.io'\nlocation = 'b.io/x'\n[[registry.mirror]]\nlocation = 'c.io'\n"))
	f.Add([]byte("[[registry]]\nlocation = 'a.io/web:1'\nblocked = true\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMirrors("f", data)
		if err != nil {
			if !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "\n") {
				t.Error(err)
			}
			return
		}
		for _, ref := range []Reference{{Repository: "a.io/web", Tag: "1"}, {Repository: "x.a.io:5000/web", Digest: "sha256:00"}} {
			ends, err := m.endpoints(ref)
			if err == nil && len(ends) == 0 {
				t.Errorf("%v has nowhere to go", ref)
			}
		}
	})
}

func FuzzParseReference(f *testing.F) {
	f.Add("registry.example.com:5000/web:1.4@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("[::1]:5000/a__b/c")
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseReference(text)
		if err != nil {
			return
		}
		again, err := ParseReference(ref.Name())
		if err != nil || again.Name() != ref.Name() {
			t.Errorf("%q is %q, which is %+v, %v", text, ref.Name(), again, err)
		}
	})
}

func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte("a.io bearer x\n"))
	f.Add([]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}}, "credHelpers": {"a": "b"}, "credsStore": "c"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parseTokens("f", data); err != nil && !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
		if _, err := parseAuths("f", data); err != nil && !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
	})
}
