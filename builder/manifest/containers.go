package manifest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

// A Container is a container image that lies on the disk.
type Container struct {
	Names       []string          `json:"names"` // references, such as registry.example.com/web:1.4
	Digest      string            `json:"digest"`
	IndexDigest string            `json:"index_digest,omitempty"` // of the index that the image was chosen from
	ID          string            `json:"id"`                     // digest of the config; what podman and docker call the image's id
	Platform    string            `json:"platform"`
	Created     time.Time         `json:"created,omitzero"`
	Labels      map[string]string `json:"labels,omitempty"`
	Source      string            `json:"source"`              // the registry, or the base name of the file
	Runtime     string            `json:"runtime"`             // podman, docker or containerd
	SignedBy    []string          `json:"signed_by,omitempty"` // fingerprints of the keys that it was verified with
	Layers      []Layer           `json:"layers"`              // the lowest first
	SBOM        *SBOM             `json:"sbom,omitempty"`
}

// A Layer is one of a container image.
type Layer struct {
	Digest    string `json:"digest"`  // of the blob
	DiffID    string `json:"diff_id"` // of the unpacked archive
	Size      int64  `json:"size"`    // of the blob, in bytes
	MediaType string `json:"media_type"`
}

// An SBOM is a bill of materials that was attached to a container image.
type SBOM struct {
	MediaType string `json:"media_type"`
	Digest    string `json:"digest"`
	File      string `json:"file,omitempty"`      // its name beside the manifest
	Namespace string `json:"namespace,omitempty"` // by which an SPDX document is referred to
	SHA1      string `json:"sha1,omitempty"`      // of an SPDX document, as references between documents want it
}

// NewContainer describes an image. Names, the index's digest, source, runtime,
// keys and the bill of materials are left to whoever pulled it.
func NewContainer(image *containers.Image) Container {
	c := Container{
		Digest: string(image.Digest), ID: string(image.ID), Platform: image.Platform.String(), Created: image.Created, Labels: image.Labels,
	}
	for _, l := range image.Layers {
		c.Layers = append(c.Layers, Layer{Digest: string(l.Digest), DiffID: string(l.DiffID), Size: l.Size, MediaType: l.MediaType})
	}
	return c
}

// NewSBOM describes a bill of materials that is written to a file beside the
// manifest.
func NewSBOM(found *attached.SBOM, file string) (*SBOM, error) {
	s := &SBOM{MediaType: found.MediaType, Digest: string(found.Digest), File: file}
	if found.MediaType != attached.TypeSPDX {
		return s, nil
	}
	var doc struct {
		Namespace string `json:"documentNamespace"`
	}
	if err := json.Unmarshal(found.Data, &doc); err != nil {
		return nil, fmt.Errorf("bill of materials, %s: %w", found.Source, err)
	}
	// Without a namespace the document cannot be referred to, and is only named.
	if namespace.MatchString(doc.Namespace) {
		s.Namespace = doc.Namespace
		sum := sha1.Sum(found.Data)
		s.SHA1 = hex.EncodeToString(sum[:])
	}
	return s, nil
}

// sortedContainers returns the images by digest, each with its names and keys
// sorted.
func sortedContainers(images []Container) []Container {
	list := slices.Clone(images)
	for i := range list {
		c := &list[i]
		c.Names = append([]string{}, c.Names...)
		slices.Sort(c.Names)
		c.SignedBy = slices.Clone(c.SignedBy)
		slices.Sort(c.SignedBy)
		c.Created = c.Created.UTC()
		if c.Layers == nil {
			c.Layers = []Layer{}
		}
	}
	slices.SortFunc(list, func(a, b Container) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), strings.Compare(a.Digest, b.Digest), strings.Compare(a.Runtime, b.Runtime), strings.Compare(a.Source, b.Source))
	})
	return list
}

// ImagePURL returns the package URL of a container image (package-url.org, type
// oci): pkg:oci/web@sha256:…?arch=arm64&repository_url=registry.example.com/team/web&tag=1.4.
func ImagePURL(c Container) string {
	repository, tag := c.split()
	url := "pkg:oci/" + escape(strings.ToLower(repository[strings.LastIndexByte(repository, '/')+1:])) + "@" + escape(c.Digest)
	_, arch, _ := strings.Cut(c.Platform, "/")
	arch, _, _ = strings.Cut(arch, "/")
	if !strings.Contains(repository, "/") {
		repository = "" // an image that has no registry
	}
	separator := "?"
	for _, q := range [][2]string{{"arch", arch}, {"repository_url", repository}, {"tag", tag}} {
		if q[1] != "" {
			url += separator + q[0] + "=" + escape(q[1])
			separator = "&"
		}
	}
	return url
}

// split returns the repository and tag of the image's first name, and for an
// image without names what its file is called.
func (c Container) split() (repository, tag string) {
	if len(c.Names) == 0 {
		return cmp.Or(c.Source, "image"), ""
	}
	repository, _, _ = strings.Cut(slices.Min(c.Names), "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		return repository[:i], repository[i+1:]
	}
	return repository, ""
}
