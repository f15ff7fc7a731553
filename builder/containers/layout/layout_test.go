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

// entries are the files of an archive, to be changed.
type entries []*entry

type entry struct {
	tar.Header
	data []byte
}

func unpack(t testing.TB, archive []byte) entries {
	t.Helper()
	var all entries
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		try(t, err)
		data, err := io.ReadAll(r)
		try(t, err)
		all = append(all, &entry{*h, data})
	}
}

func (e entries) pack(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, one := range e {
		h := one.Header
		h.Size, h.Format = int64(len(one.data)), tar.FormatUnknown
		try(t, w.WriteHeader(&h))
		_, err := w.Write(one.data)
		try(t, err)
	}
	try(t, w.Close())
	return b.Bytes()
}

func (e entries) find(t testing.TB, name string) *entry {
	t.Helper()
	i := slices.IndexFunc(e, func(one *entry) bool { return one.Name == name })
	if i < 0 {
		t.Fatalf("no %s in the archive", name)
	}
	return e[i]
}

func without(t testing.TB, archive []byte, name string) []byte {
	t.Helper()
	return slices.DeleteFunc(unpack(t, archive), func(e *entry) bool { return e.Name == name }).pack(t)
}

func blob(digest containers.Digest) string { return "blobs/sha256/" + digest.Hex() }

// Whatever is wrong with an archive is said in one line, when it is opened or
// when the image is imported.
func TestHostileArchives(t *testing.T) {
	blobs := memory{}
	img := blobs.image(t, amd64, pack.Gzip, "one", "two")
	other := blobs.image(t, amd64, pack.Gzip, "other")
	var oci, docker bytes.Buffer
	try(t, layout.WriteArchive(t.Context(), &oci, []layout.Named{{Name: "web:1", Image: img}}, blobs.open, clock))
	try(t, layout.WriteDocker(t.Context(), &docker, []layout.Named{{Name: "web:1", Image: img}}, blobs.open, clock))
	layer := img.Layers[1]
	plain := layer.DiffID.Hex() + ".tar"
	link := func(name, to string, kind byte) *entry {
		return &entry{tar.Header{Name: name, Linkname: to, Typeflag: kind, Mode: 0o777}, nil}
	}
	replace := func(t *testing.T, e entries, name string, with *entry) entries {
		e[slices.Index(e, e.find(t, name))] = with
		return e
	}
	for name, c := range map[string]struct {
		archive []byte
		change  func(t *testing.T, e entries) entries
		words   string
	}{
		"a name that leads out": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").Name = "../index.json"
			return e
		}, `"../index.json" in the archive: the name leads out`},
		"an absolute name": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").Name = "/index.json"
			return e
		}, "leads out"},
		"a link that leads out": {oci.Bytes(), func(t *testing.T, e entries) entries {
			return replace(t, e, blob(layer.Digest), link(blob(layer.Digest), "../../../secret", tar.TypeSymlink))
		}, "leads out"},
		"an absolute link": {oci.Bytes(), func(t *testing.T, e entries) entries {
			return replace(t, e, blob(layer.Digest), link(blob(layer.Digest), "/etc/shadow", tar.TypeSymlink))
		}, "leads out"},
		"links in a circle": {oci.Bytes(), func(t *testing.T, e entries) entries {
			return append(replace(t, e, blob(layer.Digest), link(blob(layer.Digest), "a", tar.TypeSymlink)), link("blobs/sha256/a", layer.Digest.Hex(), tar.TypeSymlink))
		}, "circle"},
		"a file twice": {oci.Bytes(), func(t *testing.T, e entries) entries { return append(e, e.find(t, "index.json")) }, "twice"},
		"a layer that is missing": {oci.Bytes(), func(t *testing.T, e entries) entries {
			return replace(t, e, blob(layer.Digest), &entry{tar.Header{Name: "x"}, nil})
		}, layer.Digest.Hex() + " is missing"},
		"a manifest that is missing": {oci.Bytes(), func(t *testing.T, e entries) entries {
			return replace(t, e, blob(img.Digest), &entry{tar.Header{Name: "x"}, nil})
		}, img.Digest.Hex() + " is missing"},
		"another layer": {oci.Bytes(), func(t *testing.T, e entries) entries {
			data := slices.Clone(e.find(t, blob(layer.Digest)).data)
			data[len(data)-1]++
			e.find(t, blob(layer.Digest)).data = data
			return e
		}, "holds sha256:"},
		"a layer of another size": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, blob(layer.Digest)).data = []byte("short")
			return e
		}, "has 5 bytes, the image says"},
		"another manifest": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, blob(img.Digest)).data = other.Manifest
			return e
		}, "holds " + string(other.Digest)},
		"another config": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, blob(img.ID)).data = other.Config
			return e
		}, "holds " + string(other.ID)},
		"an index of nothing": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").data = []byte(`{"schemaVersion":2,"manifests":[]}`)
			return e
		}, "it holds no image"},
		"an index that is a list": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").data = []byte(`[]`)
			return e
		}, "index"},
		"an index with a digest that is a path": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").data = []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + containers.TypeOCIManifest + `","digest":"sha256:../../../../etc/passwd"}]}`)
			return e
		}, "is no digest"},
		"an index as large as memory": {oci.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "index.json").data = make([]byte, containers.MaxDocument+1)
			return e
		}, "are allowed"},
		"a layer of docker's that is another": {docker.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, plain).data = e.find(t, img.Layers[0].DiffID.Hex()+".tar").data
			return e
		}, "holds sha256:"},
		"a compressed layer of docker's that is another": {docker.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, plain).data = gzipped(t, []byte("other"))
			return e
		}, "holds sha256:"},
		"a layer of docker's that unpacks to nothing": {docker.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, plain).data = []byte{0x1f, 0x8b, 8}
			return e
		}, "gzip"},
		"a layer of docker's that leads out": {docker.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "manifest.json").data = bytes.Replace(e.find(t, "manifest.json").data, []byte(plain), []byte("../"+plain), 1)
			return e
		}, "missing"},
		"docker's with layers that the config does not know": {docker.Bytes(), func(t *testing.T, e entries) entries {
			e.find(t, "manifest.json").data = bytes.Replace(e.find(t, "manifest.json").data, []byte(`"`+plain+`"`), []byte(`"`+plain+`","`+plain+`"`), 1)
			return e
		}, "the config names 2 layers, manifest.json 3"},
		"neither": {oci.Bytes(), func(t *testing.T, e entries) entries { return e[:0] }, "neither an OCI layout"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.change(t, unpack(t, c.archive)).pack(t))
			into := memory{}
			err := importAll(t, path, into)
			if err == nil || !errors.Is(err, containers.ErrFormat) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("error %v, want %q", err, c.words)
			}
			if _, there := into[layer.Digest]; there {
				t.Error("the layer was imported")
			}
		})
	}
	for name, data := range map[string][]byte{
		"text": []byte("hello"), "empty": nil, "cut off": oci.Bytes()[:oci.Len()/2], "gzip of nothing": gzipped(t, nil),
		"gzip cut off": gzipped(t, oci.Bytes())[:100], "zstd of text": zstdCompressed(t, []byte("hello")), "zstd broken": []byte("\x28\xb5\x2f\xfd\xff\xff\xff\xff"),
	} {
		if err := importAll(t, write(t, data), memory{}); !errors.Is(err, containers.ErrFormat) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// importAll opens a file and imports all its images.
func importAll(t testing.TB, path string, into layout.Blobs) error {
	t.Helper()
	scratch := t.TempDir()
	f, err := layout.Open(t.Context(), path, scratch)
	if err == nil {
		for _, found := range f.Images() {
			err = errors.Join(err, f.Import(t.Context(), found, into))
		}
		f.Close()
	}
	if left, readErr := os.ReadDir(scratch); readErr != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %v (%v)", left, readErr)
	}
	return err
}

// A folder's links may lead about in it, and nowhere else.
func TestFolderWithLinks(t *testing.T) {
	blobs := memory{}
	img := blobs.image(t, amd64, pack.None, "one")
	dir := filepath.Join(t.TempDir(), "layout")
	try(t, os.Mkdir(dir, 0o755))
	try(t, layout.WriteFolder(t.Context(), dir, []layout.Named{{Name: "web:1", Image: img}}, blobs.open, clock))
	layer := filepath.Join(dir, filepath.FromSlash(blob(img.Layers[0].Digest)))
	for _, c := range []struct {
		moved, link string
		leadsOut    bool
	}{
		{filepath.Join(dir, "moved"), "../../moved", false},
		{filepath.Join(dir, "../moved"), "../../../moved", true},
		{filepath.Join(dir, "../moved"), filepath.Join(dir, "../moved"), true},
	} {
		try(t, os.Rename(layer, c.moved))
		try(t, os.Symlink(c.link, layer))
		if err := importAll(t, dir, memory{}); (err != nil) != c.leadsOut {
			t.Errorf("link to %s: error %v", c.link, err)
		}
		try(t, os.Remove(layer))
		try(t, os.Rename(c.moved, layer))
	}
	try(t, os.Remove(layer))
	try(t, os.Mkdir(layer, 0o755))
	if err := importAll(t, dir, memory{}); !errors.Is(err, containers.ErrFormat) {
		t.Errorf("a folder in place of a layer: error %v", err)
	}
	if _, err := layout.Open(t.Context(), filepath.Join(dir, "nothing"), dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such file: error %v", err)
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

// FuzzOpen reads archives that nobody made.
func FuzzOpen(f *testing.F) {
	blobs := memory{}
	img := blobs.image(f, amd64, pack.Gzip, "one", "two")
	named := []layout.Named{{Name: "web:1", Image: img}}
	var oci, docker bytes.Buffer
	try(f, layout.WriteArchive(f.Context(), &oci, named, blobs.open, clock))
	try(f, layout.WriteDocker(f.Context(), &docker, named, blobs.open, clock))
	for _, seed := range [][]byte{oci.Bytes(), docker.Bytes(), gzipped(f, oci.Bytes()), without(f, oci.Bytes(), "oci-layout")} {
		f.Add(seed)
	}
	scratch := f.TempDir()
	name := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, data []byte) {
		try(t, os.WriteFile(name, data, 0o644))
		file, err := layout.Open(t.Context(), name, scratch)
		if err != nil {
			return
		}
		defer file.Close()
		for _, found := range file.Images() {
			into := memory{}
			if err := file.Import(t.Context(), found, into); err == nil && len(into) == 0 {
				t.Errorf("nothing of %s was imported", found)
			}
		}
	})
}
