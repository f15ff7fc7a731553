// Package podman writes images into a tree as podman keeps them: an additional
// image store of containers/storage with the driver overlay, read-only, for
// podman 4.3 and later. Containers run from it without a copy of any layer.
//
// What it writes is what `skopeo copy … containers-storage:` makes of the same
// images, save that names are derived which containers/storage makes up
// (overlay/l/), that times of making are those of the images, and that what
// only a writer needs is left out (storage.lock, userns.lock). There is no
// specification: containers/storage v1.43 and v1.57 were read, of which podman
// 4.3 and 5.4 are made.
//
// The package unpacks nothing (see package layer) and runs nothing.
package podman

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Prefix is where an image's store lies below the root.
const Prefix = "usr/lib/containers/storage"

// ErrImages matches complaints about images that do not go together.
var ErrImages = errors.New("images for podman's store")

// An Image is an image with the names by which podman shows it, such as
// "docker.io/library/debian:trixie" or "registry.example.com/web@sha256:…":
// with host, and tag or digest.
type Image struct {
	*containers.Image
	Names []string
	// Index is the list of images for several platforms out of which the image
	// was taken, nil where there was none. With it podman finds the image by
	// the list's digest too.
	Index []byte
}

// A Layer is what becomes of one archive.
type Layer struct {
	Info     layer.Info
	TarSplit []byte     // of layer.Unpack; nil where Info.Repeats
	Tree     *tree.Tree // of layer.Index
}

// A Store says how a store is written.
type Store struct {
	// Prefix is the store's folder, such as Prefix.
	Prefix string
	// Clock is the time of images that have none.
	Clock time.Time
	// Private lets only root read the store, as containers/storage does, or the
	// user to whom Owner gives root's files. Otherwise everybody can read the
	// layers and run what is in them, setuid programs too.
	Private bool
	// Owner gives the owner of each file, nil leaves it. The containers of an
	// ordinary user want a store with the ids that his user namespace maps, see
	// Subordinate: from any other podman starts none, as root's files are
	// nobody's in there. Squashfs keeps the contents of both once.
	Owner func(id int) int
}

// Subordinate is the Owner for an ordinary user with a range of subordinate
// ids from first on, of users and groups alike: his own id is root in the
// container.
func Subordinate(id, first int) func(int) int {
	return func(inside int) int {
		if inside == 0 {
			return id
		}
		return first + inside - 1
	}
}

// Write puts the store with the images into t. layers has all their layers by
// Digest; each is stored once for every stack of layers that it lies on. The
// order of images counts for nothing. Errors match ErrImages where a layer is
// missing or two images have one name.
func (s Store) Write(t *tree.Tree, images []Image, layers map[containers.Digest]Layer) error {
	w := &writer{store: s, tree: t, layers: layers, done: map[string]bool{}}
	merged, err := merge(images)
	if err != nil {
		return err
	}
	for _, dir := range []string{"", "overlay", "overlay/l", "overlay-images", "overlay-layers"} {
		mode := s.dirMode()
		if dir == "overlay/l" {
			mode = 0o755
		}
		if err := w.mkdir(dir, mode); err != nil {
			return err
		}
	}
	for _, img := range merged {
		if err := w.image(img); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrImages, img.ID, err)
		}
	}
	return w.records()
}

// merge brings images into the order of their ids, each once with all its
// names.
func merge(images []Image) ([]Image, error) {
	byID := map[containers.Digest]*Image{}
	owner := map[string]containers.Digest{}
	for _, img := range images {
		for _, name := range img.Names {
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrImages, err)
			}
			if id, taken := owner[name]; taken && id != img.ID {
				return nil, fmt.Errorf("%w: the name %s stands for both %s and %s", ErrImages, name, id, img.ID)
			}
			owner[name] = img.ID
		}
		known := byID[img.ID]
		if known == nil {
			known = &Image{Image: img.Image, Index: img.Index}
			byID[img.ID] = known
		}
		known.Names = append(known.Names, img.Names...)
	}
	var merged []Image
	for _, img := range byID {
		slices.Sort(img.Names)
		img.Names = slices.Compact(img.Names)
		merged = append(merged, *img)
	}
	slices.SortFunc(merged, func(a, b Image) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return merged, nil
}

// checkName refuses names that podman would not find again: it looks for
// complete ones only.
func checkName(name string) error {
	host, rest, found := strings.Cut(name, "/")
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	if !found || host == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) ||
		!strings.ContainsAny(last, ":@") {
		return fmt.Errorf("%q is no complete name: HOST/PATH:TAG is wanted", name)
	}
	return nil
}

// ChainID is the id of a layer that lies on the layer of the id parent, which
// is "" for the lowest.
func ChainID(parent string, diffID containers.Digest) string {
	if parent == "" {
		return diffID.Hex()
	}
	sum := sha256.Sum256([]byte(parent + "+" + diffID.Hex()))
	return hex.EncodeToString(sum[:])
}

// linkLength is how long the short names of layers are: so short that the
// options of a mount with 128 of them fit into a page.
const linkLength = 26

// linkName is the short name of a layer, which containers/storage makes up.
func linkName(id string) string {
	sum := sha256.Sum256([]byte("overlay link " + id))
	return base32.StdEncoding.EncodeToString(sum[:])[:linkLength]
}
