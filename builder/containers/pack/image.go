package pack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
)

// A Config is what an image says of itself (config.md).
type Config struct {
	Platform    containers.Platform
	Created     time.Time
	Entrypoint  []string
	Cmd         []string
	Environment map[string]string
	User        string // USER or USER:GROUP; empty is root
	Workdir     string
	Ports       []string // "8080/tcp"
	Volumes     []string // absolute paths
	Labels      map[string]string
	StopSignal  string
	History     []string // what made each layer, for people
}

// searchPath is what programs are looked for in where an image does not say:
// some runtimes have no default.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The documents' fields, in the order of config.md and manifest.md.
type (
	configDocument struct {
		Created      string          `json:"created"`
		Architecture string          `json:"architecture"`
		Variant      string          `json:"variant,omitempty"`
		OS           string          `json:"os"`
		Config       configExecution `json:"config"`
		RootFS       configRootFS    `json:"rootfs"`
		History      []configHistory `json:"history"`
	}
	configExecution struct {
		User         string              `json:"User,omitempty"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
		Env          []string            `json:"Env,omitempty"`
		Entrypoint   []string            `json:"Entrypoint,omitempty"`
		Cmd          []string            `json:"Cmd,omitempty"`
		Volumes      map[string]struct{} `json:"Volumes,omitempty"`
		WorkingDir   string              `json:"WorkingDir,omitempty"`
		Labels       map[string]string   `json:"Labels,omitempty"`
		StopSignal   string              `json:"StopSignal,omitempty"`
	}
	configRootFS struct {
		Type    string              `json:"type"`
		DiffIDs []containers.Digest `json:"diff_ids"`
	}
	configHistory struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	}
	descriptor struct {
		MediaType string            `json:"mediaType"`
		Digest    containers.Digest `json:"digest"`
		Size      int64             `json:"size"`
	}
	manifestDocument struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
)

// Image makes the config and the manifest of an image of these layers, the
// lowest first. History has an item for each layer.
func Image(c Config, layers []containers.Layer) (*containers.Image, error) {
	if len(c.History) != len(layers) {
		return nil, fmt.Errorf("%d layers and %d items of history", len(layers), len(c.History))
	}
	config, err := json.Marshal(c.document(layers))
	if err != nil {
		return nil, err
	}
	m := manifestDocument{
		SchemaVersion: 2, MediaType: containers.TypeOCIManifest,
		Config: descriptor{containers.TypeOCIConfig, containers.DigestOf(config), int64(len(config))},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, descriptor{l.MediaType, l.Digest, l.Size})
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return containers.Parse(manifest, containers.TypeOCIManifest, config)
}

func (c Config) document(layers []containers.Layer) configDocument {
	created := c.Created.UTC().Format(time.RFC3339)
	doc := configDocument{
		Created: created, Architecture: c.Platform.Architecture, Variant: c.Platform.Variant, OS: c.Platform.OS,
		Config: configExecution{
			User: c.User, ExposedPorts: set(c.Ports), Env: c.environment(), Entrypoint: c.Entrypoint, Cmd: c.Cmd,
			Volumes: set(c.Volumes), WorkingDir: c.Workdir, Labels: c.Labels, StopSignal: c.StopSignal,
		},
		RootFS: configRootFS{Type: "layers"},
	}
	for i, l := range layers {
		doc.RootFS.DiffIDs = append(doc.RootFS.DiffIDs, l.DiffID)
		doc.History = append(doc.History, configHistory{created, c.History[i]})
	}
	return doc
}

// environment lists KEY=VALUE, sorted, with a search path.
func (c Config) environment() []string {
	all := map[string]string{"PATH": searchPath}
	maps.Copy(all, c.Environment)
	var list []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, key+"="+all[key])
	}
	return list
}

// set writes a list as config.md has sets: an object of empty objects.
func set(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	all := map[string]struct{}{}
	for _, item := range list {
		all[item] = struct{}{}
	}
	return all
}
