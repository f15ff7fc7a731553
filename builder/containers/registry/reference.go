package registry

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/applbuild/applbuild/builder/containers"
)

// dockerHub is what docker.io is called by those who talk to it.
const (
	dockerHub     = "docker.io"
	dockerHubHost = name.DefaultRegistry
)

// A Reference names an image in a registry.
type Reference struct {
	Repository string // with the registry, such as docker.io/library/nginx
	Tag        string // empty where only a digest was given
	Digest     containers.Digest
}

// ParseReference reads NAME, NAME:TAG, NAME@DIGEST or NAME:TAG@DIGEST. Names
// are completed as docker does it: without a registry they are docker.io's,
// without a folder there library's, without a tag or digest latest. With a
// digest, the tag only is a name for people. Errors match ErrName.
func ParseReference(text string) (Reference, error) {
	refused := func(detail string) (Reference, error) {
		return Reference{}, &Error{Image: fmt.Sprintf("%.300q", text), Kind: ErrName, Detail: detail, Do: "write NAME:TAG or NAME@sha256:DIGEST"}
	}
	base, digest, pinned := strings.Cut(text, "@")
	ref := Reference{}
	if pinned {
		d, err := containers.ParseDigest(digest)
		if err != nil {
			return refused("behind @ no SHA-256 digest stands")
		}
		ref.Digest = d
	}
	options := []name.Option{name.WeakValidation}
	if pinned {
		options = append(options, name.WithDefaultTag(""))
	}
	tag, err := name.NewTag(base, options...)
	if err != nil {
		return refused("a name has lower-case letters, digits and . _ - / only, a tag no more than 128 characters")
	}
	for part := range strings.SplitSeq(tag.RepositoryStr(), "/") {
		if strings.Trim(part, "._-") != part || part == "" {
			return refused("a part of the name is empty or begins or ends with . _ or -")
		}
	}
	if strings.HasPrefix(tag.TagStr(), ".") || strings.HasPrefix(tag.TagStr(), "-") {
		return refused("a tag does not begin with . or -")
	}
	ref.Repository, ref.Tag = shown(tag.Repository), tag.TagStr()
	return ref, nil
}

// shown is a repository's name as podman and docker show it.
func shown(repo name.Repository) string {
	if repo.RegistryStr() == dockerHubHost {
		return dockerHub + "/" + repo.RepositoryStr()
	}
	return repo.Name()
}

// Name is the image's name as podman shows it: NAME:TAG, or NAME@DIGEST where
// there is no tag.
func (r Reference) Name() string {
	if r.Tag == "" {
		return r.Repository + "@" + string(r.Digest)
	}
	return r.Repository + ":" + r.Tag
}

// identifier is what a registry is asked for.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}
