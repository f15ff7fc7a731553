package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layer"
)

var clock = time.Unix(1700000000, 0).UTC()

// An entry is one file of a test's archive.
type entry struct {
	name  string
	kind  byte // tar.TypeReg is the default
	mode  int64
	data  string
	link  string
	uid   int
	major int64
	minor int64
	xattr string // NAME=VALUE
}

func dir(name string, mode int64) entry { return entry{name: name, kind: tar.TypeDir, mode: mode} }
func file(name, data string) entry      { return entry{name: name, mode: 0o644, data: data} }

// makeTar makes an archive, each entry a second older than the one before.
func makeTar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, e := range entries {
		h := &tar.Header{
			Typeflag: e.kind, Name: e.name, Mode: e.mode, Linkname: e.link, Size: int64(len(e.data)),
			Uid: e.uid, Gid: e.uid, Devmajor: e.major, Devminor: e.minor,
			ModTime: clock.Add(-time.Duration(i+1) * time.Hour), Format: tar.FormatPAX,
		}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if key, value, ok := strings.Cut(e.xattr, "="); ok {
			h.PAXRecords = map[string]string{"SCHILY.xattr." + key: value}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// capNetRaw is the attribute of a program with cap_net_raw=ep, version 2.
const capNetRaw = "security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// base has one of everything that a layer may have.
func base(t *testing.T) []byte {
	return makeTar(t,
		dir("bin/", 0o755), dir("etc/", 0o755), file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
		file("etc/gone", "gone"), file("etc/kept", "kept"),
		entry{name: "bin/su", mode: 0o4755, data: "su"},
		entry{name: "bin/ping", mode: 0o755, data: "ping", xattr: capNetRaw},
		entry{name: "bin/marked", mode: 0o755, data: "marked", xattr: "user.origin=here"},
		dir("dev/", 0o755), entry{name: "dev/null", kind: tar.TypeChar, mode: 0o666, major: 1, minor: 3},
		entry{name: "dev/loop", kind: tar.TypeBlock, mode: 0o660, uid: 6, major: 7, minor: 2},
		entry{name: "dev/pipe", kind: tar.TypeFifo, mode: 0o600},
		dir("tmp/", 0o1777), dir("srv/", 0o2750),
		file("srv/first", "one inode"),
		entry{name: "srv/second", kind: tar.TypeLink, mode: 0o644, link: "srv/first"},
		entry{name: "srv/third", kind: tar.TypeLink, mode: 0o644, link: "srv/first"},
		dir("usr/", 0o755), dir("usr/lib/", 0o755), entry{name: "lib", kind: tar.TypeSymlink, mode: 0o777, link: "usr/lib"},
		file("lib/through-a-link", "x"),
		file("opt/without/folders", "y"),
		dir("full/", 0o755), file("full/a", "a"), dir("full/sub/", 0o755), file("full/sub/b", "b"),
		entry{name: "home/", kind: tar.TypeDir, mode: 0o700, uid: 1000},
		entry{name: "home/file", mode: 0o600, data: "private", uid: 1000},
		file(strings.Repeat("long/", 30)+"name", "long"),
		file("usr/ümläut", "z"),
	)
}

func second(t *testing.T) []byte {
	return makeTar(t,
		dir("etc/", 0o755), file("etc/.wh.gone", ""),
		file("srv/.wh.first", ""), // one of three names of a file
		dir("full/", 0o750), file("full/.wh..wh..opq", ""), file("full/new", "new"),
		file("bin/su", "no longer setuid"),
		entry{name: "srv/link", kind: tar.TypeSymlink, mode: 0o777, link: "../etc/kept"},
	)
}

// compressed makes a layer of an archive.
func compressed(t *testing.T, archive []byte, kind types.MediaType) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case types.OCILayerZStd:
		zw, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = zw
	case types.OCILayer:
		w = gzip.NewWriter(&b)
	default:
		return static.NewLayer(archive, kind)
	}
	if _, err := w.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &pair{Layer: static.NewLayer(b.Bytes(), kind), archive: archive}
}

// A pair is a layer that knows its archive.
type pair struct {
	v1.Layer
	archive []byte
}

func (p *pair) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(p.archive))
	return h, err
}

func (p *pair) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.archive)), nil
}

// imageOf makes an OCI image.
func imageOf(t *testing.T, label string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	var adds []mutate.Addendum
	for _, l := range layers {
		kind, _ := l.MediaType()
		adds = append(adds, mutate.Addendum{Layer: l, MediaType: kind})
	}
	img, err := mutate.Append(img, adds...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Architecture, c.OS, c.Created = "amd64", "linux", v1.Time{Time: clock.Add(-time.Hour)}
	c.Config.Labels = map[string]string{"test": label}
	c.Config.Cmd = []string{"/bin/busybox", "echo", "hello from " + label}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// A named image stands in a layout and, by that name, in a store.
type named struct {
	name  string
	image v1.Image
}

// images are what the tests put into a store.
func images(t *testing.T) []named {
	shared := compressed(t, base(t), types.OCILayer)
	blank := compressed(t, makeTar(t), types.OCILayer)
	ten := []v1.Layer{shared}
	for i := range 9 {
		archive := makeTar(t, dir("many/", 0o755), file(fmt.Sprintf("many/%d", i), fmt.Sprint(i)), file("many/last", fmt.Sprint(i)), file(fmt.Sprintf("many/.wh.%d", i-2), ""))
		kind := types.MediaType(types.OCILayer)
		if i%2 == 0 {
			kind = types.OCILayerZStd
		}
		ten = append(ten, compressed(t, archive, kind))
	}
	return []named{
		{"localhost/base:1", imageOf(t, "base", shared)},
		{"localhost/zoo:latest", imageOf(t, "zoo", shared, compressed(t, second(t), types.OCILayerZStd))},
		{"registry.example.com/deep/ten:2.0", imageOf(t, "ten", ten...)},
		{"localhost/twice:1", imageOf(t, "twice", shared, blank, compressed(t, second(t), types.OCILayer), blank)},
	}
}

// writeLayout puts images into an OCI layout.
func writeLayout(t *testing.T, all []named) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(path, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if err := l.AppendImage(n.image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": n.name})); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// unpacked reads images as a build does.
func unpacked(t *testing.T, all []named) ([]Image, map[containers.Digest]Layer) {
	t.Helper()
	layers := map[containers.Digest]Layer{}
	var list []Image
	for _, n := range all {
		manifest, err := n.image.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := n.image.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		img, err := containers.Parse(manifest, "", config)
		if err != nil {
			t.Fatal(err)
		}
		blobs, err := n.image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range img.Layers {
			if _, done := layers[l.Digest]; !done {
				layers[l.Digest] = unpackLayer(t, blobs[i], l)
			}
		}
		list = append(list, Image{Image: img, Names: []string{n.name}})
	}
	return list, layers
}

func unpackLayer(t *testing.T, blob v1.Layer, l containers.Layer) Layer {
	t.Helper()
	r, err := blob.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var archive, split bytes.Buffer
	info, err := layer.Unpack(context.Background(), r, l, &archive, &split, layer.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	files, err := layer.Index(bytes.NewReader(archive.Bytes()), info.Size)
	if err != nil {
		t.Fatal(err)
	}
	return Layer{Info: info, TarSplit: split.Bytes(), Tree: files}
}
