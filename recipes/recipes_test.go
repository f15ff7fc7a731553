package recipes_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

// files is a set of recipes in memory.
type files map[string]string

func (f files) ReadFile(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

const head = "name: kiosk\ndistribution: debian\nrelease: trixie\n"

// load loads r.yml out of files.
func load(t *testing.T, f files, set ...string) *recipes.Recipe {
	t.Helper()
	r, err := recipes.Load("r.yml", recipes.Options{Architecture: "amd64", ReadFile: f.ReadFile, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// uncomment turns the starter's commented examples into settings: prose has one space after the hash.
func uncomment(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && (rest[0] != ' ' || strings.HasPrefix(rest, "  ")) && !strings.HasPrefix(rest, "     applbuild") && rest != "\n" {
			line = rest
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func TestStarterLoads(t *testing.T) {
	starter := string(recipes.Starter())
	load(t, files{"r.yml": starter})
	all := uncomment(starter)
	r := load(t, files{"r.yml": all, "common.yml": ""})
	if len(r.Users) != 1 || r.Root.Filesystem != recipes.EROFS || len(r.Files) != 3 || len(r.Mirrors) != 2 {
		t.Errorf("the starter's examples are not all read: %+v", r)
	}
}

func TestEmbeddedRecipes(t *testing.T) {
	for _, name := range embedded(t) {
		r, err := recipes.Load(name, recipes.Options{Architecture: "amd64", ReadFile: recipes.Files.ReadFile})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Name+".yml" != name {
			t.Errorf("%s describes %s", name, r.Name)
		}
	}
}

func embedded(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(recipes.Files, "*.yml")
	if err != nil || !slices.Contains(names, "debian-cloud.yml") || len(names) < 3 {
		t.Fatalf("embedded recipes: %q, %v", names, err)
	}
	return names
}

func TestDefaults(t *testing.T) {
	r := load(t, files{"r.yml": head})
	got, err := r.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"kiosk","version":"0","distribution":"debian","release":"trixie","architecture":"amd64","snapshot":"","seed":"kiosk_0","recommends":false,"kernel":{"package":""},"root":{"filesystem":"squashfs","compression":{"algorithm":"zstd","level":3},"size":0,"verity":true,"corruption":"error"},"boot":{"loader":"uki","esp_size":0},"hostname":"kiosk","locale":"C.UTF-8","timezone":"Etc/UTC","units":{},"remove":{"documentation":false},` +
		`"partitions":[{"name":"volatile","filesystem":"ext4","label":"volatile","mount":"/volatile","size":{"min":268435456,"max":34359738368,"weight":500},"grow":true,"keep":false,"wipe":"never","owner":"root:root","mode":"0755","disk":"system"},` +
		`{"name":"data","filesystem":"ext4","label":"data","mount":"/data","size":{"min":268435456,"weight":1000},"grow":true,"keep":true,"wipe":"never","owner":"root:root","mode":"0755","disk":"system"}],` +
		`"state":{"etc":"persistent","var":"persistent","home":"persistent","log":"volatile","containers":"volatile"},"disk":{"size":0},"output":{"formats":["raw"]}}`
	if string(got) != want {
		t.Errorf("defaults:\n got %s\nwant %s", got, want)
	}
	if r := load(t, files{"r.yml": head + "boot: none\n"}); !r.Kernel.None() {
		t.Errorf("a disk that does not boot has kernel %q", r.Kernel.Package)
	}
	if r := load(t, files{"r.yml": head + "root: {filesystem: erofs}\n"}); r.Root.Compression.Algorithm != "lz4hc" {
		t.Errorf("erofs is compressed with %q", r.Root.Compression.Algorithm)
	}
}

// A recipe of which nothing but a container image is made needs no kernel and no boot loader.
func TestContainerImageAlone(t *testing.T) {
	r := load(t, files{"r.yml": head + "version: 1.2+b~3\noutput: {formats: oci}\n"})
	got := fmt.Sprint(r.Boot.Loader, r.Kernel, len(r.Partitions), r.Output.OCI)
	if want := "none{none  []}0{kiosk:1.2-b-3 [] [] map[]   [] [] map[]  gzip}"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryField(t *testing.T) {
	r := load(t, files{"dir/r.yml": "", "r.yml": `
name: kiosk
version: 1.10
distribution: ubuntu
release: noble
architecture: arm64
mirrors: [http://a.example/ubuntu, {uri: "https://b.example/ubuntu", keyring: keys/b.asc}]
snapshot: 20260301T120000Z
seed: another
packages: [vim=2:9.1.0-1, "nano/noble-updates", snapd-, "libc6:arm64"]
recommends: true
kernel: {package: linux-image-generic, version: 6.8.0-31.31, modules: [mpt3sas]}
root: {filesystem: squashfs, compression: {algorithm: xz}, size: 2G, verity: true, corruption: panic}
boot: {loader: systemd-boot, cmdline: [quiet, "console=ttyS0  loglevel=3"], esp_size: 512M}
hostname: kiosk.example.com
locale: de_DE.UTF-8@euro
timezone: America/Argentina/Buenos_Aires
users:
  - {name: root, password: "*"}
  - {name: admin, uid: 1005, groups: adm, shell: /bin/sh, home: /srv/admin, sudo: true, password: $6$salt$hash}
  - {name: svc, system: true, sudo: nopasswd}
files:
  - {path: /etc/a, content: "", mode: 0600, owner: "www-data"}
  - {path: /etc/b, source: ../b}
  - {path: /srv/c, directory: true, owner: 33:33, mode: "2775"}
  - {path: /etc/d, link: ../e}
units: {enable: ["getty@tty2.service"], disable: [a.timer], mask: ['dev-disk-by\x2dlabel-x.swap']}
remove: {paths: ["/usr/share/locale/*"], documentation: true}
output:
  dir: build
  formats: [raw, oci]
  oci:
    name: registry.example.com:5000/a/web:1.4
    entrypoint: /usr/bin/web
    cmd: [-p, 8080]
    environment: {MODE: production, LEVEL: 3, EMPTY: ""}
    user: 33:33
    workdir: /srv
    ports: [8080, 53/udp]
    volumes: /data
    labels: {org.opencontainers.image.source: "https://git.example.com/web"}
    stop_signal: SIGQUIT
    compression: zstd
`})
	one := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	one("version", r.Version, "1.10")
	one("mirrors", r.Mirrors, "[{http://a.example/ubuntu  } {https://b.example/ubuntu keys/b.asc keys/b.asc}]")
	one("snapshot", r.Snapshot.Time, "2026-03-01 12:00:00 +0000 UTC")
	one("root", r.Root, "{squashfs {xz 0} 2G true panic}")
	one("boot", r.Boot, "{systemd-boot [quiet console=ttyS0  loglevel=3] 512M}")
	one("cmdline", r.Boot.CommandLine(), "quiet console=ttyS0 loglevel=3")
	one("uid", *r.Users[1].UID, 1005)
	one("sudo", []recipes.Sudo{r.Users[0].Sudo, r.Users[1].Sudo, r.Users[2].Sudo}, "[ password nopasswd]")
	one("shells", []string{r.Users[0].Shell, r.Users[2].Shell, r.Users[2].Home}, "[/bin/bash /usr/sbin/nologin /]")
	one("content", *r.Files[0].Content, "")
	one("modes", []recipes.Mode{*r.Files[0].Mode, *r.Files[2].Mode}, []recipes.Mode{0o600, 0o2775})
	one("owners", []recipes.Owner{r.Files[0].Owner, r.Files[1].Owner, r.Files[2].Owner}, "[{www-data } {root root} {33 33}]")
	one("source", r.Files[1].SourceFile, "../b")
	one("mask", r.Units.Mask[0], `dev-disk-by\x2dlabel-x.swap`)
	one("output", r.Output, "{build [raw oci] {registry.example.com:5000/a/web:1.4 [/usr/bin/web] [-p 8080] map[EMPTY: LEVEL:3 MODE:production] 33:33 /srv [8080/tcp 53/udp] [/data] map[org.opencontainers.image.source:https://git.example.com/web] SIGQUIT zstd} build}")
	one("position of packages[1]", r.Position("packages[1]"), "r.yml:10:27")
	one("position of users[1].groups[0]", r.Position("users[1].groups[0]"), "r.yml:20:38")
	one("position of a default", r.Position("users[1].system"), "r.yml:20:5")
	one("position of nothing", r.Position("nothing"), "r.yml:1:1")
	problem := r.Problem("packages[1]", "no such package", "did you mean vim?", fs.ErrNotExist)
	one("problem", problem, "r.yml:10:27: packages[1]: no such package: did you mean vim?")
	if !errors.Is(problem, fs.ErrNotExist) {
		t.Error("the cause of a problem is lost")
	}
}

// TestErrors loads every recipe of testdata/errors and compares what is said about it with the file beside it.
// "# set:" lines in a recipe are its --set.
func TestErrors(t *testing.T) {
	names, err := filepath.Glob("testdata/errors/*.yml")
	if err != nil || len(names) < 10 {
		t.Fatalf("recipes in testdata/errors: %q, %v", names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			opts := recipes.Options{Architecture: "amd64"}
			for line := range strings.Lines(string(text)) {
				if setting, ok := strings.CutPrefix(line, "# set: "); ok {
					opts.Set = append(opts.Set, strings.TrimSpace(setting))
				}
			}
			_, err = recipes.Load(name, opts)
			if err == nil {
				t.Fatal("the recipe is accepted")
			}
			var one *recipes.Error
			if !errors.As(err, &one) || one.Position.File == "" || one.What == "" {
				t.Errorf("no recipes.Error with a position in %#v", err)
			}
			got := strings.ReplaceAll(err.Error(), filepath.Dir(name)+"/", "") + "\n"
			golden := strings.TrimSuffix(name, ".yml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}
