package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
)

// A hub is a registry in memory that does as it is told.
type hub struct {
	*httptest.Server
	registry http.Handler
	// fault is asked before each request that is served; it answers itself when
	// it returns true.
	mu       sync.Mutex
	fault    func(w http.ResponseWriter, r *http.Request) bool
	requests []*http.Request
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{registry: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	fault := h.fault
	h.requests = append(h.requests, r.Clone(context.Background()))
	h.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	h.registry.ServeHTTP(w, r)
}

// Host is what stands before a repository's name.
func (h *hub) Host() string { return strings.TrimPrefix(h.URL, "http://") }

// setFault sets what happens to requests whose path has a part.
func (h *hub) setFault(part string, fault http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		fault(w, r)
		return true
	}
}

func (h *hub) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = nil
}

// asked counts the requests for a part of a path and forgets all.
func (h *hub) asked(part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.requests {
		if strings.Contains(r.URL.Path, part) {
			n++
		}
	}
	h.requests = nil
	return n
}

// serve answers as the registry does, with the whole blob or a range of it.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) { h.registry.ServeHTTP(w, r) }

// body is what the registry answers to a request without a range.
func (h *hub) body(r *http.Request) (http.Header, []byte) {
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	rec := httptest.NewRecorder()
	h.registry.ServeHTTP(rec, whole)
	return rec.Result().Header, rec.Body.Bytes()
}

func (h *hub) put(t *testing.T, method, path, mediaType string, data []byte) {
	t.Helper()
	req := httptest.NewRequest(method, path, bytes.NewReader(data))
	req.Header.Set("Content-Type", mediaType)
	rec := httptest.NewRecorder()
	h.registry.ServeHTTP(rec, req)
	if rec.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
}

type object = map[string]any

// push keeps a blob in a repository and describes it.
func (h *hub) push(t *testing.T, repo, mediaType string, data []byte) object {
	t.Helper()
	h.put(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+string(containers.DigestOf(data)), "application/octet-stream", data)
	return descriptor(mediaType, data)
}

func descriptor(mediaType string, data []byte) object {
	return object{"mediaType": mediaType, "digest": containers.DigestOf(data), "size": len(data)}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A fixture is an image that a hub has.
type fixture struct {
	manifest []byte
	config   []byte
	layers   [][]byte // as they are fetched
}

func (f *fixture) digest() containers.Digest { return containers.DigestOf(f.manifest) }

// image pushes an image of three layers: plain, gzip and, by OCI, zstd.
func (h *hub) image(t *testing.T, repo, tag string, p containers.Platform, docker bool, seed uint64) *fixture {
	t.Helper()
	types := []string{containers.TypeOCILayer, containers.TypeOCILayerGzip, containers.TypeOCILayerZstd}
	manifestType, configType := containers.TypeOCIManifest, containers.TypeOCIConfig
	if docker {
		types = []string{containers.TypeDockerLayer, containers.TypeDockerLayerGz}
		manifestType, configType = containers.TypeDockerManifest, containers.TypeDockerConfig
	}
	var f fixture
	var layers []object
	var diffs []containers.Digest
	for i, mediaType := range types {
		plain := archive(t, seed+uint64(i), 300<<10)
		diffs = append(diffs, containers.DigestOf(plain))
		data := compress(t, mediaType, plain)
		f.layers = append(f.layers, data)
		layers = append(layers, h.push(t, repo, mediaType, data))
	}
	f.config = encode(t, object{
		"os": p.OS, "architecture": p.Architecture, "variant": p.Variant, "created": "2024-05-06T07:08:09Z",
		"config": object{"Labels": object{"a": "b"}}, "rootfs": object{"type": "layers", "diff_ids": diffs},
	})
	f.manifest = encode(t, object{
		"schemaVersion": 2, "mediaType": manifestType, "config": h.push(t, repo, configType, f.config), "layers": layers,
	})
	if tag == "" {
		tag = string(f.digest())
	}
	h.put(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, manifestType, f.manifest)
	return &f
}

// archive is a tar archive of one file that does not compress.
func archive(t *testing.T, seed uint64, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d", seed), Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	return buf.Bytes()
}

func compress(t *testing.T, mediaType string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		gz, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
		if err != nil {
			t.Fatal(err)
		}
		w = gz
	case strings.HasSuffix(mediaType, "zstd"):
		enc, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		w = enc
	default:
		return data
	}
	w.Write(data)
	w.Close()
	return buf.Bytes()
}

// index pushes an index of images under a tag.
func (h *hub) index(t *testing.T, repo, tag string, images map[containers.Platform]*fixture, order ...containers.Platform) []byte {
	t.Helper()
	var entries []object
	for _, p := range order {
		e := descriptor(containers.TypeOCIManifest, images[p].manifest)
		e["platform"] = object{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant}
		entries = append(entries, e)
	}
	data := encode(t, object{"schemaVersion": 2, "mediaType": containers.TypeOCIIndex, "manifests": entries})
	h.put(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, containers.TypeOCIIndex, data)
	return data
}

var (
	amd64 = containers.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = containers.Platform{OS: "linux", Architecture: "arm64"}
	armV7 = containers.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

// newClient makes a client that does not wait between attempts.
func newClient(t *testing.T) (*Client, string) {
	t.Helper()
	dir := t.TempDir()
	return clientIn(t, dir), dir
}

func clientIn(t *testing.T, dir string) *Client {
	t.Helper()
	b, err := blobs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{
		Blobs: b,
		Wait:  func(context.Context, time.Duration) error { return nil },
	}
}

// pull resolves and fetches.
func pull(t *testing.T, c *Client, ref string, p containers.Platform) (*Pin, error) {
	t.Helper()
	pin, err := c.Resolve(t.Context(), ref, p)
	if err != nil {
		return nil, err
	}
	return pin, c.Fetch(t.Context(), pin)
}

// has says whether all of an image is in a folder, as it was pushed.
func has(t *testing.T, c *Client, f *fixture) {
	t.Helper()
	for _, data := range append([][]byte{f.manifest, f.config}, f.layers...) {
		got, err := c.Blobs.ReadFile(t.Context(), containers.DigestOf(data), 1<<30)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, data) {
			t.Errorf("%s has other bytes", containers.DigestOf(data))
		}
	}
}

// left are the files below a folder's partial downloads.
func left(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(dir, "partial"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oneLine checks what all errors must be: one line, with the registry's name.
func oneLine(t *testing.T, err error, wants ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	t.Log(err)
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %q", err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}
