package attached

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
)

// Media types of bills of materials.
const (
	TypeSPDX      = "application/spdx+json"
	TypeCycloneDX = "application/vnd.cyclonedx+json"

	typeInToto = "application/vnd.in-toto+json"
	// What cosign calls SPDX, which has a registered name since.
	typeSPDXOfCosign = "text/spdx+json"
)

// Annotations of BuildKit's attestations (BuildKit,
// docs/attestations/attestation-storage.md) and the types of predicates that
// are bills of materials.
const (
	annotationType      = "vnd.docker.reference.type"
	annotationDigest    = "vnd.docker.reference.digest"
	attestationManifest = "attestation-manifest"
	annotationPredicate = "in-toto.io/predicate-type"
	predicateSPDX       = "https://spdx.dev/Document"
	predicateCycloneDX  = "https://cyclonedx.org/bom"
)

// An SBOM is a bill of materials in JSON.
type SBOM struct {
	MediaType string // TypeSPDX or TypeCycloneDX
	Data      []byte
	Digest    containers.Digest // of Data
	Source    string            // where it was: "attestation sha256:…", "referrer sha256:…" or "tag sha256-….sbom"
}

// FindSBOM returns the bill of materials that is attached to the image of a
// digest. index is the digest of the index that the image was chosen from, or
// empty. BuildKit's attestation is preferred, as it is part of the index and so
// pinned with it; then referrers and cosign's tag, of the image and then of
// the index. Within a place SPDX comes before CycloneDX. The error matches
// ErrNotFound where there is none.
//
// Referrers and tags can be made by whoever may write to the repository, and
// can change while the image's digest stays: who needs the same answer twice
// keeps the digest.
func FindSBOM(ctx context.Context, r Repository, digest, index containers.Digest) (*SBOM, error) {
	places := []func() (*SBOM, error){
		func() (*SBOM, error) { return r.attestedSBOM(ctx, digest, index) },
		func() (*SBOM, error) { return r.referringSBOM(ctx, digest) },
		func() (*SBOM, error) { return r.taggedSBOM(ctx, digest) },
	}
	if index != "" {
		places = append(places,
			func() (*SBOM, error) { return r.referringSBOM(ctx, index) },
			func() (*SBOM, error) { return r.taggedSBOM(ctx, index) })
	}
	for _, look := range places {
		sbom, err := look()
		if err == nil {
			return sbom, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("bill of materials of %s: %w", digest, err)
		}
	}
	return nil, fmt.Errorf("bill of materials of %s: %w", digest, ErrNotFound)
}

func sortByDigest(list []Descriptor) {
	slices.SortStableFunc(list, func(a, b Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
}

// kind is the media type of a bill of materials by one of its names.
func kind(name string) string {
	name, _, _ = strings.Cut(name, ";")
	switch {
	case name == TypeSPDX || name == typeSPDXOfCosign:
		return TypeSPDX
	case name == TypeCycloneDX:
		return TypeCycloneDX
	case name == predicateSPDX || strings.HasPrefix(name, predicateSPDX+"/"):
		return TypeSPDX
	case name == predicateCycloneDX || strings.HasPrefix(name, predicateCycloneDX+"/"):
		return TypeCycloneDX
	}
	return ""
}

// choose returns the entry to take of those that are called a bill of
// materials: an SPDX document before others, and of several the one with the
// lowest digest, as their order is not the image's.
func choose(entries []Descriptor, name func(Descriptor) string) (Descriptor, string, error) {
	entries = slices.Clone(entries)
	sortByDigest(entries)
	for _, want := range []string{TypeSPDX, TypeCycloneDX} {
		for _, e := range entries {
			if kind(name(e)) == want {
				return e, want, nil
			}
		}
	}
	return Descriptor{}, "", ErrNotFound
}

// attestedSBOM takes the predicate out of a statement that BuildKit put beside
// the image into its index.
func (r Repository) attestedSBOM(ctx context.Context, digest, index containers.Digest) (*SBOM, error) {
	if index == "" {
		return nil, ErrNotFound
	}
	list, err := r.ByDigest(ctx, index)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Entries {
		if e.Annotations[annotationType] != attestationManifest || e.Annotations[annotationDigest] != string(digest) {
			continue
		}
		sbom, err := r.statedSBOM(ctx, digest, e.Digest)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		return sbom, err
	}
	return nil, ErrNotFound
}

func (r Repository) statedSBOM(ctx context.Context, digest, manifest containers.Digest) (*SBOM, error) {
	m, err := r.ByDigest(ctx, manifest)
	if err != nil {
		return nil, err
	}
	layer, mediaType, err := choose(m.Entries, func(d Descriptor) string {
		if d.MediaType != typeInToto {
			return ""
		}
		return d.Annotations[annotationPredicate]
	})
	if err != nil {
		return nil, err
	}
	data, err := r.Blob(ctx, layer, MaxSBOM)
	if err != nil {
		return nil, err
	}
	statement, err := ReadStatement(data)
	if err != nil {
		return nil, fmt.Errorf("attestation %s: %w", layer.Digest, err)
	}
	if !slices.Contains(statement.Subjects, digest.Hex()) || kind(statement.PredicateType) != mediaType {
		return nil, fmt.Errorf("attestation %s: %w: it is about another image or says something else than the manifest says", layer.Digest, ErrFormat)
	}
	return newSBOM(mediaType, statement.Predicate, "attestation "+string(layer.Digest))
}

func (r Repository) referringSBOM(ctx context.Context, digest containers.Digest) (*SBOM, error) {
	referrers, err := r.Referrers(ctx, digest)
	if err != nil {
		return nil, err
	}
	referrer, _, err := choose(referrers, func(d Descriptor) string { return d.ArtifactType })
	if err != nil {
		return nil, err
	}
	return r.layerSBOM(ctx, "referrer "+string(referrer.Digest), func() (*Document, error) { return r.ByDigest(ctx, referrer.Digest) })
}

func (r Repository) taggedSBOM(ctx context.Context, digest containers.Digest) (*SBOM, error) {
	tag := Tag(digest, "sbom")
	return r.layerSBOM(ctx, "tag "+tag, func() (*Document, error) { return r.ByTag(ctx, tag) })
}

// layerSBOM takes a bill of materials that is a manifest's layer.
func (r Repository) layerSBOM(ctx context.Context, source string, manifest func() (*Document, error)) (*SBOM, error) {
	m, err := manifest()
	if err != nil {
		return nil, err
	}
	layer, mediaType, err := choose(m.Entries, func(d Descriptor) string {
		if kind(d.MediaType) == "" {
			return m.ArtifactType // some writers give the artifact's type alone
		}
		return d.MediaType
	})
	if err != nil {
		return nil, err
	}
	data, err := r.Blob(ctx, layer, MaxSBOM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return newSBOM(mediaType, data, source)
}

func newSBOM(mediaType string, data []byte, source string) (*SBOM, error) {
	var form struct {
		SPDX      string `json:"spdxVersion"`
		CycloneDX string `json:"bomFormat"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", source, ErrFormat, err)
	}
	if mediaType == TypeSPDX && !strings.HasPrefix(form.SPDX, "SPDX-2.") || mediaType == TypeCycloneDX && form.CycloneDX != "CycloneDX" {
		return nil, fmt.Errorf("%s: %w: it is called %s and is something else", source, ErrFormat, mediaType)
	}
	data = bytes.Clone(data)
	return &SBOM{MediaType: mediaType, Data: data, Digest: containers.DigestOf(data), Source: source}, nil
}
