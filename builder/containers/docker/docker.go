// Package docker puts images into a tree so that docker has them at its first
// start and after every loss of its data-root, without loading or copying a
// layer.
//
// Layers lie unpacked under the verity root, in the form that overlayfs
// mounts. A program that runs before docker puts into the data-root what
// docker keeps of an image in its store (image/overlay2, overlay2): folders
// and symbolic links to files of the root, a few kilobytes a layer. The
// storage driver has to be overlay2: there is no specification of its files,
// moby 20.10, 26.1 and 28.5 were read. Docker 29 keeps images in
// containerd unless it is told otherwise, which Configure does.
//
// An image that is removed from docker comes back with the next boot, and the
// names of the images mean these images again. What others brought into the
// data-root stays. Where an image of theirs lies on a layer that the system
// has no longer, it is set aside until the layer comes back or the image is
// pulled again.
//
// The package unpacks nothing (see package layer) and runs nothing.
package docker

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base32"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where things lie.
const (
	// Prefix is the images' folder below the root. Names in it are short: a link
	// of up to 59 bytes needs no block of ext4.
	Prefix = "usr/lib/docker/images"
	// DataRoot is where docker keeps what it writes.
	DataRoot = "/var/lib/docker"
	// Config is docker's own configuration, below the root.
	Config = "etc/docker/daemon.json"

	program = "usr/lib/applbuild/docker-images"
	unit    = "applbuild-docker-images.service"
	units   = "usr/lib/systemd/system"
)

var (
	//go:embed files/docker-images
	programText string
	//go:embed files/applbuild-docker-images.service
	unitText string
)

// Errors that can be matched.
var (
	// ErrImages matches complaints about images that do not go together.
	ErrImages = errors.New("images for docker")
	// ErrConfig matches complaints about a daemon.json.
	ErrConfig = errors.New("docker's daemon.json")
)

// An Image is an image with its complete names, such as
// "docker.io/library/debian:trixie" or "registry.example.com/web@sha256:…".
// Docker shows them as it does: "debian:trixie".
type Image struct {
	*containers.Image
	Names []string
}

// A Layer is what becomes of one archive.
type Layer struct {
	// TarSplit is what layer.Unpack wrote of it. It may be nil: docker runs the
	// image then, but does not save or push it.
	TarSplit []byte
	Tree     *tree.Tree // of layer.Index
}

// A Store says where images are put.
type Store struct {
	Prefix   string // folder below the root; "" is the constant Prefix
	DataRoot string // absolute path; "" is the constant DataRoot
}

func (s Store) withDefaults() Store {
	if s.Prefix == "" {
		s.Prefix = Prefix
	}
	if s.DataRoot == "" {
		s.DataRoot = DataRoot
	}
	return s
}

// Write puts the images into t, and the program and unit that tell docker of
// them, before it starts. An appliance with docker that has no images needs
// these too, for a data-root that knows images of its earlier versions. layers
// has all layers by DiffID; each is stored once. The order of images counts
// for nothing. Errors match ErrImages where a layer is missing, a name is
// none, or two images have the same.
func (s Store) Write(t *tree.Tree, images []Image, layers map[containers.Digest]Layer) error {
	s = s.withDefaults()
	if err := checkPath(s.DataRoot); err != nil {
		return err
	}
	w := &writer{tree: t, prefix: strings.Trim(s.Prefix, "/"), layers: layers, done: map[string]bool{}}
	if err := w.images(images); err != nil {
		return err
	}
	fill := strings.NewReplacer("@PROGRAM@", "/"+program, "@STORE@", "/"+w.prefix, "@DATAROOT@", s.DataRoot)
	return errors.Join(
		t.WriteFile(program, []byte(programText), 0o755, 0, 0),
		t.WriteFile(path.Join(units, unit), []byte(fill.Replace(unitText)), 0o644, 0, 0),
		t.Symlink("../"+unit, path.Join(units, "docker.service.wants", unit)),
	)
}

// checkPath refuses paths that would have to be quoted in a unit.
func checkPath(dataRoot string) error {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	if !path.IsAbs(dataRoot) || path.Clean(dataRoot) != dataRoot || strings.Trim(dataRoot, plain) != "" || dataRoot == "/" {
		return fmt.Errorf("%w: data-root %q: write an absolute path of letters, digits and . _ -", ErrConfig, dataRoot)
	}
	return nil
}

// A name is one of an image's, as docker keeps it.
type name struct {
	repository string // "debian"
	full       string // "debian:trixie" or "debian@sha256:…"
}

// familiar is a complete name as docker keeps it, without what it adds itself.
func familiar(complete string) (name, error) {
	wrong := fmt.Errorf("%w: %q is no complete name: HOST/PATH:TAG or HOST/PATH@sha256:DIGEST is wanted", ErrImages, complete)
	repository, digest, pinned := strings.Cut(complete, "@")
	suffix := "@" + digest
	if pinned {
		if _, err := containers.ParseDigest(digest); err != nil {
			return name{}, wrong
		}
	}
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		// With both, docker goes by the digest.
		if !pinned {
			suffix = repository[i:]
		}
		repository = repository[:i]
	} else if !pinned {
		return name{}, wrong
	}
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:"
	host, rest, found := strings.Cut(repository, "/")
	if !found || host == "" || rest == "" || suffix == ":" || strings.Trim(repository, plain) != "" || strings.Trim(suffix, plain+"@") != "" {
		return name{}, wrong
	}
	if host == "docker.io" || host == "index.docker.io" {
		repository = rest
		if official, ok := strings.CutPrefix(rest, "library/"); ok && !strings.Contains(official, "/") {
			repository = official
		}
	}
	return name{repository, repository + suffix}, nil
}

// ChainID is docker's id of a layer that lies on the layer of the id parent,
// which is "" for the lowest (OCI image specification, config.md, "Layer
// ChainID").
func ChainID(parent, diffID containers.Digest) containers.Digest {
	if parent == "" {
		return diffID
	}
	return containers.DigestOf([]byte(string(parent) + " " + string(diffID)))
}

// shortLength is how long docker's short names of layers are: so short that
// the options of a mount with 128 of them fit into a page.
const shortLength = 26

// short is a name of shortLength capitals and digits, as docker draws it by
// lot.
func short(kind, id string) string {
	sum := sha256.Sum256([]byte("docker " + kind + " " + id))
	return base32.StdEncoding.EncodeToString(sum[:])[:shortLength]
}

// merge brings images into the order of their ids, each once, with the lines
// of the file names: REPOSITORY NAME ID.
func merge(images []Image) ([]Image, []string, error) {
	byID := map[containers.Digest]Image{}
	lines := map[string]string{}
	for _, img := range images {
		byID[img.ID] = img
		if len(img.Names) == 0 {
			return nil, nil, fmt.Errorf("%w: %s has no name: docker would take it for a left-over", ErrImages, img.ID)
		}
		for _, complete := range img.Names {
			n, err := familiar(complete)
			if err != nil {
				return nil, nil, err
			}
			line := n.repository + " " + n.full + " " + string(img.ID)
			if other, taken := lines[n.full]; taken && other != line {
				return nil, nil, fmt.Errorf("%w: the name %s stands for two images: give one of them another", ErrImages, n.full)
			}
			lines[n.full] = line
		}
	}
	var merged []Image
	for _, img := range byID {
		merged = append(merged, img)
	}
	slices.SortFunc(merged, func(a, b Image) int { return strings.Compare(string(a.ID), string(b.ID)) })
	var sorted []string
	for _, line := range lines {
		sorted = append(sorted, line)
	}
	slices.Sort(sorted)
	return merged, sorted, nil
}
