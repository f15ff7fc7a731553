package fs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/fs/internal/fstest"
)

// TestExt4SizeFitsItsTree makes trees that need most of what is computed in
// one place: contents, inodes, directory blocks, attributes.
func TestExt4SizeFitsItsTree(t *testing.T) {
	fstest.Need(t, "mke2fs", "debugfs", "e2fsck")
	trees := map[string]fstest.Memory{
		"nothing":    {},
		"root":       {{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9}}},
		"lost+found": {fstest.Dir("lost+found"), fstest.File("lost+found/x", 1)},
		"one file":   {fstest.File("x", 9<<20+1)},
	}
	for i := range 3000 {
		trees["empty files"] = append(trees["empty files"], fstest.File(fmt.Sprintf("%0200d", i), 0))
	}
	for i := range 300 {
		name := fmt.Sprintf("d%03d", i)
		trees["folders"] = append(trees["folders"], fstest.Dir(name))
		x := fstest.File(fmt.Sprintf("%03d", i), 4097)
		x.PAXRecords = map[string]string{"SCHILY.xattr.user.large": strings.Repeat("v", 200+i)}
		trees["attributes"] = append(trees["attributes"], x)
		trees["links"] = append(trees["links"], fstest.Member{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("l", i+1)}})
	}
	if !testing.Short() {
		for i := range 20 {
			trees["over groups"] = append(trees["over groups"], fstest.File(fmt.Sprintf("%d", i), 13<<20))
		}
	}
	for name, tree := range trees {
		t.Run(name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			if err := NewExt4(host{}, clock, id, hashSeed).Write(t.Context(), tree, image); err != nil {
				t.Fatal(err)
			}
			fstest.Output(t, "e2fsck", "-fn", image)
			info, err := os.Stat(image)
			if err != nil {
				t.Fatal(err)
			}
			err = NewExt4(host{}, clock, id, hashSeed, Ext4Size(info.Size()-ext4Block)).Write(t.Context(), tree, image)
			if !errors.Is(err, ErrNoSpace) {
				t.Errorf("a block less: got %v", err)
			}
		})
	}
}

func TestExt4RefusesTrees(t *testing.T) {
	for name, tree := range map[string]fstest.Memory{
		"parent":           {fstest.File("../x", 1)},
		"absolute":         {fstest.File("/x", 1)},
		"line break":       {fstest.File("a\nquit", 1)},
		"break in a link":  {{Header: tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "a\nb"}}},
		"twice":            {fstest.File("x", 1), fstest.File("x", 1)},
		"no directory":     {fstest.File("a/x", 1)},
		"file as parent":   {fstest.File("a", 1), fstest.File("a/x", 1)},
		"long name":        {fstest.File(strings.Repeat("n", 256), 1)},
		"link to nothing":  {{Header: tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}}},
		"link to a folder": {fstest.Dir("y"), {Header: tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}}},
	} {
		folder := t.TempDir()
		if err := NewExt4(nil, clock, id, hashSeed).Write(t.Context(), tree, filepath.Join(folder, "image")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := filepath.Glob(folder + "/*"); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestExt4TellsWhatDebugfsSays(t *testing.T) {
	fstest.Need(t, "mke2fs", "debugfs")
	err := NewExt4(grumbling{}, clock, id, hashSeed).Write(t.Context(), fstest.Zoo(), filepath.Join(t.TempDir(), "image"))
	if err == nil || !strings.Contains(err.Error(), "debugfs: write: something is wrong") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// grumbling is a Tool whose debugfs complains and succeeds, as the real one does.
type grumbling struct{ host }

func (g grumbling) Run(ctx context.Context, cmd Command) error {
	err := g.host.Run(ctx, cmd)
	if cmd.Argv[0] == "debugfs" {
		fmt.Fprintln(cmd.Stderr, "write: something is wrong")
	}
	return err
}
