package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/pack"
	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/accounts"
	"github.com/applbuild/applbuild/rootfs/overlay"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// What the results of the stages layer and oci hold.
const (
	fileLayer       = "layer.tar"
	fileOCIConfig   = "config.json"
	fileOCIManifest = "manifest.json"
	valueLayer      = "layer" // JSON: containers.Layer; missing where there is none
)

const (
	stageLayer = "layer"
	stageOCI   = "oci"
)

// ociName is the file that a recipe's container image is written to.
func ociName(recipe *recipes.Recipe) string { return outputStem(recipe) + ".oci.tar" }

// containerOverlay is what is left of an appliance's files in a container that
// is nothing else: it has no first boot, no identity and no state of a
// machine's, but programs count on the folders.
func containerOverlay(files []overlay.File) []overlay.File {
	return slices.DeleteFunc(files, func(f overlay.File) bool {
		return !f.Mode.IsDir() || f.Path == "boot" || f.Path == "efi"
	})
}

// baseLayer makes the lower layer of a container image: the packages,
// configured, without what the recipe removes from them and before it changes
// anything else. All recipes of the same packages that remove the same have it
// in common. What the upper layer took away would still be in the image.
func (img *build) baseLayer(ctx context.Context, base *store.Result) (*store.Result, error) {
	return img.do(ctx, stageLayer, img.keys.layer, func(ctx context.Context, d *store.Draft) error {
		t, closeTree, err := img.openTree(ctx, base)
		if err != nil {
			return err
		}
		defer closeTree()
		if err := img.edits.remove(t); err != nil {
			return err
		}
		if err := pack.Check(t); err != nil {
			return err
		}
		_, err = img.writeLayer(ctx, d, t)
		return err
	})
}

// writeLayer writes a tree as the draft's layer and notes its digests.
func (img *build) writeLayer(ctx context.Context, d *store.Draft, t *tree.Tree) (containers.Layer, error) {
	f, err := d.Create(fileLayer)
	if err != nil {
		return containers.Layer{}, err
	}
	defer f.Close()
	layer, err := pack.WriteLayer(ctx, f, t, img.clock, pack.Compression(img.recipe.Output.OCI.Compression))
	if err != nil {
		return layer, err
	}
	text, err := json.Marshal(layer)
	if err != nil {
		return layer, err
	}
	d.Set(valueLayer, string(text))
	return layer, f.Close()
}

// layerOf is the layer that a result holds, if any.
func layerOf(result *store.Result) (layer containers.Layer, there bool, err error) {
	text, there := result.Values[valueLayer]
	if there {
		err = json.Unmarshal([]byte(text), &layer)
	}
	return layer, there, err
}

// oci makes the upper layer, what the recipe's edits change in the base tree,
// and the image's documents.
func (img *build) oci(ctx context.Context, base, lower *store.Result) (*store.Result, error) {
	return img.do(ctx, stageOCI, img.keys.oci, func(ctx context.Context, d *store.Draft) error {
		t, closeTree, err := img.openTree(ctx, base)
		if err != nil {
			return err
		}
		defer closeTree()
		if err := keepInventory(t, img.lock, d); err != nil {
			return err
		}
		// Edits are made in the whole tree: they may look at what is removed in the
		// end.
		lowerTree := t.Clone()
		if err := img.edits.remove(lowerTree); err != nil {
			return err
		}
		closeEdits, err := img.edits.apply(t, img.clock)
		defer closeEdits()
		if err != nil {
			return err
		}
		if err := img.checkContainerUser(t); err != nil {
			return err
		}
		changed, err := pack.Remember(lowerTree).Difference(t, img.clock)
		if err != nil {
			return err
		}
		layer, _, err := layerOf(lower)
		if err != nil {
			return err
		}
		layers := []containers.Layer{layer}
		if changed != nil {
			if layer, err = img.writeLayer(ctx, d, changed); err != nil {
				return err
			}
			layers = append(layers, layer)
		}
		if err := img.edits.unchanged(); err != nil {
			return err
		}
		return img.writeDocuments(d, layers)
	})
}

// checkContainerUser refuses a user that the image doesn't have.
func (img *build) checkContainerUser(t *tree.Tree) error {
	user, group, _ := strings.Cut(img.recipe.Output.OCI.User, ":")
	if user == "" {
		return nil
	}
	if _, _, err := accounts.Resolve(accountTree{editTree{t}}, user, group); err != nil {
		return img.recipe.Problem("output.oci.user", err.Error(), "add it to users, or write a number", err)
	}
	return nil
}

// writeDocuments writes the image's config and manifest.
func (img *build) writeDocuments(d *store.Draft, layers []containers.Layer) error {
	r := img.recipe
	o := r.Output.OCI
	history := []string{
		fmt.Sprintf("applbuild: packages of %s %s", r.Distribution, r.Release),
		fmt.Sprintf("applbuild: recipe %s %s", r.Name, r.Version),
	}
	image, err := pack.Image(pack.Config{
		Platform: img.platform(), Created: img.clock,
		Entrypoint: o.Entrypoint, Cmd: o.Cmd, Environment: o.Environment, User: o.User, Workdir: o.Workdir,
		Ports: o.Ports, Volumes: o.Volumes, Labels: o.Labels, StopSignal: o.StopSignal,
		History: history[:len(layers)],
	}, layers)
	if err != nil {
		return err
	}
	if err := writeFile(d, fileOCIConfig, image.Config); err != nil {
		return err
	}
	return writeFile(d, fileOCIManifest, image.Manifest)
}

// platform is the image's in the words of containers, which call Debian's
// amd64 and arm64 the same.
func (img *build) platform() containers.Platform {
	return containers.Platform{OS: "linux", Architecture: img.arch.Name}
}

// writeOCI writes the container image as an archive.
func (img *build) writeOCI(ctx context.Context, set *output.Set, lower, upper *store.Result) error {
	image, err := img.readImage(ctx, upper)
	if err != nil {
		return err
	}
	results := map[containers.Digest]*store.Result{}
	for _, result := range []*store.Result{lower, upper} {
		layer, there, err := layerOf(result)
		if err != nil {
			return err
		}
		if there {
			results[layer.Digest] = result
		}
	}
	out, err := set.Create(ociName(img.recipe))
	if err != nil {
		return err
	}
	open := func(ctx context.Context, digest containers.Digest) (io.ReadCloser, error) {
		return img.openResult(ctx, results[digest], fileLayer)
	}
	return layout.WriteArchive(ctx, out, []layout.Named{{Name: img.recipe.Output.OCI.Name, Image: image}}, open, img.clock)
}

func (img *build) openResult(ctx context.Context, result *store.Result, name string) (*os.File, error) {
	f, err := result.Open(ctx, name)
	if err != nil {
		return nil, img.damaged(result, err)
	}
	return f, nil
}

// readImage reads the documents that the stage oci made.
func (img *build) readImage(ctx context.Context, result *store.Result) (*containers.Image, error) {
	manifest, err := readResult(ctx, result, fileOCIManifest)
	if err != nil {
		return nil, img.damaged(result, err)
	}
	config, err := readResult(ctx, result, fileOCIConfig)
	if err != nil {
		return nil, img.damaged(result, err)
	}
	return containers.Parse(manifest, containers.TypeOCIManifest, config)
}
