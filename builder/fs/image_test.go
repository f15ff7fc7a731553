package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

type writer interface {
	Write(ctx context.Context, tree Tree, path string) error
}

// kinds are all writers of trees in all their variants.
func kinds(tool Tool) map[string]writer {
	return map[string]writer{
		"squashfs zstd":     NewSquashfs(tool, clock),
		"squashfs zstd 3":   NewSquashfs(tool, clock, SquashfsCompression("zstd", 3), SquashfsBlockSize(1<<20)),
		"squashfs lz4":      NewSquashfs(tool, clock, SquashfsCompression("lz4", 0)),
		"squashfs lz4hc":    NewSquashfs(tool, clock, SquashfsCompression("lz4hc", 0)),
		"squashfs xz":       NewSquashfs(tool, clock, SquashfsCompression("xz", 0)),
		"squashfs gzip 1":   NewSquashfs(tool, clock, SquashfsCompression("gzip", 1)),
		"squashfs none":     NewSquashfs(tool, clock, SquashfsCompression("none", 0)),
		"erofs lz4hc":       NewErofs(tool, clock, id),
		"erofs lz4hc 4K":    NewErofs(tool, clock, id, ErofsCompression("lz4hc", 12), ErofsClusterSize(4096)),
		"erofs lz4":         NewErofs(tool, clock, id, ErofsCompression("lz4", 0)),
		"erofs none":        NewErofs(tool, clock, id, ErofsCompression("none", 0)),
		"erofs zstd":        NewErofs(tool, clock, id, ErofsCompression("zstd", 0)),
		"ext4":              NewExt4(tool, clock, id, hashSeed, Ext4Label("root")),
		"ext4 writable 64M": NewExt4(tool, clock, id, hashSeed, Ext4Size(64<<20), Ext4Writable()),
	}
}

func needAll(t *testing.T) {
	t.Helper()
	fstest.Need(t, "mksquashfs", "unsquashfs", "mkfs.erofs", "fsck.erofs", "mke2fs", "debugfs", "e2fsck", "mkfs.vfat", "mcopy", "fsck.vfat")
}

// knows tells whether the machine's kernel and the tool can do a variant.
func knows(t *testing.T, tool, name string) {
	t.Helper()
	if name == "erofs zstd" && tool == "machine" {
		var h host
		if s, _ := help(t.Context(), h, t.TempDir()+"/image", "mkfs.erofs", "--help"); !strings.Contains(s, "zstd") {
			t.Skip("SKIPPED: this machine's mkfs.erofs has no zstd")
		}
	}
}

func TestMountedImageHasTheTree(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts images, which takes root")
	}
	needAll(t)
	for tool, h := range tools(t) {
		for name, w := range kinds(rooted{h}) {
			t.Run(tool+" "+name, func(t *testing.T) {
				knows(t, tool, name)
				image := filepath.Join(scratch(t, h), "image")
				if err := w.Write(t.Context(), fstest.Zoo(), image); err != nil {
					t.Fatal(err)
				}
				kind, _, _ := strings.Cut(name, " ")
				if got := detectFile(t, image); got != kind {
					t.Errorf("Detect: got %q, want %q", got, kind)
				}
				got, want := fstest.Summarize(t, fstest.Mount(t, kind, image)), fstest.Zoo().Summary()
				want["."] = fmt.Sprintf("5 0755 0:0 %d", clock.Unix())
				if kind == "ext4" {
					want["lost+found"] = fmt.Sprintf("5 0700 0:0 %d", clock.Unix())
				}
				fstest.Compare(t, got, want)
			})
		}
	}
}

func detectFile(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Detect(f)
}

func TestCheckersFindNothingWrong(t *testing.T) {
	needAll(t)
	for name, w := range kinds(rooted{}) {
		t.Run(name, func(t *testing.T) {
			knows(t, "machine", name)
			image := filepath.Join(t.TempDir(), "image")
			if strings.HasPrefix(name, "erofs") && os.Getuid() != 0 {
				t.Skip("SKIPPED: this machine's mkfs.erofs may need a directory with owners, which takes root")
			}
			if err := w.Write(t.Context(), fstest.Zoo(), image); err != nil {
				t.Fatal(err)
			}
			switch name[:4] {
			case "squa":
				list := fstest.Output(t, "unsquashfs", "-lln", image)
				for _, line := range []string{
					"drwxr-xr-x 0/0 ", "-rwsr-xr-x 0/0 ", "crw-rw-rw- 0/0 ", "prw-r----- 0/0 ", "-rw-r--r-- 300000/70000 ", "drwxrwxrwt 42/43 ",
				} {
					if !strings.Contains(list, line) {
						t.Errorf("unsquashfs lists no %q:\n%.2000s", line, list)
					}
				}
				if s := fstest.Output(t, "unsquashfs", "-s", image); !strings.Contains(s, "Nov 14 22:13:20 2023") {
					t.Errorf("the creation time is not the clock:\n%s", s)
				}
			case "erof":
				fstest.Output(t, "fsck.erofs", image)
			case "ext4":
				fstest.Output(t, "e2fsck", "-fn", image)
				if s := fstest.Output(t, "dumpe2fs", "-h", image); !strings.Contains(s, id.String()) || !strings.Contains(s, hashSeed.String()) {
					t.Errorf("UUID or hash seed are not as given:\n%s", s)
				}
			}
		})
	}
}

// TestSameTreeSameBytes makes each image twice, the second time in another
// folder and second, with another time zone, umask, and one processor.
func TestSameTreeSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the clock to go on")
	}
	needAll(t)
	for tool, h := range tools(t) {
		other := h
		other.umask = 0o077
		other.extra = []string{"HOME=/nonexistent", "USER=other", "LANG=de_DE.UTF-8"}
		first, second := map[string]string{}, map[string]string{}
		write := func(h host, digests map[string]string) {
			writers := kinds(rooted{h})
			if h.umask != 0 {
				writers["squashfs zstd"] = NewSquashfs(rooted{h}, clock.In(time.FixedZone("far", 9*3600)), SquashfsProcessors(1))
			}
			for name, w := range writers {
				t.Run(tool+" "+name, func(t *testing.T) {
					knows(t, tool, name)
					image := filepath.Join(scratch(t, h), "image")
					if err := w.Write(t.Context(), fstest.Zoo(), image); err != nil {
						t.Fatal(err)
					}
					digests[name] = fstest.Digest(t, image)
				})
			}
		}
		write(h, first)
		time.Sleep(1100 * time.Millisecond)
		write(other, second)
		fstest.Compare(t, second, first)
	}
}

func TestErrorsLeaveNoImage(t *testing.T) {
	needAll(t)
	wrong := errors.New("this tree is broken")
	for name, w := range kinds(rooted{}) {
		image := filepath.Join(t.TempDir(), "image")
		if err := w.Write(t.Context(), fstest.Broken{Err: wrong}, image); err == nil || name != "erofs zstd" && !errors.Is(err, wrong) {
			t.Errorf("%s: got error %v, want one that is %v", name, err, wrong)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Write(ctx, fstest.Zoo(), image); err == nil {
			t.Errorf("%s: no error after its context ended", name)
		}
		if left, _ := filepath.Glob(filepath.Dir(image) + "/*"); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestToolsWordsAreInTheError(t *testing.T) {
	needAll(t)
	full := failing{}
	err := NewSquashfs(full, clock).Write(t.Context(), fstest.Zoo(), filepath.Join(t.TempDir(), "image"))
	if err == nil || !strings.Contains(err.Error(), "no room for it") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// failing is a Tool whose programs only complain.
type failing struct{ host }

func (f failing) Run(ctx context.Context, cmd Command) error {
	if strings.HasPrefix(cmd.Argv[1], "-help") {
		return f.host.Run(ctx, cmd)
	}
	fmt.Fprintf(cmd.Stderr, "mksquashfs:\nno room for it\n")
	return errors.New("exit status 1")
}

func TestBadOptionsAreRefused(t *testing.T) {
	for name, w := range map[string]writer{
		"block size":         NewSquashfs(nil, clock, SquashfsBlockSize(5000)),
		"compression":        NewSquashfs(nil, clock, SquashfsCompression("rar", 0)),
		"level":              NewSquashfs(nil, clock, SquashfsCompression("zstd", 23)),
		"level of lz4":       NewSquashfs(nil, clock, SquashfsCompression("lz4", 1)),
		"erofs compression":  NewErofs(nil, clock, id, ErofsCompression("gzip", 0)),
		"erofs cluster size": NewErofs(nil, clock, id, ErofsClusterSize(100)),
		"ext4 size":          NewExt4(nil, clock, id, hashSeed, Ext4Size(4097)),
		"ext4 label":         NewExt4(nil, clock, id, hashSeed, Ext4Label("a label of seventeen")),
		"ext4 no size":       NewExt4(nil, clock, id, hashSeed, Ext4Writable()),
	} {
		if err := w.Write(t.Context(), fstest.Zoo(), filepath.Join(t.TempDir(), "image")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
