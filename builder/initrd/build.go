package initrd

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Source gives the files of one package in the order of its archive. Names
// may begin with "./" or "/". The reader is only valid during the call, and
// only for regular files. *deb.File is a Source; Dir makes one of a directory.
type Source interface {
	Walk(ctx context.Context, fn func(h *tar.Header, r io.Reader) error) error
}

// A Package is a named Source. The name stands in errors.
type Package struct {
	Name  string
	Files Source
}

// A File is put into the archive as it is, over what a package has at its
// path.
type File struct {
	Path    string      // without a leading slash, merged /usr: usr/bin/x
	Mode    fs.FileMode // type (regular, directory or symbolic link) and permissions
	Content []byte      // of a regular file
	Link    string      // target of a symbolic link
}

// Params is the whole input of Build.
type Params struct {
	// Input.
	Packages      []Package // user space: systemd, udev, libc6, …
	Kernel        []Package // the packages with usr/lib/modules/KernelVersion
	KernelVersion string    // as uname -r says it
	Architecture  string    // the distribution's name: amd64, arm64

	// What the initrd has to do.
	RootFilesystem string   // squashfs, erofs, ext4 or btrfs
	Verity         bool     // the root is behind dm-verity
	Modules        []string // kernel modules on top, by name; a missing one is an error
	// Partitions are the file systems (ext4, xfs, btrfs, swap) of partitions that
	// the initrd makes, checks and mounts.
	Partitions []string
	Programs   []string // files of Packages on top, by path; a missing one is an error
	Files      []File   // files on top, such as rootfs/overlay's

	// Output.
	Clock time.Time // modification time of every file; whole seconds
}

// A Summary says what Build wrote.
type Summary struct {
	Files      int      // entries of the archive, directories included
	Size       int64    // bytes of the archive before compression
	Compressed int64    // bytes written
	Modules    []string // kernel modules by name, sorted
	Paths      []string // of all entries, sorted
}

// ErrMissing is matched by the error of Build when something the initrd can't
// do without is in none of the packages; the message names it.
var ErrMissing = errors.New("not in the packages")

// Build writes the initrd that p describes to w. It reads each package once,
// several side by side.
func Build(ctx context.Context, p Params, w io.Writer) (*Summary, error) {
	s, err := build(ctx, p, w)
	if err != nil {
		return nil, fmt.Errorf("initrd: %w", err)
	}
	return s, nil
}

func build(ctx context.Context, p Params, w io.Writer) (*Summary, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	a := arches[p.Architecture]
	files, err := collect(ctx, slices.Concat(p.Packages, p.Kernel), p.keep(a))
	if err != nil {
		return nil, err
	}
	t := newTree(files, a)
	if err := t.userSpace(p); err != nil {
		return nil, err
	}
	modules, err := t.modules(p)
	if err != nil {
		return nil, err
	}
	if err := t.skeleton(p); err != nil {
		return nil, err
	}
	list, err := t.sorted()
	if err != nil {
		return nil, err
	}
	s := &Summary{Files: len(list), Modules: modules}
	for _, e := range list {
		s.Paths = append(s.Paths, e.path)
	}
	s.Size, s.Compressed, err = write(ctx, w, list, p.Clock)
	return s, err
}

// check refuses what Build can't do, before a package is read.
func (p *Params) check() error {
	if _, ok := arches[p.Architecture]; !ok {
		return fmt.Errorf("architecture %q: use amd64 or arm64", p.Architecture)
	}
	if _, ok := rootPrograms[p.RootFilesystem]; !ok {
		return fmt.Errorf("root file system %q: use squashfs, erofs, ext4 or btrfs", p.RootFilesystem)
	}
	for _, filesystem := range p.Partitions {
		if _, ok := makers[filesystem]; !ok {
			return fmt.Errorf("partition with %q: use ext4, xfs, btrfs or swap", filesystem)
		}
	}
	if p.KernelVersion == "" || strings.ContainsAny(p.KernelVersion, "/\x00") || strings.HasPrefix(p.KernelVersion, ".") {
		return fmt.Errorf("kernel version %q: give it as uname -r says it", p.KernelVersion)
	}
	return nil
}

// keep says which files of the packages can end in the initrd, so that no
// others are held in memory.
func (p *Params) keep(a arch) func(string) bool {
	exact := make(map[string]bool)
	for _, pick := range p.picks() {
		for _, name := range pick.paths {
			exact[name] = true
		}
	}
	for _, name := range []string{passwdMaster, groupMaster, osRelease} {
		exact[name] = true
	}
	modules := "usr/lib/modules/" + p.KernelVersion + "/"
	return func(name string) bool {
		dir := path.Dir(name)
		return exact[name] || a.isLibrary(name) || strings.HasPrefix(name, modules) ||
			dir == unitDir || dir == sysusersDir || dir == "usr/bin" || dir == "usr/sbin"
	}
}

// picks are all files to take out of the packages.
func (p *Params) picks() []pick {
	picks := slices.Concat(programs, statePrograms, rootPrograms[p.RootFilesystem])
	if p.Verity {
		picks = append(picks, verityPrograms...)
	}
	if len(p.Partitions) > 0 {
		picks = append(picks, partitionPrograms...)
	}
	for _, filesystem := range p.Partitions {
		picks = append(picks, makers[filesystem]...)
	}
	for _, name := range p.Programs {
		picks = append(picks, required(mergedUsr(strings.TrimPrefix(name, "/"))))
	}
	return picks
}

// userSpace takes the programs, units and libraries.
func (t *tree) userSpace(p Params) error {
	for _, pick := range p.picks() {
		if err := t.pick(pick); err != nil {
			return err
		}
	}
	t.units(units)
	for _, soname := range dlopenLibraries {
		t.library(t.arch.libraryDirs(), soname)
	}
	return t.libraries()
}

// modules takes the kernel's modules and returns their names.
func (t *tree) modules(p Params) ([]string, error) {
	set := newModuleSet(t.pool, p.KernelVersion)
	if len(set.files) == 0 && len(set.builtin) == 0 {
		return nil, fmt.Errorf("%s: %w: add the kernel's packages of this version", set.dir, ErrMissing)
	}
	needed := slices.Concat([]string{rootModules[p.RootFilesystem][0], "overlay"}, p.Modules)
	wanted := slices.Concat(kernelModules, rootModules[p.RootFilesystem])
	for _, filesystem := range p.Partitions {
		if list := rootModules[filesystem]; len(list) > 0 {
			needed = append(needed, list[0])
			wanted = append(wanted, list...)
		}
	}
	if p.Verity {
		needed = append(needed, "dm_verity")
		wanted = append(wanted, hashModules...)
	}
	for _, name := range needed {
		ok, err := set.choose(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("kernel module %s for %s: %w", name, p.KernelVersion, ErrMissing)
		}
	}
	early := slices.Clone(set.names)
	for _, name := range wanted {
		if _, err := set.choose(name); err != nil {
			return nil, err
		}
	}
	list, err := set.entries()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		t.put(e)
	}
	// Loaded by one program at the start, where the kernel would call modprobe
	// for each when it is first used.
	t.put(&entry{path: "usr/lib/modules-load.d/root.conf", mode: 0o644,
		content: []byte(strings.Join(early, "\n") + "\n")})
	if p.Verity {
		// dm-verity takes the fastest SHA-256 that is there when it starts, and
		// keeps it. One that the processor can't run is passed over.
		var fast []string
		for _, name := range hashModules {
			if set.chosen[name] != nil {
				fast = append(fast, name)
			}
		}
		if len(fast) > 0 {
			t.put(&entry{path: "usr/lib/modprobe.d/verity.conf", mode: 0o644,
				content: []byte("softdep dm_verity pre: " + strings.Join(fast, " ") + "\n")})
		}
	}
	names := slices.Clone(set.names)
	slices.Sort(names)
	return names, nil
}

const (
	unitDir   = "usr/lib/systemd/system"
	osRelease = "usr/lib/os-release"
)

// skeleton places what no package has: directories, links, accounts and the
// caller's files.
func (t *tree) skeleton(p Params) error {
	for _, name := range []string{"dev", "etc", "proc", "run", "sys", "sysroot", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var"} {
		t.put(&entry{path: name, mode: fs.ModeDir | 0o755})
	}
	for name, link := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
		"init":                                  "usr/lib/systemd/systemd",
		"etc/initrd-release":                    "../usr/lib/initrd-release",
		"etc/os-release":                        "../usr/lib/initrd-release",
		"usr/lib/systemd/system/default.target": "initrd.target",
		"var/run":                               "../run",
	} {
		t.put(&entry{path: name, mode: fs.ModeSymlink | 0o777, link: link})
	}
	release := t.pool.lookup(osRelease)
	if release == nil {
		return fmt.Errorf("%s: %w: add base-files", osRelease, ErrMissing)
	}
	accounts, err := t.pool.accounts()
	if err != nil {
		return err
	}
	for _, e := range append(accounts,
		&entry{path: "usr/lib/initrd-release", mode: 0o644, content: release[len(release)-1].content},
		&entry{path: "etc/machine-id", mode: 0o644},
		&entry{path: "usr/lib/systemd/system-preset/00-initrd.preset", mode: 0o644, content: []byte("disable *\n")},
	) {
		t.put(e)
	}
	for _, f := range p.Files {
		name, err := cleanPath(f.Path)
		if err != nil {
			return err
		}
		t.put(&entry{path: name, mode: f.Mode, content: f.Content, link: f.Link, from: "the caller"})
	}
	return nil
}

// write packs and compresses the entries and returns the sizes of both.
func write(ctx context.Context, w io.Writer, list []*entry, clock time.Time) (size, compressed int64, err error) {
	out := &counter{w: w}
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return 0, 0, err
	}
	in := &counter{w: z}
	c, err := newCpioWriter(in, clock.Unix())
	if err != nil {
		return 0, 0, err
	}
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		if err := c.write(e); err != nil {
			return 0, 0, err
		}
	}
	if err := c.close(); err != nil {
		return 0, 0, err
	}
	if err := z.Close(); err != nil {
		return 0, 0, err
	}
	return in.n, out.n, nil
}

// level makes 10.7 MB of trixie's 29 MB in 0.4 s. The next one up makes 10.0 MB
// in 2.1 s, zstd -19 8.8 MB in 16 s.
const level = zstd.SpeedBetterCompression

// window is zstd's, in bytes: what the kernel and every zstd take without
// being asked.
const window = 8 << 20

// A counter counts the bytes that go through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
