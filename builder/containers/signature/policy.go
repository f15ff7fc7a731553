package signature

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// maxPolicy is the largest policy, in bytes.
const maxPolicy = 1 << 20

// Types of requirements (containers-policy.json(5), "Policy Requirements").
const (
	typeAccept          = "insecureAcceptAnything"
	typeReject          = "reject"
	typeSignedBy        = "signedBy"
	typeSignedBaseLayer = "signedBaseLayer"
	typeSigstoreSigned  = "sigstoreSigned"
)

// A policy is a containers-policy.json. All requirements of the scope that
// fits an image best must hold.
type policy struct {
	standard   []*requirement
	transports map[string]map[string][]*requirement // by transport and scope
}

// A requirement is one thing that a policy asks of an image.
type requirement struct {
	kind     string
	refused  string // why it cannot be verified here
	paths    []string
	pems     [][]byte
	identity identity
	keys     []*key // once loaded
}

func parsePolicy(data []byte) (*policy, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%d bytes, %d are allowed", len(data), maxPolicy)
	}
	fields, err := object(data, "default", "transports")
	if err != nil {
		return nil, err
	}
	p := &policy{transports: map[string]map[string][]*requirement{}}
	if p.standard, err = parseRequirements(fields["default"]); err != nil {
		return nil, fmt.Errorf("default: %w", err)
	}
	if fields["transports"] == nil {
		return p, nil
	}
	transports, err := object(fields["transports"])
	if err != nil {
		return nil, fmt.Errorf("transports: %w", err)
	}
	for _, transport := range slices.Sorted(maps.Keys(transports)) {
		scopes, err := object(transports[transport])
		if err != nil {
			return nil, fmt.Errorf("transport %q: %w", transport, err)
		}
		p.transports[transport] = map[string][]*requirement{}
		for _, scope := range slices.Sorted(maps.Keys(scopes)) {
			list, err := parseRequirements(scopes[scope])
			if err != nil {
				return nil, fmt.Errorf("transport %q: scope %q: %w", transport, scope, err)
			}
			p.transports[transport][scope] = list
		}
	}
	return p, nil
}

func parseRequirements(data []byte) ([]*requirement, error) {
	var raw []json.RawMessage
	if data == nil {
		return nil, errors.New("no requirements are given: there must be one at least")
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("a list of requirements is wanted: %w", err)
	}
	if len(raw) == 0 {
		return nil, errors.New("the list of requirements is empty: there must be one at least")
	}
	var list []*requirement
	for i, data := range raw {
		r, err := parseRequirement(data)
		if err != nil {
			return nil, fmt.Errorf("requirement %d: %w", i+1, err)
		}
		list = append(list, r)
	}
	return list, nil
}

func parseRequirement(data []byte) (*requirement, error) {
	fields, err := object(data)
	if err != nil {
		return nil, err
	}
	r := &requirement{}
	if r.kind, err = text(fields["type"]); err != nil {
		return nil, fmt.Errorf("type: %w", err)
	}
	switch r.kind {
	case typeAccept, typeReject:
		_, err = object(data, "type")
	case typeSignedBy:
		_, err = object(data, "type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity")
		r.refused = "OpenPGP signatures are not verified: use sigstoreSigned with a public key"
	case typeSignedBaseLayer:
		_, err = object(data, "type", "baseLayerIdentity")
		r.refused = "signatures of base layers are not verified: use sigstoreSigned with a public key"
	case typeSigstoreSigned:
		err = r.parseSigstore(data)
	default:
		err = fmt.Errorf("the type %q is not known", r.kind)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sources are the fields of which exactly one says by whom is to be signed.
var sources = []string{"keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"}

func (r *requirement) parseSigstore(data []byte) error {
	known := append([]string{"type", "signedIdentity", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"}, sources...)
	fields, err := object(data, known...)
	if err != nil {
		return err
	}
	given := slices.DeleteFunc(slices.Clone(sources), func(name string) bool { return fields[name] == nil })
	if len(given) != 1 {
		return fmt.Errorf("exactly one of %s is wanted, and there are %d", strings.Join(sources, ", "), len(given))
	}
	for _, name := range known {
		if strings.HasPrefix(name, "rekor") && fields[name] != nil {
			r.refused = "only public keys are verified here, and a transparency log's record (" + name + ") is asked for"
		}
	}
	if err := r.parseSource(given[0], fields[given[0]]); err != nil {
		return fmt.Errorf("%s: %w", given[0], err)
	}
	r.identity = identity{kind: matchRepoDigestOrExact}
	if fields["signedIdentity"] != nil {
		if r.identity, err = parseIdentity(fields["signedIdentity"]); err != nil {
			return fmt.Errorf("signedIdentity: %w", err)
		}
	}
	return nil
}

func (r *requirement) parseSource(name string, data []byte) error {
	var err error
	switch name {
	case "keyPath":
		r.paths = make([]string, 1)
		r.paths[0], err = text(data)
	case "keyPaths":
		err = json.Unmarshal(data, &r.paths)
	case "keyData":
		r.pems = make([][]byte, 1)
		err = json.Unmarshal(data, &r.pems[0])
	case "keyDatas":
		err = json.Unmarshal(data, &r.pems)
	case "fulcio":
		_, err = object(data, "caPath", "caData", "oidcIssuer", "subjectEmail")
		r.refused = "only public keys are verified here, and certificates of Fulcio are asked for"
		return err
	case "pki":
		_, err = object(data, "caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData", "subjectEmail", "subjectHostname")
		r.refused = "only public keys are verified here, and certificates (pki) are asked for"
		return err
	}
	if err != nil {
		return err
	}
	if len(r.paths)+len(r.pems) == 0 || slices.Contains(r.paths, "") || slices.ContainsFunc(r.pems, func(b []byte) bool { return len(b) == 0 }) {
		return errors.New("a key is wanted, and there is none or an empty one")
	}
	return nil
}

func parseIdentity(data []byte) (identity, error) {
	fields, err := object(data)
	if err != nil {
		return identity{}, err
	}
	id := identity{}
	if id.kind, err = text(fields["type"]); err != nil {
		return id, fmt.Errorf("type: %w", err)
	}
	switch id.kind {
	case matchExact, matchRepoDigestOrExact, matchRepository:
		_, err = whole(data, "type")
	case exactReference:
		if id.exact, err = namedReference(data, "dockerReference"); err == nil && id.exact.nameOnly() {
			err = fmt.Errorf("dockerReference %s has neither tag nor digest", id.exact)
		}
	case exactRepository:
		id.exact, err = namedReference(data, "dockerRepository")
	case remapIdentity:
		if _, err = whole(data, "type", "prefix", "signedPrefix"); err != nil {
			break
		}
		if id.prefix, err = prefix(fields, "prefix"); err == nil {
			id.signedPrefix, err = prefix(fields, "signedPrefix")
		}
	default:
		err = fmt.Errorf("the type %q is not known", id.kind)
	}
	return id, err
}

// prefix reads a prefix of remapIdentity.
func prefix(fields map[string]json.RawMessage, name string) (string, error) {
	value, err := text(fields[name])
	if err == nil && !prefixForm(value) {
		err = fmt.Errorf("%q: a registry is wanted, or one and the beginning of a repository's path", value)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// namedReference reads an identity of two fields, its type and a reference.
func namedReference(data []byte, name string) (*reference, error) {
	fields, err := whole(data, "type", name)
	if err != nil {
		return nil, err
	}
	value, err := text(fields[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return parseReference(value)
}

// lookup returns the requirements for an image and the scope that they are of,
// the most specific one that the policy has.
func (p *policy) lookup(img Image, ref *reference) (scope string, found []*requirement) {
	transport, scopes := img.Transport, fileScopes(img)
	if transport == "" {
		transport, scopes = "docker", registryScopes(ref)
	}
	for _, scope := range append(scopes, "") {
		if list, found := p.transports[transport][scope]; found {
			return fmt.Sprintf("%s %q", transport, scope), list
		}
	}
	return "the default", p.standard
}

// registryScopes lists the scopes of an image of a registry: itself, its
// repository, the repository's parents down to the registry, and the domains
// that the registry is in.
func registryScopes(r *reference) []string {
	scopes := []string{r.String()}
	name := r.name
	for {
		scopes = append(scopes, name)
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	name, _, _ = strings.Cut(name, ":")
	for {
		_, parent, found := strings.Cut(name, ".")
		if !found {
			return scopes
		}
		scopes = append(scopes, "*."+parent)
		name = parent
	}
}

// fileScopes lists the scopes of an image in a file: its path and the folders
// above, without the topmost. A docker-archive has none.
func fileScopes(img Image) []string {
	if img.Transport != "oci" && img.Transport != "oci-archive" {
		return nil
	}
	var scopes []string
	for p := path.Clean(img.Path); p != "/" && p != "."; p = path.Dir(p) {
		scopes = append(scopes, p)
	}
	return scopes
}

// load reads the keys of a requirement. The requirement itself stays as it is,
// as others may be at it.
func (r *requirement) load(read func(path string) ([]byte, error)) (*requirement, error) {
	loaded := *r
	pems := slices.Clone(r.pems)
	for _, p := range r.paths {
		data, err := read(p)
		if err != nil {
			return nil, fmt.Errorf("%w: key %w", ErrPolicy, err)
		}
		pems = append(pems, data)
	}
	var err error
	loaded.keys, err = parseKeys(pems)
	return &loaded, err
}
