package main

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The containers of container-host are made of packages by the program itself,
// pushed to Debian's docker-registry, and laid down by it; the machine then runs
// them without any network, and passes the recipe's own tests.
func TestContainerHost(t *testing.T) {
	s := newShop(t)
	s.test(t, "container-host.yml")
}

// Docker has the same containers, also after volatile was wiped with all that
// docker keeps. Only APPLBUILD_SOAK asks for it: package docker has the short form.
func TestContainerHostOfDocker(t *testing.T) {
	if soakNumber(t, soakVariable, 0) == 0 {
		return
	}
	s := newShop(t)
	s.test(t, "container-host-docker.yml")
}

// A shop has the recipes of two containers and of the machines that run them.
type shop struct{ dir, store string }

func newShop(t *testing.T) *shop {
	t.Helper()
	d := built.disk(t)
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("SKIPPED: docker-registry is missing: install Debian's package docker-registry")
	}
	s := &shop{dir: t.TempDir(), store: d.store}
	copyDir(t, filepath.Join(moduleRoot, "recipes"), s.dir)
	locks, err := filepath.Glob(filepath.Join(s.dir, "*.lock.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range locks {
		removeAll(t, name)
	}
	host := startRegistry(t, program)
	// The recipes name the port that Debian's registry has by default.
	t.Setenv("CONTAINERS_REGISTRIES_CONF", writeFile(t, s.dir, "registries.conf",
		fmt.Sprintf("[[registry]]\nprefix = \"localhost:5000\"\nlocation = %q\ninsecure = true\n", host)))
	out := t.TempDir()
	for _, what := range []string{"db", "web"} {
		applbuild(t, "image", filepath.Join(s.dir, "container-"+what+".yml"), "--store", s.store, "--architecture", "amd64", "--output", out).succeeds(t)
		push(t, filepath.Join(out, "container-"+what+"_1_amd64.oci.tar"), host+"/shop/"+what+":1")
	}
	return s
}

// test builds a recipe's disk and runs its tests.
func (s *shop) test(t *testing.T, recipe string) {
	t.Helper()
	r := applbuild(t, "test", filepath.Join(s.dir, recipe), "--store", s.store, "--architecture", "amd64", "--console", t.TempDir())
	t.Log(r.stdout)
	r.succeeds(t)
}

// startRegistry runs a registry on a free port until the test ends.
func startRegistry(t *testing.T, program string) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := writeFile(t, dir, "config.yml", "version: 0.1\nstorage: {filesystem: {rootdirectory: "+filepath.Join(dir, "data")+"}}\nhttp: {addr: '"+host+"'}\n")
	cmd := exec.CommandContext(t.Context(), program, "serve", config)
	log := temporary(t)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 100 {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return host
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not answer\n%s", program, contents(t, log))
	return ""
}

// push puts the one image of an archive into a registry.
func push(t *testing.T, archive, reference string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := path.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}
