package signature_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
	"github.com/applbuild/applbuild/builder/containers/signature"
)

// A served is a registry that skopeo and the test both talk to.
type served struct {
	host      string
	lookaside string // folder of OpenPGP signatures, which no registry keeps
}

func serve(t *testing.T) served {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return served{strings.TrimPrefix(server.URL, "http://"), t.TempDir()}
}

func (s served) get(ctx context.Context, name, path string) ([]byte, string, error) {
	_, name, _ = strings.Cut(name, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.host+"/v2/"+name+path, nil)
	if err != nil {
		return nil, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, "", attached.ErrNotFound
	}
	data, err := io.ReadAll(response.Body)
	return data, response.Header.Get("Content-Type"), err
}

func (s served) Manifest(ctx context.Context, repository, name string) ([]byte, string, error) {
	return s.get(ctx, repository, "/manifests/"+name)
}

func (s served) Blob(ctx context.Context, repository string, digest containers.Digest, _ int64) ([]byte, error) {
	data, _, err := s.get(ctx, repository, "/blobs/"+string(digest))
	return data, err
}

func (s served) Referrers(ctx context.Context, repository string, digest containers.Digest) ([]byte, error) {
	data, _, err := s.get(ctx, repository, "/referrers/"+string(digest))
	return data, err
}

// push uploads all that a memory has to a repository.
func (s served) push(t *testing.T, m *memory, name string) {
	t.Helper()
	send := func(method, url, kind string, data []byte) {
		t.Helper()
		request, err := http.NewRequest(method, url, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", kind)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, url, response.Status)
		}
	}
	for digest, data := range m.blobs {
		send(http.MethodPost, "http://"+s.host+"/v2/"+name+"/blobs/uploads/?digest="+string(digest), "application/octet-stream", data)
	}
	for _, indexes := range []bool{false, true} { // an index after what it lists
		for key, data := range m.manifests {
			var document struct {
				MediaType string `json:"mediaType"`
			}
			if err := json.Unmarshal(data, &document); err != nil {
				t.Fatal(err)
			}
			if _, tag, _ := strings.Cut(key, " "); indexes == (document.MediaType == containers.TypeOCIIndex) {
				send(http.MethodPut, "http://"+s.host+"/v2/"+name+"/manifests/"+tag, document.MediaType, data)
			}
		}
	}
}

// realImage stores an image that tools take for one, under a tag.
func (m *memory) realImage(t *testing.T, repository, tag string) containers.Digest {
	t.Helper()
	layer := m.blob(make([]byte, 1024)) // an empty archive
	layer["mediaType"] = containers.TypeOCILayer
	text, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}}})
	if err != nil {
		t.Fatal(err)
	}
	config := m.blob(text)
	config["mediaType"] = containers.TypeOCIConfig
	return m.put(repository, map[string]any{"schemaVersion": 2, "mediaType": containers.TypeOCIManifest, "config": config, "layers": []any{layer}}, tag)
}

// skopeo runs skopeo with a policy, on a registry without TLS that has
// signatures beside its images.
func (s served) skopeo(t *testing.T, policy string, arguments ...string) error {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("SKIPPED: needs skopeo 1.9 or later (Debian package skopeo)")
	}
	dir := t.TempDir()
	registries := "default-docker:\n  use-sigstore-attachments: true\n  lookaside: file://" + s.lookaside + "\n"
	for name, text := range map[string]string{"policy.json": policy, "d/default.yaml": registries} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("skopeo", append([]string{"--policy", filepath.Join(dir, "policy.json"), "--registries.d", filepath.Join(dir, "d"), "copy", "--src-tls-verify=false", "--dest-tls-verify=false"}, arguments...)...)
	cmd.Stdin = strings.NewReader("")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("skopeo: %w\n%s", err, out)
	}
	return nil
}

// disabled says whether skopeo failed because it was built without sigstore,
// as Debian 12's is. It reads policies and looks up scopes all the same.
func disabled(err error) bool {
	return err != nil && strings.Contains(err.Error(), "sigstore disabled")
}

const acceptAll = `{"default":[{"type":"insecureAcceptAnything"}]}`

// cosignKey writes a private key as cosign keeps it, encrypted with a password.
func cosignKey(t *testing.T, k *ecdsa.PrivateKey, password string) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	var salt [32]byte
	var nonce [24]byte
	rand.Read(salt[:])
	rand.Read(nonce[:])
	derived, err := scrypt.Key([]byte(password), salt[:], 32768, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"kdf":        map[string]any{"name": "scrypt", "params": map[string]int{"N": 32768, "r": 8, "p": 1}, "salt": salt[:]},
		"cipher":     map[string]any{"name": "nacl/secretbox", "nonce": nonce[:]},
		"ciphertext": secretbox.Seal(nil, der, &nonce, (*[32]byte)(derived)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED COSIGN PRIVATE KEY", Bytes: text})
}

func TestSkopeoSigns(t *testing.T) {
	s := serve(t)
	m := newMemory()
	m.realImage(t, "", "1.4")
	s.push(t, m, "source")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"cosign.key": cosignKey(t, private, "secret"), "password": []byte("secret")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err = s.skopeo(t, acceptAll, "--preserve-digests", "--sign-by-sigstore-private-key", filepath.Join(dir, "cosign.key"), "--sign-passphrase-file", filepath.Join(dir, "password"),
		"docker://"+s.host+"/source:1.4", "docker://"+s.host+"/team/web:1.4")
	if disabled(err) {
		t.Skip("SKIPPED: needs a skopeo with sigstore, as Debian 13's (package skopeo); Debian 12's is built without")
	}
	if err != nil {
		t.Fatal(err)
	}
	name := s.host + "/team/web"
	manifest, _, err := s.Manifest(t.Context(), name, "1.4")
	if err != nil {
		t.Fatal(err)
	}
	img := signature.Image{Reference: name + ":1.4", Digest: containers.DigestOf(manifest)}
	k := newPair(t, private)
	report, err := verifyKeys(t, s, img, k)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Signatures[0]; got.Name != img.Reference || got.Digest != img.Digest {
		t.Errorf("%+v", got)
	}
	v, err := signature.NewPolicy([]byte(`{"default":[`+sigstore(k, "")+`]}`), noKeys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), s, img); err != nil {
		t.Errorf("with a policy: %v", err)
	}
	if _, err := verifyKeys(t, s, img, ec(t, elliptic.P256())); !errors.Is(err, signature.ErrRejected) {
		t.Errorf("with another key: %v", err)
	}
}
