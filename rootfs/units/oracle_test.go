package units_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// systemctl runs the machine's own systemctl on a copy of tree and returns the tree afterwards.
func systemctl(t *testing.T, tree memory, verb, unit string) (memory, error) {
	t.Helper()
	root := t.TempDir()
	tree.write(t, root)
	out, err := exec.Command("systemctl", "--root="+root, verb, unit).CombinedOutput()
	if err != nil {
		t.Logf("systemctl %s %s: %v: %s", verb, unit, err, out)
	}
	return read(t, root), err
}

func needSystemctl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("SKIPPED: systemctl is missing, so nothing checks what it would do: install systemd")
	}
}

func TestSystemctlAgrees(t *testing.T) {
	needSystemctl(t)
	for _, op := range operations {
		t.Run(op.verb+" "+op.unit, func(t *testing.T) {
			want, theirs := systemctl(t, sample(), op.verb, op.unit)
			got := sample()
			_, ours := do(got, op.verb, op.unit)
			if (theirs == nil) != (ours == nil) {
				t.Errorf("systemctl says %v, we say %v", theirs, ours)
			}
			if ours == nil && !maps.Equal(got, want) {
				t.Errorf("systemctl: %s\n     we: %s", difference(sample(), want), difference(sample(), got))
			}
		})
	}
}

// TestSystemctlAgreesOnRealUnits enables and disables each unit that this machine has.
func TestSystemctlAgreesOnRealUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("runs systemctl for every unit of the machine")
	}
	needSystemctl(t)
	tree := memory{}
	files, err := filepath.Glob("/usr/lib/systemd/system/*.*")
	if err != nil || len(files) < 20 {
		t.Skip("SKIPPED: this machine has no units in /usr/lib/systemd/system: install systemd")
	}
	for _, file := range files {
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink(file); err == nil {
			tree[file[1:]] = "-> " + strings.ReplaceAll(target, "/lib/systemd/system/", "/usr/lib/systemd/system/")
		} else if info.Mode().IsRegular() {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tree[file[1:]] = string(data)
		}
	}
	enabled := 0
	for _, file := range slices.Sorted(maps.Keys(tree)) {
		name := filepath.Base(file)
		if !strings.Contains(tree[file], "[Install]") && !strings.HasPrefix(tree[file], "-> ") {
			continue
		}
		want, theirs := systemctl(t, tree, "enable", name)
		got := maps.Clone(tree)
		_, ours := do(got, "enable", name)
		if !maps.Equal(got, want) {
			t.Errorf("enable %s:\nsystemctl (%v): %s\n     we (%v): %s", name, theirs, difference(tree, want), ours, difference(tree, got))
			continue
		}
		if maps.Equal(got, tree) {
			continue
		}
		enabled++
		want, _ = systemctl(t, got, "disable", name)
		if _, err := do(got, "disable", name); err != nil || !maps.Equal(got, want) {
			t.Errorf("disable %s: %v: systemctl leaves %s, we %s", name, err, difference(tree, want), difference(tree, got))
		}
	}
	if enabled < 5 {
		t.Errorf("only %d units could be enabled", enabled)
	}
}
