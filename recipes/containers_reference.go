package recipes

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Reference names a container image. Its parts are in canonical form: "nginx" is docker.io/library/nginx:latest.
// Two references are the same if they are equal.
type Reference struct {
	Domain string // host of the registry, with its port where one is given
	Path   string // repository
	Tag    string // empty where only a digest is given
	Digest string // sha256:…, empty where none is given
}

// The parts of a reference, by the grammar of the OCI distribution specification v1.1 ("Pulling manifests") and
// Docker's rule of what is a host.
var (
	referenceDomain = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(:([0-9]{1,5}))?$`)
	referencePath   = regexp.MustCompile(`^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$`)
	referenceTag    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	referenceDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// maxRepository is the length in bytes of host and repository together, by Docker's rule.
const maxRepository = 255

// ParseReference reads a reference as podman, docker and compose files write it.
func ParseReference(text string) (Reference, error) {
	complain := func(what string) (Reference, error) {
		return Reference{}, fmt.Errorf("image %q %s", shorten(text), what)
	}
	if text == "" {
		return complain("is empty: write a reference such as registry.example.com/web:1.4")
	}
	if strings.Contains(text, "://") {
		return complain("begins with a transport: write the image alone, such as registry.example.com/web:1.4")
	}
	rest, digest, hasDigest := strings.Cut(text, "@")
	if hasDigest && !referenceDigest.MatchString(digest) {
		return complain("has a malformed digest: write @sha256: and 64 lower-case hexadecimal digits")
	}
	tag := ""
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, tag = rest[:i], rest[i+1:]
		if !referenceTag.MatchString(tag) {
			return complain("has a malformed tag: use up to 128 letters, digits, dots, hyphens and underscores after the colon")
		}
	}
	ref := Reference{Domain: "docker.io", Path: rest, Tag: tag, Digest: digest}
	if first, after, found := strings.Cut(rest, "/"); found && (strings.ContainsAny(first, ".:[") || first == "localhost" || strings.ToLower(first) != first) {
		ref.Domain, ref.Path = first, after
	}
	if port := referenceDomain.FindStringSubmatch(ref.Domain); port == nil {
		return complain("has a malformed host: write HOST/NAME or HOST:PORT/NAME")
	} else if n, err := strconv.Atoi(port[len(port)-1]); port[len(port)-1] != "" && (err != nil || n == 0 || n > 65535) {
		return complain("has a malformed port: use 1 to 65535")
	}
	if ref.Domain == "index.docker.io" {
		ref.Domain = "docker.io"
	}
	if ref.Domain == "docker.io" && ref.Path != "" && !strings.Contains(ref.Path, "/") {
		ref.Path = "library/" + ref.Path
	}
	switch {
	case strings.ToLower(ref.Path) != ref.Path:
		return complain("has capitals in its name: write it in lower case")
	case !referencePath.MatchString(ref.Path):
		return complain("has a malformed name: use lower-case letters and digits, with single dots, underscores or hyphens between them, such as registry.example.com/web:1.4")
	case len(ref.Domain)+1+len(ref.Path) > maxRepository:
		return complain("is too long: use at most 255 characters")
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	return ref, nil
}

// Repository is the reference without tag and digest.
func (r Reference) Repository() string { return r.Domain + "/" + r.Path }

// String returns the reference in canonical form, the empty string for the zero value.
func (r Reference) String() string {
	if r == (Reference{}) {
		return ""
	}
	text := r.Repository()
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

func (r *Reference) parse(text string) (err error) {
	*r, err = ParseReference(text)
	return err
}

// MarshalJSON writes the reference in canonical form.
func (r Reference) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, r.String()), nil }
