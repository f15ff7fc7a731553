package recipes_test

import (
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

func TestEmbeddedRecipesLoad(t *testing.T) {
	for _, name := range []string{"debian-minimal.yml", "ubuntu-minimal.yml", "debian-cloud.yml"} {
		r, err := recipes.Load(name, recipes.Options{Architecture: "amd64", ReadFile: recipes.Files.ReadFile})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		data, err := r.Canonical()
		t.Logf("%s %v", data, err)
	}
}
