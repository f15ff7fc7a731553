package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
)

const (
	// eventStep is after how many bytes Progress hears of a layer.
	eventStep = 256 << 10
	// goodProgress is how many bytes make an attempt count as no failure, so
	// that a large layer comes through a line that often breaks.
	goodProgress = 64 << 10
	bufferSize   = 128 << 10
)

// Fetch brings all of a pinned image into Blobs that is not there: its index,
// manifest and config, and its layers, each once and several at a time. What
// broke off is continued, by this call or a later one. Of the pin, only
// Reference, Index and Manifest are looked at. Errors are as with Resolve.
func (c *Client) Fetch(ctx context.Context, pin *Pin) error {
	ref, err := ParseReference(pin.Reference)
	if err != nil {
		return err
	}
	if pin.Index != "" {
		ref.Digest = pin.Index
		if _, _, err := c.document(ctx, ref, string(pin.Index)); err != nil {
			return err
		}
	}
	ref.Digest = pin.Manifest
	manifest, mediaType, err := c.document(ctx, ref, string(pin.Manifest))
	if err != nil {
		return err
	}
	img, err := c.describe(ctx, ref, manifest, mediaType)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.parallel())
	seen := map[containers.Digest]bool{}
	for _, layer := range img.Layers {
		if seen[layer.Digest] {
			continue
		}
		seen[layer.Digest] = true
		group.Go(func() error { return c.layer(ctx, ref, layer) })
	}
	return group.Wait()
}

// Image reads an image out of a folder of blobs, which must have its manifest
// and config; the layers need not be there. Errors match blobs.ErrMiss,
// blobs.ErrCorrupt or containers.ErrFormat.
func Image(ctx context.Context, dir *blobs.Dir, manifest containers.Digest) (*containers.Image, error) {
	data, err := dir.ReadFile(ctx, manifest, containers.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("manifest %w", err)
	}
	ref, err := containers.ConfigOf(data, "")
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", manifest, err)
	}
	config, err := dir.ReadFile(ctx, ref.Digest, containers.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("config %w", err)
	}
	img, err := containers.Parse(data, "", config)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", manifest, err)
	}
	return img, nil
}

// layer brings a layer and tells of it.
func (c *Client) layer(ctx context.Context, ref Reference, layer containers.Layer) error {
	e := Event{Image: ref.Name(), Digest: layer.Digest, Bytes: layer.Size, Size: layer.Size, Done: true}
	e.Cached = c.Blobs.Has(layer.Digest, layer.Size)
	if !e.Cached {
		if err := c.blob(ctx, ref, "layer", layer.Digest, layer.Size); err != nil {
			return err
		}
	}
	c.tell(e)
	return nil
}

// blob brings a blob into Blobs where it is missing.
func (c *Client) blob(ctx context.Context, ref Reference, kind string, digest containers.Digest, size int64) error {
	return c.Blobs.Fill(ctx, digest, size, func(part *blobs.Partial) error {
		what := fmt.Sprintf("%s, %s %s", ref.Name(), kind, digest)
		return c.each(ctx, ref, what, func(v *view) error {
			d := &download{view: v, part: part, most: part.Offset(), size: size, digest: digest}
			d.event = Event{Image: ref.Name(), Registry: v.host(), Digest: digest, Size: size}
			return c.persist(ctx, d.event, func() (bool, error) { return d.attempt(ctx) })
		})
	})
}

// A download is one blob on its way from one registry.
type download struct {
	*view
	part   *blobs.Partial
	digest containers.Digest
	size   int64
	most   int64 // bytes that an attempt ended with: only more is progress
	event  Event
}

// attempt makes one request for what the blob lacks. gained says that it
// brought bytes that were never there before.
func (d *download) attempt(ctx context.Context) (gained bool, err error) {
	resumed := d.part.Offset() > 0
	if d.part.Offset() < d.size {
		header := http.Header{}
		if resumed {
			header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.part.Offset(), d.size-1))
		}
		err = d.get(ctx, "blobs", string(d.digest), header, 0, func(resp *http.Response) error {
			if resp.StatusCode == http.StatusOK && resumed {
				resumed = false // it sends all of it
				if err := d.part.Restart(); err != nil {
					return err
				}
			}
			return d.receive(resp)
		})
	}
	if err == nil {
		if verr := d.part.Verify(); verr != nil {
			_, detail, _ := strings.Cut(verr.Error(), blobs.ErrDigest.Error()+": ")
			err = d.wrong(detail, resumed)
		}
	}
	gained = d.part.Offset() >= d.most+goodProgress
	d.most = max(d.most, d.part.Offset())
	var f *failure
	if errors.As(err, &f) && (f.restart || f.err.Kind == ErrDigest) {
		if err := d.part.Restart(); err != nil {
			return false, err
		}
	}
	return gained, err
}

// receive copies an answer's body behind the bytes there are.
func (d *download) receive(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		start, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || start != d.part.Offset() || total >= 0 && total != d.size {
			return &failure{retry: true, restart: true, err: &Error{
				Image: d.image, Registry: d.host(), Kind: ErrUnreachable, Detail: "it answers with another range than asked for", Do: "name a mirror",
			}}
		}
	}
	n := resp.ContentLength
	if d.part.Offset()+n > d.size || n >= 0 && n != d.size && resp.StatusCode == http.StatusOK {
		return d.wrong(fmt.Sprintf("it has %d bytes, it should have %d", d.part.Offset()+n, d.size), false)
	}
	buf := make([]byte, bufferSize)
	told := d.part.Offset()
	for {
		n, err := resp.Body.Read(buf)
		if int64(n) > d.size-d.part.Offset() {
			return d.wrong(fmt.Sprintf("it has more than the %d bytes it should have", d.size), false)
		}
		if _, err := d.part.Write(buf[:n]); err != nil {
			return err
		}
		if d.part.Offset() >= told+eventStep {
			told = d.part.Offset()
			d.event.Bytes = told
			d.client.tell(d.event)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if d.part.Offset() < d.size {
		return &failure{retry: true, err: &Error{
			Image: d.image, Registry: d.host(), Kind: ErrUnreachable, Detail: fmt.Sprintf("it ends after %d of %d bytes", d.part.Offset(), d.size), Do: "try again: it continues there",
		}}
	}
	return nil
}

// contentRange reads Content-Range (RFC 9110, section 14.4). total is -1 where
// it is not told.
func contentRange(value string) (start, total int64, ok bool) {
	rest, isBytes := strings.CutPrefix(value, "bytes ")
	span, size, hasSize := strings.Cut(rest, "/")
	first, _, hasSpan := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !isBytes || !hasSize || !hasSpan || err != nil || start < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err == nil && total >= 0
}
