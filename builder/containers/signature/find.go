package signature

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

// Media types and annotations of cosign's.
const (
	typePayload         = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeSignatures      = "application/vnd.dev.cosign.artifact.sig.v1+json"
	typeBundle          = "application/vnd.dev.sigstore.bundle" // followed by .v0.3+json or +json;version=0.2
	annotationSignature = "dev.cosignproject.cosign/signature"
	annotationPredicate = "dev.sigstore.bundle.predicateType"
)

// Bounds of what is read, in bytes.
const (
	maxPayload = 64 << 10
	maxBundle  = 1 << 20
)

// A candidate is one signature that was found beside the image. One of payload
// and bundle is set.
type candidate struct {
	source    string
	digest    containers.Digest // what it should be about
	payload   []byte
	signature []byte // of payload
	bundle    *bundle
	manifest  []byte // of digest; what a bundle may sign as it is
	broken    error  // why there is none of these
}

// tagged looks at the tag that cosign keeps the signatures of a digest under.
func (s *search) tagged(ctx context.Context, digest containers.Digest) error {
	tag := attached.Tag(digest, "sig")
	d, err := s.repository.ByTag(ctx, tag)
	if errors.Is(err, attached.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.covers(ctx, digest); err != nil {
		return err
	}
	return s.payloads(ctx, "tag "+tag, digest, d)
}

// referring looks at the manifests whose subject is the digest.
func (s *search) referring(ctx context.Context, digest containers.Digest) error {
	list, err := s.repository.Referrers(ctx, digest)
	if err != nil {
		return err
	}
	// Attestations are bundles too. They say so in the list, mostly, and need not be fetched.
	list = slices.DeleteFunc(list, func(d attached.Descriptor) bool {
		predicate := d.Annotations[annotationPredicate]
		return d.ArtifactType != typeSignatures && !strings.HasPrefix(d.ArtifactType, typeBundle) || predicate != "" && predicate != predicateSign
	})
	if len(list) == 0 {
		return nil
	}
	if err := s.covers(ctx, digest); err != nil {
		return err
	}
	for _, referrer := range list {
		if len(s.pending) == 0 {
			return nil
		}
		d, err := s.repository.ByDigest(ctx, referrer.Digest)
		if errors.Is(err, attached.ErrNotFound) {
			continue // deleted, and listed still
		}
		if err != nil {
			return err
		}
		source := "referrer " + string(referrer.Digest)
		if referrer.ArtifactType == typeSignatures {
			err = s.payloads(ctx, source, digest, d)
		} else {
			err = s.bundles(ctx, source, digest, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// covers makes sure that what is signed is the image: its manifest, or an
// index that names the manifest.
func (s *search) covers(ctx context.Context, digest containers.Digest) error {
	if digest == s.img.Digest {
		return nil
	}
	index, err := s.repository.ByDigest(ctx, digest)
	if err != nil {
		return err
	}
	for _, e := range index.Entries {
		if index.Index && e.Digest == s.img.Digest {
			return nil
		}
	}
	return fmt.Errorf("%w: the index %s, whose signature is there, does not name this image", ErrRejected, digest)
}

// payloads offers the signatures that are a manifest's layers.
func (s *search) payloads(ctx context.Context, source string, digest containers.Digest, d *attached.Document) error {
	for _, layer := range d.Entries {
		if layer.MediaType != typePayload {
			continue
		}
		if len(s.pending) == 0 {
			return nil
		}
		c := candidate{source: source, digest: digest}
		var err error
		if c.payload, err = s.repository.Blob(ctx, layer, maxPayload); err != nil && !told(err) {
			return err
		}
		c.broken = err
		if err == nil {
			c.signature, c.broken = base64.StdEncoding.DecodeString(layer.Annotations[annotationSignature])
		}
		s.offer(c)
	}
	return nil
}

// bundles offers the bundles that are a manifest's layers.
func (s *search) bundles(ctx context.Context, source string, digest containers.Digest, d *attached.Document) error {
	for _, layer := range d.Entries {
		if !strings.HasPrefix(layer.MediaType, typeBundle) {
			continue
		}
		c := candidate{source: source, digest: digest}
		data, err := s.repository.Blob(ctx, layer, maxBundle)
		if err != nil && !told(err) {
			return err
		}
		c.broken = err
		if err == nil {
			c.bundle, c.broken = parseBundle(data)
		}
		if c.bundle != nil && c.bundle.envelope == nil {
			if c.manifest, err = s.repository.Manifest(ctx, digest); err != nil {
				return err
			}
		}
		s.offer(c)
	}
	return nil
}

// told says whether an error is about one signature alone and so no reason to
// end the search.
func told(err error) bool {
	return errors.Is(err, attached.ErrNotFound) || errors.Is(err, attached.ErrFormat)
}

// judge returns the signature if it satisfies a requirement, or why it does not.
func (s *search) judge(c candidate, r *requirement) (*Signature, *failure) {
	if c.broken != nil {
		return nil, &failure{rankMalformed, fmt.Sprintf("is unreadable (%v)", c.broken)}
	}
	if c.bundle != nil {
		return s.judgeBundle(c, r)
	}
	k := signer(r.keys, c.payload, c.signature)
	if k == nil {
		return nil, &failure{rankOtherKey, "is signed by another key"}
	}
	p, err := parsePayload(c.payload)
	if err != nil {
		return nil, &failure{rankMalformed, fmt.Sprintf("is no signature of an image (%v)", err)}
	}
	if p.digest != c.digest {
		return nil, &failure{rankOtherDigest, fmt.Sprintf("is a signature of %s and not of %s", p.digest, c.digest)}
	}
	if err := r.identity.match(s.reference, p.reference); err != nil {
		return nil, &failure{rankOtherName, fmt.Sprintf("is a signature of the name %q: %v", p.reference, err)}
	}
	return &Signature{Key: k.fingerprint, Digest: c.digest, Name: p.reference, Source: c.source}, nil
}

func (s *search) judgeBundle(c candidate, r *requirement) (*Signature, *failure) {
	var k *key
	if e := c.bundle.envelope; e != nil {
		k = e.signer(r.keys)
	} else {
		k = signer(r.keys, c.manifest, c.bundle.signature)
	}
	if k == nil {
		return nil, &failure{rankOtherKey, "is signed by another key"}
	}
	if c.bundle.envelope != nil {
		if err := c.bundle.envelope.about(c.digest); err != nil {
			return nil, &failure{rankOtherDigest, err.Error()}
		}
	}
	if r.identity.kind != matchKeys {
		return nil, &failure{rankOtherName, "is a bundle, which names no repository as the policy asks: verify with the key alone, or have it signed with cosign sign --new-bundle-format=false"}
	}
	return &Signature{Key: k.fingerprint, Digest: c.digest, Source: c.source}, nil
}
