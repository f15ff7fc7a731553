// Package containers says what a container image is to applbuild: a manifest
// and a config for one platform, and layers, all known by their digests.
//
// It reads the documents of the OCI image specification (image-spec v1.1,
// manifest.md and config.md) and of Docker's "Image Manifest Version 2, Schema
// 2", and checks them so that what it returns can be used without further
// bounds checks. It fetches nothing and unpacks nothing: see the packages
// below it, of which each knows one place that images come from or go to.
package containers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Media types of manifests, indexes and layers.
const (
	TypeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	TypeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	TypeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	TypeOCILayer       = "application/vnd.oci.image.layer.v1.tar"
	TypeOCILayerGzip   = "application/vnd.oci.image.layer.v1.tar+gzip"
	TypeOCILayerZstd   = "application/vnd.oci.image.layer.v1.tar+zstd"
	TypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	TypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	TypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	TypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	TypeDockerLayerGz  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Bounds of what is read.
const (
	// MaxDocument is the largest manifest, index or config, in bytes: what
	// registries take at the most.
	MaxDocument = 4 << 20
	// MaxLayers is how many layers an image may have: overlayfs mounts no more
	// lower layers than 500, docker makes no more than 127.
	MaxLayers = 127
)

// ErrFormat matches complaints about a manifest or a config.
var ErrFormat = errors.New("malformed container image")

// A Digest names content by its SHA-256, as "sha256:" and 64 lower-case
// hexadecimal digits.
type Digest string

const digestPrefix = "sha256:"

// ParseDigest checks a digest. Other algorithms than SHA-256 are refused.
func ParseDigest(text string) (Digest, error) {
	digits, found := strings.CutPrefix(text, digestPrefix)
	if raw, err := hex.DecodeString(digits); !found || err != nil || len(raw) != sha256.Size || strings.ToLower(digits) != digits {
		return "", fmt.Errorf("%q is no digest: sha256: and 64 hexadecimal digits are wanted", text)
	}
	return Digest(text), nil
}

// DigestOf is the digest of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

// Hex is the digest without its algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// A Platform is what an image is for. Its text is OS/ARCHITECTURE[/VARIANT],
// with Go's names of both.
type Platform struct{ OS, Architecture, Variant string }

// ParsePlatform reads "linux/arm64" or "linux/arm/v7".
func ParsePlatform(text string) (Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("%q is no platform: write OS/ARCHITECTURE, such as linux/arm64", text)
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return Platform{}, fmt.Errorf("%q is no platform: write OS/ARCHITECTURE, such as linux/arm64", text)
		}
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// String gives OS/ARCHITECTURE[/VARIANT].
func (p Platform) String() string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// Fits says whether an image for the platform p runs on q. arm64 and its
// variant v8 are the same.
func (p Platform) Fits(q Platform) bool {
	variant := func(p Platform) string {
		if p.Architecture == "arm64" && p.Variant == "v8" {
			return ""
		}
		return p.Variant
	}
	return p.OS == q.OS && p.Architecture == q.Architecture && (variant(p) == variant(q) || q.Variant == "")
}

// A Layer is one archive of an image.
type Layer struct {
	Digest    Digest // of the blob as it is fetched
	DiffID    Digest // of the uncompressed archive
	MediaType string
	Size      int64 // of the blob, in bytes
}

// An Image is one image for one platform.
type Image struct {
	Digest    Digest // of Manifest
	MediaType string // of Manifest
	Manifest  []byte
	Config    []byte
	ID        Digest // of Config: what podman and docker call the image's id
	Platform  Platform
	Created   time.Time // zero where the config has none
	Labels    map[string]string
	Layers    []Layer // the lowest first
}

// descriptor is an OCI descriptor, as far as it is read here.
type descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls"`
}

type manifestDocument struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type configDocument struct {
	Created      *time.Time `json:"created"`
	Architecture string     `json:"architecture"`
	OS           string     `json:"os"`
	Variant      string     `json:"variant"`
	Config       struct {
		Labels map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// A Reference is a blob that a manifest names.
type Reference struct {
	MediaType string
	Digest    Digest
	Size      int64
}

// ConfigOf reads a manifest and returns what it says of its config, which is
// to be fetched before Parse. mediaType is what the registry called the
// manifest; it may be empty.
func ConfigOf(manifest []byte, mediaType string) (Reference, error) {
	m, _, err := readManifest(manifest, mediaType)
	if err != nil {
		return Reference{}, err
	}
	return reference(m.Config, MaxDocument)
}

func reference(d descriptor, most int64) (Reference, error) {
	digest, err := ParseDigest(d.Digest)
	if err != nil {
		return Reference{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if d.Size < 0 || d.Size > most {
		return Reference{}, fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrFormat, digest, d.Size, most)
	}
	return Reference{MediaType: d.MediaType, Digest: digest, Size: d.Size}, nil
}

func readManifest(data []byte, mediaType string) (*manifestDocument, string, error) {
	if len(data) > MaxDocument {
		return nil, "", fmt.Errorf("%w: a manifest of %d bytes, %d are allowed", ErrFormat, len(data), MaxDocument)
	}
	var m manifestDocument
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, "", fmt.Errorf("%w: manifest: %v", ErrFormat, err)
	}
	if m.MediaType != "" {
		// The document's own word counts: a registry's header is not covered by
		// the digest.
		mediaType = m.MediaType
	}
	if mediaType == "" {
		mediaType = TypeOCIManifest
	}
	if m.SchemaVersion != 2 || mediaType != TypeOCIManifest && mediaType != TypeDockerManifest {
		return nil, "", fmt.Errorf("%w: schema version %d of %q: an OCI manifest or Docker's schema 2 is wanted", ErrFormat, m.SchemaVersion, mediaType)
	}
	return &m, mediaType, nil
}

// maxBlob is the largest layer, in bytes.
const maxBlob = 64 << 30

// Parse reads a manifest and its config. Layers that are to be had elsewhere
// than in the registry ("foreign"), encrypted ones, and what is no container
// image are refused. Errors match ErrFormat.
func Parse(manifest []byte, mediaType string, config []byte) (*Image, error) {
	m, mediaType, err := readManifest(manifest, mediaType)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) == 0 || len(m.Layers) > MaxLayers {
		return nil, fmt.Errorf("%w: %d layers, 1 to %d are allowed", ErrFormat, len(m.Layers), MaxLayers)
	}
	if m.Config.MediaType != TypeOCIConfig && m.Config.MediaType != TypeDockerConfig {
		return nil, fmt.Errorf("%w: its config is %q: this is something else than a container image", ErrFormat, m.Config.MediaType)
	}
	var c configDocument
	if len(config) > MaxDocument {
		return nil, fmt.Errorf("%w: a config of %d bytes, %d are allowed", ErrFormat, len(config), MaxDocument)
	}
	id := DigestOf(config)
	if string(id) != m.Config.Digest {
		return nil, fmt.Errorf("%w: the config is %s, the manifest names %q", ErrFormat, id, m.Config.Digest)
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("%w: config: %v", ErrFormat, err)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: the config names %d layers, the manifest %d", ErrFormat, len(c.RootFS.DiffIDs), len(m.Layers))
	}
	img := &Image{
		Digest: DigestOf(manifest), MediaType: mediaType, Manifest: manifest, Config: config, ID: id,
		Platform: Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}, Labels: c.Config.Labels,
	}
	if c.Created != nil {
		img.Created = c.Created.UTC()
	}
	for i, d := range m.Layers {
		layer, err := parseLayer(d, c.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		img.Layers = append(img.Layers, layer)
	}
	return img, nil
}

func parseLayer(d descriptor, diffID string) (Layer, error) {
	switch d.MediaType {
	case TypeOCILayer, TypeOCILayerGzip, TypeOCILayerZstd, TypeDockerLayer, TypeDockerLayerGz:
	default:
		if strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable") {
			return Layer{}, fmt.Errorf("%w: %q is a foreign layer, whose maker forbids keeping it in a registry or an image", ErrFormat, d.MediaType)
		}
		return Layer{}, fmt.Errorf("%w: layers of the type %q are not known: tar, tar+gzip and tar+zstd are", ErrFormat, d.MediaType)
	}
	if len(d.URLs) > 0 {
		return Layer{}, fmt.Errorf("%w: the layer is to be fetched from elsewhere than the registry, which is not done", ErrFormat)
	}
	ref, err := reference(d, maxBlob)
	if err != nil {
		return Layer{}, err
	}
	diff, err := ParseDigest(diffID)
	if err != nil {
		return Layer{}, fmt.Errorf("%w: diff id: %v", ErrFormat, err)
	}
	return Layer{Digest: ref.Digest, DiffID: diff, MediaType: ref.MediaType, Size: ref.Size}, nil
}
