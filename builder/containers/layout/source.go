package layout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

// A layout is a repository without a name: what is attached to its images lies
// in it as in a registry. A docker-archive has nothing of the kind.
var _ attached.Source = (*File)(nil)

// Transport is what containers-transports(5) calls this kind of file.
func (f *File) Transport() string {
	_, isFolder := f.files.(folder)
	switch {
	case f.entries == nil:
		return "docker-archive"
	case isFolder:
		return "oci"
	}
	return "oci-archive"
}

// Manifest implements attached.Source: a tag is the name that index.json gives
// an entry, as it is or behind the name of a repository.
func (f *File) Manifest(_ context.Context, _, tagOrDigest string) (data []byte, mediaType string, err error) {
	if digest, err := containers.ParseDigest(tagOrDigest); err == nil {
		data, err := f.attachment(digest, containers.MaxDocument)
		return data, "", err
	}
	for _, d := range f.entries {
		name := d.Annotations[annotationName]
		if _, tag, tagged := cutTag(name); name != tagOrDigest && (!tagged || tag != tagOrDigest) {
			continue
		}
		digest, err := containers.ParseDigest(d.Digest)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w: %w", f.path, containers.ErrFormat, err)
		}
		data, err := f.attachment(digest, containers.MaxDocument)
		return data, d.MediaType, err
	}
	return nil, "", fmt.Errorf("%s: %s: %w", f.path, tagOrDigest, attached.ErrNotFound)
}

// Blob implements attached.Source.
func (f *File) Blob(_ context.Context, _ string, digest containers.Digest, limit int64) ([]byte, error) {
	return f.attachment(digest, limit)
}

// attachment reads a blob of at most limit bytes, checked.
func (f *File) attachment(digest containers.Digest, limit int64) ([]byte, error) {
	if f.entries == nil {
		return nil, fmt.Errorf("%s: %s: %w", f.path, digest, attached.ErrNotFound)
	}
	data, err := f.document(blobName(digest), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %s: %w", f.path, digest, attached.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	if got := containers.DigestOf(data); got != digest {
		return nil, fmt.Errorf("%s: %w: the blob %s holds %s", f.path, containers.ErrFormat, digest, got)
	}
	return data, nil
}

// Referrers implements attached.Source: a layout lists referrers in index.json,
// each saying itself whose it is.
func (f *File) Referrers(_ context.Context, _ string, digest containers.Digest) ([]byte, error) {
	list := indexDocument{SchemaVersion: 2, MediaType: containers.TypeOCIIndex, Manifests: []descriptor{}}
	for _, d := range f.entries[:min(len(f.entries), maxImages)] {
		if d.MediaType != containers.TypeOCIManifest && d.MediaType != containers.TypeOCIIndex {
			continue
		}
		data, err := f.blob(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		subject, kind, err := subjectOf(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		if subject == string(digest) {
			d.ArtifactType = cmp.Or(d.ArtifactType, kind)
			list.Manifests = append(list.Manifests, d)
		}
	}
	return json.Marshal(list)
}

// subjectOf is the digest of the manifest that another one belongs to, if any,
// and what kind of thing that is.
func subjectOf(manifest []byte) (digest, kind string, err error) {
	var doc struct {
		ArtifactType string      `json:"artifactType"`
		Config       descriptor  `json:"config"`
		Subject      *descriptor `json:"subject"`
	}
	if err := json.Unmarshal(manifest, &doc); err != nil {
		return "", "", fmt.Errorf("%w: manifest: %w", containers.ErrFormat, err)
	}
	if doc.Subject == nil {
		return "", "", nil
	}
	return doc.Subject.Digest, cmp.Or(doc.ArtifactType, doc.Config.MediaType), nil
}

// attachedTag is a tag that says which image something belongs to, cosign's and
// that of registries without referrers.
var attachedTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}([.][a-z]+)?$`)

// isAttached says that an entry of an index is no image of its own.
func isAttached(d descriptor) bool {
	name := d.Annotations[annotationName]
	if _, tag, tagged := cutTag(name); tagged {
		name = tag
	}
	return d.ArtifactType != "" || attachedTag.MatchString(name) || d.Platform != nil && d.Platform.OS == "unknown" ||
		strings.HasPrefix(d.Annotations["kind"], "dev.cosignproject.cosign/") && d.Annotations["kind"] != "dev.cosignproject.cosign/image"
}
