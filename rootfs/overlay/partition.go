package overlay

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Partition is one that the machine writes to. The machine makes it at its
// first boot unless the image has it.
type Partition struct {
	Name       string // without blanks
	Filesystem string // ext4, xfs, btrfs or swap
	Label      string // of the partition and of its file system, without blanks
	Mount      string // absolute path; empty for swap
	Min, Max   int64  // bytes; Max 0 is as much as there is
	Weight     int
	Grow       bool // takes more than Min where the disk has room
	Keep       bool // what it holds must last
	Wipe       Wipe
	Other      bool // is a disk of its own instead of a part of the root's
	// Owner, Mode and Directories are seen to at every boot.
	Owner       string // USER:GROUP, names or numbers
	Mode        uint32
	Directories []Directory
}

// A Directory is a folder in a partition.
type Directory struct {
	Path  string // from the partition's root, beginning with a slash
	Owner string // USER:GROUP, names or numbers
	Mode  uint32
}

// Wipe says when a partition's file system is made anew.
type Wipe string

// The values of Wipe.
const (
	WipeNever  Wipe = "never"
	WipeBoot   Wipe = "boot"   // at every boot
	WipeUpdate Wipe = "update" // at the first boot of an image with another root
)

// Type returns the partition's type by systemd's name (repart.d(5), Type=).
func (p *Partition) Type() string {
	switch {
	case p.Filesystem == "swap":
		return "swap"
	case p.Mount == "/home":
		return "home"
	case p.Mount == "/srv":
		return "srv"
	}
	return "linux-generic"
}

// definition is the partition's file in repart.d (repart.d(5)). The file system
// is made by the state program: then there is one way to make it, whether the
// partition is new, wiped, or was left unfinished.
func (p *Partition) definition() string {
	var b strings.Builder
	weight := p.Weight
	if !p.Grow {
		weight = 0 // its share of the room would be taken from what the others grow by
	}
	fmt.Fprintf(&b, "[Partition]\nType=%s\nLabel=%s\nSizeMinBytes=%d\nWeight=%d\n", p.Type(), p.Label, p.Min, weight)
	switch {
	case !p.Grow:
		fmt.Fprintf(&b, "SizeMaxBytes=%d\n", p.Min)
	case p.Max > 0:
		fmt.Fprintf(&b, "SizeMaxBytes=%d\n", p.Max)
	}
	return b.String()
}

// line is the partition's line in the state program's table.
func (p *Partition) line() string {
	word := func(is bool, yes, no string) string {
		if is {
			return yes
		}
		return no
	}
	return fmt.Sprintf("partition %s %s %s %s %d %s %s %s %s\n", p.Name, p.Filesystem, p.Label, cmp.Or(p.Mount, "-"), p.Min,
		word(p.Keep, "keep", "forget"), p.Wipe, word(p.Other, "other", "system"), word(p.Grow, "grow", "fixed"))
}

// tmpfiles are the partition's lines for systemd-tmpfiles (tmpfiles.d(5)).
func (p *Partition) tmpfiles() string {
	if p.Mount == "" {
		return ""
	}
	line := func(path, owner string, mode uint32) string {
		user, group, _ := strings.Cut(owner, ":")
		return fmt.Sprintf("d %s %04o %s %s\n", escape(path), mode, cmp.Or(user, "root"), cmp.Or(group, user, "root"))
	}
	text := line(p.Mount, p.Owner, p.Mode)
	directories := slices.SortedFunc(slices.Values(p.Directories), func(a, b Directory) int { return cmp.Compare(a.Path, b.Path) })
	for _, d := range directories {
		text += line(strings.TrimSuffix(p.Mount, "/")+d.Path, d.Owner, d.Mode)
	}
	return text
}

// escape writes a path as tmpfiles.d(5) reads it: specifiers begin with %.
func escape(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t\"'\\") {
		path = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
	}
	return path
}

// Places says where what the machine writes outside of its partitions goes: the
// name of a partition, or "" for memory.
type Places struct {
	Etc, Var, Home, Log, Containers string
}

// memory stands for no partition in the state program's table.
const memory = "memory"

// A bind is a folder of the root that another one is mounted on.
type bind struct{ kind, holder, path string }

// binds lists all mounts over the root, a folder before what lies in it.
func (o Options) binds() []bind {
	var list []bind
	overlay := func(holder string, paths ...string) {
		for _, p := range paths {
			list = append(list, bind{"class", cmp.Or(holder, memory), p})
		}
	}
	overlay(o.Places.Etc, "etc")
	overlay(o.Places.Var, "var")
	overlay(o.Places.Home, "home", "opt", "root", "srv")
	if o.Places.Log != o.Places.Var {
		overlay(o.Places.Log, "var/log")
	}
	for _, e := range engines {
		if o.has(e.packages...) {
			list = append(list, bind{"own", cmp.Or(o.Places.Containers, memory), e.dir})
		}
	}
	for _, p := range o.Partitions {
		if p.Mount == "" {
			continue
		}
		at := strings.TrimPrefix(p.Mount, "/")
		list = slices.DeleteFunc(list, func(b bind) bool { return b.path == at })
		list = append(list, bind{"at", p.Name, at})
	}
	slices.SortFunc(list, func(a, b bind) int { return cmp.Compare(a.path, b.path) })
	return list
}

// unitName is the name of a unit for a path, without a suffix (systemd.unit(5),
// "String Escaping for Inclusion in Unit Names").
func unitName(path string) string {
	var b strings.Builder
	for i, c := range []byte(path) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, !strings.ContainsRune(unitCharacters, rune(c)):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

const unitCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."

// table is what the state program reads: partitions in the order of the disk,
// one overlay for each holder, mounts in their order.
func (o Options) table() string {
	var b strings.Builder
	for i := range o.Partitions {
		b.WriteString(o.Partitions[i].line())
	}
	if o.Places.Var != "" {
		fmt.Fprintf(&b, "settle %s\n", o.Places.Var)
	}
	binds := o.binds()
	var holders []string
	for _, m := range binds {
		if m.kind == "class" {
			holders = append(holders, m.holder)
		}
	}
	slices.Sort(holders)
	for _, holder := range slices.Compact(holders) {
		fmt.Fprintf(&b, "class %s\n", holder)
	}
	for _, m := range binds {
		fmt.Fprintf(&b, "bind %s %s %s\n", m.kind, m.holder, m.path)
	}
	return b.String()
}

// holder returns the partition of a name, or nil.
func (o Options) holder(name string) *Partition {
	for i := range o.Partitions {
		if o.Partitions[i].Name == name {
			return &o.Partitions[i]
		}
	}
	return nil
}

// mountUnit says of a mount that the initrd made what the kernel does not: that
// it stays to the very end. It is in use until no process is left, so the
// manager could only fail to unmount it; systemd-shutdown does.
func (o Options) mountUnit(m bind) string {
	what, kind := "overlay", "overlay"
	if m.kind == "own" {
		what, kind = "/"+m.path, "none"
	}
	for _, p := range o.Partitions {
		if m.kind == "at" && m.holder == p.Name {
			what, kind = "/dev/disk/by-partlabel/"+p.Label, p.Filesystem
			if p.Other {
				what = "/dev/disk/by-label/" + p.Label
			}
		}
	}
	return fmt.Sprintf("[Unit]\nDescription=/%s (mounted before the root starts)\nDefaultDependencies=no\n\n[Mount]\nWhat=%s\nWhere=/%s\nType=%s\n", m.path, what, m.path, kind)
}

// partitionFiles are the root's files about partitions and state.
func (o Options) partitionFiles() []File {
	list := []File{{Path: "usr/lib/applbuild/state.conf", Mode: 0o644, Content: []byte(o.table())}}
	tmpfiles := ""
	for i, p := range o.Partitions {
		tmpfiles += p.tmpfiles()
		if !p.Other {
			list = append(list, file(fmt.Sprintf("usr/lib/repart.d/%02d-%s.conf", 50+i, p.Name), p.definition()))
		}
		if p.Mount != "" {
			list = append(list, directory(strings.TrimPrefix(p.Mount, "/"), 0o755))
		}
	}
	for _, m := range o.binds() {
		list = append(list, file("usr/lib/systemd/system/"+unitName(m.path)+".mount", o.mountUnit(m)))
	}
	if tmpfiles != "" {
		list = append(list, file("usr/lib/tmpfiles.d/applbuild-partitions.conf", tmpfiles))
	}
	if p := o.holder(o.Places.Var); p != nil {
		const unit = "usr/lib/systemd/system/applbuild-settled.service"
		base, remount := p.Mount+"/.system", "# "+p.Filesystem+" is mounted as it stays."
		if p.Filesystem == "ext4" {
			remount = "mount -o remount,delalloc " + p.Mount
		}
		list = append(list,
			file(unit, settledUnit, "@BASE@", base),
			link("etc/systemd/system/multi-user.target.wants/applbuild-settled.service", "/"+unit),
			file("usr/lib/applbuild/settle", settleScript, "@BASE@", base, "@REMOUNT@", remount))
	}
	return list
}
