package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A hub that wants a login: by password for a token, or by password alone.
func guarded(t *testing.T, h *hub, bearer bool, user, password string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var tokens atomic.Int32
	h.fault = func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/token":
			if user != "" && (u != user || p != password) {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			tokens.Add(1)
			w.Write([]byte(`{"token":"secret-token"}`))
			return true
		case bearer && r.Header.Get("Authorization") == "Bearer secret-token", !bearer && u == user && p == password:
			return false
		case bearer:
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.URL+`/token",service="hub",scope="repository:web:pull"`)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		}
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte("you said " + r.Header.Get("Authorization")))
		return true
	}
}

type fixedKeychain struct{ config authn.AuthConfig }

func (k fixedKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(k.config), nil
}

func TestLogin(t *testing.T) {
	const password = "correct horse"
	good := authn.AuthConfig{Username: "ada", Password: password}
	wrong := authn.AuthConfig{Username: "ada", Password: "battery staple"}
	for _, test := range []struct {
		name     string
		bearer   bool
		user     string
		keychain authn.Keychain
		ok       bool
	}{
		{"anonymous token", true, "", nil, true},
		{"token for a password", true, "ada", fixedKeychain{good}, true},
		{"ready-made token", true, "ada", fixedKeychain{authn.AuthConfig{RegistryToken: "secret-token"}}, true},
		{"password", false, "ada", fixedKeychain{good}, true},
		{"wrong password for a token", true, "ada", fixedKeychain{wrong}, false},
		{"wrong password", false, "ada", fixedKeychain{wrong}, false},
		{"wrong token", true, "ada", fixedKeychain{authn.AuthConfig{RegistryToken: "battery staple"}}, false},
		{"no credentials", true, "ada", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t)
			f := h.image(t, "web", "1", amd64, false, 1)
			guarded(t, h, test.bearer, test.user, password)
			c, _ := newClient(t)
			c.Keychain = test.keychain
			var told strings.Builder
			c.Progress = func(e Event) {
				told.WriteString(e.Registry + e.Image)
				if e.Err != nil {
					told.WriteString(e.Err.Error())
				}
			}
			_, err := pull(t, c, h.Host()+"/web:1", amd64)
			if test.ok {
				if err != nil {
					t.Fatal(err)
				}
				has(t, c, f)
				return
			}
			if !errors.Is(err, ErrUnauthorized) {
				t.Errorf("got %v", err)
			}
			oneLine(t, err, h.Host(), "log in")
			for _, secret := range []string{password, "battery staple", "YWRh", "secret-token", "Bearer", "Basic "} {
				if strings.Contains(err.Error()+told.String(), secret) {
					t.Errorf("%q is told", secret)
				}
			}
		})
	}
}

// A token that expires while layers come is replaced.
func TestExpiredTokenIsReplaced(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	var epoch atomic.Int32
	h.fault = func(w http.ResponseWriter, r *http.Request) bool {
		now := "token-" + string(rune('a'+epoch.Load()/3))
		if r.URL.Path == "/token" {
			w.Write([]byte(`{"access_token":"` + now + `"}`))
			return true
		}
		if r.Header.Get("Authorization") == "Bearer "+now {
			epoch.Add(1)
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+h.URL+`/token",service="hub"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	c, _ := newClient(t)
	c.Parallel = 1
	if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
		t.Fatal(err)
	}
	has(t, c, f)
}

func TestCredentialsStayWithTheirHost(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	var leaked atomic.Bool
	var served atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			leaked.Store(true)
		}
		h.serve(w, r)
	}))
	defer other.Close()
	guarded(t, h, true, "ada", "correct horse")
	login := h.fault
	h.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if login(w, r) {
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other.URL+r.URL.Path+"?signature=abc", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	c, _ := newClient(t)
	c.Keychain = fixedKeychain{authn.AuthConfig{Username: "ada", Password: "correct horse"}}
	if _, err := pull(t, c, h.Host()+"/web:1", amd64); err != nil {
		t.Fatal(err)
	}
	has(t, c, f)
	if leaked.Load() || served.Load() == 0 {
		t.Errorf("%d requests were redirected, credentials were sent: %v", served.Load(), leaked.Load())
	}
}

// transportFunc answers without a network.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	h := newHub(t)
	f := h.image(t, "web", "1", amd64, false, 1)
	// Every host is the hub, and none speaks TLS.
	transport := transportFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme != "http" {
			return nil, http.ErrSchemeMismatch
		}
		r = r.Clone(r.Context())
		r.URL.Host = h.Host()
		return http.DefaultTransport.RoundTrip(r)
	})
	for _, test := range []struct {
		host  string
		plain []string
		conf  string
		ok    bool
	}{
		{"registry.example.com", nil, "", false},
		{"10.1.2.3:5000", nil, "", false},
		{"registry.example.com:5000", []string{"other.example.com"}, "", false},
		{"registry.example.com:5000", []string{"registry.example.com:5000"}, "", true},
		{"registry.example.com:5000", []string{"registry.example.com"}, "", true},
		{"registry.example.com", nil, "[[registry]]\nlocation=\"registry.example.com\"\ninsecure=true", true},
		{"localhost:5000", nil, "", true},
		{"[::1]:5000", nil, "", true},
	} {
		c, _ := newClient(t)
		c.Transport, c.PlainHTTP = transport, test.plain
		mirrors, err := ParseMirrors("registries.conf", []byte(test.conf))
		if err != nil {
			t.Fatal(err)
		}
		c.Mirrors = mirrors
		_, err = pull(t, c, test.host+"/web:1", amd64)
		if test.ok {
			if err != nil {
				t.Errorf("%s: %v", test.host, err)
				continue
			}
			has(t, c, f)
			continue
		}
		if !errors.Is(err, ErrPlainHTTP) {
			t.Errorf("%s: got %v", test.host, err)
		}
		oneLine(t, err, test.host)
	}
}
