package signature_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
	"github.com/applbuild/applbuild/builder/containers/signature"
)

const (
	repository = "registry.example.com/team/web"
	reference  = repository + ":1.4"
)

func verifyKeys(t *testing.T, src attached.Source, img signature.Image, keys ...pair) (*signature.Report, error) {
	t.Helper()
	var pems [][]byte
	for _, k := range keys {
		pems = append(pems, k.public)
	}
	v, err := signature.NewKeys(pems...)
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify(context.Background(), src, img)
}

func TestAnImageSignedByAnyKindOfKeyIsAccepted(t *testing.T) {
	for name, k := range map[string]pair{
		"P-256": ec(t, elliptic.P256()), "P-384": ec(t, elliptic.P384()), "P-521": ec(t, elliptic.P521()),
		"Ed25519": edKey(t), "RSA": rsaKey(t, 2048),
	} {
		m := newMemory()
		digest, _ := m.image(repository)
		m.tagSignatures(repository, digest, k.simple(t, digest, repository))
		report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, k)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := signature.Fingerprint(k.public)
		if err != nil {
			t.Fatal(err)
		}
		got := report.Signatures[0]
		if got.Key != want || got.Digest != digest || got.Name != repository || got.Source != "tag "+attached.Tag(digest, "sig") {
			t.Errorf("%s: %+v", name, got)
		}
		if keys := report.Keys(); len(keys) != 1 || keys[0] != want {
			t.Errorf("%s: keys %v", name, keys)
		}
	}
}

// TestOpenSSLSigns lets openssl make keys, signatures and fingerprints.
func TestOpenSSLSigns(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIPPED: needs openssl (Debian package openssl)")
	}
	for name, kind := range map[string]struct{ generate, sign string }{
		"P-256":   {"-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "dgst -sha256 -sign private -out signature payload"},
		"P-384":   {"-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "dgst -sha256 -sign private -out signature payload"},
		"P-384l":  {"-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "dgst -sha384 -sign private -out signature payload"},
		"RSA":     {"-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "dgst -sha256 -sign private -out signature payload"},
		"Ed25519": {"-algorithm ED25519", "pkeyutl -sign -rawin -inkey private -in payload -out signature"},
	} {
		dir := t.TempDir()
		openssl := func(line string) {
			t.Helper()
			cmd := exec.Command("openssl", strings.Fields(line)...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("openssl %s: %v\n%s", line, err, out)
			}
		}
		read := func(file string) []byte {
			t.Helper()
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		m := newMemory()
		digest, _ := m.image(repository)
		payload := payloadOf(digest, repository)
		if err := os.WriteFile(filepath.Join(dir, "payload"), payload, 0o600); err != nil {
			t.Fatal(err)
		}
		openssl("genpkey " + kind.generate + " -out private")
		openssl("pkey -in private -pubout -out public")
		openssl("pkey -pubin -in public -outform DER -out der")
		openssl(kind.sign)
		m.tagSignatures(repository, digest, signed{payload, read("signature")})
		report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, pair{public: read("public")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if want := string(containers.DigestOf(read("der"))); report.Signatures[0].Key != want {
			t.Errorf("%s: fingerprint %s, openssl says %s", name, report.Signatures[0].Key, want)
		}
	}
}

func TestTheIndexMayBeSignedInsteadOfTheImage(t *testing.T) {
	k := ec(t, elliptic.P256())
	m := newMemory()
	digest, index := m.image(repository)
	m.tagSignatures(repository, index, k.simple(t, index, repository))
	report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest, Index: index}, k)
	if err != nil || report.Signatures[0].Digest != index {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, k); !errors.Is(err, signature.ErrUnsigned) {
		t.Errorf("without the index: %v", err)
	}
	other := newMemory()
	stranger := other.put(repository, map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIManifest})
	_, err = verifyKeys(t, m, signature.Image{Reference: reference, Digest: stranger, Index: index}, k)
	if !errors.Is(err, signature.ErrRejected) {
		t.Fatalf("an index that does not name the image: %v", err)
	}
	oneLine(t, err, string(index), "does not name this image")
}

func TestBundlesInReferrers(t *testing.T) {
	for name, k := range map[string]pair{"P-256": ec(t, elliptic.P256()), "P-384": ec(t, elliptic.P384()), "Ed25519": edKey(t), "RSA": rsaKey(t, 2048)} {
		for _, form := range []string{"envelope", "own hash", "message", "index", "payload"} {
			m := newMemory()
			digest, index := m.image(repository)
			hash, about := k.hash(), digest
			switch form {
			case "own hash":
				if name != "P-384" {
					continue
				}
				hash = crypto.SHA384
			case "index":
				about = index
			}
			switch form {
			case "message":
				m.referBundle(repository, digest, messageBundle(k.sign(t, m.manifests[repository+" "+string(digest)], hash)), "")
			case "payload":
				m.refer(repository, digest, "application/vnd.dev.cosign.artifact.sig.v1+json", m.manifestOf(k.simple(t, digest, repository)), nil)
			default:
				m.referBundle(repository, about, envelopeBundle(t, k, statementOf(about, predicateSign), hash), predicateSign)
			}
			report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest, Index: index}, k)
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
			} else if s := report.Signatures[0]; s.Digest != about || !strings.HasPrefix(s.Source, "referrer sha256:") {
				t.Errorf("%s, %s: %+v", name, form, s)
			}
		}
	}
}

func TestAnImageNotSignedAsAskedIsRefused(t *testing.T) {
	k, other := ec(t, elliptic.P256()), ec(t, elliptic.P256())
	otherDigest := containers.DigestOf([]byte("another image"))
	for _, test := range []struct {
		name   string
		attach func(m *memory, digest containers.Digest)
		want   error
		words  []string
	}{
		{"nothing", func(*memory, containers.Digest) {}, signature.ErrUnsigned, []string{reference, "sha256-", ".sig", "cosign sign"}},
		{"another key", func(m *memory, d containers.Digest) { m.tagSignatures(repository, d, other.simple(t, d, repository)) },
			signature.ErrRejected, []string{"signed by another key", "signatures found: 1", "have it signed with the key sha256:"}},
		{"another digest", func(m *memory, d containers.Digest) {
			m.tagSignatures(repository, d, k.simple(t, otherDigest, repository))
		}, signature.ErrRejected, []string{"is a signature of " + string(otherDigest)}},
		{"another repository", func(m *memory, d containers.Digest) {
			m.tagSignatures(repository, d, k.simple(t, d, "registry.example.com/team/db"))
		}, signature.ErrRejected, []string{`name "registry.example.com/team/db"`, repository + " is wanted"}},
		{"the closest is told", func(m *memory, d containers.Digest) {
			m.tagSignatures(repository, d, k.simple(t, d, "registry.example.com/team/db"), other.simple(t, d, repository))
		}, signature.ErrRejected, []string{"signatures found: 2", "team/db"}},
		{"a changed payload", func(m *memory, d containers.Digest) {
			s := k.simple(t, d, repository)
			s.payload = payloadOf(d, reference)
			m.tagSignatures(repository, d, s)
		}, signature.ErrRejected, []string{"signed by another key"}},
		{"no base64", func(m *memory, d containers.Digest) {
			layer := m.blob(payloadOf(d, repository))
			layer["mediaType"], layer["annotations"] = typeSimple, map[string]string{"dev.cosignproject.cosign/signature": "%"}
			m.put(repository, map[string]any{"layers": []any{layer}}, attached.Tag(d, "sig"))
		}, signature.ErrRejected, []string{"unreadable"}},
		{"a payload that is not there", func(m *memory, d containers.Digest) {
			s := k.simple(t, d, repository)
			m.tagSignatures(repository, d, s)
			delete(m.blobs, containers.DigestOf(s.payload))
		}, signature.ErrRejected, []string{"unreadable", "not found"}},
		{"a payload that is not its digest's", func(m *memory, d containers.Digest) {
			s := k.simple(t, d, repository)
			m.tagSignatures(repository, d, s)
			m.blobs[containers.DigestOf(s.payload)] = []byte("x")
		}, signature.ErrRejected, []string{"unreadable", "what came for blob"}},
		{"an attestation", func(m *memory, d containers.Digest) {
			m.referBundle(repository, d, envelopeBundle(t, k, statementOf(d, "https://slsa.dev/provenance/v1"), crypto.SHA256), "")
		}, signature.ErrRejected, []string{"attestation", "slsa.dev"}},
		{"an attestation that says so", func(m *memory, d containers.Digest) {
			m.referBundle(repository, d, []byte("never fetched"), "https://slsa.dev/provenance/v1")
		}, signature.ErrUnsigned, nil},
		{"a bundle for another digest", func(m *memory, d containers.Digest) {
			m.referBundle(repository, d, envelopeBundle(t, k, statementOf(otherDigest, predicateSign), crypto.SHA256), "")
		}, signature.ErrRejected, []string{"another digest"}},
		{"a bundle by another key", func(m *memory, d containers.Digest) {
			m.referBundle(repository, d, envelopeBundle(t, other, statementOf(d, predicateSign), crypto.SHA256), "")
		}, signature.ErrRejected, []string{"another key"}},
		{"a bundle of another message", func(m *memory, d containers.Digest) {
			m.referBundle(repository, d, messageBundle(k.sign(t, []byte("x"), crypto.SHA256)), "")
		}, signature.ErrRejected, []string{"another key"}},
		{"no bundle", func(m *memory, d containers.Digest) { m.referBundle(repository, d, []byte(`{}`), "") },
			signature.ErrRejected, []string{"unreadable"}},
		{"too many signatures", func(m *memory, d containers.Digest) {
			m.tagSignatures(repository, d, make([]signed, 300)...)
		}, attached.ErrFormat, []string{"300 entries"}},
		{"no manifest", func(m *memory, d containers.Digest) {
			m.manifests[repository+" "+attached.Tag(d, "sig")] = []byte("<html>")
		}, attached.ErrFormat, []string{"tag sha256-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMemory()
			digest, _ := m.image(repository)
			test.attach(m, digest)
			report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, k)
			if !errors.Is(err, test.want) {
				t.Fatalf("%+v, %v; want %v", report, err, test.want)
			}
			oneLine(t, err, append(test.words, reference, string(digest))...)
		})
	}
}

func TestOneGoodSignatureAmongOthersIsEnough(t *testing.T) {
	k, other := edKey(t), rsaKey(t, 2048)
	m := newMemory()
	digest, _ := m.image(repository)
	m.fail = errors.New("the list of referrers is not asked for")
	m.tagSignatures(repository, digest, other.simple(t, digest, repository), signed{[]byte("{}"), nil}, k.simple(t, digest, reference))
	if _, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, ec(t, elliptic.P256()), k); err != nil {
		t.Fatal(err)
	}
}

func TestARegistryThatFailsIsNoUnsignedImage(t *testing.T) {
	m := newMemory()
	digest, _ := m.image(repository)
	m.fail = errors.New("connection refused")
	_, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, edKey(t))
	if !errors.Is(err, m.fail) || errors.Is(err, signature.ErrUnsigned) {
		t.Fatal(err)
	}
}

func TestAnImageInAFileIsSignedBesideIt(t *testing.T) {
	k := ec(t, elliptic.P256())
	m := newMemory()
	digest, _ := m.image("")
	m.tagSignatures("", digest, k.simple(t, digest, "anything.example.com/web"))
	img := signature.Image{Transport: "oci", Path: "/srv/app-oci", Digest: digest}
	if _, err := verifyKeys(t, m, img, k); err != nil {
		t.Error(err)
	}
	img.Reference = "registry.example.com/web:1"
	if _, err := verifyKeys(t, m, img, k); !errors.Is(err, signature.ErrRejected) {
		t.Errorf("a file whose image has another name: %v", err)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	k := ec(t, elliptic.P256())
	small := rsaKey(t, 1024)
	for _, test := range []struct{ name, pem, word string }{
		{"nothing", "", "no PEM block"},
		{"a private key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "private key"},
		{"a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificates"},
		{"rubbish", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "public key"},
		{"two keys", string(k.public) + string(k.public), "more than one"},
		{"a short RSA key", string(small.public), "1024 bits"},
		{"P-224", string(ec(t, elliptic.P224()).public), "of this kind"},
	} {
		_, err := signature.NewKeys(k.public, []byte(test.pem))
		if !errors.Is(err, signature.ErrPolicy) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		oneLine(t, err, test.word, "key 2")
	}
	if _, err := signature.NewKeys(); !errors.Is(err, signature.ErrPolicy) {
		t.Errorf("no keys: %v", err)
	}
}

func TestPayloadsThatAKeySignedForSomethingElse(t *testing.T) {
	k := edKey(t)
	for _, form := range []string{
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"atomic container signature"},"optional":null}`,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature","more":1},"optional":null}`,
		`{"critical":{"identity":{"Docker-Reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		`{"critical":{"identity":{"docker-reference":"a","docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":1}`,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"}}`,
		`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null} {}`,
	} {
		m := newMemory()
		digest, _ := m.image(repository)
		payload := fmt.Appendf(nil, form, repository, digest)
		m.tagSignatures(repository, digest, signed{payload, k.sign(t, payload, 0)})
		_, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, k)
		if !errors.Is(err, signature.ErrRejected) {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		oneLine(t, err, "is no signature of an image")
	}
}

func FuzzVerify(f *testing.F) {
	t := &testing.T{}
	k := edKey(t)
	digest := containers.DigestOf([]byte("image"))
	payload := payloadOf(digest, repository)
	f.Add(payload, base64.StdEncoding.EncodeToString(k.sign(t, payload, 0)), envelopeBundle(t, k, statementOf(digest, predicateSign), 0))
	f.Add([]byte(`{"critical":`), "", messageBundle([]byte("x")))
	f.Fuzz(func(t *testing.T, payload []byte, signature64 string, bundle []byte) {
		raw, _ := base64.StdEncoding.DecodeString(signature64)
		m := newMemory()
		digest, _ := m.image(repository)
		// What is signed well must be read as hostile too: a key signs many things.
		m.tagSignatures(repository, digest, signed{payload, raw}, signed{payload, k.sign(t, payload, 0)})
		m.referBundle(repository, digest, bundle, "")
		m.referBundle(repository, digest, envelopeBundle(t, k, payload, 0), "")
		report, err := verifyKeys(t, m, signature.Image{Reference: reference, Digest: digest}, k)
		if err == nil && !strings.Contains(string(payload), digest.Hex()) {
			t.Fatalf("%q is taken for a signature of %s: %+v", payload, digest, report)
		}
	})
}
