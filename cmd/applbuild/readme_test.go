package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

const moduleRoot = "../.."

// shellBlock is a block of README.md that a reader types in a fresh clone.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// What README.md tells to type works, in its order, in a fresh clone.
func TestReadme(t *testing.T) {
	d := built.disk(t)
	text, err := os.ReadFile(filepath.Join(moduleRoot, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("README.md has no block of sh")
	}
	clone := t.TempDir()
	copyDir(t, moduleRoot, clone, ".git", "bin", "out")
	for _, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "sh", "-eux", "-c", string(block[1]))
		cmd.Dir = clone
		cmd.Env = append(os.Environ(), "APPLBUILD_STORE="+d.store)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if disks, err := filepath.Glob(filepath.Join(clone, "out", "*.raw")); err != nil || len(disks) == 0 {
		t.Errorf("no disk was built (%v)", err)
	}
}

// The recipe that README.md shows is one, and its verbs and flags are there.
func TestReadmeIsTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(moduleRoot, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		dir, recipe := t.TempDir(), block[1]
		if !strings.HasPrefix(recipe, "name: ") && !strings.Contains(recipe, "\nname: ") { // a part of a recipe
			writeFile(t, dir, "whole.yml", "name: shown\ndistribution: debian\nrelease: trixie\n")
			recipe = "include: whole.yml\n" + recipe
		}
		if _, err := recipes.Load(writeFile(t, dir, "recipe.yml", recipe), recipes.Options{}); err != nil {
			t.Errorf("%v\n%s", err, recipe)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)[^|]*\\|([^\n]*)").FindAllStringSubmatch(strings.ReplaceAll(string(text), `\|`, "/"), -1) {
		help := applbuild(t, row[1], "--help").succeeds(t).stdout
		for _, flag := range regexp.MustCompile("`(-[a-z]|--[a-z-]+)").FindAllStringSubmatch(row[2], -1) {
			if !strings.Contains(help, flag[1]) {
				t.Errorf("%s has no flag %s", row[1], flag[1])
			}
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^(?:    )?(?:bin/)?applbuild ([a-z]+)`).FindAllStringSubmatch(string(text), -1) {
		applbuild(t, line[1], "--help").succeeds(t)
	}
}
