package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers"
)

// A dockerEntry is one image of a docker-archive's manifest.json.
type dockerEntry struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// readDocker reads manifest.json. The images have no manifests there: each is
// given one that follows from its config and layers alone.
func (f *File) readDocker(ctx context.Context) ([]Found, error) {
	data, err := f.document(fileManifest, containers.MaxDocument)
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", containers.ErrFormat, fileManifest, err)
	}
	if len(entries) > maxImages {
		return nil, fmt.Errorf("%w: more than %d images", containers.ErrFormat, maxImages)
	}
	var images []Found
	for i := range entries {
		img, err := f.dockerImage(ctx, &entries[i])
		if err != nil {
			return nil, fmt.Errorf("%s: image %d: %w", fileManifest, i+1, err)
		}
		images = append(images, Found{Names: entries[i].RepoTags, Platform: img.Platform, Image: img, docker: &entries[i]})
	}
	return images, nil
}

// The documents of Docker's schema 2, in the order in which dockers write them.
type (
	dockerDescriptor struct {
		MediaType string            `json:"mediaType"`
		Size      int64             `json:"size"`
		Digest    containers.Digest `json:"digest"`
	}
	dockerManifest struct {
		SchemaVersion int                `json:"schemaVersion"`
		MediaType     string             `json:"mediaType"`
		Config        dockerDescriptor   `json:"config"`
		Layers        []dockerDescriptor `json:"layers"`
	}
)

// dockerImage makes the image of an entry: its layers are taken as they are
// when unpacked, so that their digests are those that the config names.
func (f *File) dockerImage(ctx context.Context, e *dockerEntry) (*containers.Image, error) {
	config, err := f.document(e.Config, containers.MaxDocument)
	if err != nil {
		return nil, err
	}
	var doc struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, fmt.Errorf("%w: config: %w", containers.ErrFormat, err)
	}
	if len(doc.RootFS.DiffIDs) != len(e.Layers) || len(e.Layers) > containers.MaxLayers {
		return nil, fmt.Errorf("%w: the config names %d layers, %s %d; %d are allowed", containers.ErrFormat, len(doc.RootFS.DiffIDs), fileManifest, len(e.Layers), containers.MaxLayers)
	}
	m := dockerManifest{
		SchemaVersion: 2, MediaType: containers.TypeDockerManifest,
		Config: dockerDescriptor{containers.TypeDockerConfig, int64(len(config)), containers.DigestOf(config)},
	}
	for i, name := range e.Layers {
		diffID, err := containers.ParseDigest(doc.RootFS.DiffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("%w: layer %d: %w", containers.ErrFormat, i+1, err)
		}
		size, err := f.layerSize(ctx, name, diffID)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		// Not compressed, whatever the type says: these are the bytes that skopeo
		// and podman make up, and so the image has the digest that they show.
		// Whoever unpacks a layer looks at its first bytes.
		m.Layers = append(m.Layers, dockerDescriptor{containers.TypeDockerLayerGz, size, diffID})
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return containers.Parse(manifest, containers.TypeDockerManifest, config)
}

// layerSize is how many bytes a layer has when it is unpacked. A compressed
// one is read for that, and checked on the way.
func (f *File) layerSize(ctx context.Context, name string, diffID containers.Digest) (int64, error) {
	in, size, err := f.files.open(name)
	if err != nil {
		return 0, missing(name, err)
	}
	defer in.Close()
	plain, compressed, err := decompress(in)
	if err != nil || !compressed {
		return size, err
	}
	defer plain.Close()
	return unpackedSize(ctx, plain, diffID)
}

// unpackedSize reads a layer to its end: it must be the one of that digest.
func unpackedSize(ctx context.Context, plain io.Reader, diffID containers.Digest) (int64, error) {
	n, err := io.Copy(io.Discard, newVerifier(io.LimitReader(contextReader{ctx, plain}, maxLayer+1), diffID))
	if n > maxLayer {
		return 0, fmt.Errorf("%w: it unpacks to more than %d bytes", containers.ErrFormat, int64(maxLayer))
	}
	return n, unpacking(ctx, err)
}

// unpacking says of an error that what was to be unpacked is at fault.
func unpacking(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, containers.ErrFormat) {
		return err
	}
	return fmt.Errorf("%w: unpacking: %w", containers.ErrFormat, err)
}

func (f *File) importDockerLayer(ctx context.Context, name string, layer containers.Layer, into Blobs) error {
	in, _, err := f.files.open(name)
	if err != nil {
		return missing(name, err)
	}
	defer in.Close()
	plain, _, err := decompress(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	return into.Put(ctx, layer.Digest, layer.Size, newVerifier(plain, layer.Digest))
}
