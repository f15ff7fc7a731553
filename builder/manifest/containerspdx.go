package manifest

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers/attached"
)

// More parts of an SPDX 2.3 document (clauses 6.6 and 12).
type (
	documentRef struct {
		ID       string   `json:"externalDocumentId"`
		Document string   `json:"spdxDocument"`
		Checksum checksum `json:"checksum"`
	}
	annotation struct {
		Date      string `json:"annotationDate"`
		Type      string `json:"annotationType"`
		Annotator string `json:"annotator"`
		Comment   string `json:"comment"`
	}
)

// namespace is a URI without a fragment, as clause 6.5 wants it.
var namespace = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[!-"$-~]+$`)

// addContainers names each container image as a package that the image
// contains. A layer becomes an annotation of it: as a file it would need a
// SHA-1 that nobody has verified, and as a package it would be one with no name
// or version.
//
// An attached SPDX document is referred to and not merged: it stays the bytes
// that its maker wrote and may have signed, and its packages, of which there
// may be thousands, keep their identifiers.
func (d *document) addContainers(m *Manifest, creator string) {
	described := map[string]bool{}
	for _, c := range sortedContainers(m.Containers) {
		p := c.spdxPackage(m.Clock, creator)
		if described[p.ID] { // one image for two runtimes
			continue
		}
		described[p.ID] = true
		if s := c.SBOM; s != nil && s.MediaType == attached.TypeSPDX && s.Namespace != "" {
			ref := "DocumentRef-" + strings.TrimPrefix(p.ID, "SPDXRef-")
			// SHA-1 is what this checksum has to be (clause 6.6.4, which takes over 8.4.3).
			d.Documents = append(d.Documents, documentRef{ref, s.Namespace, checksum{"SHA1", s.SHA1}})
			d.Relationships = append(d.Relationships, relationship{p.ID, "DESCRIBED_BY", ref + ":SPDXRef-DOCUMENT"})
		}
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, relationship{d.Describes[0], "CONTAINS", p.ID})
	}
}

func (c Container) spdxPackage(clock time.Time, creator string) spdxPackage {
	repository, tag := c.split()
	digits := strings.TrimPrefix(c.Digest, "sha256:")
	short := repository[strings.LastIndexByte(repository, '/')+1:]
	if tag == "" {
		tag = c.Digest
	}
	p := spdxPackage{
		Name: repository, ID: "SPDXRef-Container-" + unsafeID.ReplaceAllString(short, "-") + "-" + unsafeID.ReplaceAllString(digits, "-"), Version: tag,
		Supplier: noAssertion, Download: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
		Purpose: "CONTAINER", Summary: "container image for " + c.Platform + ", run by " + c.Runtime,
		External: []externalItem{{"PACKAGE-MANAGER", "purl", ImagePURL(c)}},
	}
	if _, err := hex.DecodeString(digits); err == nil && digits != "" {
		p.Checksums = []checksum{{"SHA256", digits}}
	}
	note := func(format string, values ...any) {
		p.Annotations = append(p.Annotations, annotation{clock.UTC().Format(time.RFC3339), "OTHER", "Tool: " + creator, fmt.Sprintf(format, values...)})
	}
	for _, name := range c.Names {
		note("Name: %s", name)
	}
	note("ImageID: %s", c.ID)
	if c.IndexDigest != "" {
		note("Index: %s", c.IndexDigest)
	}
	for i, l := range c.Layers {
		note("Layer %d: %s, DiffID: %s, %d bytes of %s", i+1, l.Digest, l.DiffID, l.Size, l.MediaType)
	}
	for _, key := range c.SignedBy {
		note("SignedBy: %s", key)
	}
	if s := c.SBOM; s != nil {
		note("SBOM: %s, %s", strings.TrimSpace(s.File+" "+s.Digest), s.MediaType)
	}
	return p
}
