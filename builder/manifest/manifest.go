// Package manifest describes what an image is made of: NAME.manifest.json, for programs and people, and an SPDX 2.3
// document for those who ask for a bill of materials.
//
// Both hold the same bytes for the same image: no times of the build, no names of the machine, everything sorted. The
// package builds nothing and reads no image; who built it fills the structs in.
package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// Schema is the version of the manifest's form. It changes when a field gets another meaning or goes away.
const Schema = 1

// A Manifest is what NAME.manifest.json holds.
type Manifest struct {
	Schema       int         `json:"schema"`
	Name         string      `json:"name"`
	Version      string      `json:"version"`
	Distribution string      `json:"distribution"`
	Release      string      `json:"release"`
	Architecture string      `json:"architecture"`
	Recipe       string      `json:"recipe,omitempty"` // SHA-256 of the recipe's canonical form, in hexadecimal
	Clock        time.Time   `json:"clock"`            // the time that stands in the image for that of the build
	Sources      []Source    `json:"sources"`
	Packages     []Package   `json:"packages"`
	Containers   []Container `json:"containers,omitempty"`
	Kernel       *Kernel     `json:"kernel,omitempty"`
	Root         *Root       `json:"root,omitempty"`
	Partitions   []Partition `json:"partitions,omitempty"`
	Outputs      []Output    `json:"outputs,omitempty"` // other than the manifest, SPDX and SHA256SUMS files
}

// A Source is one suite of an archive.
type Source struct {
	URI        string    `json:"uri,omitempty"`
	Suite      string    `json:"suite"`
	Components []string  `json:"components"`
	Codename   string    `json:"codename,omitempty"`
	Date       time.Time `json:"date"`   // of the Release file
	SHA256     string    `json:"sha256"` // of the InRelease file
}

// A Package is one binary package in the root file system.
type Package struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	Architecture  string `json:"architecture"`
	Source        string `json:"source"`
	SourceVersion string `json:"source_version"`
	URL           string `json:"url,omitempty"`    // of the .deb
	SHA256        string `json:"sha256,omitempty"` // of the .deb
	Size          int64  `json:"size,omitempty"`   // of the .deb, in bytes
	InstalledSize int64  `json:"installed_size"`   // as its control file says, in bytes
	Section       string `json:"section,omitempty"`
	Maintainer    string `json:"maintainer,omitempty"` // Name <address>
	Homepage      string `json:"homepage,omitempty"`
	Description   string `json:"description,omitempty"` // its first line
}

// Kernel says what the image boots.
type Kernel struct {
	Package     string `json:"package"`
	Version     string `json:"version"` // of the package
	Release     string `json:"release"` // as uname -r prints it
	CommandLine string `json:"command_line"`
}

// Root describes the root file system.
type Root struct {
	Filesystem string `json:"filesystem"`
	Size       int64  `json:"size"` // in bytes
	RootHash   string `json:"root_hash,omitempty"`
	Salt       string `json:"salt,omitempty"`
}

// A Partition is one entry of the disk's GPT.
type Partition struct {
	Number int    `json:"number"` // from 1
	Label  string `json:"label"`
	Type   string `json:"type"` // GUID
	UUID   string `json:"uuid"`
	Offset int64  `json:"offset"` // in bytes
	Size   int64  `json:"size"`   // in bytes
}

// An Output is a file beside the manifest.
type Output struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // in bytes, holes counted
	SHA256 string `json:"sha256"`
}

// Marshal returns the manifest as indented JSON. Sources keep their order; packages, containers, partitions and
// outputs are sorted; times are in UTC.
func (m *Manifest) Marshal() ([]byte, error) {
	c := *m
	c.Schema = Schema
	c.Clock = c.Clock.UTC()
	c.Sources = slices.Clone(m.Sources)
	for i := range c.Sources {
		c.Sources[i].Date = c.Sources[i].Date.UTC()
	}
	c.Packages = sorted(m.Packages)
	c.Containers = sortedContainers(m.Containers)
	c.Partitions = slices.Clone(m.Partitions)
	slices.SortFunc(c.Partitions, func(a, b Partition) int { return cmp.Compare(a.Number, b.Number) })
	c.Outputs = slices.Clone(m.Outputs)
	slices.SortFunc(c.Outputs, func(a, b Output) int { return strings.Compare(a.Name, b.Name) })
	if c.Sources == nil {
		c.Sources = []Source{}
	}
	if c.Packages == nil {
		c.Packages = []Package{}
	}
	return indented(&c)
}

func sorted(packages []Package) []Package {
	list := slices.Clone(packages)
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture), strings.Compare(a.Version, b.Version))
	})
	return list
}

func indented(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Read reads a manifest. One of a later form than Schema is an error.
func Read(r io.Reader) (*Manifest, error) {
	var m Manifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.Schema < 1 || m.Schema > Schema {
		return nil, fmt.Errorf("manifest: schema %d is not known: read it with the version of applbuild that wrote it", m.Schema)
	}
	return &m, nil
}

// Installed reads var/lib/dpkg/status of a tree and returns the packages that are installed, sorted. URL, SHA256 and
// Size are not in it.
func Installed(status io.Reader) ([]Package, error) {
	reader := deb822.NewReader(status)
	var list []Package
	for {
		p, err := reader.Next()
		if err == io.EOF {
			return sorted(list), nil
		}
		if err != nil {
			return nil, fmt.Errorf("dpkg status: %w", err)
		}
		if _, state, _ := strings.Cut(p.Get("Status"), " "); state != "ok installed" {
			continue
		}
		pkg := Package{
			Name: p.Get("Package"), Version: p.Get("Version"), Architecture: p.Get("Architecture"),
			Source: p.Get("Source"), Section: p.Get("Section"), Maintainer: p.Get("Maintainer"), Homepage: p.Get("Homepage"),
		}
		pkg.Description, _, _ = strings.Cut(p.Get("Description"), "\n")
		if kib, err := strconv.ParseInt(p.Get("Installed-Size"), 10, 40); err == nil && kib > 0 {
			pkg.InstalledSize = kib * 1024
		}
		pkg.Source, pkg.SourceVersion = source(pkg)
		list = append(list, pkg)
	}
}

// source splits a Source field, "name (version)" where the version differs from the package's.
func source(p Package) (name, version string) {
	name, version, found := strings.Cut(p.Source, " (")
	if !found {
		version = p.Version
	}
	if name == "" {
		name = p.Name
	}
	return name, strings.TrimSuffix(version, ")")
}
