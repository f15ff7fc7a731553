package signature_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

const (
	typeSimple = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

// A memory is a registry in memory.
type memory struct {
	manifests map[string][]byte // by repository and tag or digest
	blobs     map[containers.Digest][]byte
	referrers map[containers.Digest][]any
	fail      error // what all lists of referrers end with
	asked     []string
}

func newMemory() *memory {
	return &memory{manifests: map[string][]byte{}, blobs: map[containers.Digest][]byte{}, referrers: map[containers.Digest][]any{}}
}

func (m *memory) Manifest(_ context.Context, repository, name string) ([]byte, string, error) {
	m.asked = append(m.asked, name)
	data, found := m.manifests[repository+" "+name]
	if !found {
		return nil, "", fmt.Errorf("%s:%s: %w", repository, name, attached.ErrNotFound)
	}
	return data, "", nil
}

func (m *memory) Blob(_ context.Context, _ string, digest containers.Digest, limit int64) ([]byte, error) {
	data, found := m.blobs[digest]
	if !found {
		return nil, fmt.Errorf("%s: %w", digest, attached.ErrNotFound)
	}
	return data, nil
}

func (m *memory) Referrers(_ context.Context, _ string, digest containers.Digest) ([]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	list, found := m.referrers[digest]
	if !found {
		return nil, attached.ErrNotFound
	}
	return json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIIndex, "manifests": list})
}

// put stores a manifest under its digest and tags.
func (m *memory) put(repository string, document any, tags ...string) containers.Digest {
	data, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	digest := containers.DigestOf(data)
	for _, name := range append(tags, string(digest)) {
		m.manifests[repository+" "+name] = data
	}
	return digest
}

func (m *memory) blob(data []byte) map[string]any {
	digest := containers.DigestOf(data)
	m.blobs[digest] = data
	return map[string]any{"digest": digest, "size": len(data)}
}

// image stores an image and an index with it.
func (m *memory) image(repository string) (digest, index containers.Digest) {
	config := m.blob([]byte("{}"))
	config["mediaType"] = containers.TypeOCIConfig
	digest = m.put(repository, map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIManifest, "config": config, "layers": []any{}})
	index = m.put(repository, map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIIndex, "manifests": []any{
		map[string]any{"mediaType": containers.TypeOCIManifest, "digest": digest, "size": 1, "platform": map[string]string{"os": "linux", "architecture": "amd64"}},
	}})
	return digest, index
}

// A pair is a key to sign with and its public half.
type pair struct {
	public []byte // PEM
	signer crypto.Signer
}

func newPair(t *testing.T, signer crypto.Signer) pair {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), signer}
}

func ec(t *testing.T, curve elliptic.Curve) pair {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newPair(t, k)
}

// sign signs a message with a hash, or as it is.
func (p pair) sign(t *testing.T, message []byte, hash crypto.Hash) []byte {
	t.Helper()
	digest := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	s, err := p.signer.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hash is the one that cosign signs with.
func (p pair) hash() crypto.Hash {
	if _, pure := p.signer.(ed25519.PrivateKey); pure {
		return 0
	}
	return crypto.SHA256
}

func rsaKey(t *testing.T, bits int) pair {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return newPair(t, k)
}

func edKey(t *testing.T) pair {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newPair(t, k)
}

// payloadOf composes what cosign signs, in its order and spacing.
func payloadOf(digest containers.Digest, reference string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, reference, digest)
}

// A signed is a payload and its signature.
type signed struct{ payload, signature []byte }

// manifestOf composes the manifest that cosign keeps signatures in.
func (m *memory) manifestOf(signatures ...signed) map[string]any {
	config := m.blob([]byte("{}"))
	config["mediaType"] = containers.TypeOCIConfig
	layers := []any{}
	for _, s := range signatures {
		layer := m.blob(s.payload)
		layer["mediaType"] = typeSimple
		layer["annotations"] = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(s.signature)}
		layers = append(layers, layer)
	}
	return map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIManifest, "config": config, "layers": layers}
}

// tagSignatures puts signatures where cosign puts those of a digest.
func (m *memory) tagSignatures(repository string, digest containers.Digest, signatures ...signed) {
	m.put(repository, m.manifestOf(signatures...), attached.Tag(digest, "sig"))
}

// refer lists a manifest as a referrer of a digest.
func (m *memory) refer(repository string, digest containers.Digest, artifactType string, manifest map[string]any, annotations map[string]string) {
	manifest["artifactType"] = artifactType
	manifest["subject"] = map[string]any{"digest": digest}
	own := m.put(repository, manifest)
	m.referrers[digest] = append(m.referrers[digest], map[string]any{
		"mediaType": containers.TypeOCIManifest, "digest": own, "size": 1, "artifactType": artifactType, "annotations": annotations,
	})
}

// referBundle attaches a bundle as cosign does.
func (m *memory) referBundle(repository string, digest containers.Digest, data []byte, predicate string) {
	layer := m.blob(data)
	layer["mediaType"] = typeBundle
	annotations := map[string]string{"dev.sigstore.bundle.content": "dsse-envelope"}
	if predicate != "" {
		annotations["dev.sigstore.bundle.predicateType"] = predicate
	}
	m.refer(repository, digest, typeBundle, map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIManifest, "layers": []any{layer}}, annotations)
}

const predicateSign = "https://sigstore.dev/cosign/sign/v1"

// statementOf composes the statement that cosign signs in a bundle.
func statementOf(digest containers.Digest, predicate string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, digest.Hex(), predicate)
}

// envelopeBundle composes a bundle around a statement.
func envelopeBundle(t *testing.T, k pair, statement []byte, hash crypto.Hash) []byte {
	t.Helper()
	const kind = "application/vnd.in-toto+json"
	signature := k.sign(t, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement), hash)
	return fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]}}`,
		typeBundle, base64.StdEncoding.EncodeToString(statement), kind, base64.StdEncoding.EncodeToString(signature))
}

// messageBundle composes a bundle with a signature of a manifest as it is.
func messageBundle(signature []byte) []byte {
	return fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"x"}},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":""},"signature":%q}}`,
		typeBundle, base64.StdEncoding.EncodeToString(signature))
}

func (p pair) simple(t *testing.T, digest containers.Digest, reference string) signed {
	t.Helper()
	payload := payloadOf(digest, reference)
	return signed{payload, p.sign(t, payload, p.hash())}
}

// oneLine checks that an error is one line that says all of what is wanted.
func oneLine(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has several lines", err)
	}
}
