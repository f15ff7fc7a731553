package cidata

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

// cloud-init's own examples are taken where `cloud-init schema` takes them, and refused where it refuses them. The keys
// in them are let in.
func TestExamplesOfCloudInitAreJudgedAsByCloudInit(t *testing.T) {
	tree := cloudinittest.Find(t)
	names, err := filepath.Glob(filepath.Join(tree.Root, "usr/share/doc/cloud-init/examples/*.txt"))
	if err != nil || len(names) < 30 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	var lines []any
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, map[string]any{"type": "cloud-config", "data": data})
	}
	decoder := json.NewDecoder(tree.Run(t, "schema/testdata/judge.py", lines...))
	for _, name := range names {
		var theirs struct {
			Valid bool
			Why   string
		}
		if err := decoder.Decode(&theirs); err != nil {
			t.Fatal(err)
		}
		_, err := Load("", LoadOptions{Settings: Settings{UserData: []string{name}}, AllowSecrets: true})
		if theirs.Valid != (err == nil) {
			t.Errorf("%s: %v; cloud-init: %v %s", filepath.Base(name), err, theirs.Valid, theirs.Why)
		}
	}
}
