package podman

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/applbuild/applbuild/builder/containers/layer"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// podman returns the start of a command line: podman with a new store of its
// own and, if there is one, an additional store.
func podman(t *testing.T, additional string) []string {
	t.Helper()
	// Podman wants a short path.
	dir, err := os.MkdirTemp("/tmp", "podman")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Podman binds its folder to itself.
		_ = exec.Command("umount", "--lazy", "--quiet", dir+"/root/overlay").Run()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	argv := []string{"podman", "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp",
		"--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	if additional != "" {
		argv = append(argv, "--storage-opt", "additionalimagestore="+additional)
	}
	return argv
}

// runnable is an image with a shell.
func runnable(t *testing.T) named {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("SKIPPED: busybox-static is not installed on this machine")
	}
	shell := makeTar(t, dir("bin/", 0o755), entry{name: "bin/busybox", mode: 0o755, data: string(busybox)},
		entry{name: "bin/sh", kind: '2', mode: 0o777, link: "busybox"}, dir("proc/", 0o755), dir("sys/", 0o755), dir("dev/", 0o755), dir("etc/", 0o755))
	return named{"localhost/shell:1", imageOf(t, "shell", compressed(t, shell, types.OCILayerZStd), compressed(t, second(t), types.OCILayer))}
}

func TestPodmanShowsImagesReadOnly(t *testing.T) {
	need(t, "podman", "unshare")
	all := images(t)
	p := podman(t, readOnly(t, ownStore(t, Store{}, all)))
	var list []struct {
		ID       string `json:"Id"`
		Names    []string
		Digest   string
		Created  int64
		ReadOnly bool
	}
	out := run(t, append(p, "images", "--digests", "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(list) != len(all) {
		t.Fatalf("podman shows %d images of %d:\n%s", len(list), len(all), out)
	}
	for _, n := range all {
		digest, err := n.image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		id, err := n.image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, l := range list {
			if l.ID != id.Hex {
				continue
			}
			found = true
			if !slices.Equal(l.Names, []string{n.name}) || l.Digest != digest.String() || !l.ReadOnly || l.Created != clock.Unix()-3600 {
				t.Errorf("%s: podman shows %+v", n.name, l)
			}
		}
		if !found {
			t.Errorf("%s is missing:\n%s", n.name, out)
		}
		inspected := run(t, append(p, "image", "inspect", "--format", "{{.Id}} {{.Labels.test}} {{len .RootFS.Layers}}", n.name)...)
		c, _ := n.image.ConfigFile()
		if want := id.Hex + " " + c.Config.Labels["test"]; !strings.HasPrefix(inspected, want) {
			t.Errorf("inspect says %s, want %s", inspected, want)
		}
	}
}

// readOnly mounts a store so that nobody can write to it.
func readOnly(t *testing.T, store string) string {
	t.Helper()
	at := t.TempDir()
	for _, argv := range [][]string{{"mount", "--bind", store, at}, {"mount", "-o", "remount,bind,ro", at}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: the kernel has no bind mounts here: %v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}

// TestMountedImagesEqualSkopeos compares every file that a container would
// see: in this store, in skopeo's, and in the flattened layers.
func TestMountedImagesEqualSkopeos(t *testing.T) {
	need(t, "podman", "skopeo", "unshare")
	all := images(t)
	theirs := skopeoStore(t, writeLayout(t, all), all)
	ours := readOnly(t, ownStore(t, Store{}, all))
	_, layers := unpacked(t, all)
	for _, n := range all {
		got := mounted(t, podman(t, ours), n.name)
		want := mounted(t, podman(t, theirs), n.name)
		compareFiles(t, got, want)
		var stack []*tree.Tree
		list, _ := unpacked(t, []named{n})
		for _, l := range list[0].Layers {
			stack = append(stack, layers[l.Digest].Tree)
		}
		flat, err := layer.Flatten(stack)
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		extract(t, flat, root)
		compareFiles(t, summary(t, root), got)
	}
}

// mounted is the summary of what a container of an image sees as podman
// mounts it. Podman 4.3 mounts no images of additional stores by themselves.
func mounted(t *testing.T, p []string, name string) map[string]string {
	t.Helper()
	id := strings.TrimSpace(runHere(t, append(p, "create", "--pull", "never", "--network", "none", name)...))
	defer runHere(t, append(p, "rm", "--force", id)...)
	at := strings.TrimSpace(runHere(t, append(p, "mount", id)...))
	defer runHere(t, append(p, "unmount", "--force", id)...)
	return summary(t, at)
}

// runHere runs a program with the test's own mounts.
func runHere(t *testing.T, argv ...string) string {
	t.Helper()
	var said bytes.Buffer
	c := exec.Command(argv[0], argv[1:]...)
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, said.String())
	}
	return string(out)
}

func TestContainerRunsFromTheStore(t *testing.T) {
	need(t, "podman", "crun", "unshare")
	all := []named{runnable(t)}
	p := podman(t, readOnly(t, ownStore(t, Store{}, all)))
	root := p[slices.Index(p, "--root")+1]
	// Crun wants version 2 of cgroups alone.
	unified := `umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"`
	out, err := try(append(append([]string{"sh", "-c", unified, "sh"}, p...), "run", "--rm", "--network", "none", "--pull", "never", "--cgroups", "disabled", "--runtime", "crun",
		"--ulimit", "nofile=256:256", "--ulimit", "nproc=256:256",
		all[0].name, "/bin/sh", "-c", "echo new >/etc/new && cat /etc/new /full/new; ls /full")...)
	if err != nil {
		t.Fatal(err)
	}
	if out != "new\nnewnew\n" {
		t.Errorf("the container said %q", out)
	}
	if copied, _ := filepath.Glob(root + "/overlay/*/diff/bin/busybox"); len(copied) > 0 {
		t.Errorf("layers were copied: %s", copied)
	}
}

// TestPodmanSavesTheOriginalArchives needs the tar-split data and the files.
func TestPodmanSavesTheOriginalArchives(t *testing.T) {
	need(t, "podman", "unshare", "tar")
	all := images(t)
	p := podman(t, readOnly(t, ownStore(t, Store{}, all)))
	for _, n := range all {
		path := filepath.Join(t.TempDir(), "saved.tar")
		run(t, append(p, "save", "-q", "--format", "oci-archive", "-o", path, n.name)...)
		dir := t.TempDir()
		run(t, "tar", "-xf", path, "-C", dir)
		index, err := v1.ParseIndexManifest(must(os.Open(dir + "/index.json")))
		if err != nil {
			t.Fatal(err)
		}
		m, err := v1.ParseManifest(must(os.Open(dir + "/blobs/sha256/" + index.Manifests[0].Digest.Hex)))
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range m.Layers {
			got := gunzip(t, dir+"/blobs/sha256/"+l.Digest.Hex)
			if h, _, _ := v1.SHA256(strings.NewReader(got)); h != c.RootFS.DiffIDs[i] {
				t.Errorf("%s: layer %d is %s, want %s", n.name, i+1, h, c.RootFS.DiffIDs[i])
			}
		}
	}
}

func must(f *os.File, err error) *os.File {
	if err != nil {
		panic(err)
	}
	return f
}
