package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// A Deb is one package file of a base tree.
type Deb struct {
	Name string // for errors and progress
	File string // path below Base.Packages
	Size int64  // bytes
	// Auto says that nobody asked for the package by name: apt may remove it
	// when nothing depends on it any more.
	Auto bool
}

// Base makes base trees.
type Base struct {
	// Inputs.
	Debs     []Deb     // all packages of the tree
	Packages string    // the folder that Debs' files lie below; world-readable
	Arch     string    // the tree's architecture, as dpkg names it
	Aliases  bool      // make /bin -> usr/bin and so on before the first package
	Locales  []string  // lines for /etc/locale.gen, where locales are to be compiled
	Clock    time.Time // newest modification time in the tree; whole seconds

	// Scratch is an empty folder that mapped ids can reach. The caller removes
	// it with sandbox.RemoveAll.
	Scratch string

	// Progress, where it is not nil, is told the bytes of packages unpacked of
	// all.
	Progress func(done, total int64)
	// Step, where it is not nil, is called when a step of the work begins:
	// unpack, configure, pack. What it returns is called with the step's end.
	Step func(name string) (done func(error))
	// Notice, where it is not nil, is told what the user should know.
	Notice func(text string)
}

// Names of the functions that run in a sandbox.
const (
	callSkeleton  = "rootfs.skeleton"
	callUnpack    = "rootfs.unpack"
	callConfigure = "rootfs.configure"
	callPack      = "rootfs.pack"
)

// SandboxFuncs are the functions that Build runs in a sandbox; sandbox.Main
// must know them.
func SandboxFuncs() map[string]sandbox.Func {
	return map[string]sandbox.Func{
		callSkeleton:  skeletonInside,
		callUnpack:    unpackInside,
		callConfigure: configureInside,
		callPack:      packInside,
	}
}

// Where things are seen inside.
const (
	insideTree     = "/run/applbuild/tree"
	insidePackages = "/run/applbuild/packages"
)

// aliased are the folders of a merged /usr.
func aliased(arch string) []string {
	names := []string{"bin", "lib", "sbin"}
	if arch == "amd64" {
		names = append(names, "lib64")
	}
	return names
}

// Build makes the tree and writes it to out as a canonical tar. It returns the
// device nodes that packages ship: no namespace may make them, so they are in
// nobody's tar and the caller adds them to the tree. The error of a
// maintainer script matches ErrScript.
func (b *Base) Build(ctx context.Context, out *os.File) ([]deb.Device, error) {
	tree := filepath.Join(b.Scratch, "tree")
	if err := sandbox.MakeOwned(ctx, tree); err != nil {
		return nil, err
	}
	if err := b.skeleton(ctx, tree); err != nil {
		return nil, fmt.Errorf("skeleton: %w", err)
	}
	var unpacked *unpackResult
	err := b.step("unpack", func() (err error) {
		unpacked, err = b.unpack(ctx, tree)
		return err
	})
	if err == nil {
		err = b.step("configure", func() error { return b.configure(ctx, tree, unpacked.System) })
	}
	if err == nil {
		err = b.step("pack", func() error { return b.pack(ctx, tree, out) })
	}
	if err != nil {
		return nil, err
	}
	return unpacked.Devices, nil
}

// step does one step of the work and tells of its beginning and its end.
func (b *Base) step(name string, work func() error) error {
	if b.Step == nil {
		return work()
	}
	done := b.Step(name)
	err := work()
	done(err)
	return err
}

// skeleton makes the folders that a sandbox needs to have in its root, and the
// links of a merged /usr.
func (b *Base) skeleton(ctx context.Context, tree string) error {
	args := skeletonArgs{}
	if b.Aliases {
		args.Aliased = aliased(b.Arch)
	}
	return sandbox.Run(ctx, sandbox.Spec{
		IDs: sandbox.Range, Call: callSkeleton, Args: args,
		Binds: []sandbox.Bind{{Source: tree, Target: "/tree"}},
	})
}

type skeletonArgs struct{ Aliased []string }

func skeletonInside(_ context.Context, raw []byte, _ []*os.File) error {
	var args skeletonArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	root, err := os.OpenRoot("/tree")
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range []string{"dev", "proc", "run", "sys", "tmp"} {
		if err := root.Mkdir(name, 0o755); err != nil {
			return err
		}
	}
	if err := root.Chmod("tmp", 0o777|os.ModeSticky); err != nil {
		return err
	}
	if len(args.Aliased) == 0 {
		return nil
	}
	if err := root.Mkdir("usr", 0o755); err != nil {
		return err
	}
	for _, name := range args.Aliased {
		if err := root.Mkdir("usr/"+name, 0o755); err != nil {
			return err
		}
		if err := root.Symlink("usr/"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// unpack runs the unpacking function in the tree and passes its progress on.
func (b *Base) unpack(ctx context.Context, tree string) (*unpackResult, error) {
	args := unpackArgs{Debs: b.Debs, Arch: b.Arch, Clock: b.Clock, Locales: b.Locales}
	if b.Aliases {
		args.Aliased = aliased(b.Arch)
	}
	var result unpackResult
	err := exchange(func(answers *os.File) error {
		return sandbox.Run(ctx, sandbox.Spec{
			Root: tree, IDs: sandbox.Range, NoSync: true, Call: callUnpack, Args: args,
			Binds: []sandbox.Bind{
				{Source: tree, Target: insideTree},
				{Source: b.Packages, Target: insidePackages, ReadOnly: true},
			},
			Env:   scriptEnv(),
			Files: []*os.File{answers},
		})
	}, func(line []byte) error {
		var answer unpackAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			return err
		}
		if answer.Result != nil {
			result = *answer.Result
		} else if b.Progress != nil {
			b.Progress(answer.Done, answer.Total)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if result.Script != nil {
		return nil, result.Script
	}
	return &result, b.network(result.Network)
}

// network refuses scripts that wanted to reach a host: what they were to bring
// would be missing in the tree, or be another thing tomorrow. That a name
// server was asked is only told: scripts do so for the machine's own name.
func (b *Base) network(use netUse) error {
	if use == netNames && b.Notice != nil {
		b.Notice("a package script asked a name server; there is no network while an image is built")
	}
	if use != netHosts {
		return nil
	}
	return &ScriptError{
		Script: "configuring",
		Reason: "a package script tried to reach the network, and there is none while an image is built: leave the package out, or put what it wants into files:",
	}
}

// quiet lays a policy that forbids services over the tree (invoke-rc.d asks
// it), and stands in for programs that maintainer scripts call and that have
// no business in an image: starting daemons past the policy, building initrds.
// Preinst scripts run without: they have nothing to start yet.
func (b *Base) quiet() []sandbox.File {
	nothing := []byte("#!/bin/sh\nexit 0\n")
	files := []sandbox.File{{Path: "/usr/sbin/policy-rc.d", Content: []byte("#!/bin/sh\nexit 101\n"), Mode: 0o755}}
	for _, name := range []string{"/usr/sbin/start-stop-daemon", "/usr/sbin/update-initramfs", "/usr/bin/dracut"} {
		if b.has(name) {
			files = append(files, sandbox.File{Path: name, Content: nothing, Mode: 0o755})
		}
	}
	return files
}

// has says whether the unpacked tree has a file. Links in it are not followed:
// they may lead anywhere.
func (b *Base) has(name string) bool {
	root, err := os.OpenRoot(filepath.Join(b.Scratch, "tree"))
	if err != nil {
		return false
	}
	defer root.Close()
	info, err := root.Lstat(strings.TrimPrefix(name, "/"))
	return err == nil && info.Mode().IsRegular()
}

// configure has dpkg configure all packages, those of the base system first.
func (b *Base) configure(ctx context.Context, tree string, system []string) error {
	var result configureResult
	err := exchange(func(answers *os.File) error {
		return sandbox.Run(ctx, sandbox.Spec{
			Root: tree, IDs: sandbox.Range, NoSync: true, Call: callConfigure,
			Args:   configureArgs{Clock: b.Clock, System: system},
			Inject: b.quiet(),
			Keep:   []string{"/run"}, // base-files makes folders in it that the tree is to have
			Env:    scriptEnv(),
			Files:  []*os.File{answers},
		})
	}, func(line []byte) error { return json.Unmarshal(line, &result) })
	if err != nil {
		return err
	}
	if result.Error != "" {
		return explainDpkg(errors.New(result.Error), result.Output)
	}
	if result.Left != nil {
		return result.Left
	}
	return b.network(result.Network)
}

func (b *Base) pack(ctx context.Context, tree string, out *os.File) error {
	err := sandbox.Run(ctx, sandbox.Spec{
		IDs: sandbox.Range, Call: callPack, Args: packArgs{Clock: b.Clock},
		Binds: []sandbox.Bind{{Source: tree, Target: "/tree"}},
		Files: []*os.File{out},
	})
	if err != nil {
		return fmt.Errorf("packing the tree: %w", err)
	}
	return nil
}

// maxAnswer bounds a line that a function in a sandbox writes, in bytes.
const maxAnswer = 16 << 20

// exchange runs work with the writing end of a pipe and hands each line that
// is written to it to read.
func exchange(work func(answers *os.File) error, read func(line []byte) error) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := readLines(r, read)
		r.Close() // so that nobody waits for a reader who gave up
		done <- err
	}()
	err = work(w)
	w.Close()
	readErr := <-done
	if readErr == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return readErr // which is why work failed, if it did
}

func readLines(r io.Reader, read func(line []byte) error) error {
	var buf bytes.Buffer
	chunk := make([]byte, 64<<10)
	for {
		n, err := r.Read(chunk)
		buf.Write(chunk[:n])
		for {
			i := bytes.IndexByte(buf.Bytes(), '\n')
			if i < 0 {
				break
			}
			if err := read(buf.Next(i + 1)); err != nil {
				return err
			}
		}
		if buf.Len() > maxAnswer {
			return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		if err == io.EOF {
			if buf.Len() > 0 {
				return read(buf.Bytes())
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
