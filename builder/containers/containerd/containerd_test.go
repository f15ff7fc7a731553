package containerd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

var clock = time.Unix(1700000000, 0).UTC()

// A made is an image with the blobs of its layers.
type made struct {
	Image
	blobs [][]byte
}

// layer makes an archive with one file, and the blob of it.
func layer(t *testing.T, name string, content []byte) (archive, blob []byte) {
	t.Helper()
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content)), ModTime: clock}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return plain.Bytes(), packed.Bytes()
}

// image makes an image of layers with one file each, NAME or NAME=CONTENT.
func image(t *testing.T, names string, files ...string) made {
	t.Helper()
	type blob struct {
		MediaType string            `json:"mediaType"`
		Digest    containers.Digest `json:"digest"`
		Size      int               `json:"size"`
	}
	var diffIDs []containers.Digest
	var layers []blob
	var m made
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		content := []byte(text)
		if name == "bin/busybox" {
			program, err := exec.LookPath("busybox")
			if err != nil {
				t.Skip("SKIPPED: the program busybox is not installed on this machine")
			}
			if content, err = os.ReadFile(program); err != nil {
				t.Fatal(err)
			}
		}
		archive, packed := layer(t, name, content)
		diffIDs = append(diffIDs, containers.DigestOf(archive))
		layers = append(layers, blob{containers.TypeOCILayerGzip, containers.DigestOf(packed), len(packed)})
		m.blobs = append(m.blobs, packed)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": goArch(), "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
		"config": map[string]any{"Cmd": []string{"/bin/busybox", "cat", "/page"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": containers.TypeOCIManifest,
		"config": blob{containers.TypeOCIConfig, containers.DigestOf(config), len(config)}, "layers": layers,
	})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := containers.Parse(manifest, "", config)
	if err != nil {
		t.Fatal(err)
	}
	m.Image = Image{parsed, strings.Fields(names)}
	return m
}

func goArch() string {
	var u syscall.Utsname
	if syscall.Uname(&u) == nil && u.Machine[0] == 'a' {
		return "arm64"
	}
	return "amd64"
}

func write(t *testing.T, s Store, all ...made) (*tree.Tree, error) {
	t.Helper()
	var images []Image
	blobs := map[containers.Digest]io.ReaderAt{}
	for _, m := range all {
		images = append(images, m.Image)
		for i, b := range m.blobs {
			blobs[m.Layers[i].Digest] = bytes.NewReader(b)
		}
	}
	whole := tree.New()
	return whole, s.Write(whole, images, blobs)
}

func TestTheSameImagesAreTheSameBytes(t *testing.T) {
	web := image(t, "docker.io/library/web:1 a.example.com/web:2", "page=web", "more=1")
	db := image(t, "a.example.com/db:1", "page=web")
	archive := func(all ...made) []byte {
		whole, err := write(t, Store{}, all...)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := whole.WriteTar(t.Context(), &b, clock); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(archive(web, db), archive(db, web, db)) {
		t.Error("the order of the images makes a difference")
	}
}

func TestImagesThatDoNotGoTogetherAreRefused(t *testing.T) {
	web, db := image(t, "a.example.com/web:1", "page=web"), image(t, "a.example.com/web:1", "page=db")
	if _, err := write(t, Store{}, web, db); !errors.Is(err, ErrImages) {
		t.Errorf("one name for two: %v", err)
	}
	if err := (Store{}).Write(tree.New(), []Image{web.Image}, nil); !errors.Is(err, ErrImages) {
		t.Errorf("a layer is missing: %v", err)
	}
	for _, name := range []string{"", "web", "web:1", "a/b", "a/b:1 x", "a/b:1\n", "a/b:$(x)"} {
		web.Names = []string{name}
		if _, err := write(t, Store{}, web); !errors.Is(err, ErrImages) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	for _, s := range []Store{{Root: "/a b"}, {Root: "/"}, {Namespace: "a'b"}} {
		if _, err := write(t, s); !errors.Is(err, ErrImages) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// A machine is containerd with an empty state, and a root.
type machine struct {
	dir     string
	process *exec.Cmd
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: run as an ordinary user: containerd is root's")
	}
	for _, p := range []string{"containerd", "ctr", "runc", "unshare", "tar"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: the program %s is not installed on this machine", p)
		}
	}
	// A socket's path has no more than 108 bytes.
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n", dir+"/root", dir+"/run", dir+"/socket")
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &machine{dir: dir}
	t.Cleanup(func() { m.stop(t) })
	m.start(t)
	return m
}

func (m *machine) start(t *testing.T) {
	t.Helper()
	m.process = exec.Command("unshare", "-m", "--propagation", "private", "containerd", "-c", m.dir+"/config.toml")
	if err := m.process.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if _, err := m.run("ctr", "version"); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("containerd does not answer")
}

func (m *machine) stop(t *testing.T) {
	t.Helper()
	if m.process.ProcessState != nil {
		return
	}
	if err := m.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = m.process.Wait()
}

func (m *machine) run(argv ...string) (string, error) {
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+m.dir+"/socket")
	out, err := c.CombinedOutput()
	return string(out), err
}

func (m *machine) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.run(append([]string{"ctr", "-n", "apps"}, args...)...)
	if err != nil {
		t.Fatalf("ctr %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// boot makes the images those of the system, and runs the program.
func (m *machine) boot(t *testing.T, all ...made) string {
	t.Helper()
	whole, err := write(t, Store{Prefix: "store", Root: m.dir + "/root", Namespace: "apps"}, all...)
	if err != nil {
		t.Fatal(err)
	}
	root := m.dir + "/system"
	if err := errors.Join(os.RemoveAll(root), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := whole.WriteTar(t.Context(), &b, clock); err != nil {
		t.Fatal(err)
	}
	if err := tree.Extract(t.Context(), &b, root); err != nil {
		t.Fatal(err)
	}
	said, err := m.run("sh", filepath.Join(root, program), root+"/store", m.dir+"/root")
	if err != nil {
		t.Fatalf("the program: %v: %s", err, said)
	}
	return said
}

// images are those that containerd has whole, NAME DIGEST.
func (m *machine) images(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, line := range strings.Split(m.ctr(t, "images", "check"), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 4 && f[3] == "complete" && f[len(f)-1] == "true" {
			list = append(list, f[0]+" "+f[2])
		}
	}
	slices.Sort(list)
	return list
}

func (m *machine) want(t *testing.T, when string, all ...made) {
	t.Helper()
	var want []string
	for _, img := range all {
		for _, name := range img.Names {
			want = append(want, name+" "+string(img.Digest))
		}
	}
	slices.Sort(want)
	if got := m.images(t); !slices.Equal(got, want) {
		t.Errorf("%s containerd has\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestContainerdHasTheImagesOfTheSystem(t *testing.T) {
	m := newMachine(t)
	web := image(t, "docker.io/library/web:1 a.example.com:5000/web:latest", "bin/busybox", "page=web\n")
	db := image(t, "a.example.com/db@sha256:"+strings.Repeat("ab", 32), "bin/busybox", "page=db\n")
	m.boot(t, web, db)
	m.want(t, "at the first boot", web, db)
	if got := m.ctr(t, "run", "--rm", "docker.io/library/web:1", "one"); got != "web\n" {
		t.Errorf("a container says %q", got)
	}
	blob := "io.containerd.content.v1.content/blobs/sha256/" + web.Layers[0].Digest.Hex()
	if info, err := os.Lstat(filepath.Join(m.dir, "root", blob)); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("a layer was copied: %v, %v", info, err)
	}
	if said := m.boot(t, web, db); said != "" {
		t.Errorf("the second boot did something: %s", said)
	}
	m.ctr(t, "images", "rm", "--sync", "docker.io/library/web:1")
	m.boot(t, web, db)
	m.want(t, "after one was removed", web, db)
	// The power was cut before all was on the disk.
	if err := os.WriteFile(m.dir+"/root/system-images", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := m.boot(t, web, db); said == "" {
		t.Error("after a power cut nothing was unpacked anew")
	}
	m.want(t, "after a power cut", web, db)

	m.stop(t)
	if err := os.RemoveAll(m.dir + "/root"); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	m.boot(t, web, db)
	m.want(t, "after a wipe", web, db)
}

func TestAnUpdateReplacesTheImagesOfTheSystemAlone(t *testing.T) {
	m := newMachine(t)
	web := image(t, "a.example.com/web:1 a.example.com/web:latest", "bin/busybox", "page=old\n")
	next := image(t, "a.example.com/web:2 a.example.com/web:latest", "bin/busybox", "page=new\n")
	m.boot(t, web)
	m.ctr(t, "images", "tag", "a.example.com/web:1", "mine.example.com/web:1")
	m.boot(t, next)
	mine := web
	mine.Names = []string{"mine.example.com/web:1"}
	got := m.ctr(t, "images", "ls", "-q")
	if want := "a.example.com/web:2\na.example.com/web:latest\nmine.example.com/web:1\n"; got != want {
		t.Errorf("after an update there are\n%s\nwant\n%s", got, want)
	}
	if got := m.ctr(t, "run", "--rm", "a.example.com/web:latest", "one"); got != "new\n" {
		t.Errorf("a container says %q", got)
	}
	m.boot(t)
	if got := m.ctr(t, "images", "ls", "-q"); got != "mine.example.com/web:1\n" {
		t.Errorf("without images of the system there are\n%s", got)
	}
}
