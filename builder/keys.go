package builder

import (
	"sort"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/builder/plan"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/overlay"
)

// Versions of the stages: raised when a stage makes something else of the same
// parameters.
const (
	toolsVersion  = 1
	baseVersion   = 1
	bootVersion   = 1
	rootVersion   = 1
	ukiVersion    = 1
	volumeVersion = 1
	diskVersion   = 1
	layerVersion  = 1
	ociVersion    = 1
	unpackVersion = 1 // of the layers of container images
)

// keys are the content keys of an image's stages.
type keys struct {
	tools, base, boot, root, uki, disk plan.Key
	layer, oci                         plan.Key // of the container image
}

// digests are those of packages, sorted: a set's order in the lock says nothing.
func digests(packages []lock.Package) []string {
	var list []string
	for _, p := range packages {
		list = append(list, p.SHA256)
	}
	sort.Strings(list)
	return list
}

// plan computes all keys. It reads no package and runs nothing.
func (img *build) plan() (keys, error) {
	var k keys
	var err error
	key := func(name string, version int, params any, inputs ...plan.Key) plan.Key {
		var made plan.Key
		if err == nil {
			made, err = img.key(name, version, params, inputs...)
		}
		return made
	}
	r := img.recipe
	clock := img.clock.Unix()
	k.tools, err = img.toolsKey(img.lock.Tools)
	k.base = key("base", baseVersion, struct {
		Packages []string
		Auto     []string
		Arch     string
		Aliases  bool
		Locales  []string
		Clock    int64
	}{digests(img.lock.Packages), img.automatic(), img.arch.Name, img.aliases(), img.locales(), clock})
	k.boot = key("boot", bootVersion, struct {
		Packages, Kernel []string
		Arch, Filesystem string
		Verity           bool
		Modules          []string
		Overlay          []overlay.File
		Partitions       []string
		Loader           string
		Clock            int64
	}{digests(img.lock.Initrd), digests(kernelPackages(img.lock)), img.arch.Name, r.Root.Filesystem, r.Root.Verity, r.Kernel.Modules, overlay.Initrd(overlayOptions(r, img.lock)), partitionFilesystems(r), r.Boot.Loader, clock})
	k.root = key("root", rootVersion, struct {
		Edits      *edits
		Root       recipes.Root
		Seed       string
		Clock      int64
		Containers *containerKey
	}{img.edits, r.Root, r.Seed, clock, img.containerKey()}, k.base, k.tools)
	k.uki = key("uki", ukiVersion, struct {
		Cmdline, Name, Version, Seed string
		Boot                         recipes.Boot
		Clock                        int64
	}{img.commandLine(""), r.Name, r.Version, r.Seed, r.Boot, clock}, k.boot, k.root, k.tools)
	image := r.Output.OCI
	image.Name = "" // is only in what is written in the end
	k.layer = key("layer", layerVersion, struct {
		Remove      recipes.Remove
		Compression string
		Clock       int64
	}{r.Remove, image.Compression, clock}, k.base)
	k.oci = key("oci", ociVersion, struct {
		Edits         *edits
		Image         recipes.OCI
		Name, Version string
		Clock         int64
	}{img.edits, image, r.Name, r.Version, clock}, k.layer)
	var ends []plan.Key // what the outputs are made of
	if img.writes(recipes.FormatRaw) {
		ends = append(ends, k.uki, k.root)
	}
	if img.writes(recipes.FormatOCI) {
		ends = append(ends, k.oci)
	}
	for _, v := range img.volumes {
		inputs := []plan.Key{k.tools}
		if v.names() {
			inputs = append(inputs, k.root)
		}
		v.key = key("volume", volumeVersion, v, inputs...)
		ends = append(ends, v.key)
	}
	digest, digestErr := r.Digest()
	if err == nil {
		err = digestErr
	}
	k.disk = key("disk", diskVersion, struct {
		Recipe  string
		Sources []lock.Source
		Clock   int64
	}{digest, img.lock.Sources, clock}, ends...)
	return k, err
}

// key is a stage's content key. The program that makes it counts: another
// build of applbuild may make something else of the same parameters.
func (b *Builder) key(name string, version int, params any, inputs ...plan.Key) (plan.Key, error) {
	return plan.Stage{Name: name, Version: version, Params: struct {
		Program string
		Params  any
	}{b.settings.Program, params}, Inputs: inputs}.Key()
}

// toolsKey is the key of a tools tree.
func (b *Builder) toolsKey(packages []lock.Package) (plan.Key, error) {
	return b.key("tools", toolsVersion, digests(packages))
}
