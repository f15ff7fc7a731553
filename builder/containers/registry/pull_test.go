package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
)

func TestImageOfAPlatformIsPulled(t *testing.T) {
	h := newHub(t)
	images := map[containers.Platform]*fixture{}
	for i, p := range []containers.Platform{amd64, arm64, armV7} {
		images[p] = h.image(t, "team/web", "", p, false, uint64(i)*10)
	}
	index := h.index(t, "team/web", "1.4", images, amd64, arm64, armV7)
	single := h.image(t, "single", "2", amd64, true, 100)
	name := h.Host() + "/team/web"
	for _, test := range []struct {
		ref, shown string
		platform   containers.Platform
		want       *fixture
		index      containers.Digest
	}{
		{name + ":1.4", name + ":1.4", amd64, images[amd64], containers.DigestOf(index)},
		{name + ":1.4", name + ":1.4", arm64, images[arm64], containers.DigestOf(index)},
		{name + ":1.4", name + ":1.4", armV7, images[armV7], containers.DigestOf(index)},
		{name + "@" + string(containers.DigestOf(index)), name + "@" + string(containers.DigestOf(index)), arm64, images[arm64], containers.DigestOf(index)},
		{name + ":any@" + string(images[arm64].digest()), name + ":any", arm64, images[arm64], ""},
		{h.Host() + "/single:2", h.Host() + "/single:2", amd64, single, ""},
		{h.Host() + "/single:2", h.Host() + "/single:2", containers.Platform{}, single, ""},
	} {
		t.Run(test.ref+" for "+test.platform.String(), func(t *testing.T) {
			c, dir := newClient(t)
			pin, err := pull(t, c, test.ref, test.platform)
			if err != nil {
				t.Fatal(err)
			}
			if pin.Reference != test.shown || pin.Manifest != test.want.digest() || pin.Index != test.index || len(pin.Layers) != len(test.want.layers) {
				t.Errorf("pinned %+v", pin)
			}
			if test.platform != (containers.Platform{}) && pin.Platform != test.platform {
				t.Errorf("for %v", pin.Platform)
			}
			has(t, c, test.want)
			img, err := Image(t.Context(), c.Blobs, pin.Manifest)
			if err != nil || img.ID != pin.Config.Digest || img.Labels["a"] != "b" {
				t.Errorf("image %+v, %v", img, err)
			}
			if n := left(t, dir); n != 0 {
				t.Errorf("%d partial files left", n)
			}
		})
	}
}

func TestEachLayerComesOnce(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	c, dir := newClient(t)
	var cached atomic.Int32
	c.Progress = func(e Event) {
		if e.Cached {
			cached.Add(1)
		}
	}
	pin, err := pull(t, c, h.Host()+"/web:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if n := h.asked("/blobs/"); n != len(f.layers)+1 {
		t.Errorf("%d blobs were asked for, there are %d", n, len(f.layers)+1)
	}
	if err := clientIn(t, dir).Fetch(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(t.Context(), pin); err != nil || cached.Load() != int32(len(f.layers)) {
		t.Errorf("again: %d cached, %v", cached.Load(), err)
	}
	if n := h.asked(""); n != 0 {
		t.Errorf("%d requests for what is there", n)
	}
}

func TestTwoClientsShareAFolder(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	dir := t.TempDir()
	var wait sync.WaitGroup
	for range 4 {
		c := clientIn(t, dir)
		wait.Go(func() {
			if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	has(t, clientIn(t, dir), f)
	if n := h.asked("/blobs/"); n != len(f.layers)+1 {
		t.Errorf("%d blobs were asked for, there are %d", n, len(f.layers)+1)
	}
}

func TestOffline(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	c, dir := newClient(t)
	pin, err := pull(t, c, h.Host()+"/web:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	h.asked("")
	c = clientIn(t, dir)
	c.Offline = true
	if err := c.Fetch(t.Context(), pin); err != nil {
		t.Error(err)
	}
	if again, err := c.Resolve(t.Context(), h.Host()+"/web:1@"+string(pin.Manifest), amd64); err != nil || again.Manifest != pin.Manifest {
		t.Errorf("by digest: %v, %v", again, err)
	}
	if _, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64); !errors.Is(err, ErrOffline) {
		t.Errorf("by tag: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "sha256", containers.DigestOf(f.layers[0]).Hex())); err != nil {
		t.Fatal(err)
	}
	err = c.Fetch(t.Context(), pin)
	if !errors.Is(err, ErrOffline) {
		t.Errorf("without a layer: %v", err)
	}
	oneLine(t, err, string(containers.DigestOf(f.layers[0])))
	if n := h.asked(""); n != 0 || left(t, dir) != 0 {
		t.Errorf("%d requests, %d partial files left", n, left(t, dir))
	}
}

func TestDamagedBlobIsBroughtAgain(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	c, dir := newClient(t)
	pin, err := pull(t, c, h.Host()+"/web:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{f.manifest, f.config, f.layers[1]} {
		path := filepath.Join(dir, "sha256", containers.DigestOf(data).Hex())
		data = append([]byte(nil), data...)
		data[10] ^= 1
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c = clientIn(t, dir)
	if f, err := c.Blobs.Open(t.Context(), containers.DigestOf(f.layers[1])); !errors.Is(err, blobs.ErrCorrupt) {
		f.Close()
		t.Fatalf("a damaged layer: %v", err)
	}
	if err := c.Fetch(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	has(t, c, f)
}

// cut sends the first n bytes of a blob, from where it is asked for, and breaks
// the connection.
func (h *hub) cut(w http.ResponseWriter, r *http.Request, n int) {
	rec := httptest.NewRecorder()
	h.serve(rec, r)
	for key, values := range rec.Result().Header {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestLayerThatBreaksOffIsContinued(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	layer := string(containers.DigestOf(f.layers[1]))
	var ranges []string
	h.setFault(layer, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		h.cut(w, r, 100_000)
	})
	c, dir := newClient(t)
	pin, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	// Each attempt brings 100 kB and so counts as none: it comes in the end,
	// though it breaks off more often than is allowed.
	c.Retries = 1
	if err := c.Fetch(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	if len(ranges) < 4 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=100000-") || !strings.HasPrefix(ranges[3], "bytes=300000-") {
		t.Errorf("asked for %q", ranges)
	}
	has(t, c, f)
	if n := left(t, dir); n != 0 {
		t.Errorf("%d partial files left", n)
	}
}

func TestNextRunContinuesALayer(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	layer := string(containers.DigestOf(f.layers[1]))
	var first atomic.Bool
	h.setFault(layer, func(w http.ResponseWriter, r *http.Request) {
		if first.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.cut(w, r, 50_000)
	})
	c, dir := newClient(t)
	c.Parallel = 1
	_, err := pull(t, c, h.Host()+"/web:1", amd64)
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	oneLine(t, err, h.Host(), layer, "503")
	var asked string
	h.setFault(layer, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Range")
		h.serve(w, r)
	})
	c = clientIn(t, dir)
	if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(asked, "bytes=50000-") {
		t.Errorf("continued with %q", asked)
	}
	has(t, c, f)
}

// A part that an earlier attempt left may be another's bytes: the registry is
// not blamed for it.
func TestPartThatDoesNotFitIsFetchedAnew(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	c, dir := newClient(t)
	part := filepath.Join(dir, "partial", containers.DigestOf(f.layers[0]).Hex())
	if err := os.WriteFile(part, make([]byte, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
		t.Fatal(err)
	}
	has(t, c, f)
}

// What a registry may do with a range that it is asked for.
func TestRegistryThatKnowsNoRanges(t *testing.T) {
	for name, answer := range map[string]func(h *hub, w http.ResponseWriter, r *http.Request){
		"sends all": func(h *hub, w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			h.serve(w, r)
		},
		"sends all without a length": func(h *hub, w http.ResponseWriter, r *http.Request) {
			_, data := h.body(r)
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			w.Write(data)
		},
		"refuses": func(h *hub, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			h.serve(w, r)
		},
		"sends another range": func(h *hub, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=7-99")
			}
			h.serve(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			f := h.image(t, "web", "1", amd64, false, 1)
			var n atomic.Int32
			h.setFault(string(containers.DigestOf(f.layers[1])), func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 1 {
					h.cut(w, r, 1000)
				}
				answer(h, w, r)
			})
			c, dir := newClient(t)
			if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
				t.Fatal(err)
			}
			has(t, c, f)
			if n := left(t, dir); n != 0 {
				t.Errorf("%d partial files left", n)
			}
		})
	}
}

// Faults of a registry, drawn by seed, that a pull gets over: the bytes that
// come are the same as ever.
func TestPullFromABadRegistryBringsTheSame(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	other := httptest.NewServer(http.HandlerFunc(h.serve))
	defer other.Close()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 1))
			bad := map[string]int{}
			h.setFault("/v2/web/", func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				kind, at, pause := random.IntN(8), random.IntN(200_000), time.Duration(random.IntN(20))*time.Millisecond
				bad[r.URL.Path]++
				healed := bad[r.URL.Path] > 3
				mu.Unlock()
				time.Sleep(pause)
				if healed {
					kind = 7
				}
				switch kind {
				case 0:
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(http.StatusTooManyRequests)
				case 1:
					w.WriteHeader(http.StatusBadGateway)
				case 2, 3:
					h.cut(w, r, at)
				case 4:
					http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
				case 5:
					r.Header.Del("Range")
					h.serve(w, r)
				default:
					h.serve(w, r)
				}
			})
			defer h.heal()
			c, dir := newClient(t)
			if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
				t.Fatal(err)
			}
			has(t, c, f)
			if n := left(t, dir); n != 0 {
				t.Errorf("%d partial files left", n)
			}
		})
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	h := newHub(t)
	h.image(t, "web", "1", amd64, false, 1)
	var n atomic.Int32
	h.setFault("/manifests/", func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			h.serve(w, r)
		}
	})
	c, _ := newClient(t)
	c.Backoff = time.Second
	var waits []time.Duration
	c.Wait = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		return nil
	}
	if _, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64); err != nil {
		t.Fatal(err)
	}
	if len(waits) != 2 || waits[0] != 7*time.Second || waits[1] != 2*time.Second {
		t.Errorf("waited %v", waits)
	}
	h.setFault("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64)
	oneLine(t, err, h.Host(), "429", "24h")
}

func TestCancelledPullEndsAtOnce(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	ctx, cancel := context.WithCancel(t.Context())
	h.setFault(string(containers.DigestOf(f.layers[0])), func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	c, _ := newClient(t)
	c.Stall = time.Minute
	pin, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(ctx, pin); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "\n") {
		t.Error(err)
	}
}
