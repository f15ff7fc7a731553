package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
)

// A Pin says which image a reference meant when it was resolved: all that a
// lock needs.
type Pin struct {
	// Reference is the image's name as podman shows it: NAME:TAG, or NAME@DIGEST
	// where no tag was given.
	Reference string
	Index     containers.Digest // empty where the registry has a manifest at once
	Manifest  containers.Digest
	MediaType string // of the manifest
	Config    containers.Reference
	Platform  containers.Platform
	Layers    []containers.Layer // the lowest first
}

// Resolve asks which image a reference means for a platform, and keeps its
// index, manifest and config in Blobs. With the zero platform it takes an image
// as it is, and an index of one image. A reference with a digest is resolved
// without a request where Blobs has it all.
//
// Errors match ErrName, ErrNotFound, ErrUnauthorized, ErrPlatform, ErrDigest,
// ErrTimeout, ErrUnreachable, ErrPlainHTTP, ErrBlocked, ErrOffline, ErrConfig
// or containers.ErrFormat.
func (c *Client) Resolve(ctx context.Context, reference string, platform containers.Platform) (*Pin, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return nil, err
	}
	data, mediaType, err := c.document(ctx, ref, ref.identifier())
	if err != nil {
		return nil, err
	}
	pin := &Pin{Reference: ref.Name(), Manifest: containers.DigestOf(data)}
	var chosen containers.Entry
	entries, isIndex, err := containers.ParseIndex(data, mediaType)
	if err != nil {
		return nil, malformed(ref, err)
	}
	if isIndex {
		var ok bool
		if chosen, ok = containers.Choose(entries, platform); !ok {
			return nil, otherPlatform(ref, platform, containers.Platforms(entries))
		}
		pin.Index, pin.Manifest = pin.Manifest, chosen.Digest
		ref.Digest = chosen.Digest
		if data, mediaType, err = c.document(ctx, ref, string(chosen.Digest)); err != nil {
			return nil, err
		}
		if int64(len(data)) != chosen.Size {
			return nil, malformed(ref, fmt.Errorf("%w: the manifest has %d bytes, its index says %d", containers.ErrFormat, len(data), chosen.Size))
		}
	}
	ref.Digest = pin.Manifest
	img, err := c.describe(ctx, ref, data, mediaType)
	if err != nil {
		return nil, err
	}
	have := img.Platform
	if have.Variant == "" && have.OS == chosen.Platform.OS && have.Architecture == chosen.Platform.Architecture {
		have = chosen.Platform // a config often leaves the variant out
	}
	if platform != (containers.Platform{}) && !have.Fits(platform) {
		return nil, otherPlatform(ref, platform, have.String())
	}
	config, err := containers.ConfigOf(data, mediaType)
	if err != nil {
		return nil, malformed(ref, err)
	}
	pin.MediaType, pin.Config, pin.Platform, pin.Layers = img.MediaType, config, have, img.Layers
	return pin, nil
}

func malformed(ref Reference, err error) error {
	return &Error{Image: ref.Name(), Kind: containers.ErrFormat, Detail: strings.TrimPrefix(err.Error(), containers.ErrFormat.Error()+": "), Do: "have it built anew"}
}

func otherPlatform(ref Reference, want containers.Platform, have string) error {
	e := &Error{Image: ref.Name(), Kind: ErrPlatform, Detail: fmt.Sprintf("%v is wanted, it is for %s", want, have), Do: "name one of these as platform, or another image"}
	if have == "" {
		e.Detail = fmt.Sprintf("%v is wanted, it names no platform", want)
	}
	if want == (containers.Platform{}) {
		e.Detail, e.Do = "it is for "+have, "name one of these as platform"
	}
	return e
}

// describe fetches the config of a manifest and reads the two.
func (c *Client) describe(ctx context.Context, ref Reference, manifest []byte, mediaType string) (*containers.Image, error) {
	config, err := containers.ConfigOf(manifest, mediaType)
	if err != nil {
		return nil, malformed(ref, err)
	}
	var data []byte
	for range 2 { // the one in Blobs may be damaged, and is removed then
		if err := c.blob(ctx, ref, "config", config.Digest, config.Size); err != nil {
			return nil, err
		}
		data, err = c.Blobs.ReadFile(ctx, config.Digest, containers.MaxDocument)
		if !errors.Is(err, blobs.ErrCorrupt) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	img, err := containers.Parse(manifest, mediaType, data)
	if err != nil {
		return nil, malformed(ref, err)
	}
	return img, nil
}

// document brings a manifest or an index, by digest or tag, out of Blobs or
// into it.
func (c *Client) document(ctx context.Context, ref Reference, id string) (data []byte, mediaType string, err error) {
	want, err := containers.ParseDigest(id)
	if err != nil {
		want = ""
	}
	if want != "" {
		data, err := c.Blobs.ReadFile(ctx, want, containers.MaxDocument)
		if err == nil {
			return data, "", nil
		}
		if !errors.Is(err, blobs.ErrMiss) && !errors.Is(err, blobs.ErrCorrupt) {
			return nil, "", err
		}
	}
	err = c.each(ctx, ref, ref.Name(), func(v *view) error {
		return c.persist(ctx, Event{Image: ref.Name(), Registry: v.host(), Digest: want}, func() (bool, error) {
			data, mediaType, err = v.manifest(ctx, id, want)
			return false, err
		})
	})
	if err != nil {
		return nil, "", err
	}
	if err := c.Blobs.Put(ctx, containers.DigestOf(data), int64(len(data)), bytes.NewReader(data)); err != nil {
		return nil, "", err
	}
	return data, mediaType, nil
}

// manifest makes one request for a manifest or an index.
func (v *view) manifest(ctx context.Context, id string, want containers.Digest) (data []byte, mediaType string, err error) {
	header := http.Header{"Accept": {strings.Join([]string{
		containers.TypeOCIIndex, containers.TypeDockerList, containers.TypeOCIManifest, containers.TypeDockerManifest,
	}, ", ")}}
	err = v.get(ctx, "manifests", id, header, v.client.limit(), func(resp *http.Response) error {
		data, err = io.ReadAll(io.LimitReader(resp.Body, containers.MaxDocument+1))
		if err != nil {
			return err
		}
		if len(data) > containers.MaxDocument {
			return v.wrong(fmt.Sprintf("the manifest has more than %d bytes", containers.MaxDocument), false)
		}
		if want == "" {
			// The registry says itself what a tag means: this finds an answer
			// that was damaged or cut off on its way.
			want, _ = containers.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
		}
		if got := containers.DigestOf(data); want != "" && got != want {
			return v.wrong(fmt.Sprintf("the manifest should be %s and is %s", want, got), false)
		}
		mediaType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		mediaType = strings.TrimSpace(mediaType)
		return nil
	})
	return data, mediaType, err
}

// wrong is the failure of an answer that is not what was promised.
func (v *view) wrong(detail string, resumed bool) *failure {
	return &failure{retry: true, resumed: resumed, err: &Error{
		Image: v.image, Registry: v.host(), Kind: ErrDigest, Detail: detail,
		Do: "the image is damaged there, or a proxy damages it: push it again, or name a mirror",
	}}
}

// each hands the repositories that may have an image to use, the mirrors first,
// until it works.
func (c *Client) each(ctx context.Context, ref Reference, what string, use func(*view) error) error {
	if c.Offline {
		return &Error{Image: what, Kind: ErrOffline, Do: "build once with a network"}
	}
	ends, err := c.Mirrors.endpoints(ref)
	if err != nil {
		return err
	}
	var before []string
	for _, end := range ends {
		v, err := c.at(what, end)
		if err != nil {
			return err
		}
		if end.mirror && v.isDead() {
			continue
		}
		err = use(v)
		var e *Error
		if err == nil || ctx.Err() != nil || !errors.As(err, &e) {
			return err
		}
		if !end.mirror {
			if len(before) > 0 {
				e.Detail = strings.TrimPrefix(fmt.Sprintf("%s (before it, %s)", e.Detail, strings.Join(before, ", ")), " ")
			}
			return err
		}
		v.bury(e.Kind)
		before = append(before, fmt.Sprintf("mirror %s: %v", v.host(), e.Kind))
	}
	return nil
}
