package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/applbuild/applbuild/builder/initrd"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/builder/uki"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/deb"
	"github.com/applbuild/applbuild/rootfs/overlay"
)

// Files of the results of the stages boot and uki.
const (
	fileInitrd = "initrd"
	fileKernel = "vmlinuz"
	fileStub   = "stub"
	fileLoader = "loader"
	fileUKI    = "uki"
)

// maxBootFile bounds a kernel, stub or loader, in bytes.
const maxBootFile = 256 << 20

// boot assembles the initrd and takes the kernel, the stub and the boot loader
// out of their packages.
func (img *build) boot(ctx context.Context) (*store.Result, error) {
	return img.do(ctx, "initrd", img.keys.boot, func(ctx context.Context, d *store.Draft) error {
		kernel, err := img.kernelFile(ctx)
		if err != nil {
			return err
		}
		version, err := uki.KernelVersion(bytes.NewReader(kernel))
		if err != nil {
			return fmt.Errorf("kernel of %s: %w", img.lock.Kernel, err)
		}
		d.Set("kernel version", version)
		if err := writeFile(d, fileKernel, kernel); err != nil {
			return err
		}
		if err := img.bootLoader(ctx, d); err != nil {
			return err
		}
		params := initrd.Params{
			KernelVersion:  version,
			Architecture:   img.arch.Name,
			RootFilesystem: img.recipe.Root.Filesystem,
			Verity:         img.recipe.Root.Verity,
			Modules:        img.recipe.Kernel.Modules,
			Partitions:     partitionFilesystems(img.recipe),
			Files:          initrdFiles(overlayOptions(img.recipe, img.lock)),
			Clock:          img.clock,
		}
		if params.Packages, err = img.openPackages(img.lock.Initrd); err != nil {
			return err
		}
		defer closePackages(params.Packages)
		if params.Kernel, err = img.openPackages(kernelPackages(img.lock)); err != nil {
			return err
		}
		defer closePackages(params.Kernel)
		f, err := d.Create(fileInitrd)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := initrd.Build(ctx, params, f); err != nil {
			return err
		}
		return f.Close()
	})
}

// initrdFiles are those of the overlay in the form the initrd takes.
func initrdFiles(o overlay.Options) []initrd.File {
	var files []initrd.File
	for _, f := range overlay.Initrd(o) {
		files = append(files, initrd.File(f))
	}
	return files
}

// kernelPackages are the packages of the lock that hold the kernel and its
// modules: linux-image-VERSION, and with it linux-modules-VERSION (Ubuntu),
// linux-modules-extra-VERSION, or linux-binary-VERSION and
// linux-base-VERSION (Debian after trixie).
func kernelPackages(l *lock.Lock) []lock.Package {
	version := strings.TrimPrefix(strings.TrimPrefix(l.Kernel, "linux-image-"), "unsigned-")
	var packages []lock.Package
	for _, p := range l.Packages {
		if strings.HasPrefix(p.Name, "linux-") && strings.HasSuffix(p.Name, "-"+version) && !strings.HasPrefix(p.Name, "linux-headers-") {
			packages = append(packages, p)
		}
	}
	return packages
}

// openPackage is a package file that stays open while its files are read.
type openPackage struct {
	*deb.File
	f *os.File
}

func (img *build) openPackage(p lock.Package) (*openPackage, error) {
	f, err := os.Open(img.client.Path(p.SHA256))
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	file, err := deb.Open(f, p.Size)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	return &openPackage{file, f}, nil
}

func (img *build) openPackages(packages []lock.Package) ([]initrd.Package, error) {
	var opened []initrd.Package
	for _, p := range packages {
		file, err := img.openPackage(p)
		if err != nil {
			closePackages(opened)
			return nil, err
		}
		opened = append(opened, initrd.Package{Name: p.Name, Files: file})
	}
	return opened, nil
}

func closePackages(packages []initrd.Package) {
	for _, p := range packages {
		p.Files.(*openPackage).f.Close()
	}
}

// errFound ends a walk early.
var errFound = errors.New("found")

// takeFile returns the first file of the packages that match says yes to.
func (img *build) takeFile(ctx context.Context, packages []lock.Package, match func(name string) bool) ([]byte, error) {
	for _, p := range packages {
		file, err := img.openPackage(p)
		if err != nil {
			return nil, err
		}
		var data []byte
		err = file.Walk(ctx, func(h *tar.Header, r io.Reader) error {
			name := path.Clean(strings.TrimPrefix(h.Name, "./"))
			if h.Typeflag != tar.TypeReg || !match(name) {
				return nil
			}
			if h.Size > maxBootFile {
				return fmt.Errorf("%s has %d bytes, more than any kernel", name, h.Size)
			}
			var err error
			if data, err = io.ReadAll(r); err != nil {
				return err
			}
			return errFound
		})
		file.f.Close()
		if errors.Is(err, errFound) {
			return data, nil
		}
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	return nil, nil
}

func (img *build) kernelFile(ctx context.Context) ([]byte, error) {
	kernel, err := img.takeFile(ctx, kernelPackages(img.lock), func(name string) bool {
		return strings.HasPrefix(name, "boot/vmlinuz-") || isModulesKernel(name)
	})
	if err == nil && kernel == nil {
		err = fmt.Errorf("package %s brings no boot/vmlinuz-VERSION: name another kernel package in the recipe", img.lock.Kernel)
	}
	return kernel, err
}

// isModulesKernel says that a path is that of a kernel beside its modules.
func isModulesKernel(name string) bool {
	match, _ := path.Match("usr/lib/modules/*/vmlinuz", name)
	return match
}

// bootLoader takes systemd's stub and, where the recipe asks for it, its boot
// loader out of their packages.
func (img *build) bootLoader(ctx context.Context, d *store.Draft) error {
	efi := efiSuffix(img.arch.EFIName)
	wanted := map[string]string{fileStub: "usr/lib/systemd/boot/efi/linux" + efi + ".efi.stub"}
	if img.recipe.Boot.Loader == recipes.LoaderSystemdBoot {
		wanted[fileLoader] = "usr/lib/systemd/boot/efi/systemd-boot" + efi + ".efi"
	}
	var stubs []lock.Package
	for _, name := range img.release.StubPackages(img.arch.Name) {
		for _, p := range img.lock.Initrd {
			if p.Name == name {
				stubs = append(stubs, p)
			}
		}
	}
	for as, file := range wanted {
		data, err := img.takeFile(ctx, stubs, func(name string) bool { return name == file })
		if err != nil {
			return err
		}
		if data == nil {
			return fmt.Errorf("%s is in none of the packages %s", file, strings.Join(img.release.StubPackages(img.arch.Name), ", "))
		}
		if err := writeFile(d, as, data); err != nil {
			return err
		}
	}
	return nil
}

// efiSuffix is how systemd's files name an architecture: x64, aa64.
func efiSuffix(name string) string { return strings.ToLower(name) }

func writeFile(d *store.Draft, name string, data []byte) error {
	return os.WriteFile(d.File(name), data, 0o644)
}

// commandLine is the kernel's: what finds the root, what the recipe adds.
func (img *build) commandLine(rootHash string) string {
	var words []string
	if img.recipe.Root.Verity {
		words = append(words, "roothash="+rootHash)
		switch img.recipe.Root.Corruption {
		case recipes.CorruptionRestart:
			words = append(words, "systemd.verity_root_options=restart-on-corruption")
		case recipes.CorruptionPanic:
			words = append(words, "systemd.verity_root_options=panic-on-corruption")
		}
	} else {
		words = append(words, "root=PARTUUID="+img.rootUUID().String())
	}
	// gpt: the kernel takes the backup of a partition table whose writing was cut
	// short.
	words = append(words, "rootfstype="+img.recipe.Root.Filesystem, "ro", "gpt")
	if extra := img.recipe.Boot.CommandLine(); extra != "" {
		words = append(words, extra)
	}
	return strings.Join(words, " ")
}

// uki puts the unified kernel image together.
func (img *build) uki(ctx context.Context, boot, root *store.Result) (*store.Result, error) {
	cmdline := img.commandLine(root.Values[valueRootHash])
	result, err := img.do(ctx, "uki", img.keys.uki, func(ctx context.Context, d *store.Draft) error {
		u := &uki.UKI{OSRelease: root.Values[valueOSRelease], Cmdline: cmdline, Uname: boot.Values["kernel version"]}
		var opened []*os.File
		defer func() {
			for _, f := range opened {
				f.Close()
			}
		}()
		open := func(name string) (*io.SectionReader, error) {
			f, err := boot.Open(ctx, name)
			if err != nil {
				return nil, img.damaged(boot, err)
			}
			opened = append(opened, f)
			return io.NewSectionReader(f, 0, boot.Size(name)), nil
		}
		kernel, err := open(fileKernel)
		if err != nil {
			return err
		}
		ramdisk, err := open(fileInitrd)
		if err != nil {
			return err
		}
		stub, err := open(fileStub)
		if err != nil {
			return err
		}
		u.Linux, u.Initrd, u.Stub = kernel, []uki.Content{ramdisk}, stub
		f, err := d.Create(fileUKI)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := u.Build(f); err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		d.Set(valueCmdline, cmdline)
		var loader []byte
		if img.recipe.Boot.Loader == recipes.LoaderSystemdBoot {
			if loader, err = readResult(ctx, boot, fileLoader); err != nil {
				return img.damaged(boot, err)
			}
		}
		return img.esp(ctx, d, io.NewSectionReader(f, 0, info.Size()), loader, cmdline)
	})
	return result, err
}
