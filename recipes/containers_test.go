package recipes_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

const containers = `containers:
  runtime: podman
  images:
    - registry.example.com/db@sha256:` + digest + `
    - ref: registry.example.com/web:1.4
      platform: linux/arm64
    - layout: ./out/app-oci
    - {layout: tool.tar, name: "example.com/tool:2", verify: none}
  verify: {keys: cosign.pub}
  plain_http: [registry.lan:5000]
  run:
    - name: db
      image: registry.example.com/db@sha256:` + digest + `
    - name: web
      image: registry.example.com/web:1.4
      command: serve --title 'two words' "a \"b\""
      entrypoint: [/usr/bin/app]
      ports: ["80:8080", "127.0.0.1:81:81/udp", "[::1]:82:82"]
      volumes: ["/data/web:/srv:Z", "cache:/cache"]
      environment: {MODE: production, PORT: 8080, EMPTY: ""}
      environment_file: /etc/appliance/web.env
      secrets: [db-password]
      after: [db]
      health: {command: "curl -f localhost:8080/health", interval: 10s}
      restart: no
      read_only: true
      memory: 512M
      cpus: 1.5
    - {name: app, image: localhost/app-oci, health: "true"}
`

const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestContainersAreReadWithTheirDefaults(t *testing.T) {
	r, err := recipes.Load("dir/r.yml", recipes.Options{Architecture: "arm64", ReadFile: files{"dir/r.yml": head + containers}.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(r.Containers, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"pull": "never"`, `"ref": "registry.example.com/db@sha256:` + digest + `"`, `"platform": "linux/arm64"`, `"name": "localhost/app-oci:latest"`,
		`"127.0.0.1:81:81/udp"`, `"[::1]:82:82/tcp"`, `"/data/web:/srv:Z"`, `"PORT": "8080"`, `"EMPTY": ""`, `"interval": "10s"`, `"timeout": "30s"`, `"restart": "always"`, `"retries": 3`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if web := r.Containers.Run[1]; fmt.Sprintf("%q", web.Command) != `["serve" "--title" "two words" "a \"b\""]` {
		t.Errorf("command: %q", web.Command)
	}
}

func TestWithoutContainersThereAreNone(t *testing.T) {
	if r := load(t, files{"r.yml": head}); r.Containers != nil {
		t.Errorf("containers of a recipe without: %+v", r.Containers)
	}
}
