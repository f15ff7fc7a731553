package fs

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// archive is a tree that lies in a tar file.
type archive string

func (a archive) WriteTar(ctx context.Context, w io.Writer) error {
	f, err := os.Open(string(a))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// BenchmarkWrite makes each image of the tar file that APPLBUILD_TEST_TREE
// names, and e2fsck looks at ext4.
func BenchmarkWrite(b *testing.B) {
	tree := archive(os.Getenv("APPLBUILD_TEST_TREE"))
	info, err := os.Stat(string(tree))
	if err != nil {
		b.Skip("SKIPPED: APPLBUILD_TEST_TREE names no tar file")
	}
	for _, name := range []string{"squashfs zstd 3", "squashfs lz4", "erofs lz4", "erofs none", "ext4"} {
		b.Run(name, func(b *testing.B) {
			image := filepath.Join(b.TempDir(), "image")
			b.SetBytes(info.Size())
			for b.Loop() {
				if err := kinds(rooted{})[name].Write(b.Context(), tree, image); err != nil {
					b.Fatal(err)
				}
			}
			if made, err := os.Stat(image); err == nil {
				b.ReportMetric(float64(made.Size())/1e6, "MB")
			}
			if name == "ext4" {
				if out, err := exec.Command("/sbin/e2fsck", "-fn", image).CombinedOutput(); err != nil {
					b.Errorf("e2fsck: %v\n%s", err, out)
				} else {
					b.Logf("%s", out)
				}
				out, _ := exec.Command("sh", "-c", "/sbin/dumpe2fs -h "+image+" | grep -iE 'free|count|features'").CombinedOutput()
				b.Logf("%s", out)
			}
		})
	}
}
