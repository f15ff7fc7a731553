package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/layout"
	"github.com/applbuild/applbuild/builder/containers/pack"
	"github.com/applbuild/applbuild/rootfs/tree"
)

var clock = time.Unix(1_700_000_000, 0).UTC()

func file(t testing.TB, on *tree.Tree, name, text string) {
	t.Helper()
	try(t, on.WriteFile(name, []byte(text), 0o644, 0, 0))
}

func put(t testing.TB, on *tree.Tree, e tree.Entry) {
	t.Helper()
	try(t, on.Put(&e))
}

func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// webServer is a small tree with something of everything.
func webServer(t testing.TB) *tree.Tree {
	t.Helper()
	on := tree.New()
	try(t, on.Mkdir("etc", 0o755, 0, 0))
	file(t, on, "etc/passwd", "root\n")
	file(t, on, "etc/hosts", "localhost\n")
	put(t, on, tree.Entry{Path: "usr/bin", Typeflag: tree.TypeDir, Mode: 0o755, ModTime: clock.Add(-time.Hour)})
	file(t, on, "usr/bin/perl", "perl")
	put(t, on, tree.Entry{Path: "usr/bin/perl5", Typeflag: tree.TypeLink, Linkname: "usr/bin/perl"})
	put(t, on, tree.Entry{Path: "usr/bin/perl5.40", Typeflag: tree.TypeLink, Linkname: "usr/bin/perl"})
	put(t, on, *tree.NewFile(tree.Entry{Path: "usr/bin/ping", Mode: 0o755, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}, strings.NewReader("ping"), 4))
	try(t, on.Symlink("usr/bin", "bin"))
	for _, language := range []string{"de", "en", "fr"} {
		file(t, on, "usr/share/locale/"+language+"/a.mo", language)
	}
	file(t, on, "usr/share/doc/perl/copyright", "GPL")
	file(t, on, "usr/share/doc/perl/changelog", "changes")
	put(t, on, tree.Entry{Path: "dev/null", Typeflag: tree.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3})
	return on
}

// listing says in a line each what a tree holds.
func listing(t testing.TB, of *tree.Tree) string {
	t.Helper()
	var b strings.Builder
	try(t, of.Walk(func(e *tree.Entry) error {
		fmt.Fprintf(&b, "%s %c %04o %s\n", e.Path, e.Typeflag, e.Mode, e.Linkname)
		return nil
	}))
	return b.String()
}

func difference(t testing.TB, before *pack.Base, after *tree.Tree) *tree.Tree {
	t.Helper()
	d, err := before.Difference(after, clock)
	try(t, err)
	return d
}

func TestLayerHoldsWhatChanged(t *testing.T) {
	on := webServer(t)
	before := pack.Remember(on)
	file(t, on, "etc/passwd", "root\nweb\n")
	try(t, on.Mkdir("etc", 0o755, 0, 0)) // as it was
	file(t, on, "etc/hosts", "localhost\n")
	file(t, on, "srv/index.html", "hello\n")
	try(t, on.Remove("usr/share/doc/perl/changelog"))
	for _, language := range []string{"de", "en", "fr"} {
		try(t, on.Remove("usr/share/locale/"+language))
	}
	try(t, on.Change("usr/bin/ping", func(e *tree.Entry) { e.Xattrs = nil }))
	try(t, on.Remove("usr/bin/perl")) // the other names stay
	try(t, on.Remove("bin"))
	try(t, on.Mkdir("bin", 0o755, 0, 0))
	want := `. 5 0755 
bin 5 0755 
etc 5 0755 
etc/passwd 0 0644 
srv 5 0755 
srv/index.html 0 0644 
usr 5 0755 
usr/bin 5 0755 
usr/bin/.wh.perl 0 0000 
usr/bin/ping 0 0755 
usr/share 5 0755 
usr/share/doc 5 0755 
usr/share/doc/perl 5 0755 
usr/share/doc/perl/.wh.changelog 0 0000 
usr/share/locale 5 0755 
usr/share/locale/.wh..wh..opq 0 0000 
`
	if got := listing(t, difference(t, before, on)); got != want {
		t.Errorf("the layer holds\n%s\nand should hold\n%s", got, want)
	}
}

// A file with several names is all in one layer.
func TestHardLinksStayTogether(t *testing.T) {
	const all = "usr 5 0755 \nusr/bin 5 0755 \n"
	for name, c := range map[string]struct {
		edit func(*tree.Tree) error
		want string
	}{
		"a new name": {func(on *tree.Tree) error {
			return on.Put(&tree.Entry{Path: "usr/bin/prl", Typeflag: tree.TypeLink, Linkname: "usr/bin/perl"})
		}, all + "usr/bin/perl 0 0644 \nusr/bin/perl5 1 0644 usr/bin/perl\nusr/bin/perl5.40 1 0644 usr/bin/perl\nusr/bin/prl 1 0644 usr/bin/perl\n"},
		"other permissions": {func(on *tree.Tree) error {
			return on.Change("usr/bin/perl5", func(e *tree.Entry) { e.Mode = 0o755 })
		}, all + "usr/bin/perl 0 0755 \nusr/bin/perl5 1 0755 usr/bin/perl\nusr/bin/perl5.40 1 0755 usr/bin/perl\n"},
		"a name that became a file of its own": {func(on *tree.Tree) error {
			return on.WriteFile("usr/bin/perl5", []byte("perl"), 0o644, 0, 0)
		}, all + "usr/bin/perl5 0 0644 \n"},
		"the first name became a file of its own": {func(on *tree.Tree) error {
			return on.WriteFile("usr/bin/perl", []byte("perl"), 0o644, 0, 0)
		}, all + "usr/bin/perl5 0 0644 \nusr/bin/perl5.40 1 0644 usr/bin/perl5\n"},
	} {
		on := webServer(t)
		before := pack.Remember(on)
		try(t, c.edit(on))
		layer := difference(t, before, on)
		if got := listing(t, layer); got != ". 5 0755 \n"+c.want {
			t.Errorf("%s: the layer holds\n%s", name, got)
		}
		same(t, name, flattened(t, webServer(t), layer), on)
	}
}

func TestNoLayerWhereNothingChanged(t *testing.T) {
	on := webServer(t)
	before := pack.Remember(on)
	file(t, on, "etc/passwd", "root\n")
	file(t, on, "etc/new", "")
	try(t, on.Remove("etc/new"))
	if d := difference(t, before, on); d != nil {
		t.Errorf("the layer holds\n%s", listing(t, d))
	}
}

func TestNameOfAWhiteoutIsRefused(t *testing.T) {
	on := webServer(t)
	before := pack.Remember(on)
	file(t, on, "etc/.wh.passwd", "")
	if _, err := before.Difference(on, clock); err == nil || !strings.Contains(err.Error(), "/etc/.wh.passwd") {
		t.Errorf("error %v", err)
	}
	if err := pack.Check(on); err == nil {
		t.Error("a lower layer may have it")
	}
}

// Whatever is edited, the two layers come to the tree.
func TestLayersAreTheTree(t *testing.T) {
	for seed := range int64(60) {
		r := rand.New(rand.NewSource(seed))
		on := webServer(t)
		edit(t, r, on, 20)
		lower := on.Clone()
		before := pack.Remember(on)
		edit(t, r, on, 1+r.Intn(12))
		same(t, fmt.Sprintf("seed %d", seed), flattened(t, lower, difference(t, before, on)), on)
		if t.Failed() {
			return
		}
	}
}

// edit changes a tree at random.
func edit(t testing.TB, r *rand.Rand, on *tree.Tree, times int) {
	t.Helper()
	names := []string{"etc", "a", "b", "usr/bin", "usr/share/locale", "usr/share/locale/de", "usr/share", "a/b"}
	name := func() string { return names[r.Intn(len(names))] + []string{"", "/x", "/y", "/x/z"}[r.Intn(4)] }
	for range times {
		at := name()
		var err error
		switch r.Intn(9) {
		case 0, 1:
			err = on.Remove(at)
		case 2, 3:
			err = on.WriteFile(at, []byte(strings.Repeat("x", r.Intn(3))), 0o644, r.Intn(2), 0)
		case 4:
			err = on.Mkdir(at, 0o755, 0, r.Intn(2))
		case 5:
			err = on.Symlink("x", at)
		case 6:
			err = on.Put(&tree.Entry{Path: at, Typeflag: tree.TypeFifo, Mode: 0o600, ModTime: clock.Add(-time.Duration(r.Intn(2)) * time.Hour)})
		default:
			var files []string
			_ = on.Walk(func(e *tree.Entry) error {
				if e.Typeflag == tree.TypeReg && !strings.HasPrefix(e.Path, at+"/") {
					files = append(files, e.Path)
				}
				return nil
			})
			if len(files) > 0 {
				err = on.Put(&tree.Entry{Path: at, Typeflag: tree.TypeLink, Linkname: files[r.Intn(len(files))]})
			}
		}
		var refused interface{ Unwrap() error }
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
}

// canonical is a tree as it is read back.
func canonical(t testing.TB, of *tree.Tree) *tree.Tree {
	t.Helper()
	var b bytes.Buffer
	try(t, of.WriteTar(t.Context(), &b, clock))
	read, err := tree.Index(bytes.NewReader(b.Bytes()), int64(b.Len()))
	try(t, err)
	return read
}

// flattened lays layers over one another as layer.md says.
func flattened(t testing.TB, layers ...*tree.Tree) *tree.Tree {
	t.Helper()
	sum := tree.New()
	for _, layer := range layers {
		if layer == nil {
			continue
		}
		var b bytes.Buffer
		_, err := pack.WriteLayer(t.Context(), &b, layer, clock, pack.None)
		try(t, err)
		for _, takeAway := range []bool{true, false} { // whiteouts count for lower layers only
			r := tar.NewReader(bytes.NewReader(b.Bytes()))
			for {
				h, err := r.Next()
				if err == io.EOF {
					break
				}
				try(t, err)
				dir, base := path.Split(path.Clean(h.Name))
				name, isWhiteout := strings.CutPrefix(base, ".wh.")
				switch {
				case isWhiteout != takeAway:
				case base == ".wh..wh..opq":
					for _, e := range sum.Children(dir) {
						try(t, sum.Remove(e.Path))
					}
				case isWhiteout:
					if _, there := sum.Lookup(dir + name); !there {
						t.Errorf("a whiteout for /%s%s, which is not there", dir, name)
					}
					try(t, sum.Remove(dir+name))
				default:
					lay(t, sum, h, r)
				}
			}
		}
	}
	return sum
}

func lay(t testing.TB, sum *tree.Tree, h *tar.Header, r io.Reader) {
	t.Helper()
	e := tree.Entry{Path: path.Clean(h.Name), Typeflag: h.Typeflag, Mode: h.Mode, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime,
		Linkname: h.Linkname, Devmajor: h.Devmajor, Devminor: h.Devminor}
	for key, value := range h.PAXRecords {
		if name, found := strings.CutPrefix(key, "SCHILY.xattr."); found {
			e.Xattrs = map[string]string{name: value}
		}
	}
	// A folder over a folder keeps what is in it, all else replaces.
	if old, there := sum.Lookup(e.Path); there && !(old.IsDir() && e.IsDir()) {
		try(t, sum.Remove(e.Path))
	}
	if h.Typeflag == tar.TypeReg {
		data, err := io.ReadAll(r)
		try(t, err)
		e = *tree.NewFile(e, bytes.NewReader(data), int64(len(data)))
	}
	try(t, sum.Put(&e))
}

func same(t testing.TB, what string, got, want *tree.Tree) {
	t.Helper()
	a, b := canonical(t, got), canonical(t, want)
	found, err := tree.Diff(a, b)
	try(t, err)
	for _, d := range append(found, tree.DiffTimes(a, b)...) {
		t.Errorf("%s: layers and tree: %s", what, d)
	}
}

// umoci unpacks the layers to the tree.
func TestUmociUnpacksTheTree(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: root is missing, whose files umoci makes")
	}
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("SKIPPED: umoci is missing (Debian: umoci)")
	}
	on := webServer(t)
	lower := on.Clone()
	before := pack.Remember(on)
	edit(t, rand.New(rand.NewSource(7)), on, 30)
	try(t, on.Remove("dev/null")) // umoci makes no devices for ordinary users; nor do containers that run this test
	try(t, lower.Remove("dev/null"))
	for _, compression := range []pack.Compression{pack.Gzip, pack.None} {
		blobs := map[containers.Digest][]byte{}
		var layers []containers.Layer
		for _, l := range []*tree.Tree{lower, difference(t, before, on)} {
			var b bytes.Buffer
			made, err := pack.WriteLayer(t.Context(), &b, l, clock, compression)
			try(t, err)
			layers, blobs[made.Digest] = append(layers, made), b.Bytes()
		}
		img, err := pack.Image(pack.Config{Platform: containers.Platform{OS: "linux", Architecture: "amd64"}, Created: clock, History: []string{"a", "b"}}, layers)
		try(t, err)
		dir := t.TempDir()
		try(t, os.Mkdir(filepath.Join(dir, "layout"), 0o755))
		open := func(_ context.Context, d containers.Digest) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(blobs[d])), nil
		}
		try(t, layout.WriteFolder(t.Context(), filepath.Join(dir, "layout"), []layout.Named{{Name: "web", Image: img}}, open, clock))
		if out, err := exec.Command("umoci", "unpack", "--image", filepath.Join(dir, "layout")+":web", filepath.Join(dir, "bundle")).CombinedOutput(); err != nil {
			t.Fatalf("umoci: %v: %s", err, out)
		}
		var b bytes.Buffer
		try(t, tree.FromDir(t.Context(), filepath.Join(dir, "bundle", "rootfs"), &b, clock))
		unpacked, err := tree.Index(bytes.NewReader(b.Bytes()), int64(b.Len()))
		try(t, err)
		found, err := tree.Diff(unpacked, canonical(t, on))
		try(t, err)
		for _, d := range found {
			t.Errorf("%s: umoci's files and the tree: %s", compression, d)
		}
	}
}

func TestSameTreeIsTheSameLayer(t *testing.T) {
	for _, c := range []struct {
		compression pack.Compression
		mediaType   string
	}{{pack.None, containers.TypeOCILayer}, {pack.Gzip, containers.TypeOCILayerGzip}, {pack.Zstd, containers.TypeOCILayerZstd}} {
		var first containers.Layer
		var data []byte
		for i := range 2 {
			var b bytes.Buffer
			l, err := pack.WriteLayer(t.Context(), &b, webServer(t), clock, c.compression)
			try(t, err)
			if l.MediaType != c.mediaType || l.Size != int64(b.Len()) || l.Digest != containers.DigestOf(b.Bytes()) {
				t.Errorf("%s: %+v of %d bytes, %s", c.compression, l, b.Len(), containers.DigestOf(b.Bytes()))
			}
			if i > 0 && (l != first || !slices.Equal(b.Bytes(), data)) {
				t.Errorf("%s: another layer of the same tree", c.compression)
			}
			first, data = l, b.Bytes()
		}
	}
	if _, err := pack.WriteLayer(t.Context(), io.Discard, tree.New(), clock, "xz"); err == nil {
		t.Error("layers are compressed by xz")
	}
}

func TestConfig(t *testing.T) {
	layer := containers.Layer{Digest: containers.DigestOf([]byte("a")), DiffID: containers.DigestOf([]byte("b")), MediaType: containers.TypeOCILayer, Size: 1}
	img, err := pack.Image(pack.Config{
		Platform: containers.Platform{OS: "linux", Architecture: "arm64"}, Created: clock,
		Entrypoint: []string{"/bin/web"}, Cmd: []string{"-v"}, Environment: map[string]string{"B": "2", "A": "1"}, User: "web:web",
		Workdir: "/srv", Ports: []string{"80/tcp"}, Volumes: []string{"/data"}, Labels: map[string]string{"x": "y"}, StopSignal: "SIGQUIT",
		History: []string{"made"},
	}, []containers.Layer{layer})
	try(t, err)
	want := `{"created":"2023-11-14T22:13:20Z","architecture":"arm64","os":"linux","config":{"User":"web:web","ExposedPorts":{"80/tcp":{}},` +
		`"Env":["A=1","B=2","PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["/bin/web"],"Cmd":["-v"],` +
		`"Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"x":"y"},"StopSignal":"SIGQUIT"},"rootfs":{"type":"layers","diff_ids":["` +
		string(layer.DiffID) + `"]},"history":[{"created":"2023-11-14T22:13:20Z","created_by":"made"}]}`
	if string(img.Config) != want {
		t.Errorf("config\n%s\nwant\n%s", img.Config, want)
	}
	if img.Platform.String() != "linux/arm64" || img.Labels["x"] != "y" || len(img.Layers) != 1 || img.Layers[0] != layer {
		t.Errorf("image %+v", img)
	}
	if _, err := pack.Image(pack.Config{}, []containers.Layer{layer}); err == nil {
		t.Error("a layer without history is accepted")
	}
}
