package fs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBtrfsCheckFindsNothingWrong(t *testing.T) {
	need(t, "btrfs")
	image := filepath.Join(t.TempDir(), "image")
	if err := NewBtrfs(clock, id, 128<<20, BtrfsLabel("data")).Write(t.Context(), zoo(), image); err != nil {
		t.Fatal(err)
	}
	if d := os.Getenv("KEEP"); d != "" {
		os.Rename(image, d)
		image = d
	}
	t.Log(output(t, "btrfs", "check", "--check-data-csum", image))
}
