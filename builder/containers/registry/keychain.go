package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A Keychain knows credentials for registries. It is an authn.Keychain and an
// authn.ContextKeychain. Nothing of it is ever printed: what it says of a
// malformed file is where, never what.
type Keychain struct {
	files []authFile
	run   RunHelper
}

// A RunHelper runs a credential helper such as docker-credential-pass with the
// argument get and the server on its standard input, and returns what it
// prints. Its error is told to people, so it must not hold what was printed.
type RunHelper func(ctx context.Context, program, server string) (output []byte, err error)

// An authFile is what one file says. Keys are HOST[:PORT][/PATH].
type authFile struct {
	name    string
	auths   map[string]authn.AuthConfig
	helpers map[string]string
	store   string
}

// KeychainFiles names the files that a Keychain is read from. Files that are
// missing are skipped, but for TokenFile.
type KeychainFiles struct {
	// TokenFile holds one credential a line:
	//
	//	HOST[:PORT][/PATH] bearer TOKEN
	//	HOST[:PORT][/PATH] basic USER:PASSWORD
	//
	// Empty lines and those that begin with # are skipped. It is asked first.
	TokenFile string
	// AuthFiles are docker's config.json and podman's auth.json
	// (containers-auth.json(5)), asked in this order.
	AuthFiles []string
}

// LoadKeychain reads credentials. run may be nil; then a registry for which a
// helper is to be asked gives an error. Errors match ErrConfig.
func LoadKeychain(from KeychainFiles, run RunHelper) (*Keychain, error) {
	k := &Keychain{run: run}
	if from.TokenFile != "" {
		data, err := readConfig(from.TokenFile)
		if err != nil {
			return nil, err
		}
		file, err := parseTokens(from.TokenFile, data)
		if err != nil {
			return nil, err
		}
		k.files = append(k.files, *file)
	}
	for _, name := range from.AuthFiles {
		data, err := readConfig(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		file, err := parseAuths(name, data)
		if err != nil {
			return nil, err
		}
		k.files = append(k.files, *file)
	}
	return k, nil
}

func parseTokens(name string, data []byte) (*authFile, error) {
	file := &authFile{name: name, auths: map[string]authn.AuthConfig{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxConfig)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		host, rest, _ := strings.Cut(line, " ")
		kind, secret, _ := strings.Cut(strings.TrimSpace(rest), " ")
		secret = strings.TrimSpace(secret)
		user, password, isBasic := strings.Cut(secret, ":")
		var auth authn.AuthConfig
		switch {
		case kind == "bearer" && secret != "" && !strings.ContainsAny(secret, " \t"):
			auth.RegistryToken = secret
		case kind == "basic" && isBasic && user != "" && password != "":
			auth.Username, auth.Password = user, password
		default:
			return nil, &Error{Image: fmt.Sprintf("%s:%d", name, n), Kind: ErrConfig, Do: "write HOST bearer TOKEN, or HOST basic USER:PASSWORD"}
		}
		if !isLocation(host) {
			return nil, &Error{Image: fmt.Sprintf("%s:%d", name, n), Kind: ErrConfig, Detail: "the first word is no registry", Do: "write HOST bearer TOKEN, or HOST basic USER:PASSWORD"}
		}
		file.auths[authKey(host)] = auth
	}
	if lines.Err() != nil {
		return nil, &Error{Image: name, Kind: ErrConfig, Detail: "a line is too long"}
	}
	return file, nil
}

func parseAuths(name string, data []byte) (*authFile, error) {
	var doc struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
		CredHelpers map[string]string `json:"credHelpers"`
		CredsStore  string            `json:"credsStore"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		// The error may quote what stands there.
		return nil, &Error{Image: name, Kind: ErrConfig, Detail: "it is no JSON as docker login and podman login write it", Do: "log in again"}
	}
	file := &authFile{name: name, auths: map[string]authn.AuthConfig{}, helpers: map[string]string{}, store: doc.CredsStore}
	for _, key := range slices.Sorted(maps.Keys(doc.Auths)) {
		a := doc.Auths[key]
		auth := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, found := strings.Cut(string(plain), ":")
			if err != nil || !found {
				return nil, &Error{Image: name, Kind: ErrConfig, Detail: fmt.Sprintf("auth of %.300q is no Base64 of USER:PASSWORD", key), Do: "log in again"}
			}
			auth.Username, auth.Password = user, strings.TrimRight(password, "\x00")
		}
		if auth == (authn.AuthConfig{}) {
			continue // a mark that a store has it
		}
		// A key in docker's old form gives way to the plain one.
		if normal := authKey(key); normal == key || file.auths[normal] == (authn.AuthConfig{}) {
			file.auths[normal] = auth
		}
	}
	for key, helper := range doc.CredHelpers {
		file.helpers[authKey(key)] = helper
	}
	return file, nil
}

// authKey brings the key of a credential into the form HOST[:PORT][/PATH].
func authKey(key string) string {
	bare, isURL := strings.CutPrefix(key, "https://")
	if !isURL {
		bare, isURL = strings.CutPrefix(key, "http://")
	}
	if isURL { // docker's old form, whose path is of the API
		bare, _, _ = strings.Cut(bare, "/")
	}
	host, path, hasPath := strings.Cut(bare, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		host = dockerHub
	}
	if host == dockerHub && (path == "v1/" || path == "v2/" || path == "v1" || path == "v2") {
		hasPath = false
	}
	if hasPath {
		return host + "/" + path
	}
	return host
}

// Resolve is ResolveContext without a context.
func (k *Keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext finds the credential for a repository, or authn.Anonymous. Of
// the first file that has any, the one for the longest part of the name counts.
func (k *Keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	if k == nil {
		return authn.Anonymous, nil
	}
	full := authKey(target.String())
	host, _, _ := strings.Cut(full, "/")
	for _, file := range k.files {
		for key := full; key != ""; key = parent(key) {
			if helper := file.helpers[key]; helper != "" {
				auth, err := k.ask(ctx, file.name, helper, host)
				if auth != nil || err != nil {
					return auth, err
				}
			}
			if auth, ok := file.auths[key]; ok {
				return authn.FromConfig(auth), nil
			}
		}
		if file.store != "" {
			auth, err := k.ask(ctx, file.name, file.store, host)
			if auth != nil || err != nil {
				return auth, err
			}
		}
	}
	return authn.Anonymous, nil
}

// parent cuts the last part of a key off.
func parent(key string) string {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return ""
	}
	return key[:i]
}

// ask runs a credential helper. It returns nil where the helper knows none.
func (k *Keychain) ask(ctx context.Context, file, helper, host string) (authn.Authenticator, error) {
	refused := func(detail string) (authn.Authenticator, error) {
		return nil, &Error{Image: file, Registry: host, Kind: ErrConfig, Detail: fmt.Sprintf("credential helper %.100q: %s", helper, detail), Do: "try docker-credential-" + helper + " get by hand"}
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if strings.Trim(helper, letters) != "" {
		return nil, &Error{Image: file, Kind: ErrConfig, Detail: "the name of a credential helper is none"}
	}
	if k.run == nil {
		return refused("it cannot be run here")
	}
	server := host
	if host == dockerHub {
		server = "https://index.docker.io/v1/"
	}
	out, err := k.run(ctx, "docker-credential-"+helper, server)
	if strings.HasPrefix(strings.TrimSpace(string(out)), "credentials not found") {
		return nil, nil
	}
	if err != nil {
		return refused(err.Error())
	}
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out, &answer) != nil || answer.Secret == "" {
		return refused("its answer is not understood")
	}
	if answer.Username == "<token>" {
		return authn.FromConfig(authn.AuthConfig{IdentityToken: answer.Secret}), nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: answer.Username, Password: answer.Secret}), nil
}
