package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// A hub is a registry in memory that can be told to misbehave.
type hub struct {
	*httptest.Server
	registry http.Handler

	mu    sync.Mutex
	fault http.HandlerFunc // in place of the registry where it is not nil
	asked int
}

func newHub(t testing.TB) *hub {
	t.Helper()
	h := &hub{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	h.Server = httptest.NewServer(h)
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	fault := h.fault
	h.asked++
	h.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	h.registry.ServeHTTP(w, r)
}

// host is what stands before a repository's name.
func (h *hub) host() string { return "localhost" + h.URL[strings.LastIndex(h.URL, ":"):] }

// when makes the requests whose path has a part go wrong.
func (h *hub) when(part string, fault http.HandlerFunc) {
	h.set(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, part) {
			fault(w, r)
			return
		}
		h.registry.ServeHTTP(w, r)
	})
}

// set puts a handler before the registry; nil takes it away.
func (h *hub) set(fault http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault, h.asked = fault, 0
}

func (h *hub) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// answer is what the registry itself says to a request for the whole.
func (h *hub) answer(r *http.Request) *httptest.ResponseRecorder {
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	recorder := httptest.NewRecorder()
	h.registry.ServeHTTP(recorder, whole)
	return recorder
}

// reply sends a recorded answer, of which only so many bytes may come.
func reply(w http.ResponseWriter, a *httptest.ResponseRecorder, most int) {
	for key, values := range a.Header() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(a.Body.Len()))
	w.WriteHeader(a.Code)
	body := a.Body.Bytes()
	w.Write(body[:min(most, len(body))])
	if most < len(body) {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// cutOff ends every answer in its middle.
func (h *hub) cutOff(w http.ResponseWriter, r *http.Request) {
	a := h.answer(r)
	reply(w, a, a.Body.Len()/2)
}

// damage changes a byte of every answer.
func (h *hub) damage(w http.ResponseWriter, r *http.Request) {
	a := h.answer(r)
	if body := a.Body.Bytes(); len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	reply(w, a, a.Body.Len())
}

// status answers with nothing else.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers nothing until the client gives up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// chaos delays, shortens and refuses answers as a generator has it, but no more
// than twice in a row for one path.
func (h *hub) chaos(seed uint64) http.HandlerFunc {
	var mu sync.Mutex
	source := rand.New(rand.NewPCG(seed, 0))
	bad := map[string]int{}
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		kind, wait, cut := source.IntN(8), source.IntN(30), source.Float64()
		if bad[r.URL.Path] >= 2 {
			kind = 7
		}
		if bad[r.URL.Path]++; kind > 4 {
			bad[r.URL.Path] = 0
		}
		mu.Unlock()
		time.Sleep(time.Duration(wait) * time.Millisecond)
		a := h.answer(r)
		switch {
		case kind == 0:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case kind == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case kind <= 4 && a.Body.Len() > 0:
			reply(w, a, int(cut*float64(a.Body.Len())))
		case kind == 5:
			reply(w, a, a.Body.Len()) // of a range, all
		default:
			h.registry.ServeHTTP(w, r)
		}
	}
}

// password asks for one before anything.
func (h *hub) password(user, password string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.registry.ServeHTTP(w, r)
	}
}

func (h *hub) put(t testing.TB, method, path, mediaType string, data []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(data))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	if h.registry.ServeHTTP(w, r); w.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

type object = map[string]any

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func descriptor(mediaType string, data []byte) object {
	return object{"mediaType": mediaType, "digest": containers.DigestOf(data), "size": len(data)}
}

func (h *hub) blob(t testing.TB, repository, mediaType string, data []byte) object {
	t.Helper()
	h.put(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+string(containers.DigestOf(data)), "application/octet-stream", data)
	return descriptor(mediaType, data)
}

func (h *hub) manifest(t testing.TB, repository, tag string, manifest []byte) containers.Digest {
	t.Helper()
	h.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, containers.TypeOCIManifest, manifest)
	return containers.DigestOf(manifest)
}

// A member is a file of a layer.
type member struct {
	tar.Header
	body string
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Mode: 0o644}, body}
}

// layerOf is an archive of some files.
func layerOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.body))
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, m.body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// push puts an image of some layers under a name.
func (h *hub) push(t testing.TB, repository, tag, architecture string, layers ...[]byte) containers.Digest {
	t.Helper()
	var ids []containers.Digest
	var list []object
	for _, l := range layers {
		ids = append(ids, containers.DigestOf(l))
		list = append(list, h.blob(t, repository, containers.TypeOCILayerGzip, gzipped(t, l)))
	}
	config := encode(t, object{
		"os": "linux", "architecture": architecture, "created": "2024-05-06T07:08:09Z",
		"config": object{"Labels": object{"org.opencontainers.image.title": "shop"}},
		"rootfs": object{"type": "layers", "diff_ids": ids},
	})
	return h.manifest(t, repository, tag, encode(t, object{
		"schemaVersion": 2, "mediaType": containers.TypeOCIManifest,
		"config": h.blob(t, repository, containers.TypeOCIConfig, config), "layers": list,
	}))
}

// noise does not compress, so that its layer is fetched in several reads.
func noise(size int) string {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(data)
	return string(data)
}

// shopLayers are those of the image that most tests have.
func shopLayers(t testing.TB) [][]byte {
	t.Helper()
	return [][]byte{
		layerOf(t, file("srv/index.html", "welcome\n"), file("srv/old.html", "gone\n"), file("srv/noise", noise(400<<10))),
		layerOf(t,
			member{tar.Header{Name: "usr/bin/su", Mode: 0o4755}, "#!/bin/sh\n"},
			member{tar.Header{Name: "usr/bin/also", Typeflag: tar.TypeLink, Linkname: "usr/bin/su", Mode: 0o4755}, ""},
			file("srv/.wh.old.html", "")),
	}
}

// runtimeOf adds empty packages of what podman needs.
func runtimeOf(t testing.TB) func(*tiny) {
	return func(d *tiny) {
		for _, name := range []string{"crun", "netavark", "aardvark-dns", "nftables"} {
			d.AddDeb("main", archivetest.Deb(t, "Package: "+name+"\nVersion: 1\n"))
		}
		d.AddDeb("main", archivetest.Deb(t, "Package: podman\nVersion: 5.4.2\n"))
	}
}

// newStall makes an archive and a recipe whose containers are as said. In a store that another
// built in, the packages are installed already.
func newStall(t testing.TB, store, recipe string) *tiny {
	t.Helper()
	d := newRealTiny(t, "packages: [dpkg, dash, hello]\ncontainers:\n"+recipe, runtimeOf(t), deb(t, "Package: hello\nVersion: 1\n"))
	if store != "" {
		d.store = store
	}
	return d
}

// lockText is the lock beside the recipe, empty where there is none.
func (d *tiny) lockText(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, "tiny.lock.yml"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

func (d *tiny) file(ext string) string { return filepath.Join(d.out, "tiny_0_amd64"+ext) }

// clearLine is how long an error may be.
const clearLine = 600 // bytes

// oneClearLine checks that a refusal fits on a line and says nothing twice.
func oneClearLine(t testing.TB, d *tiny, r result) {
	t.Helper()
	line, _ := r.problem()
	if strings.Contains(line, d.recipe+":") && !strings.HasPrefix(line, d.recipe+":") {
		t.Errorf("the error does not begin with the place in the recipe: %s", line)
	}
	if len(line) > clearLine {
		t.Errorf("the error has %d bytes: %s", len(line), line)
	}
	var parts []string
	for part := range strings.SplitSeq(line, ": ") {
		if len(part) > 3 && slices.Contains(parts, part) {
			t.Errorf("the error says %q twice: %s", part, line)
		}
		parts = append(parts, part)
	}
}
