package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/containerd"
	"github.com/applbuild/applbuild/builder/containers/docker"
	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/builder/containers/podman"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// What the result of a container's layer holds.
const (
	fileUnpacked = "unpacked.tar"
	fileSplit    = "split.gz"
	valueInfo    = "info" // JSON: layer.Info
)

// stageLayers unpacks the layers of container images.
const stageLayers = "layers"

// layersAtOnce is how many layers are unpacked side by side.
const layersAtOnce = 2

// layers unpacks the layers of all images, each once. It returns the images too,
// which are in the store by now.
func (img *build) layers(ctx context.Context) (map[containers.Digest]*store.Result, error) {
	if len(img.images) == 0 || img.store.Has(img.keys.root) {
		return nil, nil
	}
	results := map[containers.Digest]*store.Result{}
	err := img.stage(stageLayers, func() (bool, error) {
		all := true
		var mu sync.Mutex
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(layersAtOnce)
		seen := map[containers.Digest]bool{}
		for _, image := range img.images {
			found, err := img.gatherer.Image(ctx, image.pin)
			if err != nil {
				return false, damagedBlob(err)
			}
			image.image = found
			for _, l := range found.Layers {
				if seen[l.Digest] {
					continue
				}
				seen[l.Digest] = true
				group.Go(func() error {
					result, cached, err := img.unpackLayer(ctx, l)
					if err != nil {
						return img.problemOf(image.path, fmt.Errorf("%s: %w", image.name(), damagedBlob(err)))
					}
					mu.Lock()
					defer mu.Unlock()
					results[l.Digest], all = result, all && cached
					return nil
				})
			}
		}
		return all, group.Wait()
	})
	return results, err
}

func (img *build) unpackLayer(ctx context.Context, l containers.Layer) (*store.Result, bool, error) {
	key, err := img.key("container layer", unpackVersion, l)
	if err != nil {
		return nil, false, err
	}
	return img.store.Do(ctx, key, func(ctx context.Context, d *store.Draft) error {
		archive, err := d.Create(fileUnpacked)
		if err != nil {
			return err
		}
		defer archive.Close()
		split, err := d.Create(fileSplit)
		if err != nil {
			return err
		}
		defer split.Close()
		info, err := img.gatherer.Unpack(ctx, l, archive, split)
		if err != nil {
			return err
		}
		text, err := json.Marshal(info)
		if err != nil {
			return err
		}
		d.Set(valueInfo, string(text))
		return errors.Join(archive.Close(), split.Close())
	})
}

// openLayers indexes unpacked layers. Their contents are read when the tree is
// written: close is called after that, also when an error came.
func (img *build) openLayers(ctx context.Context, results map[containers.Digest]*store.Result) (layers map[containers.Digest]podman.Layer, close func(), err error) {
	var opened []*os.File
	close = func() {
		for _, f := range opened {
			f.Close()
		}
	}
	layers = map[containers.Digest]podman.Layer{}
	for digest, result := range results {
		f, err := result.Open(ctx, fileUnpacked)
		if err != nil {
			return nil, close, img.damaged(result, err)
		}
		opened = append(opened, f)
		var l podman.Layer
		if err := json.Unmarshal([]byte(result.Values[valueInfo]), &l.Info); err != nil {
			return nil, close, fmt.Errorf("layer %s: %w", digest, err)
		}
		if l.Tree, err = layer.Index(f, result.Size(fileUnpacked)); err != nil {
			return nil, close, img.layerProblem(digest, err)
		}
		if !l.Info.Repeats {
			if l.TarSplit, err = readResult(ctx, result, fileSplit); err != nil {
				return nil, close, img.damaged(result, err)
			}
		}
		layers[digest] = l
	}
	return layers, close, nil
}

// layerProblem says what is wrong with a layer, and of which image it is.
func (img *build) layerProblem(digest containers.Digest, err error) error {
	for _, image := range img.images {
		if slices.ContainsFunc(image.image.Layers, func(l containers.Layer) bool { return l.Digest == digest }) {
			return img.problemOf(image.path, fmt.Errorf("%s: layer %s: %w: have the image built anew", image.name(), digest, err))
		}
	}
	return fmt.Errorf("layer %s: %w", digest, err)
}

// problemOf says where in the recipe stands what an error is about, where that
// does not say so itself.
func (img *build) problemOf(path string, err error) error {
	var own *recipes.Error
	if errors.As(err, &own) {
		return err
	}
	return img.recipe.Problem(path, err.Error(), "", err)
}

// layContainers puts the images into the tree, as the recipe's runtime keeps
// them, and the units that start containers. Without any image the stores are
// empty: a machine that was updated forgets those of its earlier versions.
func (img *build) layContainers(t *tree.Tree, layers map[containers.Digest]podman.Layer, blobs map[containers.Digest]io.ReaderAt) error {
	if img.recipe.Containers == nil {
		return nil
	}
	var needs []string
	var err error
	switch img.recipe.Containers.Runtime {
	case recipes.Podman:
		err = img.layPodman(t, layers)
	case recipes.Docker:
		err = img.layDocker(t, layers)
	case recipes.Containerd:
		needs = []string{containerd.Unit}
		err = img.layContainerd(t, blobs)
	default:
		err = fmt.Errorf("the container runtime %q is unknown", img.recipe.Containers.Runtime)
	}
	if err != nil {
		return err
	}
	return img.layUnits(t, needs)
}

// layPodman writes podman's read-only image store, and where podman finds it.
func (img *build) layPodman(t *tree.Tree, layers map[containers.Digest]podman.Layer) error {
	var list []podman.Image
	for _, image := range img.images {
		index, err := img.index(image)
		if err != nil {
			return err
		}
		list = append(list, podman.Image{Image: image.image, Names: []string{image.Reference().String()}, Index: index})
	}
	// Ordinary users run nothing from it, and could start setuid programs of it.
	store := podman.Store{Prefix: podman.Prefix, Clock: img.clock, Private: true}
	if err := store.Write(t, list, layers); err != nil {
		return err
	}
	if err := img.layRootless(t, list, layers); err != nil {
		return err
	}
	if err := resolvConf(t); err != nil {
		return err
	}
	if _, there := t.Lookup(podman.SystemConfig); there {
		return nil // the recipe's own counts
	}
	conf := podman.StorageConf("/run/containers/storage", "/var/lib/containers/storage", "/"+podman.Prefix)
	return t.WriteFile(podman.SystemConfig, conf, 0o644, 0, 0)
}

// resolvConf makes an empty resolv.conf where there is none: without one
// aardvark-dns, the name server of containers, does not start.
func resolvConf(t *tree.Tree) error {
	const name = "etc/resolv.conf"
	if _, there := t.Lookup(name); there {
		return nil
	}
	return t.WriteFile(name, []byte("# No name server is known.\n"), 0o644, 0, 0)
}

// layDocker writes docker's images below the root, and what tells docker of them.
func (img *build) layDocker(t *tree.Tree, layers map[containers.Digest]podman.Layer) error {
	var list []docker.Image
	unpacked := map[containers.Digest]docker.Layer{}
	for _, image := range img.images {
		list = append(list, docker.Image{Image: image.image, Names: []string{image.Reference().String()}})
		for _, l := range image.image.Layers {
			unpacked[l.DiffID] = docker.Layer{TarSplit: layers[l.Digest].TarSplit, Tree: layers[l.Digest].Tree}
		}
	}
	store := docker.Store{}
	if err := store.Write(t, list, unpacked); err != nil {
		return err
	}
	existing, err := t.ReadFile(docker.Config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	conf, err := store.Configure(existing)
	if err != nil {
		return err
	}
	return t.WriteFile(docker.Config, conf, 0o644, 0, 0)
}

// layContainerd writes a layout of the images, and what has containerd import it.
func (img *build) layContainerd(t *tree.Tree, blobs map[containers.Digest]io.ReaderAt) error {
	var list []containerd.Image
	for _, image := range img.images {
		list = append(list, containerd.Image{Image: image.image, Names: []string{image.Reference().String()}})
	}
	return containerd.Store{Namespace: img.recipe.Containers.Namespace}.Write(t, list, blobs)
}

// openBlobs opens the layers of all images as they were fetched, where the
// runtime wants them. Close is called when the tree is written, also when an
// error came.
func (img *build) openBlobs(ctx context.Context) (opened map[containers.Digest]io.ReaderAt, close func(), err error) {
	opened = map[containers.Digest]io.ReaderAt{}
	var files []*os.File
	close = func() {
		for _, f := range files {
			f.Close()
		}
	}
	if c := img.recipe.Containers; c == nil || c.Runtime != recipes.Containerd {
		return nil, close, nil
	}
	for _, image := range img.images {
		for _, l := range image.image.Layers {
			if opened[l.Digest] != nil {
				continue
			}
			f, err := img.gatherer.Blobs.Open(ctx, l.Digest)
			if err != nil {
				return nil, close, damagedBlob(err)
			}
			files = append(files, f)
			opened[l.Digest] = f
		}
	}
	return opened, close, nil
}

// index is the list of platforms that an image was chosen from, nil where there
// is none.
func (img *build) index(image *containerImage) ([]byte, error) {
	if image.pin.Index == "" {
		return nil, nil
	}
	data, err := img.gatherer.Blobs.ReadFile(context.Background(), image.pin.Index, containers.MaxDocument)
	return data, damagedBlob(err)
}
