package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/plan"
	"github.com/applbuild/applbuild/rootfs"
	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/sandbox"
	"github.com/applbuild/applbuild/rootfs/tree"
)

// Where a tool sees its working directory, and a tree that is given to it.
const (
	toolWork = "/work"
	toolTree = "/tree"
)

const callTreeTool = "builder.treetool"

func sandboxFuncs() map[string]sandbox.Func {
	funcs := maps.Clone(rootfs.SandboxFuncs())
	funcs[callTreeTool] = treeToolInside
	return funcs
}

// toolsTree is a folder with the programs of a build, unpacked from their
// packages. No script of theirs has run; every program runs in a sandbox.
type toolsTree struct {
	dir     string
	scratch func(purpose string) (dir string, remove func(), err error)
}

// toolsTree brings the tools tree into the store.
func (img *build) toolsTree(ctx context.Context) (*toolsTree, error) {
	return img.Builder.unpackTools(ctx, "tools", img.keys.tools, img.lock.Tools)
}

func (b *Builder) unpackTools(ctx context.Context, stage string, key plan.Key, packages []lock.Package) (*toolsTree, error) {
	var dir string
	err := b.stage(stage, func() (cached bool, err error) {
		dir, cached, err = b.store.Folder(ctx, key, func(ctx context.Context, dir string) error {
			return b.unpackInto(ctx, stage, dir, packages)
		})
		return cached, err
	})
	if err != nil {
		return nil, err
	}
	return &toolsTree{dir: dir, scratch: func(purpose string) (string, func(), error) {
		s, err := b.store.Scratch(purpose)
		if err != nil {
			return "", nil, err
		}
		return s.Dir, func() { s.Remove(context.Background()) }, nil
	}}, nil
}

// unpackInto unpacks packages for the caller's own use: owners and special
// bits don't count.
func (b *Builder) unpackInto(ctx context.Context, stage, dir string, packages []lock.Package) error {
	var total, done int64
	for _, p := range packages {
		total += p.Size
	}
	u := &deb.Unpacker{Root: dir, IgnoreOwner: true, MergedUsr: []string{"bin", "lib", "lib64", "sbin"}, Progress: func(_ string, size int64) {
		done += size
		b.settings.Observer.StageProgress(stage, done, total)
	}}
	defer u.Close()
	var files []*deb.File
	for _, p := range packages {
		f, err := os.Open(b.client.Path(p.SHA256))
		if err != nil {
			return err
		}
		defer f.Close()
		file, err := deb.Open(f, p.Size)
		if err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		files = append(files, file)
	}
	return u.UnpackAll(ctx, files)
}

// spec is a sandbox over the tools with the command in it.
func (t *toolsTree) spec(cmd fs.Command) sandbox.Spec {
	return sandbox.Spec{
		Root: t.dir, ReadOnlyRoot: true,
		NoSync: true, // the store syncs what it keeps
		Binds:  []sandbox.Bind{{Source: cmd.Dir, Target: toolWork}},
		Argv:   cmd.Argv, Env: cmd.Env, Dir: toolWork,
		Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
	}
}

// Run runs a program of the tools tree.
func (t *toolsTree) Run(ctx context.Context, cmd fs.Command) error {
	return sandbox.Run(ctx, t.spec(cmd))
}

// treeToolArgs is the command that runs on an extracted tree.
type treeToolArgs struct{ Argv, Env []string }

// RunOnTree runs a program of the tools tree on a tree as a directory. The
// sandbox has all ids, so the files belong to whom the tree says.
func (t *toolsTree) RunOnTree(ctx context.Context, source fs.Tree, cmd fs.Command) error {
	dir, remove, err := t.scratch("tree")
	if err != nil {
		return err
	}
	defer remove()
	for _, name := range []string{"tree", "work"} {
		if err := sandbox.MakeOwned(ctx, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	written := make(chan error, 1)
	go func() {
		written <- errors.Join(source.WriteTar(ctx, w), w.Close())
	}()
	spec := t.spec(cmd)
	spec.IDs, spec.Argv = sandbox.Range, nil
	spec.Call, spec.Args = callTreeTool, treeToolArgs{Argv: cmd.Argv, Env: cmd.Env}
	spec.Binds = []sandbox.Bind{
		{Source: filepath.Join(dir, "work"), Target: toolWork},
		{Source: filepath.Join(dir, "tree"), Target: toolTree},
	}
	spec.Stdin = r
	err = sandbox.Run(ctx, spec)
	r.Close()
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	if err != nil {
		return err
	}
	return takeOver(filepath.Join(dir, "work"), cmd.Dir)
}

// treeToolInside extracts the tree on its standard input and runs the program
// on it.
func treeToolInside(ctx context.Context, raw []byte, _ []*os.File) error {
	var args treeToolArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	if err := tree.Extract(ctx, os.Stdin, toolTree); err != nil {
		return fmt.Errorf("extracting the tree: %w", err)
	}
	for i := range args.Argv {
		args.Argv[i] = strings.ReplaceAll(args.Argv[i], "{tree}", toolTree)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, args.Argv[0], args.Argv[1:]...)
	cmd.Dir, cmd.Env = toolWork, slices.Concat(os.Environ(), args.Env)
	cmd.Stdout, cmd.Stderr = os.Stdout, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(output.String()))
	}
	return nil
}

// takeOver copies what a tool made under mapped ids into the caller's folder.
// The files are world-readable; their owner is nobody's.
func takeOver(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			return fmt.Errorf("a tool left %s, which is no plain file", entry.Name())
		}
		if err := copyFile(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
