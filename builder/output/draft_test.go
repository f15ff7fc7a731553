package output

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFilesWithHiddenNames goes the way of file systems that have no files without a name.
func TestFilesWithHiddenNames(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.raw")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	write := func(text string) *draft {
		d := &draft{name: "a.raw"}
		if err := d.openNamed(dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.file.Close() })
		if _, err := d.file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return d
	}
	is := func(want string) {
		t.Helper()
		if data, err := os.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("the file holds %q, %v; want %q", data, err, want)
		}
	}
	d := write("new")
	if err := d.rename(dir); err != nil {
		t.Fatal(err)
	}
	is("new")
	if err := d.takeBack(dir); err != nil {
		t.Fatal(err)
	}
	is("old")
	d = write("newer")
	if err := d.rename(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.discard(); err != nil {
		t.Fatal(err)
	}
	is("newer")
	d = write("aborted")
	if err := (&Set{dir: dir, files: []*draft{d}}).Abort(); err != nil {
		t.Fatal(err)
	}
	is("newer")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}
