// Package containerd puts images into a tree so that containerd has them
// after the first boot and after every loss of its state, without a network.
//
// The verity root has an OCI image layout (image-spec v1.1, image-layout.md).
// A program that runs once containerd is up asks it for the images by name and
// digest, and has it import and unpack those that are missing. Blobs are not
// copied: the content store gets links to those of the root. Containerd 1.6
// and 1.7 were tried. An image counts as there only after it was brought to
// the disk, which containerd itself does not do.
//
// An image that is removed from containerd comes back with the next boot. What
// others pulled stays.
//
// The package fetches nothing and runs nothing.
package containerd

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where things lie.
const (
	// Prefix is the layout's folder below the root.
	Prefix = "usr/lib/containerd/images"
	// Root is where containerd keeps what it writes.
	Root = "/var/lib/containerd"
	// Namespace is the one that ctr uses where none is named.
	Namespace = "default"
	// Unit is what containers have to be started after.
	Unit = "applbuild-containerd-images.service"

	program = "usr/lib/applbuild/containerd-images"
	units   = "usr/lib/systemd/system"
)

var (
	//go:embed files/containerd-images
	programText string
	//go:embed files/applbuild-containerd-images.service
	unitText string
)

// ErrImages matches complaints about images that do not go together.
var ErrImages = errors.New("images for containerd")

// An Image is an image with its complete names, such as
// "docker.io/library/debian:trixie" or "registry.example.com/web@sha256:…".
type Image struct {
	*containers.Image
	Names []string
}

// A Store says where images are put.
type Store struct {
	Prefix    string // folder below the root; "" is the constant Prefix
	Root      string // absolute path; "" is the constant Root
	Namespace string // of containerd; "" is the constant Namespace
}

func (s Store) withDefaults() Store {
	for value, otherwise := range map[*string]string{&s.Prefix: Prefix, &s.Root: Root, &s.Namespace: Namespace} {
		if *value == "" {
			*value = otherwise
		}
	}
	return s
}

// Write puts the images into t, and the program and unit that give them to
// containerd. An appliance with containerd that has no images needs these too,
// for a state that knows images of its earlier versions. blobs has the layers
// as they were fetched, by their Digest, and is read whenever the tree is
// written. The order of images counts for nothing. Errors match ErrImages
// where a layer is missing, a name is none, or two images have the same.
func (s Store) Write(t *tree.Tree, images []Image, blobs map[containers.Digest]io.ReaderAt) error {
	s = s.withDefaults()
	prefix := strings.Trim(s.Prefix, "/")
	for what, text := range map[string]string{"folder": s.Root, "namespace": s.Namespace} {
		if strings.Trim(text, plain) != "" || text == "/" {
			return fmt.Errorf("%w: %s %q: use letters, digits and / . _ - only", ErrImages, what, text)
		}
	}
	index, names, err := s.index(images)
	if err != nil {
		return err
	}
	fill := strings.NewReplacer("@PROGRAM@", "/"+program, "@STORE@", "/"+prefix, "@ROOT@", s.Root)
	err = errors.Join(
		t.WriteFile(path.Join(prefix, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644, 0, 0),
		t.WriteFile(path.Join(prefix, "index.json"), index, 0o644, 0, 0),
		t.WriteFile(path.Join(prefix, "names"), names, 0o644, 0, 0),
		t.WriteFile(path.Join(prefix, "layers"), layerList(images), 0o644, 0, 0),
		t.Mkdir(path.Join(prefix, "blobs/sha256"), 0o755, 0, 0),
		t.WriteFile(program, []byte(programText), 0o755, 0, 0),
		t.WriteFile(path.Join(units, Unit), []byte(fill.Replace(unitText)), 0o644, 0, 0),
		t.Symlink("../"+Unit, path.Join(units, "multi-user.target.wants", Unit)),
	)
	for _, img := range images {
		err = errors.Join(err, putBlobs(t, path.Join(prefix, "blobs/sha256"), img, blobs))
	}
	return err
}

// layerList has the digits of each layer's digest, a line each.
func layerList(images []Image) []byte {
	var lines []string
	for _, img := range images {
		for _, l := range img.Layers {
			lines = append(lines, l.Digest.Hex()+"\n")
		}
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), ""))
}

const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"

func putBlobs(t *tree.Tree, dir string, img Image, blobs map[containers.Digest]io.ReaderAt) error {
	err := errors.Join(
		t.WriteFile(path.Join(dir, img.Digest.Hex()), img.Manifest, 0o644, 0, 0),
		t.WriteFile(path.Join(dir, img.ID.Hex()), img.Config, 0o644, 0, 0),
	)
	for _, l := range img.Layers {
		blob, ok := blobs[l.Digest]
		if !ok {
			return fmt.Errorf("%w: %s: the layer %s is missing", ErrImages, img.Digest, l.Digest)
		}
		e := tree.Entry{Path: path.Join(dir, l.Digest.Hex()), Mode: 0o644}
		err = errors.Join(err, t.Put(tree.NewFile(e, blob, l.Size)))
	}
	return err
}

// A descriptor is an entry of an index, image-spec, image-index.md.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      containers.Digest `json:"digest"`
	Size        int               `json:"size"`
	Platform    platform          `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// index makes index.json, and the list of what is to be there: a line for each
// name, NAMESPACE NAME DIGEST.
func (s Store) index(images []Image) (index, names []byte, err error) {
	byName := map[string]descriptor{}
	var lines []string
	for _, img := range images {
		for _, name := range img.Names {
			if err := checkName(name); err != nil {
				return nil, nil, err
			}
			other, taken := byName[name]
			if taken && other.Digest != img.Digest {
				return nil, nil, fmt.Errorf("%w: the name %s stands for two images: give one of them another", ErrImages, name)
			}
			byName[name] = descriptor{
				MediaType: img.MediaType, Digest: img.Digest, Size: len(img.Manifest),
				Platform: platform{img.Platform.Architecture, img.Platform.OS, img.Platform.Variant},
				// The first one is containerd's own, the second one for all others.
				Annotations: map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
			}
			lines = append(lines, s.Namespace+" "+name+" "+string(img.Digest)+"\n")
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	list := []descriptor{}
	for _, line := range lines {
		list = append(list, byName[strings.Fields(line)[1]])
	}
	index, err = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIIndex, "manifests": list})
	return index, []byte(strings.Join(lines, "")), err
}

// checkName refuses what containerd would not know as an image's name.
func checkName(name string) error {
	host, rest, found := strings.Cut(name, "/")
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	if !found || host == "" || !strings.ContainsAny(last, ":@") || strings.Trim(name, plain+":@") != "" {
		return fmt.Errorf("%w: %q is no complete name: HOST/PATH:TAG or HOST/PATH@sha256:DIGEST is wanted", ErrImages, name)
	}
	return nil
}
