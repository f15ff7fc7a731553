package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

// A File is an attached.Source: signatures and bills of materials may lie beside
// the images of a layout, under the tags and with the subjects that they have in
// a registry. The repository's name says nothing. A docker-archive has none.
var _ attached.Source = (*File)(nil)

// Transport is what containers-transports(5) calls the file: oci, oci-archive or
// docker-archive.
func (f *File) Transport() string {
	switch _, isFolder := f.files.(folder); {
	case isFolder:
		return "oci"
	case f.has(fileLayout):
		return "oci-archive"
	}
	return "docker-archive"
}

// top is index.json's entries; none for a docker-archive.
func (f *File) top() ([]descriptor, error) {
	if !f.has(fileLayout) || !f.has(fileIndex) {
		return nil, nil
	}
	data, err := f.document(fileIndex)
	if err != nil {
		return nil, err
	}
	var doc indexDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: index: %w", containers.ErrFormat, err)
	}
	return doc.Manifests, nil
}

// Manifest implements attached.Source.
func (f *File) Manifest(_ context.Context, _, tagOrDigest string) ([]byte, string, error) {
	list, err := f.top()
	if err != nil {
		return nil, "", err
	}
	for _, d := range list {
		if d.Digest == tagOrDigest || d.Annotations[annotationName] == tagOrDigest {
			data, err := f.blob(d)
			return data, d.MediaType, err
		}
	}
	digest, err := containers.ParseDigest(tagOrDigest)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", tagOrDigest, attached.ErrNotFound)
	}
	data, err := f.Blob(context.Background(), "", digest, containers.MaxDocument)
	return data, "", err
}

// Blob implements attached.Source.
func (f *File) Blob(_ context.Context, _ string, digest containers.Digest, limit int64) ([]byte, error) {
	in, size, err := f.files.open(blobName(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", digest, attached.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, %d are allowed", containers.ErrFormat, digest, size, limit)
	}
	return io.ReadAll(newVerifier(io.LimitReader(in, limit), digest))
}

// Referrers implements attached.Source: the manifests of index.json whose subject
// has the digest.
func (f *File) Referrers(_ context.Context, _ string, digest containers.Digest) ([]byte, error) {
	list, err := f.top()
	if err != nil {
		return nil, err
	}
	type referrer struct {
		descriptor
		ArtifactType string `json:"artifactType,omitempty"`
	}
	index := struct {
		SchemaVersion int        `json:"schemaVersion"`
		MediaType     string     `json:"mediaType"`
		Manifests     []referrer `json:"manifests"`
	}{2, containers.TypeOCIIndex, []referrer{}}
	for _, d := range list {
		if d.MediaType != containers.TypeOCIManifest {
			continue
		}
		data, err := f.blob(d)
		if err != nil {
			return nil, err
		}
		var m struct {
			ArtifactType string     `json:"artifactType"`
			Config       descriptor `json:"config"`
			Subject      descriptor `json:"subject"`
		}
		if json.Unmarshal(data, &m) != nil || m.Subject.Digest != string(digest) {
			continue
		}
		if m.ArtifactType == "" {
			m.ArtifactType = m.Config.MediaType
		}
		index.Manifests = append(index.Manifests, referrer{d, m.ArtifactType})
	}
	return json.Marshal(index)
}

// isAttachment says that an entry of a layout belongs to an image and is none:
// it has a tag of cosign's, or a subject.
func isAttachment(d descriptor, manifest []byte) bool {
	tag := d.Annotations[annotationName]
	digits, kind, found := strings.Cut(strings.TrimPrefix(tag, "sha256-"), ".")
	if found && len(digits) == 64 && (kind == "sig" || kind == "att" || kind == "sbom") {
		return true
	}
	var m struct {
		Subject *descriptor `json:"subject"`
	}
	return json.Unmarshal(manifest, &m) == nil && m.Subject != nil
}
