package main

import (
	"net/http"
	"testing"
	"testing/fstest"
)

// Where the environment names no proxy, packages come the way that the host's
// apt takes.
func TestProxyOfApt(t *testing.T) {
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"} {
		t.Setenv(name, "")
	}
	apt := fstest.MapFS{"apt.conf.d/proxy": {Data: []byte("Acquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::https::Proxy \"DIRECT\";\n")}}
	proxy := proxyFor(apt)
	for url, want := range map[string]string{
		"http://mirror.example/debian":  "http://proxy.example:3128",
		"https://mirror.example/debian": "",
		"http://127.0.0.1:8080/debian":  "",
		"http://localhost/debian":       "",
		"http://[::1]/debian":           "",
	} {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := proxy(r)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		if got != nil {
			text = got.String()
		}
		if text != want {
			t.Errorf("%s goes through %q, want %q", url, text, want)
		}
	}
	r, err := http.NewRequest("GET", "http://mirror.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := proxyFor(nil)(r); got != nil || err != nil {
		t.Errorf("without apt: %v, %v", got, err)
	}
}
