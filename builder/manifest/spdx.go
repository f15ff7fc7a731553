package manifest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SPDXOptions are what an SPDX document needs beside the manifest.
type SPDXOptions struct {
	Creator string // the program and its version, as in applbuild-1.0
	Seed    []byte // the document's namespace is derived from it and the manifest's contents
	// Copyright returns usr/share/doc/NAME/copyright of an installed package, nil when there is none. It may be nil.
	Copyright func(name string) []byte
}

// The parts of an SPDX 2.3 document that are written (SPDX specification 2.3, clauses 6, 7, 10 and 11).
type document struct {
	Version       string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Documents     []documentRef  `json:"externalDocumentRefs,omitempty"`
	Describes     []string       `json:"documentDescribes"`
	Packages      []spdxPackage  `json:"packages"`
	Relationships []relationship `json:"relationships"`
	Extracted     []extracted    `json:"hasExtractedLicensingInfos,omitempty"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name             string         `json:"name"`
	ID               string         `json:"SPDXID"`
	Version          string         `json:"versionInfo"`
	Supplier         string         `json:"supplier"`
	Download         string         `json:"downloadLocation"`
	FilesAnalyzed    bool           `json:"filesAnalyzed"`
	Checksums        []checksum     `json:"checksums,omitempty"`
	Homepage         string         `json:"homepage,omitempty"`
	SourceInfo       string         `json:"sourceInfo,omitempty"`
	LicenseConcluded string         `json:"licenseConcluded"`
	LicenseDeclared  string         `json:"licenseDeclared"`
	Copyright        string         `json:"copyrightText"`
	Summary          string         `json:"summary,omitempty"`
	External         []externalItem `json:"externalRefs,omitempty"`
	Purpose          string         `json:"primaryPackagePurpose"`
	Annotations      []annotation   `json:"annotations,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalItem struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

type extracted struct {
	ID   string `json:"licenseId"`
	Name string `json:"name"`
	Text string `json:"extractedText"`
}

const noAssertion = "NOASSERTION"

// SPDX returns an SPDX 2.3 document in JSON with the image and every package and container image in it.
func (m *Manifest) SPDX(o SPDXOptions) ([]byte, error) {
	own, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	// The namespace must differ between documents that differ, and be the same for the same image.
	mac := hmac.New(sha256.New, o.Seed)
	mac.Write([]byte("spdx namespace\x00"))
	mac.Write(own)
	id := hex.EncodeToString(mac.Sum(nil)[:16])
	image := "SPDXRef-Image"
	d := document{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:      m.Name + "_" + m.Version + "_" + m.Architecture,
		Namespace: "https://spdx.org/spdxdocs/" + escape(m.Name) + "-" + escape(m.Version) + "-" + id,
		Creation:  creation{m.Clock.UTC().Format(time.RFC3339), []string{"Tool: " + o.Creator}},
		Describes: []string{image},
		Packages:  []spdxPackage{m.imagePackage(image)},
		Relationships: []relationship{
			{"SPDXRef-DOCUMENT", "DESCRIBES", image},
		},
	}
	texts := map[string]string{}
	for _, p := range sorted(m.Packages) {
		entry := m.spdxPackage(p)
		if o.Copyright != nil {
			l := readCopyright(o.Copyright(p.Name))
			if l.expression != "" {
				entry.LicenseDeclared = l.expression
				maps.Copy(texts, l.texts)
			}
		}
		d.Packages = append(d.Packages, entry)
		d.Relationships = append(d.Relationships, relationship{image, "CONTAINS", entry.ID})
	}
	d.addContainers(m, o.Creator)
	for _, reference := range slices.Sorted(maps.Keys(texts)) {
		d.Extracted = append(d.Extracted, extracted{reference, strings.TrimPrefix(reference, "LicenseRef-"), texts[reference]})
	}
	return indented(&d)
}

// imagePackage is the image itself as a package of the document.
func (m *Manifest) imagePackage(id string) spdxPackage {
	p := spdxPackage{
		Name: m.Name, ID: id, Version: m.Version, Supplier: noAssertion, Download: noAssertion,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "OPERATING-SYSTEM",
		Summary: m.Distribution + " " + m.Release + " appliance for " + m.Architecture,
	}
	for _, output := range m.Outputs {
		if strings.HasSuffix(output.Name, ".raw") {
			p.Checksums = []checksum{{"SHA256", output.SHA256}}
		}
	}
	return p
}

var (
	unsafeID = regexp.MustCompile(`[^A-Za-z0-9.-]`)
	webPage  = regexp.MustCompile(`^(https?|ftp)://[!-~]+$`)
	address  = regexp.MustCompile(`^\s*"?(.*?)"?\s*<([^<>]+)>\s*$`)
)

func (m *Manifest) spdxPackage(p Package) spdxPackage {
	// Names hold + only beside what an identifier may hold, and no package's name ends like another's with -plus for +.
	id := strings.ReplaceAll(p.Name+"-"+p.Architecture, "+", ".plus")
	entry := spdxPackage{
		Name: p.Name, ID: "SPDXRef-Package-" + unsafeID.ReplaceAllString(id, "-"), Version: p.Version,
		Supplier: supplier(p.Maintainer), Download: noAssertion, Homepage: p.Homepage,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "INSTALL", Summary: p.Description,
		SourceInfo: "built from source package " + p.Source + " " + p.SourceVersion,
		External:   []externalItem{{"PACKAGE-MANAGER", "purl", PURL(m.Distribution, m.Release, p)}},
	}
	if !webPage.MatchString(p.Homepage) {
		entry.Homepage = ""
	}
	if p.URL != "" {
		entry.Download = p.URL
	}
	if p.SHA256 != "" {
		entry.Checksums = []checksum{{"SHA256", p.SHA256}}
	}
	return entry
}

// supplier writes a maintainer as SPDX wants it. Whether it is a person or a team shows in no field: teams are told by
// the words and lists that they use.
func supplier(maintainer string) string {
	m := address.FindStringSubmatch(maintainer)
	if m == nil || m[1] == "" {
		return noAssertion
	}
	kind := "Person: "
	for _, sign := range []string{"team", "maintainers", "developers", "group", "project", "packagers", "lists.", "tracker.debian.org", "packages.debian.org"} {
		if strings.Contains(strings.ToLower(m[1]+" "+m[2]), sign) {
			kind = "Organization: "
		}
	}
	return kind + m[1] + " (" + m[2] + ")"
}
