package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/rootfs/tree/inroot"
)

// Where dpkg keeps its database, below the tree.
const (
	adminDir = "var/lib/dpkg"
	infoDir  = adminDir + "/info"
	ciDir    = adminDir + "/tmp.ci" // control members of the package being unpacked
)

// maxDatabaseFile bounds what is read back from the database, in bytes.
const maxDatabaseFile = 64 << 20

// The states of a package that this package writes or knows of, as dpkg
// orders them.
const (
	StateUnpacked  = "unpacked"
	StateInstalled = "installed"
)

// A Package is one package of a Database.
type Package struct {
	Control *Control
	State   string   // StateUnpacked for what an Unpacker did
	Files   []string // as in the .list file: "/." first, then "/usr" …

	conffiles []statusConffile
	stale     bool // the .list file is older than Files
}

// A statusConffile is one line of the field Conffiles in dpkg's status.
type statusConffile struct {
	path     string
	hash     string
	obsolete bool
	remove   bool
}

// A Database is dpkg's record of a tree, to be made anew: var/lib/dpkg. Open
// it, hand it to an Unpacker, which adds each package that it unpacks, and
// Save it before dpkg runs.
type Database struct {
	arch       string
	clock      time.Time
	root       *inroot.Root
	packages   []*Package          // in the order in which they were added
	byName     map[string]*Package // by name:architecture
	owners     map[string][]*Package
	diversions *diversions
	overrides  map[string]override
	available  map[string]available // by name:architecture
	interests  *interests
}

// OpenDatabase opens the database of the tree at dir and makes its folders
// where they are missing. arch is the tree's own architecture. Files of the
// database get the clock's time, as dpkg's own would be written now. A tree
// that has packages already is an error. The caller closes it.
func OpenDatabase(dir, arch string, clock time.Time) (*Database, error) {
	if !validArch(arch) {
		return nil, fmt.Errorf("dpkg database: architecture %q", arch)
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return nil, err
	}
	d := &Database{
		arch:      arch,
		clock:     clock.Truncate(time.Second),
		root:      root,
		byName:    map[string]*Package{},
		owners:    map[string][]*Package{},
		available: map[string]available{},
		interests: newInterests(),
	}
	if err := d.init(); err != nil {
		root.Close()
		return nil, fmt.Errorf("dpkg database: %w", err)
	}
	return d, nil
}

// Close closes the tree. It saves nothing.
func (d *Database) Close() error { return d.root.Close() }

// Packages lists the packages in the order in which they were added.
func (d *Database) Packages() []*Package { return slices.Clone(d.packages) }

func (d *Database) init() error {
	for _, dir := range []string{"var", "var/lib", adminDir, adminDir + "/alternatives", infoDir,
		adminDir + "/parts", adminDir + "/triggers", adminDir + "/updates"} {
		err := d.root.Mkdir(dir, d.attr(0o755))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	status, err := d.read(adminDir + "/status")
	if err != nil {
		return err
	}
	if len(status) > 0 {
		return errors.New("/" + adminDir + "/status lists packages already: only a new tree can be filled")
	}
	if err := d.write(infoDir+"/format", []byte("1\n"), 0o644); err != nil {
		return err
	}
	return d.Reload()
}

func (d *Database) attr(mode uint32) inroot.Attr {
	return inroot.Attr{Mode: mode, UID: -1, GID: -1, ModTime: d.clock}
}

func (d *Database) write(name string, data []byte, mode uint32) error {
	return d.root.WriteFile(name, data, d.attr(mode))
}

// read returns a file of the database, nil where it is not there.
func (d *Database) read(name string) ([]byte, error) {
	data, err := d.root.ReadFile(name, maxDatabaseFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Reload reads again what a maintainer script may have changed through
// dpkg's tools: diversions and statoverrides. An Unpacker calls it before
// each package it is given by Unpack.
func (d *Database) Reload() error {
	d.root.Forget()
	data, err := d.read(adminDir + "/diversions")
	if err != nil {
		return err
	}
	if d.diversions, err = parseDiversions(data); err != nil {
		return err
	}
	if data, err = d.read(adminDir + "/statoverride"); err != nil {
		return err
	}
	d.overrides, err = d.parseOverrides(data)
	return err
}

// available is what an archive's index says about a package in place of the
// package itself.
type available struct{ section, priority string }

// SetAvailable gives a package the section and priority of the archive's
// index in place of its own, as dpkg does for what its file available
// knows. Without it the package's own stand in the status, as after apt.
func (d *Database) SetAvailable(name, arch, section, priority string) {
	d.available[name+":"+arch] = available{section, priority}
}

// lookup finds a package by name and architecture.
func (d *Database) lookup(c *Control) *Package {
	return d.byName[c.Name()+":"+c.Arch()]
}

// add records a package as unpacked and writes its control members and its
// list. What it took over from others leaves their lists.
func (d *Database) add(p *Package, taken []takenPath) error {
	for _, t := range taken {
		d.take(p, t)
	}
	p.State = StateUnpacked
	p.stale = true
	d.packages = append(d.packages, p)
	d.byName[p.Control.Name()+":"+p.Control.Arch()] = p
	if err := d.interests.add(p.Control); err != nil {
		return err
	}
	for _, m := range p.Control.Members {
		if strings.Contains(m.Name, ".") || m.Name == "list" {
			continue // as dpkg does
		}
		if err := d.write(infoFile(p.Control, m.Name), m.Data, memberMode(m)); err != nil {
			return err
		}
	}
	return d.writeLists()
}

// A takenPath is what a package put on the disk, by its name in the list.
type takenPath struct {
	path string
	dir  bool // shared by many, so nobody owns it
}

// take makes p the owner of a path, beside the other instances of its name
// and whoever has a diversion between itself and p.
func (d *Database) take(p *Package, t takenPath) {
	diversion, diverted := d.diversions.byPath[t.path]
	name := p.Control.Name()
	var owners []*Package
	for _, other := range d.owners[t.path] {
		if other.Control.Name() == name || diverted && (diversion.Package == name || diversion.Package == other.Control.Name()) {
			owners = append(owners, other)
			continue
		}
		other.Files = slices.DeleteFunc(other.Files, func(s string) bool { return s == t.path })
		other.stale = true
		for i := range other.conffiles {
			if other.conffiles[i].path == t.path {
				other.conffiles[i].obsolete = true
			}
		}
	}
	if !t.dir {
		owners = append(owners, p)
	}
	if len(owners) == 0 {
		delete(d.owners, t.path)
		return
	}
	d.owners[t.path] = owners
}

// memberMode keeps the shipped mode; scripts are made executable when dpkg
// runs them, which changes those that were not.
func memberMode(m Member) uint32 {
	return uint32(m.Mode) & 0o777
}

func infoFile(c *Control, kind string) string {
	return path.Join(infoDir, c.Qualified()+"."+kind)
}

// writeLists writes the .list files of all packages whose files changed.
func (d *Database) writeLists() error {
	for _, p := range d.packages {
		if !p.stale {
			continue
		}
		var b bytes.Buffer
		for _, file := range p.Files {
			b.WriteString(file)
			b.WriteByte('\n')
		}
		if err := d.write(infoFile(p.Control, "list"), b.Bytes(), 0o644); err != nil {
			return err
		}
		p.stale = false
	}
	return nil
}

// Save writes all that dpkg reads when it starts: status, trigger
// interests, foreign architectures. Maintainer scripts may run before it
// was called, but none of dpkg's tools that ask for packages.
func (d *Database) Save() error {
	if err := d.writeLists(); err != nil {
		return err
	}
	if err := d.interests.write(d); err != nil {
		return err
	}
	if err := d.writeArch(); err != nil {
		return err
	}
	return d.write(adminDir+"/status", d.Status(), 0o644)
}

// writeArch lists the architectures, the tree's own first, where there are
// foreign ones; as dpkg --add-architecture does.
func (d *Database) writeArch() error {
	var foreign []string
	for _, p := range d.packages {
		if a := p.Control.Arch(); a != "all" && a != d.arch && !slices.Contains(foreign, a) {
			foreign = append(foreign, a)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	slices.Sort(foreign)
	return d.write(adminDir+"/arch", []byte(strings.Join(append([]string{d.arch}, foreign...), "\n")+"\n"), 0o644)
}
