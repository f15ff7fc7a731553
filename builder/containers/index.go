package containers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxEntries is how many manifests an index may name.
const maxEntries = 1024

// An Entry is a manifest that an index names.
type Entry struct {
	Reference
	// Platform is the zero value where the index has none.
	Platform Platform
	// Name is the annotation org.opencontainers.image.ref.name: how an image
	// layout calls its images. May be empty.
	Name string
}

type indexDocument struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     []indexEntry    `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
}

type indexEntry struct {
	descriptor
	Platform *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// ParseIndex reads an OCI index or a manifest list of Docker's. Attestations,
// which no platform runs, are left out. isIndex is false where data is
// something else, such as a manifest. mediaType is what the registry called it;
// it may be empty. Errors match ErrFormat.
func ParseIndex(data []byte, mediaType string) (entries []Entry, isIndex bool, err error) {
	if len(data) > MaxDocument {
		return nil, false, fmt.Errorf("%w: an index of %d bytes, %d are allowed", ErrFormat, len(data), MaxDocument)
	}
	var doc indexDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, false, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if doc.MediaType != "" {
		mediaType = doc.MediaType
	}
	named := mediaType == TypeOCIIndex || mediaType == TypeDockerList
	if !named && (mediaType == TypeOCIManifest || mediaType == TypeDockerManifest || doc.Manifests == nil) {
		return nil, false, nil
	}
	if doc.Layers != nil || doc.Config != nil {
		// Two programs would see two images under one digest.
		return nil, true, fmt.Errorf("%w: it is an index and a manifest at once", ErrFormat)
	}
	if doc.SchemaVersion != 2 {
		return nil, true, fmt.Errorf("%w: schema version %d of an index, 2 is wanted", ErrFormat, doc.SchemaVersion)
	}
	if len(doc.Manifests) > maxEntries {
		return nil, true, fmt.Errorf("%w: an index of %d manifests, %d are allowed", ErrFormat, len(doc.Manifests), maxEntries)
	}
	for _, e := range doc.Manifests {
		if e.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		ref, err := reference(e.descriptor, MaxDocument)
		if err != nil {
			return nil, true, fmt.Errorf("index: %w", err)
		}
		entry := Entry{Reference: ref, Name: e.Annotations["org.opencontainers.image.ref.name"]}
		if p := e.Platform; p != nil {
			entry.Platform = Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		}
		entries = append(entries, entry)
	}
	return entries, true, nil
}

// Choose returns the entry for a platform: the first of exactly that platform,
// else the first that fits, else the only one there is where it names none. The
// zero platform fits where there is one entry. ok is false where none fits.
func Choose(entries []Entry, p Platform) (entry Entry, ok bool) {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Platform == p && p != Platform{} })
	if i < 0 {
		i = slices.IndexFunc(entries, func(e Entry) bool { return e.Platform.Fits(p) })
	}
	if i < 0 && len(entries) == 1 && (entries[0].Platform == Platform{} || p == Platform{}) {
		i = 0
	}
	if i < 0 {
		return Entry{}, false
	}
	return entries[i], true
}

// Platforms lists the platforms of entries for people, sorted.
func Platforms(entries []Entry) string {
	var names []string
	for _, e := range entries {
		if e.Platform != (Platform{}) {
			names = append(names, e.Platform.String())
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
