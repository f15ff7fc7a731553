package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/pack"
	"github.com/applbuild/applbuild/rootfs/tree"
)

var (
	clock = time.Unix(1_700_000_000, 0).UTC()
	amd64 = containers.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = containers.Platform{OS: "linux", Architecture: "arm64"}
)

// memory keeps blobs as builder/containers/blobs does.
type memory map[containers.Digest][]byte

func (m memory) Put(_ context.Context, digest containers.Digest, size int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if containers.DigestOf(data) != digest || int64(len(data)) != size {
		return fmt.Errorf("%d bytes of %s as %s with %d", len(data), containers.DigestOf(data), digest, size)
	}
	m[digest] = data
	return nil
}

func (m memory) open(_ context.Context, digest containers.Digest) (io.ReadCloser, error) {
	data, there := m[digest]
	if !there {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// image makes an image with a layer for each text.
func (m memory) image(t testing.TB, platform containers.Platform, compression pack.Compression, texts ...string) *containers.Image {
	t.Helper()
	var layers []containers.Layer
	for i, text := range texts {
		on := tree.New()
		try(t, on.WriteFile(fmt.Sprintf("file%d", i), []byte(text), 0o644, 0, 0))
		var b bytes.Buffer
		l, err := pack.WriteLayer(t.Context(), &b, on, clock, compression)
		try(t, err)
		layers, m[l.Digest] = append(layers, l), b.Bytes()
	}
	img, err := pack.Image(pack.Config{Platform: platform, Created: clock, History: texts}, layers)
	try(t, err)
	return img
}

// archive writes an oci-archive and returns its path.
func (m memory) archive(t testing.TB, images ...layout.Named) string {
	t.Helper()
	var b bytes.Buffer
	try(t, layout.WriteArchive(t.Context(), &b, images, m.open, clock))
	return write(t, b.Bytes())
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	try(t, os.WriteFile(name, data, 0o644))
	return name
}

func open(t testing.TB, name string) *layout.File {
	t.Helper()
	f, err := layout.Open(t.Context(), name, t.TempDir())
	try(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	try(t, errors.Join(err, z.Close()))
	return b.Bytes()
}

func zstdCompressed(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	try(t, err)
	return z.EncodeAll(data, nil)
}

// What is written is read back, in each form, and the second time it is the
// same bytes.
func TestWrittenImagesAreReadBack(t *testing.T) {
	blobs := memory{}
	images := []layout.Named{
		{Name: "registry.example.com/web:1.4", Image: blobs.image(t, amd64, pack.Gzip, "base", "web")},
		{Name: "registry.example.com/web:1.4", Image: blobs.image(t, arm64, pack.Gzip, "arm", "web")},
		{Name: "db:1", Image: blobs.image(t, amd64, pack.Zstd, "base", "db")},
		{Name: "registry.example.com/db:1", Image: blobs.image(t, amd64, pack.Zstd, "base", "db")},
	}
	var oci, again, docker bytes.Buffer
	try(t, layout.WriteArchive(t.Context(), &oci, images, blobs.open, clock))
	slices.Reverse(images)
	try(t, layout.WriteArchive(t.Context(), &again, images, blobs.open, clock))
	if !bytes.Equal(oci.Bytes(), again.Bytes()) {
		t.Error("the order of images is to be seen in the archive")
	}
	try(t, layout.WriteDocker(t.Context(), &docker, images, blobs.open, clock))
	folder := t.TempDir()
	try(t, layout.WriteFolder(t.Context(), folder, images, blobs.open, clock))
	for name, c := range map[string]struct {
		path, transport string
		isDocker        bool
	}{
		"folder":                   {folder, "oci", false},
		"archive":                  {write(t, oci.Bytes()), "oci-archive", false},
		"archive, gzip":            {write(t, gzipped(t, oci.Bytes())), "oci-archive", false},
		"archive, zstd":            {write(t, zstdCompressed(t, oci.Bytes())), "oci-archive", false},
		"docker-archive":           {write(t, docker.Bytes()), "docker-archive", true},
		"docker-archive, gzip":     {write(t, gzipped(t, docker.Bytes())), "docker-archive", true},
		"archive read as docker's": {write(t, without(t, oci.Bytes(), "oci-layout")), "docker-archive", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, c.path)
			if len(f.Images()) != 3 || f.Transport() != c.transport {
				t.Errorf("%s with the images %v", f.Transport(), f.Images())
			}
			found, err := f.Choose(amd64, "docker.io/library/db:1")
			try(t, err)
			if want := []string{"db:1", "docker.io/library/db:1", "registry.example.com/db:1"}; !isSubset(found.Names, want) {
				t.Errorf("names %q", found.Names)
			}
			into := memory{}
			try(t, f.Import(t.Context(), found, into))
			if len(into) != 4 || !bytes.Equal(into[found.Image.ID], images[0].Image.Config) {
				t.Errorf("%d blobs were imported", len(into))
			}
			if !c.isDocker && found.Image.Digest != images[0].Image.Digest {
				t.Errorf("digest %s, want %s", found.Image.Digest, images[0].Image.Digest)
			}
			for i, l := range found.Image.Layers {
				if want := images[0].Image.Layers[i].DiffID; l.DiffID != want || c.isDocker && l.Digest != want {
					t.Errorf("layer %d is %+v", i, l)
				}
			}
		})
	}
}

func isSubset(list, of []string) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(of, s) })
}

func TestChoice(t *testing.T) {
	blobs := memory{}
	one := blobs.image(t, amd64, pack.None, "one")
	two := blobs.image(t, arm64, pack.None, "two")
	three := blobs.image(t, amd64, pack.None, "three")
	f := open(t, blobs.archive(t, layout.Named{Name: "web:1", Image: one}, layout.Named{Name: "web:1", Image: two},
		layout.Named{Name: "registry.example.com:5000/db:2", Image: three}))
	for _, c := range []struct {
		platform containers.Platform
		name     string
		image    *containers.Image
		err      error
		words    string
	}{
		{arm64, "", two, nil, ""},
		{arm64, "web:1", two, nil, ""},
		{amd64, "docker.io/library/web:1", one, nil, ""},
		{amd64, "registry.example.com:5000/db:2", three, nil, ""},
		{amd64, "", nil, layout.ErrChoice, "docker.io/library/web:1 (linux/amd64), registry.example.com:5000/db:2 (linux/amd64): name one of them"},
		{amd64, "web", nil, layout.ErrNotFound, "it holds docker.io/library/web:1 (linux/amd64), docker.io/library/web:1 (linux/arm64), registry.example.com:5000/db:2 (linux/amd64)"},
		{containers.Platform{OS: "linux", Architecture: "riscv64"}, "web:1", nil, layout.ErrNotFound, "for linux/riscv64: it holds docker.io/library/web:1 (linux/amd64)"},
		{arm64, "registry.example.com:5000/db:2", nil, layout.ErrNotFound, "for linux/arm64"},
	} {
		found, err := f.Choose(c.platform, c.name)
		if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s for %s: error %v, want %s", c.name, c.platform, err, c.words)
		}
		if err == nil && found.Image.Digest != c.image.Digest {
			t.Errorf("%s for %s: another image", c.name, c.platform)
		}
	}
}

// An index of images for several platforms, as docker saves it with the blobs of
// one and an attestation, holds that one.
func TestIndexWithWhatIsNotThere(t *testing.T) {
	blobs := memory{}
	img, absent := blobs.image(t, amd64, pack.Gzip, "one"), blobs.image(t, arm64, pack.Gzip, "absent")
	var b bytes.Buffer
	try(t, layout.WriteArchive(t.Context(), &b, []layout.Named{{Image: img}}, blobs.open, clock))
	e := unpack(t, without(t, b.Bytes(), "manifest.json"))
	descriptor := func(mediaType string, data []byte, more string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, containers.DigestOf(data), len(data), more)
	}
	inner := []byte(`{"schemaVersion":2,"mediaType":"` + containers.TypeOCIIndex + `","manifests":[` + strings.Join([]string{
		descriptor(containers.TypeOCIManifest, img.Manifest, ""), descriptor(containers.TypeOCIManifest, absent.Manifest, ""),
		descriptor(containers.TypeOCIManifest, []byte("attestation"), `,"platform":{"os":"unknown","architecture":"unknown"}`),
	}, ",") + `]}`)
	e = append(e, &entry{tar.Header{Name: blob(containers.DigestOf(inner)), Mode: 0o644}, inner})
	e.find(t, "index.json").data = []byte(`{"schemaVersion":2,"manifests":[` + descriptor(containers.TypeOCIIndex, inner,
		`,"annotations":{"io.containerd.image.name":"docker.io/library/web:1","org.opencontainers.image.ref.name":"1"}`) + `]}`)
	f := open(t, write(t, e.pack(t)))
	if got := f.Images(); len(got) != 1 || got[0].Image.Digest != img.Digest || !reflect.DeepEqual(got[0].Names, []string{"docker.io/library/web:1", "1"}) {
		t.Errorf("images %+v", got)
	}
	for _, name := range []string{"web:1", "registry.example.com/other:1"} { // the second by its tag
		if _, err := f.Choose(amd64, name); err != nil {
			t.Error(err)
		}
	}
}

// docker saves a layer that comes twice as a link to the first.
func TestLayerThatIsALink(t *testing.T) {
	blobs := memory{}
	img := blobs.image(t, amd64, pack.None, "one")
	layers := []containers.Layer{img.Layers[0], img.Layers[0]}
	img, err := pack.Image(pack.Config{Platform: amd64, Created: clock, History: []string{"a", "b"}}, layers)
	try(t, err)
	e := entries{
		{tar.Header{Name: "a/layer.tar", Mode: 0o644}, blobs[layers[0].Digest]},
		{tar.Header{Name: "b/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../a/layer.tar"}, nil},
		{tar.Header{Name: "config.json", Mode: 0o644}, img.Config},
		{tar.Header{Name: "manifest.json", Mode: 0o644}, []byte(`[{"Config":"config.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]`)},
	}
	f := open(t, write(t, e.pack(t)))
	found, err := f.Choose(amd64, "")
	try(t, err)
	into := memory{}
	try(t, f.Import(t.Context(), found, into))
	if len(found.Image.Layers) != 2 || !bytes.Equal(into[layers[0].DiffID], blobs[layers[0].Digest]) {
		t.Errorf("image %+v", found.Image)
	}
}

// A signature and a bill of materials are no images to choose from.
func TestWhatIsAttachedIsFound(t *testing.T) {
	blobs := memory{}
	img := blobs.image(t, amd64, pack.None, "one")
	signature := blobs.image(t, amd64, pack.None, "signature")
	sbom := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"text/spdx","config":{},"layers":[],"subject":{"digest":%q}}`, containers.TypeOCIManifest, img.Digest))
	var b bytes.Buffer
	tag := "sha256-" + img.Digest.Hex() + ".sig"
	try(t, layout.WriteArchive(t.Context(), &b, []layout.Named{{Name: "web:1", Image: img}, {Name: tag, Image: signature}}, blobs.open, clock))
	e := unpack(t, b.Bytes())
	e = append(e, &entry{tar.Header{Name: blob(containers.DigestOf(sbom)), Mode: 0o644}, sbom})
	index := e.find(t, "index.json")
	index.data = bytes.Replace(index.data, []byte(`]}`), fmt.Appendf(nil, `,{"mediaType":%q,"digest":%q,"size":%d}]}`, containers.TypeOCIManifest, containers.DigestOf(sbom), len(sbom)), 1)
	f := open(t, write(t, e.pack(t)))
	if found, err := f.Choose(amd64, ""); err != nil || found.Image.Digest != img.Digest {
		t.Errorf("%v: %v", found, err)
	}
	if data, mediaType, err := f.Manifest(t.Context(), "", tag); err != nil || !bytes.Equal(data, signature.Manifest) || mediaType != containers.TypeOCIManifest {
		t.Errorf("the signature's manifest: %s %q %v", mediaType, data, err)
	}
	data, err := f.Referrers(t.Context(), "", img.Digest)
	try(t, err)
	var list struct {
		Manifests []struct{ Digest, ArtifactType string }
	}
	try(t, json.Unmarshal(data, &list))
	if len(list.Manifests) != 1 || list.Manifests[0].Digest != string(containers.DigestOf(sbom)) || list.Manifests[0].ArtifactType != "text/spdx" {
		t.Errorf("referrers %s", data)
	}
}
