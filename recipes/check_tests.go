package recipes

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CorruptBlock is the size of a block of [CorruptStep], in bytes.
const CorruptBlock = 4096

// leastMemory is what a machine needs to unpack its initrd.
const leastMemory = 256 << 20

// A testChecker follows the list of tests as the machine will.
type testChecker struct {
	*checker
	on    bool     // the machine runs
	bus   string   // of its disks from the next start on
	busOn string   // of its disks while it runs
	disks []string // by name
	keyed []string // users that a seed gives the key of the run to
}

// started says that the machine is on, where it was not.
func (c *testChecker) started() {
	if !c.on {
		c.busOn = c.bus
	}
	c.on = true
}

// tests checks the recipe's list of tests.
func (c *checker) tests() {
	r := c.recipe
	if len(r.Tests) > 0 && r.Boot.Loader == LoaderNone {
		c.add("tests", "a disk that does not boot cannot be tested", "remove them, or choose a boot loader")
		return
	}
	t := testChecker{checker: c, disks: []string{SystemDisk}}
	for i := range r.Tests {
		t.test(&r.Tests[i], fmt.Sprintf("tests[%d]", i))
	}
}

// actions lists what an item of the list says is to be done.
func (t *Test) actions() []string {
	var given []string
	for _, a := range []struct {
		name string
		is   bool
	}{
		{"run", t.Run != ""}, {"unit", t.Unit != nil}, {"port", t.Port != nil}, {"file", t.File != nil},
		{"journal", t.Journal != nil}, {"mounted", t.Mounted != nil}, {"boot_time", t.BootTime != nil}, {"ssh", t.SSH != nil},
		{"machine", t.Machine != nil}, {"boot", t.Boot != nil}, {"reboot", t.Reboot != nil}, {"power_cut", t.PowerCut != nil},
		{"poweroff", t.Poweroff != nil}, {"add_disk", t.AddDisk != nil}, {"grow_disk", t.GrowDisk != nil},
		{"corrupt", t.Corrupt != nil}, {"cidata", t.Cidata != nil}, {"network", t.Network != ""},
		{"cmdline", t.Cmdline != ""}, {"wait", t.Wait != 0},
	} {
		if a.is {
			given = append(given, a.name)
		}
	}
	return given
}

func (c *testChecker) test(t *Test, at string) {
	given := t.actions()
	switch {
	case len(given) == 0:
		c.add(at, "nothing is to be done", "add a check such as run or unit, or a step such as reboot")
		return
	case len(given) > 1:
		c.add(at+"."+given[1], strings.Join(given, " and ")+" exclude each other", "write them as items of their own")
		return
	}
	if t.Expect != nil && t.Run == "" {
		c.add(at+".expect", "goes with run", "remove it, or put it into "+given[0])
	}
	c.expect(t.Expect, at+".expect")
	if strings.ContainsAny(t.Name, "\n\r\t\x1b") || len(t.Name) > 200 {
		c.add(at+".name", "is not a name", "write up to 200 bytes on one line")
	}
	if len(t.Run) > 64<<10 {
		c.add(at+".run", "the command is too long", "use at most 64 KiB: put a script into the image")
	}
	switch given[0] {
	case "run", "unit", "port", "file", "journal", "mounted", "boot_time", "ssh":
		c.check(t, at)
		c.started()
	default:
		c.step(t, at)
	}
}

// check checks a check.
func (c *testChecker) check(t *Test, at string) {
	switch {
	case t.File != nil:
		c.path(at+".file.path", t.File.Path)
		c.match(t.File.Contents, at+".file.contents")
		f := t.File
		if f.Absent && (f.Contents != nil || f.Kind != "" || f.Mode != nil || f.Owner.User != "") {
			c.add(at+".file.absent", "a file that is not there is like nothing", "remove the rest, or absent")
		}
		if f.Contents != nil && f.Kind != "" && f.Kind != "file" {
			c.add(at+".file.contents", "a "+f.Kind+" has no contents", "remove it")
		}
	case t.Journal != nil:
		c.patterns(t.Journal.Has, at+".journal.has")
		c.patterns(t.Journal.HasNot, at+".journal.has_not")
		if len(t.Journal.Has)+len(t.Journal.HasNot) == 0 {
			c.add(at+".journal", "nothing is looked for", "add has or has_not")
		}
	case t.Mounted != nil:
		c.path(at+".mounted.path", t.Mounted.Path)
		if m := t.Mounted; m.Absent && (m.Filesystem != "" || len(m.Options) > 0 || m.AtLeast != 0) {
			c.add(at+".mounted.absent", "what is not mounted is like nothing", "remove the rest, or absent")
		}
	case t.SSH != nil:
		c.ssh(t.SSH, at+".ssh")
	}
}

func (c *testChecker) ssh(s *SSHTest, at string) {
	c.expect(s.Expect, at+".expect")
	if s.Key != "" {
		s.KeyFile = c.toOpen(at+".key", s.Key)
	} else if !slices.Contains(c.keyed, s.User) && s.User != "root" {
		c.add(at+".user", "nothing gives "+s.User+" a key before", "write test_key_for: "+s.User+" in a cidata step above, or name the private key's file as key")
	}
}

// step checks a step and follows what it does to the machine.
func (c *testChecker) step(t *Test, at string) {
	switch {
	case t.Machine != nil:
		if m := t.Machine; c.given(at+".machine.memory") && m.Memory < leastMemory {
			c.add(at+".machine.memory", m.Memory.String()+" is too small", "use at least 256M")
		}
		if t.Machine.Bus != "" {
			c.bus = t.Machine.Bus
		}
	case t.Boot != nil:
		if c.on {
			c.add(at+".boot", "the machine runs already", "write reboot, or switch it off before with poweroff or power_cut")
		}
		c.match(t.Boot.Console, at+".boot.console")
		c.started()
		c.on = !t.Boot.Fails
	case t.Reboot != nil:
		if !c.on {
			c.add(at+".reboot", "the machine is off here", "write boot, or a check before that starts it")
		}
		c.match(t.Reboot.Console, at+".reboot.console")
		c.on = false
		c.started()
		c.on = !t.Reboot.Fails
	case t.PowerCut != nil:
		c.on = false
	case t.Poweroff != nil:
		if !c.on {
			c.add(at+".poweroff", "the machine is off here", "remove it, or add a check before that starts it")
		}
		c.on = false
	case t.AddDisk != nil, t.GrowDisk != nil, t.Corrupt != nil:
		c.disk(t, at)
	case t.Cidata != nil:
		c.cidata(t.Cidata, at+".cidata")
	}
}

func (c *testChecker) disk(t *Test, at string) {
	switch {
	case t.AddDisk != nil:
		d := t.AddDisk
		if (d.Size == 0) == (d.Source == "") {
			c.add(at+".add_disk", "a disk is either empty, with a size, or the copy of a file", "give one of size and source")
		}
		if d.Source != "" {
			d.SourceFile = c.toOpen(at+".add_disk.source", d.Source)
		}
		if slices.Contains(c.disks, d.Name) {
			c.add(at+".add_disk.name", "there is a disk "+d.Name+" already", "use another name")
		}
		c.disks = append(c.disks, d.Name)
	case t.GrowDisk != nil:
		c.knownDisk(at+".grow_disk.disk", t.GrowDisk.Disk)
		if t.GrowDisk.Size == 0 {
			c.add(at+".grow_disk.size", "0 is too small", "write the size that the disk is to have")
		}
		if c.on && c.busOn == BusNVMe {
			c.add(at+".grow_disk", "QEMU's NVMe disks do not grow while the machine runs", "switch it off before, with poweroff: {} or power_cut: {}")
		}
	case t.Corrupt != nil:
		d := t.Corrupt
		c.knownDisk(at+".corrupt.disk", d.Disk)
		if d.Block != nil && d.Offset != nil {
			c.add(at+".corrupt.offset", "block and offset exclude each other", "keep one of them")
		}
		if d.Length > 1<<30 {
			c.add(at+".corrupt.length", d.Length.String()+" is too much", "use at most 1G")
		}
		if c.on {
			c.add(at+".corrupt", "the machine runs here", "switch it off before, with poweroff: {} or power_cut: {}")
		}
	}
}

func (c *testChecker) knownDisk(at, name string) {
	if !slices.Contains(c.disks, name) {
		c.add(at, "there is no disk "+name+" here", "use one of "+strings.Join(c.disks, ", "))
	}
}

func (c *testChecker) cidata(s *CidataStep, at string) {
	c.keyed = nil
	if s.Seed == NoSeed {
		if s.TestKeyFor != "" {
			c.add(at+".test_key_for", "there is no seed to put the key into", "remove it")
		}
		return
	}
	s.SeedFile = c.toOpen(at+".seed", s.Seed)
	if s.TestKeyFor == "" {
		return
	}
	if strings.EqualFold(filepath.Ext(s.Seed), ".iso") {
		c.add(at+".test_key_for", "a ready ISO is used as it is", "name the seed's YAML file, or give ssh a key of its own")
	}
	c.keyed = append(c.keyed, s.TestKeyFor)
}

// toOpen returns the path to open of a file that is named at a place.
func (c *testChecker) toOpen(at, name string) string {
	return relativeTo(c.recipe.positions[at].folder(c.recipe.file), name)
}

func (c *testChecker) expect(e *Expect, at string) {
	if e != nil {
		c.match(e.Stdout, at+".stdout")
		c.match(e.Stderr, at+".stderr")
	}
}

func (c *testChecker) match(m *TextMatch, at string) {
	if m == nil {
		return
	}
	c.patterns(m.Contains, at+".contains")
	c.patterns(m.Not, at+".not")
	switch {
	case len(m.Contains)+len(m.Not) == 0 && m.Equals == "" && !m.Empty:
		c.add(at, "nothing is expected", "add contains, not, equals or empty: true")
	case m.Empty && (len(m.Contains) > 0 || m.Equals != ""):
		c.add(at+".empty", "an empty text has nothing in it", "remove the rest, or empty")
	}
}

func (c *testChecker) patterns(list []string, at string) {
	for i, pattern := range list {
		if err := checkPattern(pattern); err != nil {
			c.add(fmt.Sprintf("%s[%d]", at, i), strconv.Quote(shorten(pattern))+" is no regular expression ("+err.Error()+")", "use the syntax of RE2, or do not put it between slashes")
		}
	}
}
