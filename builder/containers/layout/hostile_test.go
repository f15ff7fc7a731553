package layout_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/pack"
)

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
