package docker

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

func TestNamesAreThoseThatDockerShows(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("ab", 32)
	for complete, want := range map[string]name{
		"docker.io/library/debian:trixie":               {"debian", "debian:trixie"},
		"docker.io/user/app:1":                          {"user/app", "user/app:1"},
		"docker.io/library/a/b:1":                       {"library/a/b", "library/a/b:1"},
		"index.docker.io/library/debian:12":             {"debian", "debian:12"},
		"localhost:5000/web:1.4_a-B":                    {"localhost:5000/web", "localhost:5000/web:1.4_a-B"},
		"registry.example.com/a/b" + digest:             {"registry.example.com/a/b", "registry.example.com/a/b" + digest},
		"registry.example.com:5000/web:1.4" + digest:    {"registry.example.com:5000/web", "registry.example.com:5000/web" + digest},
		"docker.io/library/debian:trixie-slim" + digest: {"debian", "debian" + digest},
	} {
		got, err := familiar(complete)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", complete, got, err, want)
		}
	}
	for _, wrong := range []string{
		"", "debian", "debian:1", "localhost:5000/web", "a/b", "a/b:", "a/b@sha256:ab", "/b:1", "a/:1",
		"a/b:1 x", "a/b\n:1", `a/"b:1`, "a/b{:1", "a/b,:1", "a/b:1\\", "a/b@" + digest,
	} {
		if got, err := familiar(wrong); !errors.Is(err, ErrImages) {
			t.Errorf("%q: %v, %v", wrong, got, err)
		}
	}
}

func TestTheSameImagesAreTheSameBytes(t *testing.T) {
	web, db := webAndDB(t)
	write := func(all ...made) []byte {
		images, layers := unpacked(t, all)
		made := tree.New()
		if err := (Store{}).Write(made, images, layers); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := made.WriteTar(t.Context(), &b, clock); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(write(web, db), write(db, web)) {
		t.Error("the order of the images makes a difference")
	}
}

func TestLayersAreStoredOnceAndLinksAreShort(t *testing.T) {
	web, db := webAndDB(t)
	images, layers := unpacked(t, []made{web, db, web})
	made := tree.New()
	if err := (Store{}).Write(made, images, layers); err != nil {
		t.Fatal(err)
	}
	pages := 0
	err := made.Walk(func(e *tree.Entry) error {
		if strings.HasSuffix(e.Path, "srv/page") {
			pages++
		}
		if e.Typeflag == tree.TypeSymlink && strings.HasPrefix(e.Linkname, "/") && len(e.Linkname) > 59 {
			t.Errorf("%s -> %s takes a block of ext4", e.Path, e.Linkname)
		}
		return nil
	})
	if err != nil || pages != 1 {
		t.Errorf("a layer that comes twice is there %d times (%v)", pages, err)
	}
	if e, _ := made.Lookup(Prefix); e == nil || e.Mode != 0o700 {
		t.Errorf("everybody sees the layers: %v", e)
	}
	if e, _ := made.Lookup(units + "/docker.service.wants/" + unit); e == nil || e.Linkname != "../"+unit {
		t.Errorf("docker does not want the unit: %v", e)
	}
	text, err := made.ReadFile(units + "/" + unit)
	if err != nil || bytes.ContainsRune(text, '@') {
		t.Errorf("the unit is not filled in: %s (%v)", text, err)
	}
}

func TestImagesThatDoNotGoTogetherAreRefused(t *testing.T) {
	web, db := webAndDB(t)
	both, layers := unpacked(t, []made{web, db})
	stolen := slices.Clone(both)
	stolen[1].Names = stolen[0].Names
	wrong := slices.Clone(both)
	wrong[0].Names = []string{"web"}
	nameless := slices.Clone(both)
	nameless[1].Names = nil
	for what, write := range map[string]func(t *tree.Tree) error{
		"a layer is missing":     func(t *tree.Tree) error { return Store{}.Write(t, both, nil) },
		"one name for two":       func(t *tree.Tree) error { return Store{}.Write(t, stolen, layers) },
		"no name":                func(t *tree.Tree) error { return Store{}.Write(t, nameless, layers) },
		"a name that is none":    func(t *tree.Tree) error { return Store{}.Write(t, wrong, layers) },
		"a layer without a tree": func(t *tree.Tree) error { return Store{}.Write(t, both, map[containers.Digest]Layer{}) },
	} {
		if err := write(tree.New()); !errors.Is(err, ErrImages) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, root := range []string{"var/lib/docker", "/", "/a b", "/a/../b", "/a%b", "/a\nb"} {
		if err := (Store{DataRoot: root}).Write(tree.New(), nil, nil); !errors.Is(err, ErrConfig) {
			t.Errorf("data-root %q: %v", root, err)
		}
	}
}

func TestConfigureKeepsWhatIsThere(t *testing.T) {
	const ours = `"features":{"containerd-snapshotter":false},"storage-driver":"overlay2"`
	for _, c := range []struct{ root, existing, want string }{
		{"", "", "{" + ours + "}"},
		{"/data/docker", "\n", `{"data-root":"/data/docker",` + ours + "}"},
		{"/data/docker", `{"data-root":"/data/docker"}`, `{"data-root":"/data/docker",` + ours + "}"},
		{"", `{"storage-driver":"overlay2","mtu":1450,"log-opts":{"max-size":"<1m"}}`,
			`{"features":{"containerd-snapshotter":false},"log-opts":{"max-size":"<1m"},"mtu":1450,"storage-driver":"overlay2"}`},
		{"", `{"features":{"buildkit":true}}`, `{"features":{"buildkit":true,"containerd-snapshotter":false},"storage-driver":"overlay2"}`},
	} {
		got, err := Store{DataRoot: c.root}.Configure([]byte(c.existing))
		if plain := strings.Join(strings.Fields(string(got)), ""); err != nil || plain != c.want {
			t.Errorf("%s: %s, %v, want %s", c.existing, plain, err, c.want)
		}
	}
	for _, wrong := range []string{
		"[]", "null", "{", "{}{}", `{"storage-driver":"btrfs"}`, `{"data-root":"/srv"}`, `{"data-root":["x"]}`,
		`{"features":{"containerd-snapshotter":true}}`, `{"features":[]}`, `{"userns-remap":"default"}`, strings.Repeat(" ", maxConfig+1),
	} {
		if got, err := (Store{}).Configure([]byte(wrong)); !errors.Is(err, ErrConfig) {
			t.Errorf("%.40s: %s, %v", wrong, got, err)
		}
	}
}

func FuzzConfigure(f *testing.F) {
	f.Add([]byte(`{"storage-driver":"overlay2","features":{"buildkit":true},"mtu":1e3}`))
	f.Add([]byte(`{"data-root":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := Store{}.Configure(data)
		if err != nil {
			return
		}
		twice, err := Store{}.Configure(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s\nagain: %s, %v", once, twice, err)
		}
	})
}
