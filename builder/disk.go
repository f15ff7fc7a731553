package builder

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/builder/manifest"
	"github.com/applbuild/applbuild/builder/output"
	"github.com/applbuild/applbuild/builder/store"
	"github.com/applbuild/applbuild/builder/verity"
	"github.com/applbuild/applbuild/recipes"
)

const (
	fileESP      = "esp.img"
	fileOutputs  = "outputs.json" // []output.File of a finished disk
	valueCmdline = "cmdline"
)

// esp makes the EFI system partition: the unified kernel image where the
// firmware looks for it, or a boot loader that finds it.
func (img *build) esp(ctx context.Context, d *store.Draft, image *io.SectionReader, loader []byte, cmdline string) error {
	fallback := "EFI/BOOT/BOOT" + img.arch.EFIName + ".EFI"
	files := map[string]fs.Content{fallback: image}
	if img.recipe.Boot.Loader == recipes.LoaderSystemdBoot {
		name := "EFI/Linux/" + img.recipe.Name + "_" + img.recipe.Version + ".efi"
		files = map[string]fs.Content{
			fallback: bytes.NewReader(loader),
			"EFI/systemd/systemd-boot" + efiSuffix(img.arch.EFIName) + ".efi": bytes.NewReader(loader),
			name:                 image,
			"loader/loader.conf": strings.NewReader("timeout 0\neditor no\ndefault " + path.Base(name) + "\n"),
		}
		for _, what := range []string{"volatile", "all"} {
			files["loader/entries/reset-"+what+".conf"] = strings.NewReader(img.resetEntry(what, name, cmdline))
		}
	}
	return fs.NewVFAT(img.tools, img.clock, img.seed.Uint32("esp serial"),
		fs.VFATLabel("ESP"), fs.VFATSize(int64(img.recipe.Boot.ESPSize))).Write(ctx, files, d.File(fileESP))
}

// resetEntry is a boot entry for a factory reset (Boot Loader Specification,
// type 1): the same image with one word more. Under Secure Boot systemd's stub
// takes no words from outside, and the entry starts the machine as ever.
func (img *build) resetEntry(what, image, cmdline string) string {
	return fmt.Sprintf("title %s (factory reset: %s)\nversion %s\nsort-key ~%s\narchitecture %s\nefi /%s\noptions %s applbuild.reset=%s\n",
		img.recipe.Name, what, img.recipe.Version, img.recipe.Name, strings.ToLower(img.arch.EFIName), image, cmdline, what)
}

// disk assembles the GPT disk and the container image, as far as they are asked
// for, and writes everything that goes beside them.
func (img *build) disk(ctx context.Context, o ImageOptions, made results) (*Built, error) {
	built, name := &Built{}, stageOutput
	if made.root != nil {
		built.RootHash, name = made.root.Values[valueRootHash], stageDisk
	}
	err := img.stage(name, func() (bool, error) {
		set, err := output.New(o.Dir, o.Force)
		if err != nil {
			return false, err
		}
		defer set.Abort()
		partitions, err := img.writeImages(ctx, set, made)
		if outOfSpace(err) {
			err = full(o.Dir, "--output")
		}
		if err != nil {
			return false, err
		}
		if err := img.describeImage(ctx, set, partitions, made); err != nil {
			return false, err
		}
		if built.Files, err = set.Commit(ctx); err != nil {
			return false, err
		}
		return false, img.remember(ctx, built.Files)
	})
	if err != nil {
		return nil, err
	}
	return built, nil
}

const (
	stageDisk   = "disk"
	stageOutput = "output" // where there is no disk
)

// writeImages writes the disk, with what goes beside it, and the container
// image. The plan is nil without a disk.
func (img *build) writeImages(ctx context.Context, set *output.Set, made results) (plan *disk.Plan, err error) {
	if made.root != nil {
		if plan, err = img.assemble(ctx, set, made); err != nil {
			return nil, err
		}
		if err := img.writeBeside(ctx, set, made.root, made.uki); err != nil {
			return nil, err
		}
	}
	if made.oci != nil {
		err = img.writeOCI(ctx, set, made.layer, made.oci)
	}
	return plan, err
}

// assemble writes the disk itself.
func (img *build) assemble(ctx context.Context, set *output.Set, made results) (*disk.Plan, error) {
	layout := disk.Layout{DiskUUID: img.seed.UUID("disk")}
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			f.Close()
		}
	}()
	add := func(result *store.Result, name string, p disk.Partition) error {
		f, err := result.Open(ctx, name)
		if err != nil {
			return img.damaged(result, err)
		}
		opened = append(opened, f)
		content, err := disk.File(f)
		if err != nil {
			return err
		}
		p.Content = content
		layout.Partitions = append(layout.Partitions, p)
		return nil
	}
	types, err := disk.TypesFor(img.arch.Name)
	if err != nil {
		return nil, err
	}
	if made.uki != nil {
		if err := add(made.uki, fileESP, disk.Partition{Type: disk.TypeESP, UUID: img.seed.UUID("esp partition"), Label: "ESP"}); err != nil {
			return nil, err
		}
	}
	root := made.root
	rootID, hashID, err := img.rootUUIDs(root)
	if err != nil {
		return nil, err
	}
	label := "root-" + img.recipe.Version
	if err := add(root, fileRoot, disk.Partition{Type: types.Root, UUID: rootID, Label: label, Attributes: disk.AttrReadOnly, Size: int64(img.recipe.Root.Size)}); err != nil {
		return nil, err
	}
	if img.recipe.Root.Verity {
		if err := add(root, fileHashes, disk.Partition{Type: types.Verity, UUID: hashID, Label: label + "-verity", Attributes: disk.AttrReadOnly}); err != nil {
			return nil, err
		}
	}
	for i, v := range img.volumes {
		p := disk.Partition{Type: partitionType(v.Partition), UUID: img.seed.UUID("partition " + v.Partition.Name), Label: v.Partition.Label}
		if err := add(made.volumes[i], fileVolume, p); err != nil {
			return nil, err
		}
	}
	if err := img.enlarge(&layout); err != nil {
		return nil, err
	}
	f, err := set.Create(outputStem(img.recipe) + ".raw")
	if err != nil {
		return nil, err
	}
	return disk.Write(ctx, f, layout)
}

// rootUUIDs are those that the Discoverable Partitions Specification derives
// from the root hash, else of the seed.
func (img *build) rootUUIDs(root *store.Result) (rootID, hashID uuid.UUID, err error) {
	if !img.recipe.Root.Verity {
		return img.rootUUID(), uuid.UUID{}, nil
	}
	hash, err := hex.DecodeString(root.Values[valueRootHash])
	if err != nil {
		return rootID, hashID, err
	}
	return verity.RootUUIDs(hash)
}

// writeBeside writes the root hash and the unified kernel image as files.
func (img *build) writeBeside(ctx context.Context, set *output.Set, root, kernel *store.Result) error {
	stem := outputStem(img.recipe)
	if img.recipe.Root.Verity {
		if err := writeOutput(set, stem+".roothash", []byte(root.Values[valueRootHash]+"\n")); err != nil {
			return err
		}
	}
	if kernel == nil {
		return nil
	}
	in, err := kernel.Open(ctx, fileUKI)
	if err != nil {
		return img.damaged(kernel, err)
	}
	defer in.Close()
	out, err := set.Create(stem + ".efi")
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return err
}

func writeOutput(set *output.Set, name string, data []byte) error {
	f, err := set.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return err
}

// describeImage writes the manifest and the bill of materials.
func (img *build) describeImage(ctx context.Context, set *output.Set, plan *disk.Plan, made results) error {
	boot, kernel := made.boot, made.uki
	var in inventory
	data, err := readResult(ctx, made.tree(), filePackages)
	if err != nil {
		return img.damaged(made.tree(), err)
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	r := img.recipe
	m := &manifest.Manifest{
		Name: r.Name, Version: r.Version, Distribution: r.Distribution, Release: r.Release, Architecture: r.Architecture,
		Clock: img.clock, Packages: in.Packages,
	}
	if m.Recipe, err = r.Digest(); err != nil {
		return err
	}
	if root := made.root; root != nil {
		m.Root = &manifest.Root{Filesystem: r.Root.Filesystem, Size: root.Size(fileRoot), RootHash: root.Values[valueRootHash]}
		if r.Root.Verity {
			m.Root.Salt = hex.EncodeToString(img.seed.Bytes("root verity salt", 32))
		}
		m.Partitions = partitionsOf(plan)
	}
	for _, s := range img.lock.Sources {
		m.Sources = append(m.Sources, manifest.Source{
			Suite: s.Suite, Components: s.Components, Codename: s.Codename, Date: s.Date, SHA256: s.SHA256,
		})
	}
	if kernel != nil {
		m.Kernel = &manifest.Kernel{Package: img.lock.Kernel, Release: boot.Values["kernel version"], CommandLine: kernel.Values[valueCmdline]}
		for _, p := range img.lock.Packages {
			if p.Name == img.lock.Kernel {
				m.Kernel.Version = p.Version
			}
		}
	}
	if err := img.writeContainers(ctx, set, m, made.root); err != nil {
		return err
	}
	files, err := set.Seal(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		m.Outputs = append(m.Outputs, manifest.Output{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	return img.writeManifest(set, m, in.Copyright)
}

func partitionsOf(plan *disk.Plan) []manifest.Partition {
	var list []manifest.Partition
	for i, p := range plan.Partitions {
		list = append(list, manifest.Partition{
			Number: p.Index, Label: p.Label, Type: p.Type, UUID: p.UUID.String(),
			Offset: plan.Offset(i), Size: (p.LastLBA - p.FirstLBA + 1) * plan.SectorSize,
		})
	}
	return list
}

func (img *build) writeManifest(set *output.Set, m *manifest.Manifest, copyright map[string][]byte) error {
	stem := outputStem(img.recipe)
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := writeOutput(set, stem+".manifest.json", text); err != nil {
		return err
	}
	text, err = m.SPDX(manifest.SPDXOptions{
		Creator: "applbuild", Seed: img.seed[:],
		Copyright: func(name string) []byte { return copyright[name] },
	})
	if err != nil {
		return err
	}
	return writeOutput(set, stem+".spdx.json", text)
}

func readResult(ctx context.Context, result *store.Result, name string) ([]byte, error) {
	f, err := result.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// remember keeps the outputs' digests under the disk's key, so that the next
// build can tell that nothing is to be done.
func (img *build) remember(ctx context.Context, files []output.File) error {
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	if img.store.Has(img.keys.disk) {
		return nil
	}
	_, _, err = img.store.Do(ctx, img.keys.disk, func(_ context.Context, d *store.Draft) error {
		return writeFile(d, fileOutputs, data)
	})
	return err
}

// alreadyThere returns what was built when the folder holds exactly what this
// build would write, byte for byte, else nil.
func (img *build) alreadyThere(ctx context.Context, dir string) (*Built, error) {
	result, err := img.store.Get(img.keys.disk)
	if err != nil {
		return nil, nil
	}
	data, err := readResult(ctx, result, fileOutputs)
	if err != nil {
		return nil, img.store.Discard(result.Key)
	}
	var files []output.File
	if err := json.Unmarshal(data, &files); err != nil {
		return nil, img.store.Discard(result.Key)
	}
	same, err := output.Same(ctx, dir, files)
	if err != nil || !same {
		return nil, err
	}
	built := &Built{Files: files, UpToDate: true}
	if !img.writes(recipes.FormatRaw) {
		return built, nil
	}
	if root, err := img.store.Get(img.keys.root); err == nil {
		built.RootHash = root.Values[valueRootHash]
	}
	return built, nil
}
