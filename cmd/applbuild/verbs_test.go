package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/recipes"
)

func TestVersion(t *testing.T) {
	r := applbuild(t, "version").succeeds(t)
	if !strings.HasPrefix(r.stdout, "applbuild ") || strings.Count(r.stdout, "\n") != 1 || r.stderr != "" {
		t.Errorf("%q, %q", r.stdout, r.stderr)
	}
}

func TestHelp(t *testing.T) {
	for _, verb := range []string{"image", "lock", "fetch", "boot", "inspect", "verify", "schema", "init", "completion", "version"} {
		r := applbuild(t, verb, "--help").succeeds(t)
		if !strings.Contains(r.stdout, "applbuild "+verb) {
			t.Errorf("%s --help: %q", verb, r.stdout)
		}
	}
	if r := applbuild(t).succeeds(t); !strings.Contains(r.stdout, "applbuild init") {
		t.Errorf("without a verb: %q", r.stdout)
	}
}

func TestSchema(t *testing.T) {
	r := applbuild(t, "schema").succeeds(t)
	var schema struct {
		Schema     string                     `json:"$schema"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Schema == "" || schema.Properties["packages"] == nil {
		t.Errorf("no schema of recipes: %s", r.stdout[:min(len(r.stdout), 300)])
	}
}

func TestInit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "recipe.yml")
	applbuild(t, "init", name).succeeds(t)
	if _, err := recipes.Load(name, recipes.Options{}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(name, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	applbuild(t, "init", name).fails(t, name, "--force")
	if data, err := os.ReadFile(name); err != nil || string(data) != "mine" {
		t.Errorf("the recipe that was there is now %q (%v)", data, err)
	}
	applbuild(t, "init", "--force", name).succeeds(t)
}

// A shell reads its completion script without a complaint.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := applbuild(t, "completion", shell).succeeds(t)
		if !strings.Contains(r.stdout, "applbuild") {
			t.Errorf("%s: %q", shell, r.stdout)
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is missing, which would check its script", shell)
			continue
		}
		if out, err := exec.Command(shell, "-n", writeFile(t, t.TempDir(), "script", r.stdout)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
	if r := applbuild(t, "__complete", "ima").succeeds(t); !strings.HasPrefix(r.stdout, "image\t") {
		t.Errorf("ima is completed as %q", r.stdout)
	}
}

func TestInspect(t *testing.T) {
	d := built.disk(t)
	r := applbuild(t, "inspect", "--json", d.file(".raw")).succeeds(t)
	var in struct {
		Partitions []struct{ Type, Label, UUID string }
		RootHash   string `json:"root_hash"`
		Kernels    []struct {
			Path, Cmdline, Uname string
			Sections             []struct{ Name, SHA256 string }
		}
		Manifest struct {
			Packages []struct{ Name, Version string }
		}
		Problems []string
	}
	if err := json.Unmarshal([]byte(r.stdout), &in); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if len(in.Partitions) != 3 || in.Partitions[1].Label != "root-1" || !strings.HasPrefix(in.RootHash, strings.ReplaceAll(in.Partitions[1].UUID, "-", "")) {
		t.Errorf("partitions %+v, root hash %s", in.Partitions, in.RootHash)
	}
	if hash, err := os.ReadFile(d.file(".roothash")); err != nil || strings.TrimSpace(string(hash)) != in.RootHash {
		t.Errorf("root hash %s, beside the disk %s (%v)", in.RootHash, hash, err)
	}
	if len(in.Kernels) != 1 || !strings.Contains(in.Kernels[0].Cmdline, "roothash="+in.RootHash) || len(in.Kernels[0].Sections) < 5 || in.Kernels[0].Uname == "" {
		t.Errorf("kernels %+v", in.Kernels)
	}
	if len(in.Manifest.Packages) != len(d.lock(t).Packages) || len(in.Problems) > 0 {
		t.Errorf("%d packages, the lock has %d; problems %q", len(in.Manifest.Packages), len(d.lock(t).Packages), in.Problems)
	}

	table := applbuild(t, "inspect", "--packages", "-o", d.out, d.recipe).succeeds(t).stdout
	for _, word := range []string{"root-1-verity", in.RootHash, ".cmdline", "cryptsetup-bin"} {
		if !strings.Contains(table, word) {
			t.Errorf("%s is not in the table:\n%s", word, table)
		}
	}
}

// A disk that is there and what it should be is found so in a second; one that
// is there and something else is left alone without --force.
func TestOutputIsThere(t *testing.T) {
	d := built.disk(t)
	begin := time.Now()
	r := d.image(t, d.out).succeeds(t)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("to find that nothing has changed took %s, more than a second", took)
	}
	if !strings.Contains(r.stdout, "up to date") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}

	out := t.TempDir()
	name := writeFile(t, out, "guest_1_amd64.raw", "mine")
	d.image(t, out).fails(t, "guest_1_amd64.raw", "--force")
	if data, err := os.ReadFile(name); err != nil || string(data) != "mine" {
		t.Errorf("the file that was there is changed (%v)", err)
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 1 {
		t.Errorf("files beside it: %v (%v)", files, err)
	}
	d.image(t, out, "--force").succeeds(t)
	if !same(t, name, d.file(".raw")) {
		t.Error("--force did not write the disk")
	}
}

// Without the lock, an output that is there is refused before any work.
func TestOutputIsThereWithoutLock(t *testing.T) {
	d := newTiny(t, "packages: [hello]\n")
	writeFile(t, d.out, "tiny_0_amd64.raw", "mine")
	d.image(t).fails(t, "tiny_0_amd64.raw", "--force")
	if asked := d.Requests(); len(asked) > 0 {
		t.Errorf("the archive was asked for %q before", asked)
	}
}

func TestQuiet(t *testing.T) {
	d := built.disk(t)
	out := t.TempDir()
	if r := d.image(t, out, "--quiet").succeeds(t); r.stdout+r.stderr != "" {
		t.Errorf("image --quiet printed %q and %q", r.stdout, r.stderr)
	}
	if r := applbuild(t, "verify", "--quiet", d.file(".raw")).succeeds(t); r.stdout+r.stderr != "" {
		t.Errorf("verify --quiet printed %q and %q", r.stdout, r.stderr)
	}
	r := d.image(t, out, "--quiet", "--json").succeeds(t)
	var result struct{ RootHash string }
	if err := json.Unmarshal([]byte(r.stdout), &result); err != nil || len(result.RootHash) != 64 || r.stderr != "" {
		t.Errorf("image --quiet --json printed %q and %q (%v)", r.stdout, r.stderr, err)
	}
}

// Each line of --log-format json is an object; the stages begin and end.
func TestLogFormatJSON(t *testing.T) {
	d := built.disk(t)
	r := d.image(t, t.TempDir(), "--log-format", "json").succeeds(t)
	running := map[string]bool{}
	for line := range bytes.Lines([]byte(r.stderr)) {
		var event struct {
			Event, Stage string
			Elapsed      *float64
		}
		if err := json.Unmarshal(line, &event); err != nil || event.Elapsed == nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch event.Event {
		case "start":
			running[event.Stage] = true
		case "done":
			if !running[event.Stage] {
				t.Errorf("stage %s ends without having begun", event.Stage)
			}
			delete(running, event.Stage)
		}
	}
	if len(running) > 0 || !strings.Contains(r.stderr, `"stage":"disk"`) {
		t.Errorf("stages that did not end: %v\n%s", running, r.stderr)
	}
}
