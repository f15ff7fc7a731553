package registry

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
)

// TestSkopeoSeesTheSameImage asks skopeo (Debian package skopeo) what the
// registry has and what was pulled from it.
func TestSkopeoSeesTheSameImage(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is missing: install the Debian package skopeo")
	}
	h := newHub(t)
	images := map[containers.Platform]*fixture{amd64: h.image(t, "team/web", "", amd64, false, 1), arm64: h.image(t, "team/web", "", arm64, false, 9)}
	h.index(t, "team/web", "1.4", images, amd64, arm64)
	h.image(t, "team/old", "2", amd64, true, 20)
	for _, ref := range []string{h.Host() + "/team/web:1.4", h.Host() + "/team/old:2"} {
		c, dir := newClient(t)
		pin, err := pull(t, c, ref, amd64)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), skopeo, "inspect", "--tls-verify=false", "--override-arch", "amd64", "docker://"+ref).Output()
		if err != nil {
			t.Fatalf("skopeo inspect: %v", err)
		}
		var seen struct {
			Name, Digest, Architecture, Os string
			Layers                         []containers.Digest
		}
		if err := json.Unmarshal(out, &seen); err != nil {
			t.Fatal(err)
		}
		top := pin.Manifest
		if pin.Index != "" {
			top = pin.Index
		}
		var layers []containers.Digest
		for _, l := range pin.Layers {
			layers = append(layers, l.Digest)
		}
		if name, _, _ := strings.Cut(pin.Reference, ":1.4"); seen.Name != strings.TrimSuffix(name, ":2") || seen.Digest != string(top) || seen.Os+"/"+seen.Architecture != pin.Platform.String() || !slices.Equal(seen.Layers, layers) {
			t.Errorf("skopeo sees %+v, pinned is %+v", seen, pin)
		}

		// What lies in the folder is what skopeo brings itself.
		copied := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.CommandContext(t.Context(), skopeo, "copy", "--src-tls-verify=false", "--override-arch", "amd64", "docker://"+ref, "dir:"+copied).CombinedOutput(); err != nil {
			t.Fatalf("skopeo copy: %v: %s", err, out)
		}
		for _, digest := range append(layers, pin.Config.Digest) {
			mine := filepath.Join(dir, "sha256", digest.Hex())
			if out, err := exec.Command("cmp", mine, filepath.Join(copied, digest.Hex())).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", digest, err, out)
			}
		}
		if out, err := exec.Command("cmp", filepath.Join(dir, "sha256", pin.Manifest.Hex()), filepath.Join(copied, "manifest.json")).CombinedOutput(); err != nil {
			t.Errorf("manifest: %v: %s", err, out)
		}
	}
}

// TestSkopeoNamesImagesTheSame: a name's completed form is what skopeo takes
// it for.
func TestSkopeoNamesImagesTheSame(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is missing: install the Debian package skopeo")
	}
	for _, text := range []string{"localhost:1/web", "localhost:1/a/b-c__d:1.2", "localhost:1/Web", "localhost:1/a//b", "localhost:1/a/-b", "localhost:1/web:-x"} {
		out, err := exec.CommandContext(t.Context(), skopeo, "inspect", "--tls-verify=false", "--no-creds", "docker://"+text).CombinedOutput()
		if err == nil {
			t.Fatalf("%s: nobody should answer", text)
		}
		invalid := strings.Contains(string(out), "invalid reference format") || strings.Contains(string(out), "must be lowercase")
		if _, err := ParseReference(text); (err != nil) != invalid {
			t.Errorf("%s: skopeo says %s, here it is %v", text, strings.TrimSpace(string(out)), fmt.Sprint(err))
		}
	}
}
