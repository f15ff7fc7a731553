package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
)

func TestBadRegistryGivesOneClearLine(t *testing.T) {
	status := func(code int) func(*hub, *fixture) http.HandlerFunc {
		return func(*hub, *fixture) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				w.Write([]byte(`{"errors":[{"code":"DENIED","message":"your password is hunter2\nreally"}]}`))
			}
		}
	}
	changed := func(change func([]byte) []byte) func(*hub, *fixture) http.HandlerFunc {
		return func(h *hub, _ *fixture) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				header, data := h.body(r)
				w.Header().Set("Content-Type", header.Get("Content-Type"))
				w.Header().Set("Docker-Content-Digest", header.Get("Docker-Content-Digest"))
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush() // no length is announced
				w.Write(change(bytes.Clone(data)))
			}
		}
	}
	flipped := changed(func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
	longer := changed(func(data []byte) []byte { return append(data, make([]byte, 1<<20)...) })
	shorter := changed(func(data []byte) []byte { return data[:len(data)-1] })
	silent := func(h *hub, _ *fixture) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	}
	stalled := func(h *hub, _ *fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}
	endless := func(*hub, *fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
	}
	loop := func(h *hub, _ *fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}
	}
	plain := func(h *hub, _ *fixture) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://registry.example.com"+r.URL.Path, http.StatusTemporaryRedirect)
		}
	}
	for _, test := range []struct {
		name, part string // layer stands for the second layer's path
		fault      func(*hub, *fixture) http.HandlerFunc
		want       error
		requests   int // for part, at the most
		says       string
	}{
		{"unknown tag", "/manifests/", status(404), ErrNotFound, 1, "404"},
		{"unauthorized", "/manifests/", status(401), ErrUnauthorized, 1, "log in"},
		{"forbidden", "/manifests/", status(403), ErrUnauthorized, 1, "403"},
		{"forbidden at once", "/v2/", status(403), ErrUnauthorized, 3, "403"},
		{"failing", "/manifests/", status(500), ErrUnreachable, 5, "in attempt 5"},
		{"damaged manifest", "/manifests/", flipped, ErrDigest, 2, "sha256:"},
		{"cut-off manifest", "/manifests/", shorter, ErrDigest, 2, "sha256:"},
		{"endless manifest", "/manifests/", endless, ErrDigest, 2, "more than"},
		{"silent", "/v2/", silent, ErrTimeout, 6, "nothing came for 300ms"},
		{"silent manifest", "/manifests/", silent, ErrTimeout, 2, "nothing came for 300ms"},
		{"stalled manifest", "/manifests/", stalled, ErrTimeout, 2, "nothing came for 300ms"},
		{"redirects", "/manifests/", loop, ErrUnreachable, 7, "redirects"},
		{"plain HTTP elsewhere", "/manifests/", plain, ErrPlainHTTP, 1, "HTTPS"},
		{"lost config", "config", status(404), ErrNotFound, 1, "config sha256:"},
		{"damaged config", "config", flipped, ErrDigest, 2, "config sha256:"},
		{"lost layer", "layer", status(404), ErrNotFound, 1, "layer sha256:"},
		{"forbidden layer", "layer", status(403), ErrUnauthorized, 1, "layer sha256:"},
		{"failing layer", "layer", status(502), ErrUnreachable, 5, "layer sha256:"},
		{"damaged layer", "layer", flipped, ErrDigest, 2, "its bytes have sha256:"},
		{"longer layer", "layer", longer, ErrDigest, 2, "more than"},
		{"endless layer", "layer", endless, ErrDigest, 2, "more than"},
		{"silent layer", "layer", silent, ErrTimeout, 2, "nothing came for 300ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			f := h.image(t, "web", "1", amd64, false, 1)
			part := test.part
			switch part {
			case "layer":
				part = string(containers.DigestOf(f.layers[1]))
			case "config":
				part = string(containers.DigestOf(f.config))
			}
			h.setFault(part, test.fault(h, f))
			c, dir := newClient(t)
			if test.want == ErrTimeout {
				c.Stall = 300 * time.Millisecond
			}
			c.Parallel = 1 // so that no other layer is broken off and kept
			_, err := pull(t, c, h.Host()+"/web:1", amd64)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			oneLine(t, err, h.Host()+"/web:1", "registry "+h.Host(), test.says)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the registry's own words are repeated")
			}
			if n := h.asked(part); n > test.requests {
				t.Errorf("asked %d times, at most %d are wanted", n, test.requests)
			}
			if n := left(t, dir); n != 0 {
				t.Errorf("%d partial files left", n)
			}
		})
	}
}

func TestCutOffLayerSaysWhereItEnds(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	h.setFault(string(containers.DigestOf(f.layers[1])), func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		_, data := h.body(r)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		w.Write(data[:1000])
	})
	c, _ := newClient(t)
	_, err := pull(t, c, h.Host()+"/web:1", amd64)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	oneLine(t, err, "ends after 1000 of ", h.Host())
}

func TestHostThatIsNotThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(server.URL, "http://")
	server.Close()
	c, _ := newClient(t)
	_, err := c.Resolve(t.Context(), host+"/web:1", amd64)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	oneLine(t, err, host, "refused")
}

func TestSlowManifestIsGivenUp(t *testing.T) {
	h := newHub(t)
	h.image(t, "web", "1", amd64, false, 1)
	h.setFault("/manifests/", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	c, _ := newClient(t)
	c.Limit = 400 * time.Millisecond
	_, err := c.Resolve(t.Context(), h.Host()+"/web:1", amd64)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	oneLine(t, err, h.Host(), "more than 400ms")
}

func TestImageForAnotherPlatform(t *testing.T) {
	h := newHub(t)
	images := map[containers.Platform]*fixture{
		amd64: h.image(t, "web", "", amd64, false, 1), armV7: h.image(t, "web", "", armV7, false, 9),
	}
	h.index(t, "web", "1", images, amd64, armV7)
	h.image(t, "single", "1", amd64, false, 1)
	for _, test := range []struct {
		ref      string
		platform containers.Platform
		says     string
	}{
		{"/web:1", arm64, "linux/arm64 is wanted, it is for linux/amd64, linux/arm/v7"},
		{"/web:1", containers.Platform{}, "linux/amd64, linux/arm/v7"},
		{"/single:1", arm64, "linux/arm64 is wanted, it is for linux/amd64"},
	} {
		c, _ := newClient(t)
		_, err := c.Resolve(t.Context(), h.Host()+test.ref, test.platform)
		if !errors.Is(err, ErrPlatform) {
			t.Errorf("got %v", err)
		}
		oneLine(t, err, h.Host()+test.ref, test.says)
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	bad := func(tag, mediaType string, doc object) {
		h.put(t, http.MethodPut, "/v2/web/manifests/"+tag, mediaType, encode(t, doc))
	}
	config := descriptor(containers.TypeOCIConfig, f.config)
	layer := descriptor(containers.TypeOCILayer, f.layers[0])
	foreign := descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", f.layers[0])
	bad("both", containers.TypeOCIIndex, object{"schemaVersion": 2, "manifests": []object{}, "layers": []object{layer}})
	bad("empty", containers.TypeOCIManifest, object{"schemaVersion": 2, "config": config, "layers": []object{}})
	bad("foreign", containers.TypeOCIManifest, object{"schemaVersion": 2, "config": config, "layers": []object{foreign, foreign, foreign}})
	bad("artifact", containers.TypeOCIManifest, object{"schemaVersion": 2, "config": descriptor("application/vnd.cncf.helm.config.v1+json", f.config), "layers": []object{layer, layer, layer}})
	for _, tag := range []string{"both", "empty", "foreign", "artifact"} {
		c, _ := newClient(t)
		_, err := c.Resolve(t.Context(), h.Host()+"/web:"+tag, amd64)
		if !errors.Is(err, containers.ErrFormat) {
			t.Errorf("%s: got %v", tag, err)
		}
		oneLine(t, err, h.Host()+"/web:"+tag)
	}
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	origin, mirror := newHub(t), newHub(t)
	f := origin.image(t, "team/web", "1", amd64, false, 1)
	mirror.image(t, "copy/web", "1", amd64, false, 1)
	conf := "[[registry]]\nprefix = \"registry.example.com/team\"\nlocation = \"" + origin.Host() + "/team\"\n" +
		"[[registry.mirror]]\nlocation = \"" + mirror.Host() + "/copy\"\n"
	mirrors, err := ParseMirrors("registries.conf", []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	const ref = "registry.example.com/team/web:1"
	c, _ := newClient(t)
	c.Mirrors = mirrors
	pin, err := pull(t, c, ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	has(t, c, f)
	if pin.Reference != ref || origin.asked("") != 0 {
		t.Errorf("%s came from the registry itself", pin.Reference)
	}

	t.Run("one that has it not", func(t *testing.T) {
		mirror.setFault("/manifests/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
		c, _ := newClient(t)
		c.Mirrors = mirrors
		if _, err := pull(t, c, ref, amd64); err != nil {
			t.Fatal(err)
		}
		has(t, c, f)
	})
	t.Run("one that breaks off", func(t *testing.T) {
		var n atomic.Int32
		mirror.setFault("/blobs/", func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) > 8 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			mirror.cut(w, r, 100)
		})
		c, dir := newClient(t)
		c.Mirrors = mirrors
		if _, err := pull(t, c, ref, amd64); err != nil {
			t.Fatal(err)
		}
		has(t, c, f)
		if n := left(t, dir); n != 0 {
			t.Errorf("%d partial files left", n)
		}
	})
	t.Run("one that is down is asked no more", func(t *testing.T) {
		mirror.setFault("/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
		c, _ := newClient(t)
		c.Mirrors = mirrors
		c.Retries = -1
		mirror.asked("")
		if _, err := pull(t, c, ref, amd64); err != nil {
			t.Fatal(err)
		}
		if n := mirror.asked(""); n > 2 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("both fail", func(t *testing.T) {
		origin.setFault("/manifests/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
		c, _ := newClient(t)
		c.Mirrors = mirrors
		_, err := c.Resolve(t.Context(), ref, amd64)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		oneLine(t, err, ref, origin.Host(), "mirror "+mirror.Host())
	})
}

func TestWaitThatIsCancelledEndsThePull(t *testing.T) {
	h := newHub(t)
	h.setFault("/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := newClient(t)
	c.Wait = nil
	c.Backoff = time.Hour
	c.Progress = func(Event) { cancel() }
	if _, err := c.Resolve(ctx, h.Host()+"/web:1", amd64); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
