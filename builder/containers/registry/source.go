package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

// A Source reads what lies beside images in registries: signatures and bills of
// materials. It is an attached.Source, and takes the ways that the Client takes
// for images. What has a digest is kept in the Client's Blobs.
type Source struct{ Client *Client }

var _ attached.Source = Source{}

// Manifest implements attached.Source.
func (s Source) Manifest(ctx context.Context, repository, tagOrDigest string) ([]byte, string, error) {
	data, mediaType, err := s.Client.document(ctx, beside(repository, tagOrDigest), tagOrDigest)
	return data, mediaType, absent(err)
}

// Blob implements attached.Source.
func (s Source) Blob(ctx context.Context, repository string, digest containers.Digest, limit int64) ([]byte, error) {
	ref := beside(repository, string(digest))
	var data []byte
	err := s.Client.each(ctx, ref, ref.Name(), func(v *view) error {
		return s.Client.persist(ctx, Event{Image: ref.Name(), Registry: v.host(), Digest: digest}, func() (bool, error) {
			return false, v.get(ctx, "blobs", string(digest), http.Header{}, 0, func(resp *http.Response) (err error) {
				data, err = v.small(resp, limit)
				if err == nil && containers.DigestOf(data) != digest {
					err = v.wrong(fmt.Sprintf("it should be %s and is %s", digest, containers.DigestOf(data)), false)
				}
				return err
			})
		})
	})
	return data, absent(err)
}

// Referrers implements attached.Source. Registries of before distribution-spec
// v1.1 have the list under a tag, if at all.
func (s Source) Referrers(ctx context.Context, repository string, digest containers.Digest) ([]byte, error) {
	ref := beside(repository, string(digest))
	var data []byte
	err := s.Client.each(ctx, ref, "referrers of "+ref.Name(), func(v *view) error {
		return s.Client.persist(ctx, Event{Image: ref.Name(), Registry: v.host(), Digest: digest}, func() (bool, error) {
			header := http.Header{"Accept": {containers.TypeOCIIndex}}
			return false, v.get(ctx, "referrers", string(digest), header, s.Client.limit(), func(resp *http.Response) (err error) {
				data, err = v.small(resp, containers.MaxDocument)
				return err
			})
		})
	})
	if errors.Is(err, ErrNotFound) {
		data, _, err = s.Manifest(ctx, repository, strings.Replace(string(digest), ":", "-", 1))
	}
	return data, absent(err)
}

// small reads an answer's body of at most limit bytes.
func (v *view) small(resp *http.Response, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = v.wrong(fmt.Sprintf("it has more than %d bytes", limit), false)
	}
	return data, err
}

func beside(repository, tagOrDigest string) Reference {
	ref := Reference{Repository: repository}
	if digest, err := containers.ParseDigest(tagOrDigest); err == nil {
		ref.Digest = digest
	} else {
		ref.Tag = tagOrDigest
	}
	return ref
}

// absent makes an error of what is not there one that attached knows.
func absent(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", attached.ErrNotFound, err)
	}
	return err
}
