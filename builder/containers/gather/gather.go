// Package gather brings the container images that an appliance is to have into
// a folder of blobs: out of registries and out of files, pinned by digest and
// verified as asked.
//
// Pin says which image is meant and judges its signatures; Fetch brings what is
// missing of it. Between the two lies the lock. Unpack makes a layer's archive
// out of its blob. The package knows no recipe and keeps no state but blobs.
package gather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
	"github.com/applbuild/applbuild/builder/containers/blobs"
	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/registry"
	"github.com/applbuild/applbuild/builder/containers/signature"
)

// A Wanted is an image that an appliance is to have.
type Wanted struct {
	// Ref names an image of a registry; empty where Layout is set.
	Ref string
	// Layout is the path of an image layout or an archive.
	Layout string
	// Platform is what the image is for.
	Platform containers.Platform
	// Verifier says how the image is to be signed; nil asks for nothing.
	Verifier *signature.Verifier
}

// A Pin says which image was meant.
type Pin struct {
	Manifest containers.Digest
	Index    containers.Digest // empty where the image was in none
	SignedBy []string          // fingerprints of keys, sorted
	SBOM     *SBOM             // nil where none is attached
}

// An SBOM is a bill of materials that is attached to an image.
type SBOM struct {
	MediaType string
	Digest    containers.Digest
	Size      int64 // in bytes
}

// A Gatherer brings images.
type Gatherer struct {
	Blobs  *blobs.Dir
	Client *registry.Client // its Blobs are the Gatherer's
	// Scratch is a folder for compressed archives that are read.
	Scratch string
}

// Pin finds out which image is meant now, verifies its signatures and notes the
// bill of materials that is attached to it. The image's manifest and config are
// in Blobs then, those of a file with all its layers. Errors are those of the
// packages registry, layout and signature.
func (g *Gatherer) Pin(ctx context.Context, w Wanted) (*Pin, error) {
	if w.Layout != "" {
		return g.pinFile(ctx, w)
	}
	found, err := g.Client.Resolve(ctx, w.Ref, w.Platform)
	if err != nil {
		return nil, err
	}
	pin := &Pin{Manifest: found.Manifest, Index: found.Index}
	source := registry.Source{Client: g.Client}
	if err := verify(ctx, w, source, signature.Image{Reference: found.Reference, Digest: pin.Manifest, Index: pin.Index}, pin); err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(w.Ref)
	if err != nil {
		return nil, err
	}
	return pin, g.attach(ctx, attached.Repository{Source: source, Name: ref.Repository}, pin)
}

// pinFile brings an image of a file.
func (g *Gatherer) pinFile(ctx context.Context, w Wanted) (*Pin, error) {
	file, err := layout.Open(ctx, w.Layout, g.Scratch)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found, err := file.Choose(w.Platform, "")
	if err != nil {
		return nil, err
	}
	pin := &Pin{Manifest: found.Image.Digest}
	if w.Verifier != nil {
		path, err := filepath.Abs(w.Layout)
		if err != nil {
			return nil, err
		}
		img := signature.Image{Transport: file.Transport(), Path: path, Digest: pin.Manifest}
		if len(found.Names) > 0 {
			img.Reference = found.Names[0]
		}
		if err := verify(ctx, w, file, img, pin); err != nil {
			return nil, err
		}
	}
	if err := file.Import(ctx, found, g.Blobs); err != nil {
		return nil, err
	}
	return pin, g.attach(ctx, attached.Repository{Source: file}, pin)
}

func verify(ctx context.Context, w Wanted, source attached.Source, img signature.Image, pin *Pin) error {
	if w.Verifier == nil {
		return nil
	}
	report, err := w.Verifier.Verify(ctx, source, img)
	if err != nil {
		return err
	}
	pin.SignedBy = report.Keys()
	return nil
}

// attach keeps the bill of materials of an image beside it.
func (g *Gatherer) attach(ctx context.Context, repository attached.Repository, pin *Pin) error {
	sbom, err := attached.FindSBOM(ctx, repository, pin.Manifest, pin.Index)
	if errors.Is(err, attached.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bill of materials of %s: %w", pin.Manifest, err)
	}
	pin.SBOM = &SBOM{MediaType: sbom.MediaType, Digest: sbom.Digest, Size: int64(len(sbom.Data))}
	return g.Blobs.Put(ctx, sbom.Digest, pin.SBOM.Size, bytes.NewReader(sbom.Data))
}

// Has says whether all of a pinned image is in Blobs.
func (g *Gatherer) Has(ctx context.Context, pin *Pin) bool {
	img, err := g.Image(ctx, pin)
	if err != nil || pin.Index != "" && !g.Blobs.Has(pin.Index, -1) {
		return false
	}
	for _, l := range img.Layers {
		if !g.Blobs.Has(l.Digest, l.Size) {
			return false
		}
	}
	return pin.SBOM == nil || g.Blobs.Has(pin.SBOM.Digest, pin.SBOM.Size)
}

// Fetch brings what is missing of a pinned image. The bill of materials is
// looked for anew where it is missing, and must be the one that was pinned.
func (g *Gatherer) Fetch(ctx context.Context, w Wanted, pin *Pin) error {
	if w.Layout != "" {
		return nil // Pin has brought it
	}
	ref, err := registry.ParseReference(w.Ref)
	if err != nil {
		return err
	}
	named := registry.Pin{Reference: ref.Name(), Index: pin.Index, Manifest: pin.Manifest, Platform: w.Platform}
	if err := g.Client.Fetch(ctx, &named); err != nil {
		return err
	}
	if pin.SBOM == nil || g.Blobs.Has(pin.SBOM.Digest, pin.SBOM.Size) {
		return nil
	}
	again := *pin
	repository := attached.Repository{Source: registry.Source{Client: g.Client}, Name: ref.Repository}
	if err := g.attach(ctx, repository, &again); err != nil {
		return err
	}
	if again.SBOM == nil || again.SBOM.Digest != pin.SBOM.Digest {
		return fmt.Errorf("%s: the bill of materials attached to it is another one than when the lock was made: run `applbuild lock --update RECIPE %s`", w.Ref, w.Ref)
	}
	return nil
}

// Image reads a pinned image out of Blobs.
func (g *Gatherer) Image(ctx context.Context, pin *Pin) (*containers.Image, error) {
	return registry.Image(ctx, g.Blobs, pin.Manifest)
}

// Unpack writes the archive of a layer that is in Blobs, uncompressed and
// verified, and the records by which the same archive is made again.
func (g *Gatherer) Unpack(ctx context.Context, l containers.Layer, archive, split io.Writer) (layer.Info, error) {
	f, err := g.Blobs.Open(ctx, l.Digest)
	if err != nil {
		return layer.Info{}, err
	}
	defer f.Close()
	return layer.Unpack(ctx, f, l, archive, split, layer.DefaultLimits())
}
