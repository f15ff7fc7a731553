// Package signature says whether a container image is signed as asked: by
// public keys alone, or as a policy in the form of containers-policy.json(5)
// has it.
//
// What is verified are cosign's signatures: payloads of "simple signing" under
// the tag that cosign makes of an image's digest or in a referrer (cosign,
// specs/SIGNATURE_SPEC.md), and Sigstore bundles in referrers (cosign,
// specs/BUNDLE_SPEC.md; DSSE protocol v1; in-toto statement v1). The keys are
// the whole trust: no certificate, transparency log or timestamp is asked or
// looked at, and OpenPGP signatures are not read. A policy that needs one of
// these is refused for the images it is about.
//
// The package fetches nothing but through attached.Source, believes none of
// its answers without their digests, and pulls no image.
package signature

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

var (
	// ErrUnsigned says that an image has no signature at all.
	ErrUnsigned = errors.New("not signed")
	// ErrRejected says that an image's signatures are not those asked for, or
	// that a policy rejects the image whatever its signatures.
	ErrRejected = errors.New("signature rejected")
	// ErrPolicy says that a policy or a key cannot be used.
	ErrPolicy = errors.New("unusable signature policy")
)

// An Image is what is to be verified.
type Image struct {
	// Reference is the image's name as it was asked for, with a tag or digest,
	// whichever mirror it came from. It is empty for an image in a file that
	// has no name.
	Reference string
	// Transport is what containers-transports(5) calls the place of an image in
	// a file: oci, oci-archive or docker-archive. It is empty for a registry.
	Transport string
	// Path is the absolute path of the file or folder, where Transport is set.
	Path string
	// Digest is that of the image's manifest.
	Digest containers.Digest
	// Index is that of the index which the manifest was chosen from, or empty.
	// A signature of the index counts, once the index is seen to name Digest.
	Index containers.Digest
}

func (i Image) String() string {
	name := i.Reference
	if i.Transport != "" {
		name = i.Transport + ":" + i.Path
	}
	return name + " (" + string(i.Digest) + ")"
}

// A Signature is one that was found good.
type Signature struct {
	Key    string            // the key's fingerprint
	Digest containers.Digest // what is signed: the image's manifest or its index
	Name   string            // the reference that is signed with it; bundles sign none
	Source string            // where it was: "tag sha256-….sig" or "referrer sha256:…"
}

// A Report says by what an image was accepted.
type Report struct {
	// Signatures are sorted. There are none where a policy accepts anything.
	Signatures []Signature
}

// Keys returns the fingerprints of the keys, sorted.
func (r *Report) Keys() []string {
	var keys []string
	for _, s := range r.Signatures {
		keys = append(keys, s.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// A Verifier knows what signatures are asked for. It is safe for use by
// several goroutines.
type Verifier struct {
	keys   []*key
	policy *policy
	read   func(path string) ([]byte, error)
}

// NewKeys returns a verifier that asks for a signature by one of the public
// keys, each a PEM file's content: ECDSA on P-256, P-384 or P-521, Ed25519, or
// RSA from 2048 bits. The signature must name the image's repository, with any
// tag or none; bundles, which name no repository, count by the digest alone,
// and so does any name for an image that has none. Errors match ErrPolicy.
func NewKeys(pems ...[]byte) (*Verifier, error) {
	if len(pems) == 0 {
		return nil, fmt.Errorf("%w: no key is named", ErrPolicy)
	}
	keys, err := parseKeys(pems)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys: keys}, nil
}

// NewPolicy returns a verifier that asks for what a policy says of each image.
// read returns the content of a key file that the policy names (see KeyReader);
// it is called when an image is verified that the key is for. The policy's form
// is checked at once and strictly: unknown and repeated fields are errors, as
// they are for podman and skopeo. Errors match ErrPolicy.
func NewPolicy(data []byte, read func(path string) ([]byte, error)) (*Verifier, error) {
	p, err := parsePolicy(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return &Verifier{policy: p, read: read}, nil
}

// Verify looks for the image's signatures in the repository that its reference
// names and returns those by which it is accepted. The search ends with the
// first place whose signatures are enough. Errors match ErrUnsigned,
// ErrRejected or ErrPolicy, or are the source's.
func (v *Verifier) Verify(ctx context.Context, src attached.Source, img Image) (*Report, error) {
	s := &search{img: img, repository: attached.Repository{Source: src}}
	if img.Reference != "" {
		ref, err := parseReference(img.Reference)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", img, err)
		}
		s.reference = ref.withTag()
	}
	if img.Transport == "" {
		if s.reference == nil {
			return nil, fmt.Errorf("%s: an image of a registry has a name, and none is given", img)
		}
		s.repository.Name = s.reference.name
	}
	requirements, err := v.requirements(img, s.reference)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", img, err)
	}
	for _, r := range requirements {
		if r.kind == typeSigstoreSigned {
			s.pending = append(s.pending, r)
		}
	}
	if err := s.run(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", img, err)
	}
	return s.result(), nil
}

// requirements returns what is asked of an image, with its keys.
func (v *Verifier) requirements(img Image, ref *reference) ([]*requirement, error) {
	if v.policy == nil {
		return []*requirement{{kind: typeSigstoreSigned, keys: v.keys, identity: identity{kind: matchKeys}}}, nil
	}
	scope, found := v.policy.lookup(img, ref)
	var ready []*requirement
	for _, r := range found {
		if r.refused != "" {
			return nil, fmt.Errorf("%w: %s for %s: %s", ErrPolicy, r.kind, scope, r.refused)
		}
		if r.kind == typeReject {
			return nil, fmt.Errorf("%w: the policy rejects all images of %s: add a scope for this one to the policy", ErrRejected, scope)
		}
		loaded, err := r.load(v.read)
		if err != nil {
			return nil, fmt.Errorf("policy for %s: %w", scope, err)
		}
		ready = append(ready, loaded)
	}
	return ready, nil
}

// A search goes through the places of an image's signatures.
type search struct {
	img        Image
	reference  *reference // nil where the image has no name
	repository attached.Repository
	pending    []*requirement // not satisfied yet
	good       []Signature
	found      int // signatures, good or not
	closest    failure
}

// A failure says why a signature does not count. Of several the closest to a
// good one is told.
type failure struct {
	rank int
	text string
}

// How close a signature was to a good one.
const (
	rankMalformed = iota + 1
	rankOtherKey
	rankOtherDigest
	rankOtherName
)

func (s *search) run(ctx context.Context) error {
	type place struct {
		digest containers.Digest
		look   func(context.Context, containers.Digest) error
	}
	places := []place{{s.img.Digest, s.tagged}, {s.img.Digest, s.referring}}
	if s.img.Index != "" && s.img.Index != s.img.Digest {
		places = []place{{s.img.Digest, s.tagged}, {s.img.Index, s.tagged}, {s.img.Digest, s.referring}, {s.img.Index, s.referring}}
	}
	for _, p := range places {
		if len(s.pending) == 0 {
			return nil
		}
		if err := p.look(ctx, p.digest); err != nil {
			return err
		}
	}
	return s.verdict()
}

func (s *search) verdict() error {
	if len(s.pending) == 0 {
		return nil
	}
	if s.found == 0 {
		return fmt.Errorf("%w: neither the tag %s nor a referrer is in its repository: sign it (cosign sign --key), or push its signatures where the image is", ErrUnsigned, attached.Tag(s.img.Digest, "sig"))
	}
	keys := map[string]bool{}
	var wanted []string
	for _, r := range s.pending {
		for _, k := range r.keys {
			if !keys[k.fingerprint] {
				keys[k.fingerprint] = true
				wanted = append(wanted, k.fingerprint)
			}
		}
	}
	return fmt.Errorf("%w: signatures found: %d, none as asked: %s: have it signed with the key %s, or correct what is asked for",
		ErrRejected, s.found, s.closest.text, strings.Join(wanted, " or "))
}

// offer tries a signature for all requirements that are not satisfied yet.
func (s *search) offer(c candidate) {
	s.found++
	s.pending = slices.DeleteFunc(s.pending, func(r *requirement) bool {
		signature, why := s.judge(c, r)
		if why != nil {
			why.text = c.source + " " + why.text
			if why.rank > s.closest.rank {
				s.closest = *why
			}
			return false
		}
		s.good = append(s.good, *signature)
		return true
	})
}

func (s *search) result() *Report {
	slices.SortFunc(s.good, func(a, b Signature) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(string(a.Digest), string(b.Digest)), strings.Compare(a.Name, b.Name), strings.Compare(a.Source, b.Source))
	})
	return &Report{Signatures: slices.Compact(s.good)}
}
