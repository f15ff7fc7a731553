package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"strings"

	"github.com/applbuild/applbuild/builder/containers/attached"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/manifest"
	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where the list of a root's container images is: in the tree, and in the result
// of the stage root.
const (
	containerList  = "usr/lib/applbuild/containers.json"
	fileContainers = "containers.json"
)

// osReleaseContainers is the field of os-release, and so of the unified kernel
// image, that says that the root has container images, and for which runtime.
const osReleaseContainers = "APPLBUILD_CONTAINERS"

// maxContainerList bounds the list, in bytes.
const maxContainerList = 16 << 20

// listContainers writes the list into the tree and the result, and the bills of
// materials that are attached to images into the result.
func (img *build) listContainers(ctx context.Context, t *tree.Tree, d *store.Draft) error {
	if len(img.images) == 0 {
		return nil
	}
	var list []manifest.Container
	for _, image := range img.images {
		c := manifest.NewContainer(image.image)
		c.Names, c.IndexDigest = []string{image.Reference().String()}, string(image.pin.Index)
		c.Source = image.Ref.Domain
		if image.Layout != "" {
			c.Source = filepath.Base(image.Layout)
		}
		c.Runtime, c.SignedBy = img.recipe.Containers.Runtime, image.pin.SignedBy
		if s := image.pin.SBOM; s != nil {
			data, err := img.gatherer.Blobs.ReadFile(ctx, s.Digest, attached.MaxSBOM)
			if err != nil {
				return damagedBlob(err)
			}
			if c.SBOM, err = manifest.NewSBOM(&attached.SBOM{MediaType: s.MediaType, Data: data, Digest: s.Digest}, img.sbomName(s.Digest.Hex())); err != nil {
				return fmt.Errorf("%s: %w", c.Names[0], err)
			}
			if err := writeFile(d, sbomFile(string(s.Digest)), data); err != nil {
				return err
			}
		}
		list = append(list, c)
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if err := t.WriteFile(containerList, data, 0o644, 0, 0); err != nil {
		return err
	}
	return writeFile(d, fileContainers, data)
}

// sbomFile is where a bill of materials lies in a result.
func sbomFile(digest string) string {
	return "sbom-" + strings.TrimPrefix(digest, "sha256:")
}

// sbomName is the file that a bill of materials is written to beside the disk.
func (img *build) sbomName(hex string) string {
	return outputStem(img.recipe) + ".sbom-" + hex[:12] + ".json"
}

// writeContainers puts the images into the manifest, and their bills of
// materials beside it.
func (img *build) writeContainers(ctx context.Context, set *output.Set, m *manifest.Manifest, root *store.Result) error {
	if len(img.images) == 0 || root == nil {
		return nil
	}
	data, err := readResult(ctx, root, fileContainers)
	if err != nil {
		return img.damaged(root, err)
	}
	if err := json.Unmarshal(data, &m.Containers); err != nil {
		return fmt.Errorf("%s: %w", fileContainers, err)
	}
	written := map[string]bool{}
	for _, c := range m.Containers {
		if c.SBOM == nil || written[c.SBOM.File] {
			continue
		}
		written[c.SBOM.File] = true
		data, err := readResult(ctx, root, sbomFile(c.SBOM.Digest))
		if err != nil {
			return img.damaged(root, err)
		}
		if err := writeOutput(set, c.SBOM.File, data); err != nil {
			return err
		}
	}
	return nil
}

// Containers lists the container images on a disk, as its root file system has
// them. Nothing is mounted and no privilege is needed. A disk without any gives
// none.
func (b *Builder) Containers(ctx context.Context, name string) ([]manifest.Container, error) {
	m, err := openImage(name)
	if err != nil {
		return nil, err
	}
	defer m.f.Close()
	root, ok := findRoot(m, "")
	if !ok {
		return nil, fmt.Errorf("%s: it has no root partition", name)
	}
	data, err := b.rootFile(ctx, name, root, fs.Detect(m.section(root)), containerList, maxContainerList)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []manifest.Container
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: /%s: %w", name, containerList, err)
	}
	return list, nil
}

// HasContainers says that a unified kernel image on the disk, or the manifest
// beside it, says of its root that it has container images.
func (in *Inspection) HasContainers() bool {
	if in.Manifest != nil && len(in.Manifest.Containers) > 0 {
		return true
	}
	for _, k := range in.Kernels {
		for line := range strings.Lines(k.OSRelease) {
			if strings.HasPrefix(line, osReleaseContainers+"=") {
				return true
			}
		}
	}
	return false
}
