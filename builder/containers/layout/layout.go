// Package layout reads and writes container images as files: an OCI image
// layout (image-spec v1.1, image-layout.md), a folder or an archive of it (an
// oci-archive), and what `docker save` writes (a docker-archive: Docker's
// "Image Specification v1.2", "Combined Image JSON + Filesystem Changeset
// Format"), or both in one file as newer dockers do. Archives may be compressed
// by gzip or zstd. What a file is, its contents say, not its name.
//
// What is read is hostile: sizes are bounded before anything is allocated, no
// name leads out of the folder or the archive, and no blob is handed on whose
// bytes are not those of its digest. Layers are not unpacked here.
package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
)

// Errors that can be matched; containers.ErrFormat is a further one.
var (
	// ErrNotFound says that there is no image of that name or platform.
	ErrNotFound = errors.New("no such image")
	// ErrChoice says that there are several images to choose from.
	ErrChoice = errors.New("more than one image")
)

// Annotations of an index that name an image.
const (
	annotationName       = "org.opencontainers.image.ref.name"
	annotationContainerd = "io.containerd.image.name"
)

// Names in a layout and in a docker-archive.
const (
	fileLayout   = "oci-layout"
	fileIndex    = "index.json"
	fileManifest = "manifest.json"
	blobFolder   = "blobs/sha256/"
)

// maxImages bounds how many images a file may hold.
const maxImages = 1024

// A Found is an image that a file holds.
type Found struct {
	Names    []string // as the file has them; may be none
	Platform containers.Platform
	Image    *containers.Image

	docker *dockerEntry // of a docker-archive
}

func (f Found) String() string {
	name := "an image without a name"
	if len(f.Names) > 0 {
		name = f.Names[0]
	}
	return fmt.Sprintf("%s (%s)", name, f.Platform)
}

// Blobs is where images are imported to. Put takes a blob of that digest and
// size in bytes; it need not read all of r when it has the blob.
type Blobs interface {
	Put(ctx context.Context, digest containers.Digest, size int64, r io.Reader) error
}

// A File is a layout or an archive that is open for reading.
type File struct {
	path    string
	files   files
	images  []Found
	entries []descriptor // of a layout's index.json; nil for a docker-archive
}

// files is what a layout folder and an archive have in common.
type files interface {
	// open opens a regular file by its slash-separated name and says how many
	// bytes it has. The error of a name that isn't there matches fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// Open opens a layout folder or an archive and reads which images it holds.
// A compressed archive is unpacked into a file without a name in the folder
// scratch, which needs room for it. The caller closes the File. Errors match
// containers.ErrFormat where what is read is at fault.
func Open(ctx context.Context, path, scratch string) (*File, error) {
	f, err := open(ctx, path, scratch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func open(ctx context.Context, path, scratch string) (*File, error) {
	in, err := openFiles(ctx, path, scratch)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, files: in}
	if err := f.read(ctx); err != nil {
		in.Close()
		return nil, err
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.files.Close() }

// read finds the images. Where a file is both a layout and a docker-archive it
// is read as the layout, whose manifests are not made up.
func (f *File) read(ctx context.Context) error {
	layout, docker := f.has(fileLayout), f.has(fileManifest)
	var err error
	switch {
	case layout && f.has(fileIndex):
		f.images, err = f.readLayout()
	case docker:
		f.images, err = f.readDocker(ctx)
	default:
		return fmt.Errorf("%w: neither an OCI layout (it has no %s and %s) nor a docker-archive (it has no %s)",
			containers.ErrFormat, fileLayout, fileIndex, fileManifest)
	}
	if err != nil {
		return err
	}
	if len(f.images) == 0 {
		return fmt.Errorf("%w: it holds no image", containers.ErrFormat)
	}
	slices.SortStableFunc(f.images, func(a, b Found) int {
		return cmp.Or(strings.Compare(strings.Join(a.Names, " "), strings.Join(b.Names, " ")), strings.Compare(a.Platform.String(), b.Platform.String()))
	})
	return nil
}

// Images lists the images, sorted by name and platform.
func (f *File) Images() []Found { return slices.Clone(f.images) }

// Choose returns the one image of that name, any where it is empty, that fits
// the platform. Names are compared as docker reads them: web is
// docker.io/library/web:latest. Errors match ErrNotFound or ErrChoice and name
// what there is.
func (f *File) Choose(platform containers.Platform, name string) (Found, error) {
	var named, fit []Found
	for _, found := range f.images {
		if name == "" || slices.ContainsFunc(found.Names, func(n string) bool { return sameName(n, name) }) {
			named = append(named, found)
		}
	}
	for _, found := range named {
		if found.Platform.Fits(platform) {
			fit = append(fit, found)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return Found{}, fmt.Errorf("%s: %w for %s: %s: name one of them", f.path, ErrChoice, platform, list(fit))
	case len(named) > 0:
		return Found{}, fmt.Errorf("%s: %w for %s: it holds %s", f.path, ErrNotFound, platform, list(named))
	}
	return Found{}, fmt.Errorf("%s: %w as %s: it holds %s", f.path, ErrNotFound, name, list(f.images))
}

// list names images, the first few of them.
func list(images []Found) string {
	const most = 8
	var texts []string
	for _, found := range images[:min(len(images), most)] {
		texts = append(texts, found.String())
	}
	if more := len(images) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// sameName compares names of images. One that is only a tag, as skopeo writes
// them, is the tag of what is wanted.
func sameName(name, wanted string) bool {
	if fullName(name) == fullName(wanted) {
		return true
	}
	_, tag, tagged := cutTag(wanted)
	return tagged && name == tag
}

// fullName is a reference with all that docker lets people leave out.
func fullName(name string) string {
	host, rest, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = "docker.io", name
	}
	if host == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	if _, _, tagged := cutTag(rest); !tagged && !strings.Contains(rest, "@") {
		rest += ":latest"
	}
	return host + "/" + rest
}

// cutTag cuts a reference before its tag.
func cutTag(name string) (before, tag string, found bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.ContainsAny(name[i:], "/@") || strings.Contains(name, "@") {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// Import puts an image's layers, config and manifest, in this order, into
// blobs. Each is checked against its digest while it is read; an error matches
// containers.ErrFormat where it is another, or cut short. Found.Image is then
// the image.
func (f *File) Import(ctx context.Context, found Found, into Blobs) error {
	if err := f.importImage(ctx, found, into); err != nil {
		return fmt.Errorf("%s: %s: %w", f.path, found, err)
	}
	return nil
}

func (f *File) importImage(ctx context.Context, found Found, into Blobs) error {
	img := found.Image
	for i, layer := range img.Layers {
		var err error
		if found.docker != nil {
			err = f.importDockerLayer(ctx, found.docker.Layers[i], layer, into)
		} else {
			err = f.importBlob(ctx, blobName(layer.Digest), layer.Digest, layer.Size, into)
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	if err := into.Put(ctx, img.ID, int64(len(img.Config)), strings.NewReader(string(img.Config))); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := into.Put(ctx, img.Digest, int64(len(img.Manifest)), strings.NewReader(string(img.Manifest))); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// importBlob puts a file that must have that digest and size.
func (f *File) importBlob(ctx context.Context, name string, digest containers.Digest, size int64, into Blobs) error {
	in, has, err := f.files.open(name)
	if err != nil {
		return missing(name, err)
	}
	defer in.Close()
	if has != size {
		return fmt.Errorf("%w: %s has %d bytes, the image says %d", containers.ErrFormat, digest, has, size)
	}
	return into.Put(ctx, digest, size, newVerifier(in, digest))
}

func blobName(digest containers.Digest) string { return blobFolder + digest.Hex() }
