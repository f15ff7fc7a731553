package builder

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
	"github.com/applbuild/applbuild/builder/containers/gather"
	"github.com/applbuild/applbuild/builder/containers/registry"
	"github.com/applbuild/applbuild/builder/containers/signature"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/recipes"
)

// blobDir is the folder of the store that container images lie in.
const blobDir = "containers"

// stageContainers is what bringing container images is called.
const stageContainers = "containers"

// RegistrySettings are what a build takes from its surroundings to pull
// container images. All may be left out.
type RegistrySettings struct {
	Keychain *registry.Keychain // credentials
	Mirrors  *registry.Mirrors  // registries.conf
	Stall    time.Duration      // how long a registry may be silent; 30 s where zero
}

// containerImage is a container image of the recipe.
type containerImage struct {
	*recipes.ContainerImage
	path   string // in the recipe
	wanted gather.Wanted
	asked  string // digest of how it is to be signed; empty where it need not be
	pin    *gather.Pin
	image  *containers.Image // once it is in the store
}

// name is what people call the image: its reference, or its file.
func (c *containerImage) name() string {
	if c.Layout != "" {
		return c.LayoutFile
	}
	return c.wanted.Ref
}

// containerImages are those of the recipe, not pinned yet. Key files and
// policies are read.
func containerImages(r *recipes.Recipe) ([]*containerImage, error) {
	if r.Containers == nil {
		return nil, nil
	}
	var list []*containerImage
	for i := range r.Containers.Images {
		image := &containerImage{ContainerImage: &r.Containers.Images[i], path: fmt.Sprintf("containers.images[%d]", i)}
		platform, err := containers.ParsePlatform(image.Platform)
		if err != nil {
			return nil, r.Problem(image.path+".platform", err.Error(), "", err)
		}
		image.wanted = gather.Wanted{Ref: image.Ref.String(), Layout: image.LayoutFile, Platform: platform}
		if err := image.readVerify(); err != nil {
			return nil, r.Problem(image.path, err.Error(), "", err)
		}
		list = append(list, image)
	}
	return list, nil
}

// readVerify reads how the image is to be signed.
func (c *containerImage) readVerify() error {
	v := c.Verify // what holds for all is in it, and none is nil
	if v == nil {
		return nil
	}
	hash := sha256.New()
	var keys [][]byte
	for _, name := range v.KeyFiles {
		key, err := readSmall(name, maxKey)
		if err != nil {
			return err
		}
		if _, err := signature.NewKeys(key); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sum := sha256.Sum256(key)
		hash.Write(append([]byte("key "), sum[:]...))
		keys = append(keys, key)
	}
	var err error
	if v.PolicyFile != "" {
		var policy []byte
		if policy, err = readSmall(v.PolicyFile, maxPolicy); err != nil {
			return err
		}
		hash.Write(append([]byte("policy "), policy...))
		c.wanted.Verifier, err = signature.NewPolicy(policy, signature.KeyReader(filepath.Dir(v.PolicyFile)))
	} else {
		c.wanted.Verifier, err = signature.NewKeys(keys...)
	}
	c.asked = hex.EncodeToString(hash.Sum(nil))
	return err
}

// Bounds of files that say how images are to be signed, in bytes.
const (
	maxKey    = 64 << 10
	maxPolicy = 1 << 20
)

// readSmall reads a file of at most so many bytes.
func readSmall(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, most)
	}
	return os.ReadFile(name)
}

// gatherer opens the folder of blobs and makes what pulls images for a recipe.
// The progress of fetching goes to the observer.
func (b *Builder) gatherer(r *recipes.Recipe) (*gather.Gatherer, error) {
	dir, err := blobs.New(b.store.Path(blobDir))
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy, transport.DisableCompression = b.settings.Proxy, true
	insecure := transport.Clone() // for hosts that registries.conf says this of
	insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	client := &registry.Client{
		Blobs: dir, Transport: transport, Insecure: insecure, Mirrors: b.settings.Registries.Mirrors,
		PlainHTTP: r.Containers.PlainHTTP, Offline: b.settings.Offline, Stall: b.settings.Registries.Stall,
		Progress: (&pullProgress{observer: b.settings.Observer}).event,
	}
	if b.settings.Registries.Keychain != nil {
		client.Keychain = b.settings.Registries.Keychain
	}
	return &gather.Gatherer{Blobs: dir, Client: client, Scratch: b.store.Path("tmp")}, nil
}

// pullProgress adds up the layers that are fetched.
type pullProgress struct {
	observer Observer

	mu    sync.Mutex
	bytes map[containers.Digest][2]int64 // that are there, and in all
}

func (p *pullProgress) event(e registry.Event) {
	if e.Err != nil {
		p.observer.Notice(fmt.Sprintf("%v: trying again in %s", e.Err, e.Wait))
	}
	if e.Cached || e.Size == 0 {
		return
	}
	p.mu.Lock()
	if p.bytes == nil {
		p.bytes = map[containers.Digest][2]int64{}
	}
	p.bytes[e.Digest] = [2]int64{e.Bytes, e.Size}
	var done, total int64
	for _, n := range p.bytes {
		done, total = done+n[0], total+n[1]
	}
	p.mu.Unlock()
	p.observer.StageProgress(stageContainers, done, total)
}

// lockedImages says, for each image, what it was pinned to by the lock. What is in
// files is not in the lock and is pinned by what it is now. missing are images
// of registries that the lock does not have, or has verified otherwise.
func (b *Builder) lockedImages(images []*containerImage, l *lock.Lock) (missing []*containerImage) {
	for _, image := range images {
		if image.Layout != "" {
			continue
		}
		locked, ok := l.Container(image.wanted.Ref, image.wanted.Platform.String())
		if !ok || locked.Verify != image.asked {
			missing = append(missing, image)
			continue
		}
		image.pin = &gather.Pin{Manifest: containers.Digest(locked.Digest), Index: containers.Digest(locked.Index), SignedBy: locked.SignedBy}
		if s := locked.SBOM; s != nil {
			image.pin.SBOM = &gather.SBOM{MediaType: s.MediaType, Digest: containers.Digest(s.Digest), Size: s.Size}
		}
	}
	return missing
}

// readImages finds out which images the build lays down, brings those that come
// in files, and reads what else the recipe has for containers.
func (img *build) readImages(ctx context.Context) (err error) {
	if img.runFiles, err = readRunFiles(img.recipe.Containers); err != nil {
		return img.recipe.Problem("containers", err.Error(), "", err)
	}
	if img.images, err = containerImages(img.recipe); err != nil || len(img.images) == 0 {
		return err
	}
	if img.gatherer, err = img.Builder.gatherer(img.recipe); err != nil {
		return err
	}
	if missing := img.lockedImages(img.images, img.lock); len(missing) > 0 {
		return fmt.Errorf("%s: the lock has no image %s: run `applbuild lock`", img.recipe.Position(missing[0].path), missing[0].wanted.Ref)
	}
	for _, image := range img.images {
		if image.Layout == "" {
			continue
		}
		if image.pin, err = img.gatherer.Pin(ctx, image.wanted); err != nil {
			return img.recipe.Problem(image.path, err.Error(), "", err)
		}
	}
	return nil
}

// fetchImages brings what is missing of the images.
func (img *build) fetchImages(ctx context.Context) error {
	if len(img.images) == 0 || img.store.Has(img.keys.root) {
		return nil
	}
	return img.stage(stageContainers, func() (cached bool, err error) {
		return pullImages(ctx, img.recipe, img.gatherer, img.images)
	})
}

// pullImages brings what is missing of pinned images. cached says that nothing was.
func pullImages(ctx context.Context, recipe *recipes.Recipe, g *gather.Gatherer, images []*containerImage) (cached bool, err error) {
	cached = true
	for _, image := range images {
		if image.Layout != "" || g.Has(ctx, image.pin) {
			continue
		}
		cached = false
		if err := g.Fetch(ctx, image.wanted, image.pin); err != nil {
			return false, recipe.Problem(image.path, err.Error(), "", err)
		}
	}
	return cached, nil
}

// fetchLocked brings the images that a lock which fits the recipe names.
func (b *Builder) fetchLocked(ctx context.Context, recipe *recipes.Recipe, l *lock.Lock) error {
	images, err := containerImages(recipe)
	if err != nil || len(images) == 0 {
		return err
	}
	g, err := b.gatherer(recipe)
	if err != nil {
		return err
	}
	b.lockedImages(images, l)
	return b.stage(stageContainers, func() (bool, error) { return pullImages(ctx, recipe, g, images) })
}

// imageKey is what a stage's key has of an image.
type imageKey struct {
	Name, Manifest, Index string
	SignedBy              []string
	SBOM                  string
}

// containerKey is what the key of the root has of its containers.
type containerKey struct {
	Recipe *recipes.Containers
	Images []imageKey
	Files  []runFile
}

func (img *build) containerKey() *containerKey {
	c := img.recipe.Containers
	if c == nil {
		return nil
	}
	key := &containerKey{Recipe: c, Files: img.runFiles}
	for _, image := range img.images {
		k := imageKey{Name: image.Reference().String(), Manifest: string(image.pin.Manifest), Index: string(image.pin.Index), SignedBy: image.pin.SignedBy}
		if image.pin.SBOM != nil {
			k.SBOM = string(image.pin.SBOM.Digest)
		}
		key.Images = append(key.Images, k)
	}
	return key
}

// damagedBlob makes an error about a blob that was found damaged one that the
// build is repeated for: the blob has been removed.
func damagedBlob(err error) error {
	if errors.Is(err, blobs.ErrCorrupt) {
		return discarded{err}
	}
	return err
}

// discarded is an error about a blob that matches store.ErrCorrupt, too: both
// say the same.
type discarded struct{ error }

func (d discarded) Is(target error) bool { return target == store.ErrCorrupt }

func (d discarded) Unwrap() error { return d.error }
