package recipes

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A checker looks for what no single value shows: contradictions, repetitions, paths that lead elsewhere.
type checker struct {
	recipe   *Recipe
	problems Errors
}

// add records a problem with the value at path.
func (c *checker) add(path, what, do string) {
	d := decoder{}
	d.problem(c.recipe.Position(path), path, what, do)
	c.problems = append(c.problems, d.problems...)
}

// check returns all that is wrong with a recipe whose values are valid one by one.
func (r *Recipe) check() Errors {
	c := checker{recipe: r}
	if r.Architecture != "amd64" && r.Architecture != "arm64" {
		c.add("architecture", strconv.Quote(r.Architecture)+" is not known", "use amd64 or arm64")
	}
	if len(r.Hostname) > 64 {
		c.add("hostname", fmt.Sprintf("is %d characters long", len(r.Hostname)), "use at most 64: Linux takes no more")
	}
	if !r.Snapshot.IsZero() && (r.Snapshot.Year() < 2005 || r.Snapshot.Year() > 9999) {
		c.add("snapshot", "is before the snapshot services began", "use a later day")
	}
	c.mirrors()
	c.packages()
	c.kernel()
	c.root()
	c.boot()
	c.users()
	c.files()
	c.units()
	c.remove()
	c.partitions()
	c.state()
	c.containers()
	c.tests()
	c.output()
	return c.problems
}

// folder returns the file that paths at p are relative to; those of --set are relative to the working folder.
func (p Position) folder(file string) string {
	switch {
	case p.File == "":
		return file
	case strings.HasPrefix(p.File, "--set "):
		return ""
	}
	return p.File
}

// repeated refuses items of a list that have the same id.
func (c *checker) repeated(path string, list []string, id func(string) string) {
	first := map[string]int{}
	for i, item := range list {
		if j, twice := first[id(item)]; twice {
			c.add(fmt.Sprintf("%s[%d]", path, i), strconv.Quote(item)+" is there already, at "+c.recipe.Position(fmt.Sprintf("%s[%d]", path, j)).String(), "remove one of the two")
			continue
		}
		first[id(item)] = i
	}
}

func (c *checker) mirrors() {
	for i := range c.recipe.Mirrors {
		if m := &c.recipe.Mirrors[i]; m.Keyring != "" {
			m.KeyringFile = relativeTo(c.recipe.positions[fmt.Sprintf("mirrors[%d].keyring", i)].folder(c.recipe.file), m.Keyring)
		}
	}
}

func (c *checker) packages() {
	c.repeated("packages", c.recipe.Packages, packageName)
	for i, name := range c.recipe.Packages {
		if name == NoKernel+"-" || name == NoKernel {
			c.add(fmt.Sprintf("packages[%d]", i), strconv.Quote(name)+" is no package", "remove it")
		}
	}
}

func (c *checker) kernel() {
	r := c.recipe
	if !r.Kernel.None() {
		return
	}
	if r.Boot.Loader != LoaderNone {
		c.add("kernel.package", "there is no kernel to boot with "+r.Boot.Loader, "name a kernel, or write boot: none")
	}
	if r.Kernel.Version != "" {
		c.add("kernel.version", "there is no kernel to have a version", "remove it, or name the kernel's package")
	}
	if len(r.Kernel.Modules) > 0 {
		c.add("kernel.modules", "there is no kernel to take modules from", "remove them, or name the kernel's package")
	}
}

// levels holds the compression algorithms of each file system with the highest level of each; 0 is an algorithm
// without levels.
var levels = map[string]map[string]int{
	Squashfs: {"zstd": 22, "lz4": 0, "lz4hc": 0, "xz": 0, "gzip": 9, "none": 0},
	EROFS:    {"zstd": 22, "lz4": 0, "lz4hc": 12, "none": 0},
	Ext4:     {"none": 0},
}

func (c *checker) root() {
	root := c.recipe.Root
	algorithms := levels[root.Filesystem]
	most, known := algorithms[root.Compression.Algorithm]
	switch level := root.Compression.Level; {
	case !known && root.Filesystem == Ext4:
		c.add("root.compression.algorithm", "ext4 has no compression", "write compression: none, or use squashfs or erofs")
	case !known:
		var names []string
		for name := range algorithms {
			names = append(names, name)
		}
		slices.Sort(names)
		c.add("root.compression.algorithm", root.Filesystem+" has no "+root.Compression.Algorithm, "use one of "+strings.Join(names, ", "))
	case level > most && most == 0:
		c.add("root.compression.level", fmt.Sprintf("%s in %s has no levels", root.Compression.Algorithm, root.Filesystem), "remove it")
	case level > most:
		c.add("root.compression.level", fmt.Sprintf("%s has no level %d", root.Compression.Algorithm, level), fmt.Sprintf("use a level from 1 to %d", most))
	}
	if _, given := c.recipe.positions["root.corruption"]; given && !root.Verity {
		c.add("root.corruption", "nothing notices corruption without verity", "remove it, or set verity: true")
	}
	if size := root.Size; c.given("root.size") && size < 1<<20 {
		c.add("root.size", size.String()+" is too small", "use at least 1M, or leave it out")
	}
}

func (c *checker) given(path string) bool {
	_, given := c.recipe.positions[path]
	return given
}

// ownWords are the words of the kernel's command line that the build writes, by what else to do.
var ownWords = map[string]string{
	"root": "the root file system is found by itself", "roothash": "the build adds it", "usrhash": "the build adds it",
	"rootfstype": "set root.filesystem", "rootflags": "the build adds it", "systemd.verity": "set root.verity",
	"systemd.verity_root_options": "set root.corruption", "systemd.verity_root_data": "the build adds it",
	"systemd.verity_root_hash": "the build adds it", "ro": "the root is always read-only", "rw": "the root is always read-only",
}

func (c *checker) boot() {
	boot := c.recipe.Boot
	if boot.Loader == LoaderNone && c.given("boot.esp_size") {
		c.add("boot.esp_size", "a disk that does not boot has no EFI system partition", "remove it, or choose a loader")
	}
	if c.given("boot.esp_size") && boot.Loader != LoaderNone && boot.ESPSize < 34<<20 {
		c.add("boot.esp_size", boot.ESPSize.String()+" is too small", "use at least 34M, the least that FAT32 has room for, or leave it out")
	}
	for i, text := range boot.Cmdline {
		for _, word := range strings.Fields(text) {
			name, _, _ := strings.Cut(word, "=")
			if why, own := ownWords[name]; own {
				c.add(fmt.Sprintf("boot.cmdline[%d]", i), strconv.Quote(word)+" is not the recipe's to say", "remove it: "+why)
			}
		}
	}
	if n := len(boot.CommandLine()); n > 2048-256 {
		c.add("boot.cmdline", fmt.Sprintf("is %d characters long", n), "use at most 1792: the kernel takes 2048 with what the build adds")
	}
}

var cleanPath = regexp.MustCompile(`^/[^\x00-\x1f\x7f]*$`)

// path refuses what is not a clean absolute path in the appliance.
func (c *checker) path(at, name string) bool {
	switch {
	case !cleanPath.MatchString(name):
		c.add(at, strconv.Quote(shorten(name))+" is not an absolute path", "begin it with / and leave out control characters")
	case slices.Contains(strings.Split(name, "/"), ".."):
		c.add(at, strconv.Quote(shorten(name))+" goes up with ..", "write the path without it")
	case path.Clean(name) != name:
		c.add(at, strconv.Quote(shorten(name))+" is not in its shortest form", "write "+path.Clean(name))
	case len(name) > 4095:
		c.add(at, "the path is too long", "use at most 4095 bytes")
	default:
		return true
	}
	return false
}

func (c *checker) files() {
	first := map[string]int{}
	for i := range c.recipe.Files {
		f := &c.recipe.Files[i]
		at := fmt.Sprintf("files[%d]", i)
		c.file(f, at)
		if !c.path(at+".path", f.Path) {
			continue
		}
		if j, twice := first[f.Path]; twice {
			c.add(at+".path", f.Path+" is there already, at "+c.recipe.Position(fmt.Sprintf("files[%d].path", j)).String(), "remove one of the two")
			continue
		}
		first[f.Path] = i
	}
	for i, f := range c.recipe.Files {
		if first[f.Path] != i || !cleanPath.MatchString(f.Path) {
			continue
		}
		for dir := path.Dir(f.Path); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if j, named := first[dir]; named && !c.recipe.Files[j].mayHold() {
				c.add(fmt.Sprintf("files[%d].path", i), f.Path+" lies below "+dir+", which is no folder", "change one of the two paths")
			}
		}
	}
}

// mayHold reports whether other files may lie below f.
func (f File) mayHold() bool { return f.Directory || f.Source != "" || f.Link != "" }

func (c *checker) file(f *File, at string) {
	var kinds []string
	for _, k := range []struct {
		name  string
		given bool
	}{{"content", f.Content != nil}, {"source", f.Source != ""}, {"directory", f.Directory}, {"link", f.Link != ""}} {
		if k.given {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		c.add(at, "nothing says what the file is", "add content, source, directory: true or link")
	case len(kinds) > 1:
		c.add(at+"."+kinds[1], strings.Join(kinds, " and ")+" exclude each other", "keep one of them")
	}
	if f.Path == "/" && !f.Directory && f.Source == "" {
		c.add(at+".path", "/ is a folder", "name a file in it")
	}
	if f.Link != "" && f.Mode != nil {
		c.add(at+".mode", "a link has no permissions of its own", "remove it")
	}
	if strings.ContainsAny(f.Link, "\x00\n") || len(f.Link) > 4095 {
		c.add(at+".link", "is not a path", "write the link's target on one line")
	}
	if f.Source != "" {
		f.SourceFile = relativeTo(c.recipe.positions[at+".source"].folder(c.recipe.file), f.Source)
	}
}

func (c *checker) units() {
	units := c.recipe.Units
	seen := map[string]string{}
	for _, list := range []struct {
		name  string
		units []string
	}{{"enable", units.Enable}, {"disable", units.Disable}, {"mask", units.Mask}} {
		for i, unit := range list.units {
			at := fmt.Sprintf("units.%s[%d]", list.name, i)
			if before, twice := seen[unit]; twice {
				c.add(at, unit+" is there already, at "+c.recipe.Position(before).String(), "name it in one of enable, disable and mask; mask includes disable")
				continue
			}
			seen[unit] = at
			if len(unit) > 255 {
				c.add(at, "the name is too long", "use at most 255 characters")
			}
			if strings.HasPrefix(unit, "@") {
				c.add(at, strconv.Quote(unit)+" is not a unit's name", "write NAME@INSTANCE.service")
			}
		}
	}
}

func (c *checker) remove() {
	c.repeated("remove.paths", c.recipe.Remove.Paths, func(s string) string { return s })
	for i, pattern := range c.recipe.Remove.Paths {
		at := fmt.Sprintf("remove.paths[%d]", i)
		if !c.path(at, pattern) {
			continue
		}
		if _, err := path.Match(pattern, "/"); err != nil {
			c.add(at, strconv.Quote(shorten(pattern))+" is not a pattern", "close its [ with ], or write \\[")
			continue
		}
		if strings.Trim(pattern, "/*") == "" {
			c.add(at, strconv.Quote(pattern)+" would remove everything", "name a path")
			continue
		}
		one := Remove{Paths: []string{pattern}}
		if j := slices.IndexFunc(c.recipe.Files, func(f File) bool { return one.Match(f.Path) }); j >= 0 {
			file := fmt.Sprintf("files[%d].path", j)
			c.add(at, "removes "+strconv.Quote(c.recipe.Files[j].Path)+", which files puts there", "remove one of the two; the other is at "+c.recipe.Position(file).String())
		}
	}
}
