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

func TestReferencesHaveOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"nginx":                         "docker.io/library/nginx:latest",
		"user/app:1":                    "docker.io/user/app:1",
		"docker.io/nginx":               "docker.io/library/nginx:latest",
		"index.docker.io/nginx":         "docker.io/library/nginx:latest",
		"localhost/app":                 "localhost/app:latest",
		"localhost:5000/app":            "localhost:5000/app:latest",
		"Registry.Example.com/a/b__c-d": "Registry.Example.com/a/b__c-d:latest",
		"[::1]:5000/app:x":              "[::1]:5000/app:x",
		"a.b/c@sha256:" + digest:        "a.b/c@sha256:" + digest,
		"a.b/c:1@sha256:" + digest:      "a.b/c:1@sha256:" + digest,
	} {
		ref, err := recipes.ParseReference(text)
		if err != nil || ref.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, ref, err, want)
		}
		if again, err := recipes.ParseReference(want); err != nil || again != ref {
			t.Errorf("the canonical form %s is read as %v, %v", want, again, err)
		}
	}
}

func TestImagesOfIncludedRecipesAreMergedByReference(t *testing.T) {
	r := load(t, files{
		"base.yml": head + `
containers:
  images: [{ref: nginx, platform: linux/arm64}, {layout: a/app.tar}]
  run: [{name: web, image: nginx, environment: {A: "1", B: "2"}, ports: ["80:80"], command: one two}]
`,
		"r.yml": `
include: base.yml
containers:
  images: [{ref: "docker.io/library/nginx:latest", platform: linux/amd64}, {layout: b/app.tar}, db]
  run: [{name: web, image: "docker.io/library/nginx", environment: {B: "3"}, ports: ["81:81"], command: three}, {name: db, image: db, after: [web]}]
`})
	c := r.Containers
	if len(c.Images) != 3 || c.Images[0].Platform != "linux/amd64" || c.Images[1].LayoutFile != "b/app.tar" {
		t.Errorf("images: %+v", c.Images)
	}
	if web := c.Run[0]; len(c.Run) != 2 || fmt.Sprint(web.Environment, web.Ports, web.Command) != "map[A:1 B:3] [80:80/tcp 81:81/tcp] [three]" {
		t.Errorf("run: %+v", c.Run)
	}
}

func TestAPinnedTagIsCalledByTheTag(t *testing.T) {
	r := load(t, files{"r.yml": head + `
containers:
  images: ["a.b/c:1@sha256:` + digest + `"]
  run: [{name: one, image: "a.b/c:1"}, {name: two, image: "a.b/c:1@sha256:` + digest + `"}, {name: three, image: "a.b/c@sha256:` + digest + `"}]
`})
	for _, run := range r.Containers.Run {
		if run.Image.String() != "a.b/c:1" {
			t.Errorf("%s runs %s", run.Name, run.Image)
		}
	}
}

func TestSignaturesAreAskedForWhereTheRecipeSays(t *testing.T) {
	r := load(t, files{"r.yml": strings.Replace(head+containers, "linux/arm64", "linux/amd64", 1)})
	for i, want := range []string{"[cosign.pub]", "[cosign.pub]", "", ""} {
		got := ""
		if v := r.Containers.Images[i].Verify; v != nil {
			got = fmt.Sprint(v.KeyFiles)
		}
		if got != want {
			t.Errorf("image %d is verified by %q, want %q", i, got, want)
		}
	}
}

func FuzzReference(f *testing.F) {
	for _, text := range []string{"nginx", "localhost:5000/a/b:1", "a@sha256:" + digest, "[::1]/x", "A/b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := recipes.ParseReference(text)
		if err != nil {
			return
		}
		again, err := recipes.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Errorf("%q is %q, which is read as %q, %v", text, ref, again, err)
		}
	})
}
