package lock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sample() *Lock {
	digest := strings.Repeat("ab", 32)
	return &Lock{
		Version: Version, Inputs: "x", Distribution: "debian", Release: "trixie", Architecture: "amd64",
		Sources: []Source{{
			URI: "http://mirror.example/debian", Suite: "trixie", Components: []string{"main"},
			Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), SHA256: digest,
		}},
		Packages: []Package{{Name: "bash", Version: "5.2", Arch: "amd64", Path: "pool/main/b/bash/bash_5.2_amd64.deb", Size: 10, SHA256: digest}},
		Tools:    []Package{{Name: "bash", Version: "5.2", Arch: "amd64", Path: "pool/main/b/bash/bash_5.2_amd64.deb", Size: 10, SHA256: digest}},
		Containers: []Container{{
			Ref: "registry.example.com/web:1.4", Platform: "linux/amd64",
			Index: "sha256:" + strings.Repeat("cd", 32), Digest: "sha256:" + strings.Repeat("ef", 32),
		}},
	}
}

func TestWrittenLockReadsTheSame(t *testing.T) {
	name := filepath.Join(t.TempDir(), "web.lock.yml")
	if err := sample().Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := sample().Encode()
	after, _ := got.Encode()
	if string(before) != string(after) {
		t.Errorf("written:\n%s\nread:\n%s", before, after)
	}
	if want := "http://mirror.example/debian/pool/main/b/bash/bash_5.2_amd64.deb"; got.URL(got.Packages[0]) != want {
		t.Errorf("URL %s", got.URL(got.Packages[0]))
	}
	if len(got.All()) != 1 {
		t.Errorf("a package of two sets counts %d times", len(got.All()))
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); len(left) != 0 {
		t.Errorf("left beside the lock: %v", left)
	}
}

func TestMissingLockCanBeTold(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), "none.lock.yml")); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestHostileLocksAreRefused(t *testing.T) {
	good, _ := sample().Encode()
	for _, change := range [][2]string{
		{"version: 1", "version: 2"},
		{"path: pool/", "path: ../pool/"},
		{"path: pool/", "path: /pool/"},
		{"source: 0", "source: 1"},
		{"source: 0", "source: -1"},
		{"size: 10", "size: -10"},
		{"sha256: abab", "sha256: zzab"},
		{"sha256: abab", "sha256: ABab"},
		{"uri: http:", "uri: "},
		{"name: bash", "nome: bash"},
		{"platform: linux/amd64", "platform: linux"},
		{"index: sha256:cd", "index: sha256:cg"},
		{"digest: sha256:ef", "digest: md5:ef"},
	} {
		bad := strings.ReplaceAll(string(good), change[0], change[1])
		if bad == string(good) {
			t.Fatalf("the sample has no %q", change[0])
		}
		name := filepath.Join(t.TempDir(), "l.yml")
		if err := os.WriteFile(name, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(name); err == nil {
			t.Errorf("%s → %s: taken", change[0], change[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	good, _ := sample().Encode()
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			return
		}
		for _, p := range l.All() {
			l.URL(p)
		}
	})
}

func TestPathForEachSpelling(t *testing.T) {
	for recipe, want := range map[string]string{"a/web.yml": "a/web.lock.yml", "web.yaml": "web.lock.yml", "web": "web.lock.yml"} {
		if got := PathFor(recipe); got != want {
			t.Errorf("PathFor(%s) = %s", recipe, got)
		}
	}
}
