package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// A daemon is docker's, with a data-root and nothing of the machine's network.
type daemon struct {
	dir     string
	process *exec.Cmd
	log     *os.File
}

// start runs dockerd until the test ends or stop is called.
func start(t *testing.T, dataRoot string) *daemon {
	t.Helper()
	need(t, "dockerd", "docker", "containerd", "runc", "unshare")
	// A socket's path has no more than 108 bytes.
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, err := Store{DataRoot: dataRoot}.Configure(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/daemon.json", config, 0o644); err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir}
	if d.log, err = os.Create(dir + "/log"); err != nil {
		t.Fatal(err)
	}
	d.process = exec.Command("unshare", "-m", "--propagation", "private", "dockerd", "--config-file", dir+"/daemon.json",
		"--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", "unix://"+dir+"/socket",
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs")
	d.process.Stdout, d.process.Stderr = d.log, d.log
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop(t) })
	for range 600 {
		if _, err := d.try("version"); err == nil {
			return d
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("dockerd does not answer: %s", d.complaints())
	return nil
}

func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if d.process.ProcessState != nil {
		return
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	_ = d.process.Wait()
	d.log.Close()
}

// complaints are what the daemon said of errors.
func (d *daemon) complaints() string {
	said, _ := os.ReadFile(d.dir + "/log")
	lines := slices.DeleteFunc(strings.Split(string(said), "\n"), func(line string) bool {
		return strings.Contains(line, "level=info") || strings.Contains(line, "level=warning")
	})
	return strings.Join(lines, "\n")
}

func (d *daemon) try(args ...string) (string, error) {
	c := exec.Command("docker", append([]string{"-H", "unix://" + d.dir + "/socket"}, args...)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (d *daemon) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.try(args...)
	if err != nil {
		t.Fatalf("docker %s: %v: %s\n%s", strings.Join(args, " "), err, out, d.complaints())
	}
	return out
}

// capNetRaw is the attribute of a program with cap_net_raw=ep, version 2.
const capNetRaw = "security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// realImages have a program that runs, and one of everything that a layer may
// have.
func realImages(t *testing.T) (web, db made) {
	t.Helper()
	need(t, "busybox")
	path, _ := exec.LookPath("busybox")
	busybox, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program := makeTar(t, dir("bin/", 0o755), entry{name: "bin/busybox", mode: 0o755, data: string(busybox)},
		link("bin/sh", "busybox"), link("bin/cat", "busybox"), link("bin/ls", "busybox"), link("bin/sleep", "busybox"))
	base := makeTar(t,
		dir("etc/", 0o755), file("etc/passwd", "root:x:0:0::/:/bin/sh\n"), file("etc/gone", "gone"), file("etc/kept", "kept"),
		entry{name: "bin/su", mode: 0o4755, data: "su"},
		entry{name: "bin/ping", mode: 0o755, data: "ping", xattr: capNetRaw},
		dir("dev/", 0o755), entry{name: "dev/null", kind: tar.TypeChar, mode: 0o666, major: 1, minor: 3},
		entry{name: "dev/pipe", kind: tar.TypeFifo, mode: 0o600},
		dir("tmp/", 0o1777), dir("srv/", 0o2750), file("srv/first", "one inode"),
		entry{name: "srv/second", kind: tar.TypeLink, mode: 0o644, link: "srv/first"},
		dir("full/", 0o755), file("full/a", "a"), dir("full/sub/", 0o755), file("full/sub/b", "b"),
		entry{name: "home/", kind: tar.TypeDir, mode: 0o700, uid: 1000},
		entry{name: "home/file", mode: 0o600, data: "private", uid: 1000},
		file(strings.Repeat("long/", 30)+"name", "long"), file("usr/ümläut", "z"),
	)
	change := makeTar(t,
		dir("etc/", 0o755), file("etc/.wh.gone", ""), file("srv/.wh.first", ""),
		dir("full/", 0o750), file("full/.wh..wh..opq", ""), file("full/new", "new"), file("bin/su", "no longer setuid"),
	)
	page := makeTar(t, dir("srv/", 0o755), file("srv/page", "hello from web\n"))
	web = image(t, "docker.io/library/web:1.4 localhost:5000/web:1", []string{"/bin/cat", "/srv/page"}, program, base, change, page)
	db = image(t, "registry.example.com/db:9", []string{"/bin/ls", "/full"}, program, base, change)
	return web, db
}

// dockerArchive writes what `docker load` reads.
func dockerArchive(t *testing.T, all ...made) string {
	t.Helper()
	type item struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var items []item
	var entries []entry
	for _, m := range all {
		i := item{Config: m.ID.Hex() + ".json", RepoTags: m.Names}
		entries = append(entries, file(i.Config, string(m.Config)))
		for n, a := range m.archives {
			i.Layers = append(i.Layers, m.Layers[n].DiffID.Hex()+".tar")
			entries = append(entries, file(i.Layers[n], string(a)))
		}
		items = append(items, i)
	}
	list, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "images.tar")
	if err := os.WriteFile(path, makeTar(t, append(entries, file("manifest.json", string(list)))...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDataRootEqualsWhatDockerLoads compares all that docker keeps of images
// with what it makes of them itself.
func TestDataRootEqualsWhatDockerLoads(t *testing.T) {
	web, db := realImages(t)
	loaded := newMachine(t)
	d := start(t, loaded.dataRoot())
	d.docker(t, "load", "-q", "-i", dockerArchive(t, web, db))
	d.stop(t)
	ours := newMachine(t)
	ours.install(t, web, db)
	ours.mustBoot(t)

	if got, want := ours.read(t, repositories), loaded.read(t, repositories); got != want {
		t.Errorf("names\n%s\ndocker's\n%s", got, want)
	}
	sameNames(t, ours, loaded, contentDir)
	sameNames(t, ours, loaded, layerDir)
	for _, m := range []made{web, db} {
		if got, want := ours.read(t, contentDir+"/"+m.ID.Hex()), loaded.read(t, contentDir+"/"+m.ID.Hex()); got != want {
			t.Errorf("image %s\n%s\ndocker's\n%s", m.ID, got, want)
		}
		parent := ""
		for _, id := range m.chains() {
			sameLayer(t, ours, loaded, id, parent)
			parent = id
		}
	}
}

func sameNames(t *testing.T, ours, loaded machine, dir string) {
	t.Helper()
	list := func(m machine) (names []string) {
		entries, err := os.ReadDir(filepath.Join(m.dataRoot(), dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if got, want := list(ours), list(loaded); !slices.Equal(got, want) {
		t.Errorf("%s has\n%s\ndocker's\n%s", dir, got, want)
	}
}

// emptySegment ends what early versions of tar-split write.
var emptySegment = regexp.MustCompile(`\{"type":2,"payload":"","position":[0-9]+\}\n$`)

func sameLayer(t *testing.T, ours, loaded machine, id, parent string) {
	t.Helper()
	record := layerDir + "/" + id + "/"
	names := []string{"diff", "size"}
	if parent != "" {
		names = append(names, "parent")
	}
	for _, name := range names {
		if got, want := ours.read(t, record+name), loaded.read(t, record+name); got != want {
			t.Errorf("%s of %s is %s, docker's %s", name, id, got, want)
		}
	}
	split := func(m machine) string {
		r, err := gzip.NewReader(strings.NewReader(m.read(t, record+"tar-split.json.gz")))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return emptySegment.ReplaceAllString(string(data), "")
	}
	if got, want := split(ours), split(loaded); got != want {
		t.Errorf("tar-split of %s\n%s\ndocker's\n%s", id, got, want)
	}
	if got, want := ours.lowers(t, id), loaded.lowers(t, id); !slices.Equal(got, want) {
		t.Errorf("%s lies on\n%s\ndocker's\n%s", id, got, want)
	}
	a, b := ours.files(t, id), loaded.files(t, id)
	found, err := tree.Diff(a.tree, b.tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(found, tree.DiffTimes(a.tree, b.tree)...) {
		// Docker leaves the time of making where an archive has no folder, and
		// of what is removed.
		e, _ := b.tree.Lookup(d.Path)
		if d.What == tree.DiffTime && (e.IsDir() && e.ModTime.After(clock) || layer.IsWhiteout(e)) {
			continue
		}
		t.Errorf("%s of docker: %s", id, d)
	}
	if !slices.Equal(a.opaque, b.opaque) {
		t.Errorf("%s has the opaque folders %s, docker's %s", id, a.opaque, b.opaque)
	}
}

// lowers are the layers' ids that the driver finds by way of a layer's links.
func (m machine) lowers(t *testing.T, id string) []string {
	t.Helper()
	byCache := map[string]string{}
	records, err := os.ReadDir(filepath.Join(m.dataRoot(), layerDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		byCache[m.read(t, layerDir+"/"+r.Name()+"/cache-id")] = r.Name()
	}
	cache := m.read(t, layerDir+"/"+id+"/cache-id")
	if !m.has("overlay2/" + cache + "/lower") {
		return nil
	}
	var ids []string
	for short := range strings.SplitSeq(m.read(t, "overlay2/"+cache+"/lower"), ":") {
		target, err := os.Readlink(filepath.Join(m.dataRoot(), overlayDir, short))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, byCache[filepath.Base(filepath.Dir(target))])
	}
	return ids
}

// files are what overlayfs mounts of a layer.
type files struct {
	tree   *tree.Tree
	opaque []string
}

func (m machine) files(t *testing.T, id string) files {
	t.Helper()
	root, err := filepath.EvalSymlinks(filepath.Join(m.dataRoot(), overlayDir, m.read(t, layerDir+"/"+id+"/cache-id"), "diff"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.FromDir(t.Context(), root, &b, time.Now()); err != nil {
		t.Fatal(err)
	}
	made, err := tree.Index(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	f := files{tree: made}
	err = made.Walk(func(e *tree.Entry) error {
		if !e.IsDir() {
			return nil
		}
		value := make([]byte, 8)
		if n, err := unix.Lgetxattr(filepath.Join(root, e.Path), "trusted.overlay.opaque", value); err == nil {
			f.opaque = append(f.opaque, e.Path+"="+string(value[:n]))
		}
		// Which only ordinary users' mounts heed.
		return made.Change(e.Path, func(e *tree.Entry) { delete(e.Xattrs, "user.overlay.opaque") })
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDockerWorksWithTheImages asks docker for all that people do with images.
func TestDockerWorksWithTheImages(t *testing.T) {
	web, db := realImages(t)
	m := newMachine(t)
	m.install(t, web, db)
	m.mustBoot(t)
	d := start(t, m.dataRoot())
	run := func(args ...string) string {
		t.Helper()
		return d.docker(t, append([]string{"run", "--network", "none", "--pull", "never"}, args...)...)
	}
	if got := run("--rm", "web:1.4"); got != "hello from web\n" {
		t.Errorf("web says %q", got)
	}
	if got := run("--rm", "registry.example.com/db:9"); got != "new\n" {
		t.Errorf("the opaque folder has %q", got)
	}
	run("-d", "--name", "idle", "web:1.4", "/bin/sleep", "1000")
	d.docker(t, "exec", "idle", "/bin/sh", "-c", "echo more >/full/more; test ! -e /etc/gone")
	if got := d.docker(t, "diff", "idle"); got != "C /full\nA /full/more\n" {
		t.Errorf("diff of a container: %s", got)
	}
	d.docker(t, "commit", "idle", "mine:1")
	if got := run("--rm", "mine:1", "/bin/ls", "/full"); got != "more\nnew\n" {
		t.Errorf("a committed image has %q", got)
	}
	saved := filepath.Join(t.TempDir(), "saved.tar")
	d.docker(t, "save", "-o", saved, "web:1.4", "mine:1")
	d.docker(t, "load", "-q", "-i", saved) // what is there already
	d.docker(t, "system", "df")
	d.docker(t, "rm", "-f", "idle")
	d.docker(t, "rmi", "registry.example.com/db:9")
	d.docker(t, "image", "prune", "-af")
	if got := d.docker(t, "images", "-q"); got != "" {
		t.Errorf("after all was removed there is %s", got)
	}
	d.stop(t)
	m.mustBoot(t)
	d = start(t, m.dataRoot())
	if got := run("--rm", "localhost:5000/web:1"); got != "hello from web\n" {
		t.Errorf("after the next boot web says %q", got)
	}
}

// TestDockerTakesBackWhatWasSetAside has somebody's own image lie on a layer
// of the system's, which an update takes away.
func TestDockerTakesBackWhatWasSetAside(t *testing.T) {
	web, db := realImages(t)
	page := makeTar(t, file("srv/page", "hello from me\n"))
	mine := image(t, "docker.io/library/mine:1", []string{"/bin/cat", "/srv/page"}, append(slices.Clone(db.archives), page)...)
	own := dockerArchive(t, mine)
	m := newMachine(t)
	m.install(t, db)
	m.mustBoot(t)
	d := start(t, m.dataRoot())
	d.docker(t, "load", "-q", "-i", own)
	d.docker(t, "create", "--name", "box", "mine:1")
	d.stop(t)

	other := image(t, "docker.io/library/other:1", []string{"/bin/ls"}, web.archives[0], page)
	m.install(t, other)
	m.mustBoot(t)
	d = start(t, m.dataRoot())
	if got := d.docker(t, "images", "--format", "{{.Repository}}"); got != "other\n" {
		t.Errorf("after an update there are\n%s", got)
	}
	if out, err := d.try("run", "--rm", "--network", "none", "--pull", "never", "mine:1"); err == nil {
		t.Errorf("an image runs without its layers: %s", out)
	}
	d.stop(t)
	m.install(t, db)
	m.mustBoot(t)
	d = start(t, m.dataRoot())
	if got := d.docker(t, "start", "-a", "box"); got != "hello from me\n" {
		t.Errorf("after going back the container says %q", got)
	}
	d.stop(t)

	m.install(t, other)
	m.mustBoot(t)
	d = start(t, m.dataRoot())
	d.docker(t, "load", "-q", "-i", own)
	if got := d.docker(t, "run", "--rm", "--network", "none", "mine:1"); got != "hello from me\n" {
		t.Errorf("the image, loaded again, says %q", got)
	}
	d.stop(t)
	m.mustBoot(t)
	if aside, _ := filepath.Glob(m.dataRoot() + "/image/overlay2/*/*/*.aside"); len(aside) != 0 {
		t.Errorf("what was loaded again is still set aside: %s", aside)
	}
	d = start(t, m.dataRoot())
	if got := d.docker(t, "run", "--rm", "--network", "none", "mine:1"); got != "hello from me\n" {
		t.Errorf("the image, loaded again, says %q after a boot", got)
	}
}
