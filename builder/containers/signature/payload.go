package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

const (
	payloadType   = "cosign container image signature"
	predicateSign = "https://sigstore.dev/cosign/sign/v1"
	typeInToto    = "application/vnd.in-toto+json"
	// maxSigners is how many signatures of one envelope are tried.
	maxSigners = 16
)

// A payload is what a signature in cosign's first form signs.
type payload struct {
	digest    containers.Digest
	reference string
}

// parsePayload reads a payload of simple signing. A signature of anything else
// that a key may have signed must not be taken for one of an image, so all
// fields of its critical part must be there, once, and no others.
func parsePayload(data []byte) (payload, error) {
	outer, err := whole(data, "critical", "optional")
	if err != nil {
		return payload{}, err
	}
	if !bytes.Equal(outer["optional"], []byte("null")) {
		if _, err := object(outer["optional"]); err != nil {
			return payload{}, fmt.Errorf("optional: %w", err)
		}
	}
	critical, err := whole(outer["critical"], "type", "image", "identity")
	if err != nil {
		return payload{}, fmt.Errorf("critical: %w", err)
	}
	kind, err := text(critical["type"])
	if err != nil || kind != payloadType {
		return payload{}, fmt.Errorf("its type is %q", kind)
	}
	image, err := whole(critical["image"], "docker-manifest-digest")
	if err != nil {
		return payload{}, fmt.Errorf("image: %w", err)
	}
	identity, err := whole(critical["identity"], "docker-reference")
	if err != nil {
		return payload{}, fmt.Errorf("identity: %w", err)
	}
	var p payload
	digest, err := text(image["docker-manifest-digest"])
	if err != nil {
		return payload{}, err
	}
	if p.digest, err = containers.ParseDigest(digest); err != nil {
		return payload{}, err
	}
	if p.reference, err = text(identity["docker-reference"]); err != nil {
		return payload{}, err
	}
	return p, nil
}

// A bundle holds a signature in an envelope, or one of the manifest as it is.
type bundle struct {
	envelope  *envelope
	signature []byte
}

// An envelope is one of DSSE: content with its type and signatures of both.
type envelope struct {
	kind       string
	content    []byte
	signatures [][]byte
}

// parseBundle reads a Sigstore bundle. Its verification material is not read:
// the keys to verify it with are known.
func parseBundle(data []byte) (*bundle, error) {
	var raw struct {
		Envelope *struct {
			Payload     []byte `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig []byte `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
		Message *struct {
			Signature []byte `json:"signature"`
		} `json:"messageSignature"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	switch {
	case raw.Envelope != nil && raw.Message == nil:
		e := &envelope{kind: raw.Envelope.PayloadType, content: raw.Envelope.Payload}
		if n := len(raw.Envelope.Signatures); n == 0 || n > maxSigners {
			return nil, fmt.Errorf("bundle: %d signatures, 1 to %d are allowed", n, maxSigners)
		}
		for _, s := range raw.Envelope.Signatures {
			e.signatures = append(e.signatures, s.Sig)
		}
		return &bundle{envelope: e}, nil
	case raw.Message != nil && raw.Envelope == nil:
		return &bundle{signature: raw.Message.Signature}, nil
	}
	return nil, errors.New("bundle: one of dsseEnvelope and messageSignature is wanted")
}

// signer returns the key that signed the envelope, nil where none of them did.
func (e *envelope) signer(keys []*key) *key {
	// DSSE protocol v1, "Signature Definition": what is signed.
	signed := []byte("DSSEv1 " + strconv.Itoa(len(e.kind)) + " " + e.kind + " " + strconv.Itoa(len(e.content)) + " ")
	signed = append(signed, e.content...)
	for _, s := range e.signatures {
		if k := signer(keys, signed, s); k != nil {
			return k
		}
	}
	return nil
}

// about says why the envelope, whose signature is good, is no signature of a
// digest. Attestations are signed in the same form by the same keys, and who
// states that an image has faults does not sign it.
func (e *envelope) about(digest containers.Digest) error {
	if e.kind != typeInToto {
		return fmt.Errorf("holds %q and no statement of an image", e.kind)
	}
	s, err := attached.ReadStatement(e.content)
	if err != nil {
		return fmt.Errorf("is no signature of an image (%w)", err)
	}
	if s.PredicateType != predicateSign {
		return fmt.Errorf("is an attestation of the type %q and no signature", s.PredicateType)
	}
	if !slices.Contains(s.Subjects, digest.Hex()) {
		return fmt.Errorf("is a signature of another digest than %s", digest)
	}
	return nil
}
