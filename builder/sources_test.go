package builder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/archive"
)

func TestArchiveWithKeysOfItsOwnIsAskedForAllPockets(t *testing.T) {
	keyring := filepath.Join(t.TempDir(), "own.gpg")
	if err := os.WriteFile(keyring, []byte("own"), 0o644); err != nil {
		t.Fatal(err)
	}
	given := func() []archive.Source {
		return []archive.Source{
			{URI: "http://own.example/debian", Suite: "trixie", Keyring: []byte("debian")},
			{URI: "http://security.example/security", Suite: "trixie-security", Keyring: []byte("debian"), IgnoreValidUntil: true},
		}
	}
	own := recipes.Mirror{URI: "http://own.example/debian/", KeyringFile: keyring}
	sources := given()
	if err := ownKeys(sources, []recipes.Mirror{own}); err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		if s.URI != "http://own.example/debian" || string(s.Keyring) != "own" || s.IgnoreValidUntil {
			t.Errorf("%s: %s, keyring %s, Valid-Until ignored: %v", s.Suite, s.URI, s.Keyring, s.IgnoreValidUntil)
		}
	}
	sources = given()
	if err := ownKeys(sources, []recipes.Mirror{own, {URI: "http://security.example/security"}}); err != nil {
		t.Fatal(err)
	}
	if s := sources[1]; s.URI != "http://security.example/security" || string(s.Keyring) != "debian" {
		t.Errorf("a mirror that was named with the distribution's keys: %s, keyring %s", s.URI, s.Keyring)
	}
	sources = given()
	if err := ownKeys(sources, []recipes.Mirror{{URI: "http://own.example/debian"}}); err != nil || string(sources[0].Keyring) != "debian" {
		t.Errorf("a mirror without keys: keyring %s, %v", sources[0].Keyring, err)
	}
}
