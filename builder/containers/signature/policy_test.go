package signature_test

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/signature"
)

func noKeys(path string) ([]byte, error) { return nil, fmt.Errorf("%s is not to be read", path) }

// sigstore is a requirement of a key, with more fields.
func sigstore(k pair, more string) string {
	return fmt.Sprintf(`{"type":"sigstoreSigned","keyData":%q%s}`, base64.StdEncoding.EncodeToString(k.public), more)
}

func TestPoliciesThatAreWrongAreRefusedAtOnce(t *testing.T) {
	k := edKey(t)
	for _, test := range []struct{ policy, word string }{
		{``, "JSON object"},
		{`[]`, "JSON object"},
		{`{}`, "default: no requirements"},
		{`{"default":[]}`, "is empty"},
		{`{"default":null}`, "is empty"},
		{`{"default":{}}`, "list of requirements"},
		{`{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}`, "there twice"},
		{`{"default":[{"type":"reject"}],"Transports":{}}`, `"Transports" is not known`},
		{`{"default":[{"type":"reject"}]} x`, "follows"},
		{`{"default":[{"type":"reject"}],"transports":null}`, "JSON object"},
		{`{"default":[{"type":"reject"}],"transports":{"docker":[]}}`, `transport "docker"`},
		{`{"default":[{"type":"reject"}],"transports":{"docker":{"x":[]}}}`, `scope "x"`},
		{`{"default":[{"type":"sometimes"}]}`, `"sometimes" is not known`},
		{`{"default":[{}]}`, "type"},
		{`{"default":[{"type":"reject","keyPath":"/x"}]}`, `"keyPath" is not known`},
		{`{"default":[{"type":"signedBy","key":"/x"}]}`, `"key" is not known`},
		{`{"default":[{"type":"sigstoreSigned"}]}`, "exactly one"},
		{`{"default":[{"type":"sigstoreSigned","keyPath":"/a","keyData":"YQ=="}]}`, "exactly one"},
		{`{"default":[{"type":"sigstoreSigned","keyPath":""}]}`, "a key is wanted"},
		{`{"default":[{"type":"sigstoreSigned","keyPaths":[]}]}`, "a key is wanted"},
		{`{"default":[{"type":"sigstoreSigned","keyPaths":["/a",null]}]}`, "a key is wanted"},
		{`{"default":[{"type":"sigstoreSigned","keyData":"%"}]}`, "keyData"},
		{`{"default":[{"type":"sigstoreSigned","fulcio":{"ca":"/x"}}]}`, `"ca" is not known`},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{}`) + `]}`, "signedIdentity"},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"matchAll"}`) + `]}`, `"matchAll" is not known`},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"matchExact","prefix":"x"}`) + `]}`, `"prefix" is not known`},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"exactReference","dockerReference":"a.example.com/b"}`) + `]}`, "neither tag nor digest"},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"exactRepository","dockerRepository":"A b"}`) + `]}`, "REGISTRY/REPOSITORY"},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"remapIdentity","prefix":"a.example.com","signedPrefix":"x y"}`) + `]}`, "signedPrefix"},
		{`{"default":[` + sigstore(k, `,"signedIdentity":{"type":"remapIdentity","prefix":"a.example.com"}`) + `]}`, "missing"},
	} {
		_, err := signature.NewPolicy([]byte(test.policy), noKeys)
		if !errors.Is(err, signature.ErrPolicy) {
			t.Errorf("%s: %v", test.policy, err)
			continue
		}
		oneLine(t, err, test.word)
	}
	if _, err := signature.NewPolicy(make([]byte, 2<<20), noKeys); !errors.Is(err, signature.ErrPolicy) {
		t.Errorf("a policy of 2 MiB: %v", err)
	}
}

func TestTheMostSpecificScopeDecides(t *testing.T) {
	const accept, reject = `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`
	for _, test := range []struct {
		scopes string
		image  signature.Image
		want   error
	}{
		{`{}`, signature.Image{Reference: reference}, signature.ErrRejected},
		{`{"docker":{"":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"":` + reject + `,"*.com":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"*.com":` + reject + `,"*.example.com":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"*.registry.example.com":` + accept + `}}`, signature.Image{Reference: reference}, signature.ErrRejected},
		{`{"docker":{"*.example.com":` + reject + `,"registry.example.com":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"registry.example.com":` + reject + `,"registry.example.com/team":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"registry.example.com/tea":` + accept + `}}`, signature.Image{Reference: reference}, signature.ErrRejected},
		{`{"docker":{"registry.example.com/team":` + reject + `,"registry.example.com/team/web":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"registry.example.com/team/web":` + reject + `,"registry.example.com/team/web:1.4":` + accept + `}}`, signature.Image{Reference: reference}, nil},
		{`{"docker":{"registry.example.com":` + accept + `}}`, signature.Image{Reference: "registry.example.com:5000/web"}, signature.ErrRejected},
		{`{"docker":{"*.example.com":` + accept + `}}`, signature.Image{Reference: "registry.example.com:5000/web"}, nil},
		{`{"docker":{"docker.io/library/debian:latest":` + accept + `}}`, signature.Image{Reference: "debian"}, nil},
		{`{"docker":{"debian":` + accept + `}}`, signature.Image{Reference: "debian"}, signature.ErrRejected},
		{`{"atomic":{"":` + accept + `}}`, signature.Image{Reference: reference}, signature.ErrRejected},
		{`{"docker":{"":` + accept + `}}`, signature.Image{Transport: "oci", Path: "/srv/app"}, signature.ErrRejected},
		{`{"oci":{"/srv":` + accept + `}}`, signature.Image{Transport: "oci", Path: "/srv/app"}, nil},
		{`{"oci":{"/srv":` + accept + `,"/srv/app":` + reject + `}}`, signature.Image{Transport: "oci", Path: "/srv/app/"}, signature.ErrRejected},
		{`{"docker-archive":{"":` + accept + `}}`, signature.Image{Transport: "docker-archive", Path: "/srv/app.tar"}, nil},
		{`{"docker-archive":{"/srv":` + accept + `}}`, signature.Image{Transport: "docker-archive", Path: "/srv/app.tar"}, signature.ErrRejected},
	} {
		v, err := signature.NewPolicy([]byte(`{"default":`+reject+`,"transports":`+test.scopes+`}`), noKeys)
		if err != nil {
			t.Fatalf("%s: %v", test.scopes, err)
		}
		m := newMemory()
		test.image.Digest, _ = m.image("x")
		report, err := v.Verify(context.Background(), m, test.image)
		if !errors.Is(err, test.want) || err == nil && len(report.Signatures) != 0 {
			t.Errorf("%s, %s: %v, want %v", test.scopes, test.image, err, test.want)
		}
	}
}

func TestWhatAPolicyAsksBeyondPublicKeysIsRefusedWhereItApplies(t *testing.T) {
	k := edKey(t)
	for _, requirement := range []string{
		`{"type":"signedBy","keyType":"GPGKeys","keyPath":"/key.gpg"}`,
		`{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchRepository"}}`,
		`{"type":"sigstoreSigned","fulcio":{"caPath":"/ca.pem","oidcIssuer":"x","subjectEmail":"y"},"rekorPublicKeyPath":"/rekor.pub"}`,
		`{"type":"sigstoreSigned","pki":{"caRootsPath":"/ca.pem","subjectEmail":"y"}}`,
		sigstore(k, `,"rekorPublicKeyPath":"/rekor.pub"`),
		sigstore(k, `,"rekorPublicKeyDatas":["YQ=="]`),
	} {
		v, err := signature.NewPolicy([]byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"registry.example.com":[{"type":"insecureAcceptAnything"},`+requirement+`]}}}`), noKeys)
		if err != nil {
			t.Errorf("%s: %v", requirement, err)
			continue
		}
		m := newMemory()
		digest, _ := m.image(repository)
		m.tagSignatures(repository, digest, k.simple(t, digest, reference))
		_, err = v.Verify(context.Background(), m, signature.Image{Reference: reference, Digest: digest})
		if !errors.Is(err, signature.ErrPolicy) {
			t.Errorf("%s: %v", requirement, err)
			continue
		}
		oneLine(t, err, reference, `docker "registry.example.com"`, "verified")
		if _, err := v.Verify(context.Background(), m, signature.Image{Reference: "other.example.com/web:1", Digest: digest}); err != nil {
			t.Errorf("%s: an image of another scope: %v", requirement, err)
		}
	}
}

func TestAllRequirementsMustHold(t *testing.T) {
	vendor, reviewer := ec(t, elliptic.P256()), edKey(t)
	v, err := signature.NewPolicy([]byte(`{"default":[`+sigstore(vendor, `,"signedIdentity":{"type":"exactRepository","dockerRepository":"vendor.example.com/web"}`)+`,`+sigstore(reviewer, "")+`]}`), noKeys)
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	digest, index := m.image(repository)
	m.tagSignatures(repository, digest, vendor.simple(t, digest, "vendor.example.com/web"))
	img := signature.Image{Reference: reference, Digest: digest, Index: index}
	if _, err := v.Verify(context.Background(), m, img); !errors.Is(err, signature.ErrRejected) {
		t.Errorf("signed by one of two: %v", err)
	}
	m.tagSignatures(repository, index, reviewer.simple(t, index, reference))
	report, err := v.Verify(context.Background(), m, img)
	if err != nil || len(report.Signatures) != 2 || len(report.Keys()) != 2 {
		t.Errorf("signed by both: %+v, %v", report, err)
	}
}

func TestABundleNamesNoRepositoryForAPolicy(t *testing.T) {
	k := edKey(t)
	v, err := signature.NewPolicy([]byte(`{"default":[`+sigstore(k, `,"signedIdentity":{"type":"matchRepository"}`)+`]}`), noKeys)
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	digest, _ := m.image(repository)
	m.referBundle(repository, digest, envelopeBundle(t, k, statementOf(digest, predicateSign), 0), predicateSign)
	_, err = v.Verify(context.Background(), m, signature.Image{Reference: reference, Digest: digest})
	if !errors.Is(err, signature.ErrRejected) {
		t.Fatal(err)
	}
	oneLine(t, err, "names no repository")
}

func TestKeyFilesOfAPolicy(t *testing.T) {
	k := edKey(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cosign.pub"), k.public, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	digest, _ := m.image(repository)
	m.tagSignatures(repository, digest, k.simple(t, digest, reference))
	for _, test := range []struct{ field, word string }{
		{`"keyPath":"cosign.pub"`, ""},
		{fmt.Sprintf(`"keyPaths":[%q]`, filepath.Join(dir, "cosign.pub")), ""},
		{`"keyPath":"missing.pub"`, "missing.pub"},
		{`"keyPath":"large"`, "no public key"},
		{`"keyDatas":["YQ=="]`, "no PEM block"},
	} {
		v, err := signature.NewPolicy([]byte(`{"default":[{"type":"sigstoreSigned",`+test.field+`}]}`), signature.KeyReader(dir))
		if err != nil {
			t.Fatalf("%s: %v", test.field, err)
		}
		_, err = v.Verify(context.Background(), m, signature.Image{Reference: reference, Digest: digest})
		if test.word == "" {
			if err != nil {
				t.Errorf("%s: %v", test.field, err)
			}
			continue
		}
		if !errors.Is(err, signature.ErrPolicy) {
			t.Errorf("%s: %v", test.field, err)
			continue
		}
		oneLine(t, err, test.word, "the default")
	}
}

func FuzzPolicy(f *testing.F) {
	k := edKey(&testing.T{})
	f.Add([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}`), reference)
	f.Add([]byte(`{"default":[`+sigstore(k, `,"signedIdentity":{"type":"remapIdentity","prefix":"registry.example.com","signedPrefix":"a.example.com/b"}`)+`]}`), "a.example.com/b/web:1.4")
	f.Add([]byte(`{"default":[`+sigstore(k, `,"signedIdentity":{"type":"exactReference","dockerReference":"debian:trixie"}`)+`]}`), "docker.io/library/debian:trixie")
	f.Fuzz(func(t *testing.T, policy []byte, name string) {
		v, err := signature.NewPolicy(policy, noKeys)
		if err != nil {
			if !errors.Is(err, signature.ErrPolicy) {
				t.Fatal(err)
			}
			return
		}
		m := newMemory()
		digest, index := m.image(repository)
		m.tagSignatures(repository, digest, k.simple(t, digest, name))
		for _, img := range []signature.Image{{Reference: reference, Digest: digest, Index: index}, {Reference: name, Digest: digest}, {Transport: "oci", Path: name, Digest: digest}} {
			report, err := v.Verify(context.Background(), m, img)
			if (report == nil) == (err == nil) {
				t.Fatalf("%+v, %v", report, err)
			}
		}
	})
}
