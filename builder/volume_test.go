package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

// Complaints about what a partition is to hold are placed at the item of the
// recipe, wherever the partition comes on the disk.
func TestComplaintsAboutContentsAreAtTheItem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yml")
	text := `name: kiosk
distribution: debian
release: trixie
partitions:
  - name: late
    contents:
      - {path: /a, content: here}
      - {path: /b, source: gone}
  - name: early
    size: 64M
    contents: [{path: /c, content: here}]
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	recipe, err := recipes.Load(path, recipes.Options{Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	img := &build{recipe: recipe}
	if err := img.readVolumes(t.Context()); err == nil || !strings.HasPrefix(err.Error(), path+":8:9: partition late: /b: ") {
		t.Errorf("a source that is not there: %v", err)
	}
	for i, want := range []string{":11:16", ":7:9"} {
		p := recipe.Partitions[i]
		if got := recipe.Position(p.At + ".contents[0]").String(); got != path+want {
			t.Errorf("the contents of %s are at %s, want %s", p.Name, got, want)
		}
	}
	if got := recipe.Problem(recipe.Partitions[0].At+".size", "is too small", "use more", nil).Error(); !strings.Contains(got, ":10:11: ") {
		t.Errorf("the size's place: %s", got)
	}
}
