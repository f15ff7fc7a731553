// Package attached finds what lies beside a container image in its repository
// and belongs to it: signatures, bundles and bills of materials.
//
// There are three places. Cosign puts a manifest under a tag that is made of
// the image's digest (cosign, specs/SIGNATURE_SPEC.md and SBOM_SPEC.md). Later
// writers let a manifest's subject be the image, and the registry lists such
// referrers (OCI distribution-spec v1.1, "Listing Referrers"). BuildKit lists
// attestations in the image's index.
//
// The package says what is there and that its bytes are those that its
// descriptor names. Whether a signature is good is judged by the package
// signature. Nothing is fetched here but through a Source.
package attached

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
)

// ErrNotFound is what a Source returns where nothing has the name asked for.
var ErrNotFound = errors.New("not found")

// ErrFormat matches complaints about what was found.
var ErrFormat = errors.New("malformed attachment")

// Bounds of what is read.
const (
	// MaxEntries is how many layers of a manifest, manifests of an index or
	// referrers of an image are looked at.
	MaxEntries = 256
	// MaxSBOM is the largest bill of materials, in bytes.
	MaxSBOM = 64 << 20
)

// A Source has the manifests and blobs of repositories: a registry, or the
// folder of an OCI image layout, in which the repository's name is empty. Its
// answers are not trusted. Errors where something is not there match
// ErrNotFound; all others end the search.
type Source interface {
	// Manifest returns the manifest or index under a tag or digest, and what it
	// is called: a registry's Content-Type, or empty.
	Manifest(ctx context.Context, repository, tagOrDigest string) (data []byte, mediaType string, err error)
	// Blob returns a blob of at most limit bytes.
	Blob(ctx context.Context, repository string, digest containers.Digest, limit int64) ([]byte, error)
	// Referrers returns the index of the manifests whose subject has the digest,
	// by the registry's interface or under the tag that stands in for it.
	Referrers(ctx context.Context, repository string, digest containers.Digest) ([]byte, error)
}

// A Descriptor names content.
type Descriptor struct {
	MediaType    string
	ArtifactType string
	Digest       containers.Digest
	Size         int64 // in bytes
	Annotations  map[string]string
}

// A Document is a manifest or an index: what is attached lies in its entries,
// a manifest's layers or an index's manifests.
type Document struct {
	Digest       containers.Digest
	ArtifactType string // of a manifest; its config's media type where it names none
	Index        bool
	Entries      []Descriptor
}

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations"`
}

// ReadDocument reads a manifest or an index. Errors match ErrFormat.
func ReadDocument(data []byte) (*Document, error) {
	if len(data) > containers.MaxDocument {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrFormat, len(data), containers.MaxDocument)
	}
	var raw struct {
		MediaType    string       `json:"mediaType"`
		ArtifactType string       `json:"artifactType"`
		Config       descriptor   `json:"config"`
		Layers       []descriptor `json:"layers"`
		Manifests    []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	d := &Document{Digest: containers.DigestOf(data), ArtifactType: raw.ArtifactType}
	if d.ArtifactType == "" {
		d.ArtifactType = raw.Config.MediaType
	}
	d.Index = raw.MediaType == containers.TypeOCIIndex || raw.MediaType == containers.TypeDockerList || raw.MediaType == "" && raw.Manifests != nil
	entries := raw.Layers
	if d.Index {
		entries = raw.Manifests
	}
	if len(entries) > MaxEntries {
		return nil, fmt.Errorf("%w: %d entries, %d are looked at", ErrFormat, len(entries), MaxEntries)
	}
	for i, e := range entries {
		digest, err := containers.ParseDigest(e.Digest)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d: %v", ErrFormat, i+1, err)
		}
		if e.Size < 0 {
			return nil, fmt.Errorf("%w: entry %d has %d bytes", ErrFormat, i+1, e.Size)
		}
		d.Entries = append(d.Entries, Descriptor{MediaType: e.MediaType, ArtifactType: e.ArtifactType, Digest: digest, Size: e.Size, Annotations: e.Annotations})
	}
	return d, nil
}

// A Repository is where an image and what is attached to it are looked for.
type Repository struct {
	Source Source
	Name   string // as registry.example.com/team/web; empty in a layout
}

// Tag is the tag that cosign attaches something of a kind, such as "sig", to
// an image under.
func Tag(digest containers.Digest, kind string) string {
	return "sha256-" + digest.Hex() + "." + kind
}

// ByTag returns the manifest under a tag.
func (r Repository) ByTag(ctx context.Context, tag string) (*Document, error) {
	data, _, err := r.Source.Manifest(ctx, r.Name, tag)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", tag, err)
	}
	d, err := ReadDocument(data)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", tag, err)
	}
	return d, nil
}

// Manifest returns the bytes of a manifest or index, which are those of its
// digest.
func (r Repository) Manifest(ctx context.Context, digest containers.Digest) ([]byte, error) {
	data, _, err := r.Source.Manifest(ctx, r.Name, string(digest))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	if got := containers.DigestOf(data); got != digest {
		return nil, fmt.Errorf("%w: what came for manifest %s is %s", ErrFormat, digest, got)
	}
	return data, nil
}

// ByDigest returns a manifest or index that is read.
func (r Repository) ByDigest(ctx context.Context, digest containers.Digest) (*Document, error) {
	data, err := r.Manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	d, err := ReadDocument(data)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	return d, nil
}

// Blob returns a blob of at most limit bytes, which are those of its digest.
func (r Repository) Blob(ctx context.Context, d Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrFormat, d.Digest, d.Size, limit)
	}
	data, err := r.Source.Blob(ctx, r.Name, d.Digest, limit)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if got := containers.DigestOf(data); got != d.Digest {
		return nil, fmt.Errorf("%w: what came for blob %s is %s", ErrFormat, d.Digest, got)
	}
	return data, nil
}

// Referrers lists the manifests whose subject is the digest, sorted by digest;
// none where the registry has none. What it lists is a hint: any registry may
// list what it likes.
func (r Repository) Referrers(ctx context.Context, digest containers.Digest) ([]Descriptor, error) {
	data, err := r.Source.Referrers(ctx, r.Name, digest)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", digest, err)
	}
	d, err := ReadDocument(data)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", digest, err)
	}
	if !d.Index {
		return nil, fmt.Errorf("referrers of %s: %w: no index", digest, ErrFormat)
	}
	sortByDigest(d.Entries)
	return d.Entries, nil
}

// A Statement is an in-toto statement (in-toto attestation framework v1,
// spec/v1/statement.md; version 0.1 has the same fields).
type Statement struct {
	PredicateType string
	Subjects      []string        // their SHA-256, in hexadecimal
	Predicate     json.RawMessage // as it stands in the statement
}

// ReadStatement reads an in-toto statement. Errors match ErrFormat.
func ReadStatement(data []byte) (*Statement, error) {
	var raw struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		Predicate json.RawMessage `json:"predicate"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%w: in-toto statement: %v", ErrFormat, err)
	}
	if !strings.HasPrefix(raw.Type, "https://in-toto.io/Statement/v") {
		return nil, fmt.Errorf("%w: %q is no in-toto statement", ErrFormat, raw.Type)
	}
	s := &Statement{PredicateType: raw.PredicateType, Predicate: bytes.Clone(raw.Predicate)}
	for _, subject := range raw.Subject {
		s.Subjects = append(s.Subjects, subject.Digest["sha256"])
	}
	return s, nil
}
