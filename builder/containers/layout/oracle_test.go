package layout_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/pack"
)

// skopeo runs it with a policy that accepts what has no signature.
func skopeo(t testing.TB, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("SKIPPED: skopeo is missing (Debian: skopeo)")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy", "--override-os=linux", "--override-arch=amd64"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("skopeo %q: %v: %s", args, err, stderr.String())
	}
	return stdout.Bytes()
}

// skopeo finds each image by its name in what is written here, and reads all of
// it.
func TestSkopeoReadsWhatIsWritten(t *testing.T) {
	blobs := memory{}
	images := []layout.Named{
		{Name: "registry.example.com/web:1.4", Image: blobs.image(t, amd64, pack.Gzip, "base", "web")},
		{Name: "docker.io/library/db:1", Image: blobs.image(t, amd64, pack.Zstd, "base", "db")},
	}
	var docker bytes.Buffer
	try(t, layout.WriteDocker(t.Context(), &docker, images, blobs.open, clock))
	folder := t.TempDir()
	try(t, layout.WriteFolder(t.Context(), folder, images, blobs.open, clock))
	archive := blobs.archive(t, images...)
	for _, from := range []string{"oci:" + folder, "oci-archive:" + archive, "docker-archive:" + write(t, docker.Bytes()), "docker-archive:" + archive} {
		for _, named := range images {
			to := t.TempDir()
			skopeo(t, "copy", from+":"+named.Name, "dir:"+to)
			config, err := os.ReadFile(filepath.Join(to, named.Image.ID.Hex()))
			try(t, err)
			if !bytes.Equal(config, named.Image.Config) {
				t.Errorf("%s: %s has another config", from, named.Name)
			}
			if from[:3] != "oci" {
				continue
			}
			manifest, err := os.ReadFile(filepath.Join(to, "manifest.json"))
			try(t, err)
			if !bytes.Equal(manifest, named.Image.Manifest) {
				t.Errorf("%s: %s has the manifest %s", from, named.Name, manifest)
			}
		}
	}
}

// What skopeo writes is read, and its images are those that skopeo reads there.
func TestWhatSkopeoWritesIsRead(t *testing.T) {
	blobs := memory{}
	img := blobs.image(t, amd64, pack.Gzip, "base", "web")
	from := "oci-archive:" + blobs.archive(t, layout.Named{Name: "web:1", Image: img})
	for _, c := range []struct{ transport, name string }{
		{"oci", ":web:1"}, {"oci-archive", ":web:1"}, {"docker-archive", ":registry.example.com/web:1"}, {"oci", ""},
	} {
		path := filepath.Join(t.TempDir(), "image")
		skopeo(t, "copy", from, c.transport+":"+path+c.name)
		f := open(t, path)
		found, err := f.Choose(amd64, "")
		try(t, err)
		if f.Transport() != c.transport || len(found.Names) > 0 != (c.name != "") {
			t.Errorf("%s: read as %s, names %q", c.transport, f.Transport(), found.Names)
		}
		into := memory{}
		try(t, f.Import(t.Context(), found, into))
		if found.Image.ID != img.ID {
			t.Errorf("%s: the image is %s, want %s", c.transport, found.Image.ID, img.ID)
		}
		if seen := skopeo(t, "inspect", "--raw", c.transport+":"+path+c.name); !bytes.Equal(found.Image.Manifest, seen) {
			t.Errorf("%s: the manifest is %s, skopeo's is %s", c.transport, found.Image.Manifest, seen)
		}
	}
}
