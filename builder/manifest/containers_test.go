package manifest_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
	"github.com/applbuild/applbuild/builder/manifest"
)

func digest(digits string) string { return "sha256:" + strings.Repeat(digits, 32) }

const webSBOM = `{"spdxVersion":"SPDX-2.3","documentNamespace":"https://example.com/spdx/web-1.4"}`

// host is an appliance with three container images, given in no order.
func host(t *testing.T) *manifest.Manifest {
	t.Helper()
	m := sample(t)
	web := manifest.NewContainer(&containers.Image{
		Digest: containers.Digest(digest("0a")), ID: containers.Digest(digest("0b")), Platform: containers.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
		Created: time.Date(2026, 2, 1, 12, 0, 0, 0, time.FixedZone("elsewhere", 3600)), Labels: map[string]string{"org.opencontainers.image.title": "web", "a": "b"},
		Layers: []containers.Layer{
			{Digest: containers.Digest(digest("0c")), DiffID: containers.Digest(digest("0d")), MediaType: containers.TypeOCILayerGzip, Size: 1234},
			{Digest: containers.Digest(digest("0e")), DiffID: containers.Digest(digest("0f")), MediaType: containers.TypeOCILayerZstd, Size: 56},
		},
	})
	web.Names = []string{"registry.example.com/team/web:stable", "registry.example.com/team/web:1.4"}
	web.IndexDigest, web.Source, web.Runtime = digest("1a"), "registry.example.com", "podman"
	web.SignedBy = []string{digest("bb"), digest("aa")}
	var err error
	web.SBOM, err = manifest.NewSBOM(&attached.SBOM{MediaType: attached.TypeSPDX, Data: []byte(webSBOM), Digest: containers.DigestOf([]byte(webSBOM))}, "kiosk_1.0_amd64.web.spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	db := manifest.Container{
		Names: []string{"docker.io/library/db@" + digest("2a")}, Digest: digest("2a"), ID: digest("2b"), Platform: "linux/amd64", Source: "docker.io", Runtime: "podman",
		Layers: []manifest.Layer{{Digest: digest("2c"), DiffID: digest("2d"), Size: 7, MediaType: containers.TypeDockerLayerGz}},
	}
	db.SBOM, err = manifest.NewSBOM(&attached.SBOM{MediaType: attached.TypeCycloneDX, Data: []byte("{}"), Digest: containers.DigestOf([]byte("{}"))}, "kiosk_1.0_amd64.db.cdx.json")
	if err != nil {
		t.Fatal(err)
	}
	app := manifest.Container{Digest: digest("3a"), ID: digest("3b"), Platform: "linux/amd64", Source: "app-oci", Runtime: "podman"}
	m.Containers = []manifest.Container{web, app, db}
	return m
}

func TestManifestOfContainers(t *testing.T) {
	m := host(t)
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "host.manifest.json", data)
	again, err := manifest.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := again.Marshal(); err != nil || !bytes.Equal(back, data) {
		t.Errorf("read and written again it differs: %v\n%s", err, back)
	}
	slices.Reverse(m.Containers)
	if other, err := m.Marshal(); err != nil || !bytes.Equal(other, data) {
		t.Errorf("in another order it differs: %v", err)
	}
	if m.Containers[2].Names[0] != "registry.example.com/team/web:stable" {
		t.Error("the caller's names were sorted")
	}
	if plain, err := sample(t).Marshal(); err != nil || bytes.Contains(plain, []byte("containers")) {
		t.Errorf("without containers: %v\n%s", err, plain)
	}
}

func TestSPDXOfContainers(t *testing.T) {
	m := host(t)
	data, err := m.SPDX(options())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "host.spdx.json", data)
	check(t, data, 6)
	doc, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum([]byte(webSBOM))
	if refs := doc.ExternalDocumentReferences; len(refs) != 1 || refs[0].URI != "https://example.com/spdx/web-1.4" || refs[0].Checksum.Algorithm != common.SHA1 || refs[0].Checksum.Value != hex.EncodeToString(sum[:]) {
		t.Fatalf("references to documents: %+v", refs)
	}
	described := 0
	for _, r := range doc.Relationships {
		if r.Relationship == "DESCRIBED_BY" {
			described++
			if r.RefB.DocumentRefID != doc.ExternalDocumentReferences[0].DocumentRefID || r.RefB.ElementRefID != "DOCUMENT" {
				t.Errorf("%+v does not refer to %+v", r, doc.ExternalDocumentReferences[0])
			}
		}
	}
	images := map[string]bool{}
	for _, p := range doc.Packages {
		if p.PrimaryPackagePurpose != "CONTAINER" {
			continue
		}
		images[p.PackageName] = true
		if p.PackageName == "registry.example.com/team/web" {
			if p.PackageVersion != "1.4" || p.PackageChecksums[0].Value != strings.Repeat("0a", 32) || len(p.Annotations) != 9 {
				t.Errorf("%+v", p)
			}
		}
	}
	if described != 1 || len(images) != 3 {
		t.Errorf("%d described images of %v", described, images)
	}
	m.Containers = append(m.Containers, m.Containers[0])
	m.Containers[3].Runtime = "docker"
	if data, err = m.SPDX(options()); err != nil {
		t.Fatal(err)
	}
	check(t, data, 6)
}

func TestASBOMThatCannotBeReferredTo(t *testing.T) {
	for _, text := range []string{`{}`, `{"documentNamespace":"no uri"}`, `{"documentNamespace":"https://example.com/a#b"}`} {
		s, err := manifest.NewSBOM(&attached.SBOM{MediaType: attached.TypeSPDX, Data: []byte(text)}, "x")
		if err != nil || s.Namespace != "" || s.SHA1 != "" {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
	if _, err := manifest.NewSBOM(&attached.SBOM{MediaType: attached.TypeSPDX, Data: []byte("x")}, "x"); err == nil {
		t.Error("no JSON is described")
	}
}

func TestImagePURL(t *testing.T) {
	for _, test := range []struct {
		container manifest.Container
		want      string
	}{
		{manifest.Container{Names: []string{"registry.example.com:5000/team/Web:1.4"}, Digest: "sha256:ab", Platform: "linux/arm64/v8"},
			"pkg:oci/web@sha256:ab?arch=arm64&repository_url=registry.example.com:5000%2Fteam%2FWeb&tag=1.4"},
		{manifest.Container{Names: []string{"docker.io/library/debian@sha256:ab"}, Digest: "sha256:ab", Platform: "linux/amd64"},
			"pkg:oci/debian@sha256:ab?arch=amd64&repository_url=docker.io%2Flibrary%2Fdebian"},
		{manifest.Container{Source: "app-oci", Digest: "sha256:ab"}, "pkg:oci/app-oci@sha256:ab"},
		{manifest.Container{Digest: "sha256:ab"}, "pkg:oci/image@sha256:ab"},
	} {
		if got := manifest.ImagePURL(test.container); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}
