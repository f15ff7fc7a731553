package recipes

import (
	"fmt"
	"strconv"
	"strings"
)

// Room that a disk needs beside the partitions of a recipe, in bytes: the partition tables, and the least EFI system
// partition.
const (
	tablesRoom = 2 << 20
	leastESP   = 34 << 20
)

// partitions checks those of the recipe.
func (c *checker) partitions() {
	r := c.recipe
	if r.Boot.Loader == LoaderNone {
		if len(r.Partitions) > 0 {
			c.add(r.Partitions[0].At, "a disk that does not boot makes no partitions", "remove it, or choose a boot loader")
		}
		return
	}
	for i := range r.Partitions {
		c.partition(&r.Partitions[i])
		for j := range i {
			c.pair(&r.Partitions[j], &r.Partitions[i])
		}
	}
	c.fits()
}

func (c *checker) partition(p *Partition) {
	at := p.At
	if p.Filesystem == NoFilesystem {
		c.add(at+".filesystem", "none is for the partitions data and volatile, which are there by default", "remove the partition")
		return
	}
	if n := mostLabel[p.Filesystem]; len(p.Label) > n {
		c.add(at+".label", fmt.Sprintf("%q is longer than a label of %s, which has %d characters at most", p.Label, p.Filesystem, n), "shorten it")
	}
	if p.Label == "ESP" || strings.HasPrefix(p.Label, "root-") {
		c.add(at+".label", strconv.Quote(p.Label)+" is the label of a partition of the system's own", "use another one")
	}
	c.partitionSize(p, at)
	if p.Wipe != WipeNever && *p.Keep && c.given(at+".keep") {
		c.add(at+".wipe", "wipe: "+p.Wipe+" and keep: true exclude each other", "remove one of the two")
	} else if p.Wipe == WipeBoot && *p.Keep {
		c.add(at+".wipe", "what is kept is not wiped at every boot", "write keep: false beside it")
	}
	if !p.Mounted() {
		for name, given := range map[string]bool{"mount": p.Mount != "", "directories": len(p.Directories) > 0, "contents": len(p.Contents) > 0} {
			if given {
				c.add(at+"."+name, "swap has no files", "remove "+name)
			}
		}
		return
	}
	c.mount(p, at)
	for i, d := range p.Directories {
		c.path(fmt.Sprintf("%s.directories[%d].path", at, i), d.Path)
	}
	c.contents(p, at)
}

func (c *checker) partitionSize(p *Partition, at string) {
	s := p.Size
	if c.given(at+".size.fixed") && (c.given(at+".size.min") || c.given(at+".size.max")) {
		c.add(at+".size.fixed", "a fixed size has no min and max", "keep one or the other")
	}
	size, field := s.Min, ".size.min"
	if s.Fixed != 0 || c.given(at+".size.fixed") {
		size, field = s.Fixed, ".size.fixed"
	}
	if need := least[p.Filesystem]; size < need {
		c.add(at+field, fmt.Sprintf("%s is less than %s needs", size, p.Filesystem), "use at least "+need.String())
	}
	if s.Max != 0 && s.Max < s.Min {
		c.add(at+".size.max", fmt.Sprintf("%s is less than the minimum, %s", s.Max, s.Min), "use at least that, or lower min")
	}
	if !*p.Grow && s.Max > s.Min {
		c.add(at+".size.max", "what does not grow has no maximum", "remove max, or write grow: true")
	}
	if s.Min > 1<<60 {
		c.add(at+field, s.Min.String()+" is more than a disk can have", "use less")
	}
}

// systemPaths are where the system itself is; what lies below those of own may be mounted on.
var systemPaths = []struct {
	path  string
	below bool // what lies below is the system's too
}{
	{"/", false}, {"/usr", true}, {"/etc", true}, {"/boot", true}, {"/efi", true}, {"/dev", true}, {"/proc", true},
	{"/sys", true}, {"/run", true}, {"/tmp", true}, {"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib64", true},
	{"/var", false}, {"/var/lib", false}, {"/var/log", false},
}

func (c *checker) mount(p *Partition, at string) {
	if !c.path(at+".mount", p.Mount) {
		return
	}
	if strings.ContainsAny(p.Mount, " \\#\"'") {
		c.add(at+".mount", strconv.Quote(p.Mount)+" has characters that a table of mounts cannot hold", "leave out blanks, quotes, # and \\")
	}
	for _, s := range systemPaths {
		if p.Mount == s.path || s.below && strings.HasPrefix(p.Mount, s.path+"/") {
			c.add(at+".mount", p.Mount+" is the system's own", "mount the partition elsewhere; what the system itself keeps is said by state")
			return
		}
	}
}

func (c *checker) contents(p *Partition, at string) {
	for i := range p.Contents {
		content := &p.Contents[i]
		where := fmt.Sprintf("%s.contents[%d]", at, i)
		c.path(where+".path", content.Path)
		switch {
		case content.Source == "" && content.Content == nil:
			c.add(where, "nothing says what the file is", "add source or content")
		case content.Source != "" && content.Content != nil:
			c.add(where+".content", "source and content exclude each other", "keep one of them")
		case content.Content != nil && content.Path == "/":
			c.add(where+".path", "/ is a folder", "name a file in it")
		}
		if content.Source != "" {
			content.SourceFile = relativeTo(c.recipe.positions[where+".source"].folder(c.recipe.file), content.Source)
		}
	}
	if len(p.Contents) == 0 {
		return
	}
	if p.Wipe != WipeNever {
		c.add(at+".wipe", "wipe: "+p.Wipe+" would remove the contents, which the image has only once", "put them into the root with files, or remove wipe")
	}
	if p.Disk == DiskOther {
		c.add(at+".disk", "another disk is not part of the image, so it has no contents", "remove contents, or put the partition on the system's disk")
	}
}

// pair looks for what two partitions cannot both have.
func (c *checker) pair(a, b *Partition) {
	if a.Name == b.Name {
		c.add(b.At+".name", a.Name+" is there already, at "+c.recipe.Position(a.At+".name").String(), "use another name")
		return
	}
	// A default is not in the recipe: what is said is said of the other one.
	at, other := b.At, a
	if !c.given(b.At + ".name") {
		at, other = a.At, b
	}
	if a.Label == b.Label {
		c.add(at+".label", fmt.Sprintf("%q is the label of partition %s too", b.Label, other.Name), "use another label")
	}
	if a.Mount == "" || a.Mount != b.Mount {
		return
	}
	what := "partition " + other.Name + " is mounted on " + a.Mount + " too"
	if *a.Keep && *b.Keep {
		what = "two partitions keep what is at " + a.Mount + ": " + a.Name + " and " + b.Name
	}
	c.add(at+".mount", what, "mount one of them elsewhere, or remove it")
}

// fits says whether the partitions have room on the disk, as far as that is known before anything is built.
func (c *checker) fits() {
	r := c.recipe
	if r.Disk.Size == 0 {
		if c.given("disk.size") {
			c.add("disk.size", "a disk has a size", "write one, or leave it out")
		}
		return
	}
	need := Size(tablesRoom) + max(leastESP, r.Boot.ESPSize) + max(1<<20, r.Root.Size)
	for _, p := range r.Partitions {
		if p.Disk == DiskSystem {
			need += p.Size.Min
		}
	}
	if need > r.Disk.Size || need < 0 {
		c.add("disk.size", fmt.Sprintf("%s is too small: the partitions need %s at least, without the contents of the root", r.Disk.Size, need), "use a larger size, or smaller partitions")
	}
}

// state refuses places that nothing holds.
func (c *checker) state() {
	r := c.recipe
	if r.Boot.Loader == LoaderNone {
		if c.given("state") {
			c.add("state", "a disk that does not boot keeps nothing", "remove it, or choose a boot loader")
		}
		return
	}
	for _, s := range []struct{ name, value string }{
		{"etc", r.State.Etc}, {"var", r.State.Var}, {"home", r.State.Home}, {"log", r.State.Log}, {"containers", r.State.Containers},
	} {
		holder := map[string]string{StatePersistent: PartitionData, StateVolatile: PartitionVolatile}[s.value]
		if holder == "" {
			continue
		}
		at := "state." + s.name
		if !c.given(at) {
			at = "state"
		}
		p := r.Partition(holder)
		switch {
		case p == nil:
			c.add(at, fmt.Sprintf("%s is %s, but there is no partition %s", s.name, s.value, holder), "write none, or leave the partition in")
		case !p.Mounted():
			c.add(at, fmt.Sprintf("%s is %s, but partition %s is swap", s.name, s.value, holder), "give it a file system")
		}
	}
}
