package signature

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
)

// The parts of a reference (distribution, reference/reference.go, "Grammar").
var (
	domainForm = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?$`)
	pathForm   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

const (
	maxName    = 255
	dockerHub  = "docker.io"
	defaultTag = "latest"
)

// A reference is an image's name in full: docker.io/library/debian:trixie.
type reference struct {
	name   string // the registry and the repository's path
	tag    string
	digest containers.Digest
}

// parseReference reads a reference and writes out what short names leave out.
func parseReference(ref string) (*reference, error) {
	r := &reference{}
	rest, digest, found := strings.Cut(ref, "@")
	if found {
		var err error
		if r.digest, err = containers.ParseDigest(digest); err != nil {
			return nil, fmt.Errorf("image reference %q: %w", ref, err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		if rest, r.tag = rest[:i], rest[i+1:]; !tagForm.MatchString(r.tag) {
			return nil, fmt.Errorf("image reference %q: %q is no tag", ref, r.tag)
		}
	}
	domain, path, found := strings.Cut(rest, "/")
	if !found || !strings.ContainsAny(domain, ".:") && domain != "localhost" && strings.ToLower(domain) == domain {
		domain, path = dockerHub, rest
	}
	if domain == "index.docker.io" {
		domain = dockerHub
	}
	if domain == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	r.name = domain + "/" + path
	if len(r.name) > maxName || !domainForm.MatchString(domain) || !pathForm.MatchString(path) {
		return nil, fmt.Errorf("image reference %q: write REGISTRY/REPOSITORY:TAG, in lower case", ref)
	}
	return r, nil
}

// withTag is the reference with the tag that is meant where it has neither tag
// nor digest. A tag beside a digest says nothing and is dropped.
func (r *reference) withTag() *reference {
	full := *r
	if full.digest != "" {
		full.tag = ""
	} else if full.tag == "" {
		full.tag = defaultTag
	}
	return &full
}

func (r *reference) nameOnly() bool { return r.tag == "" && r.digest == "" }

func (r *reference) String() string {
	s := r.name
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + string(r.digest)
	}
	return s
}

// What a signature's name must be (containers-policy.json(5), "signedIdentity").
const (
	matchExact             = "matchExact"
	matchRepoDigestOrExact = "matchRepoDigestOrExact"
	matchRepository        = "matchRepository"
	exactReference         = "exactReference"
	exactRepository        = "exactRepository"
	remapIdentity          = "remapIdentity"
	// matchKeys stands for keys without a policy: matchRepository, and anything
	// for an image without a name.
	matchKeys = ""
)

// An identity says which names a signature may be of.
type identity struct {
	kind                 string
	exact                *reference // of exactReference and exactRepository
	prefix, signedPrefix string     // of remapIdentity
}

// match says why the signature of a name is none of an image, whose reference
// is nil where it has none.
func (id identity) match(image *reference, name string) error {
	signed, err := parseReference(name)
	if err != nil {
		return err
	}
	switch id.kind {
	case exactReference:
		return same(id.exact, signed)
	case exactRepository:
		return sameName(id.exact, signed)
	}
	if image == nil {
		if id.kind == matchKeys {
			return nil
		}
		return fmt.Errorf("an image in a file has no name, as %s wants: use exactReference or exactRepository", id.kind)
	}
	switch id.kind {
	case matchKeys, matchRepository:
		return sameName(image, signed)
	case matchExact:
		return same(image, signed)
	case remapIdentity:
		if image, err = id.remap(image); err != nil {
			return err
		}
	}
	if image.tag == "" {
		if signed.nameOnly() {
			return errNameOnly
		}
		return sameName(image, signed)
	}
	return same(image, signed)
}

var errNameOnly = errors.New("it has no tag, as cosign signs, and the policy wants one: set its signedIdentity to matchRepository, or sign with --sign-container-identity")

func same(want, signed *reference) error {
	if signed.nameOnly() {
		if signed.name == want.name {
			return errNameOnly
		}
	} else if want.String() == signed.String() {
		return nil
	}
	return fmt.Errorf("%s is wanted", want)
}

func sameName(want, signed *reference) error {
	if want.name != signed.name {
		return fmt.Errorf("%s is wanted", want.name)
	}
	return nil
}

// remap replaces the beginning of a name by what it is called in signatures.
func (id identity) remap(r *reference) (*reference, error) {
	rest, found := strings.CutPrefix(r.name, id.prefix)
	if !found || rest != "" && rest[0] != '/' {
		return r, nil
	}
	name := id.signedPrefix + rest
	mapped, err := parseReference(name)
	if err != nil || mapped.name != name {
		return nil, fmt.Errorf("remapIdentity makes %q of it, which is no full name", name)
	}
	mapped.tag, mapped.digest = r.tag, r.digest
	return mapped, nil
}

// prefixForm says whether text can be a prefix of remapIdentity: a registry, or
// a registry and the beginning of a path.
func prefixForm(text string) bool {
	domain, path, found := strings.Cut(text, "/")
	return domainForm.MatchString(domain) && (!found || pathForm.MatchString(path))
}
