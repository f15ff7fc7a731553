package recipes

import (
	"fmt"
	"path"
	"slices"
)

// The values of [Partition.Filesystem], [Partition.Wipe] and [Partition.Disk].
const (
	XFS          = "xfs"
	Btrfs        = "btrfs"
	Swap         = "swap"
	NoFilesystem = "none"

	WipeNever  = "never"
	WipeBoot   = "boot"
	WipeUpdate = "update"

	DiskSystem = "system"
	DiskOther  = "other"
)

// The partitions that every appliance has unless its recipe drops them.
const (
	PartitionData     = "data"
	PartitionVolatile = "volatile"
)

// A Partition is one that the machine writes to. It is made at the machine's first boot, or with the image where it
// has contents.
type Partition struct {
	Name        string        `json:"name" doc:"Name of the partition. data and volatile are there by default; what is given for them is laid over the defaults." required:"true" pattern:"^[a-z][a-z0-9_-]{0,31}$" want:"use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter" example:"data"`
	Filesystem  string        `json:"filesystem" doc:"File system of the partition; none drops the partition, for data and volatile." enum:"ext4,xfs,btrfs,swap,none" default:"ext4, or swap for the partition swap"`
	Label       string        `json:"label" doc:"Label of the partition and of its file system, by which it is found." pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,35}$" want:"use up to 36 letters, digits, dots, hyphens and underscores" default:"the partition's name" example:"data"`
	Mount       string        `json:"mount" doc:"Absolute path that the partition is mounted on. /home and /srv give the partition these types." default:"/NAME; none for swap" example:"/data"`
	Size        PartitionSize `json:"size" doc:"How large the partition is. A size in place of the mapping is fixed."`
	Grow        *bool         `json:"grow,omitempty" doc:"Take more than the minimum where the disk has room, at the first boot and whenever the disk has grown. What lies before another partition cannot grow later: the last one can." default:"true, false for a fixed size, for swap and on another disk with partitions"`
	Keep        *bool         `json:"keep,omitempty" doc:"Whether the contents are to last. What is not kept is made anew when it is damaged, and emptied by applbuild.reset=volatile on the kernel's command line." default:"true, but false for volatile and swap"`
	Wipe        string        `json:"wipe" doc:"When the file system is made anew: never, at every boot, or at the first boot of another version of the image." enum:"never,boot,update" default:"never"`
	Owner       Owner         `json:"owner" doc:"Owner of the file system's root folder, as USER:GROUP by name or number." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER:GROUP, such as root:root or 1000:1000" default:"root:root" example:"www-data:www-data" number:"true"`
	Mode        *Mode         `json:"mode,omitempty" doc:"Permissions of the file system's root folder in octal digits." pattern:"^(0o)?[0-7]{3,5}$" want:"write octal digits such as 0755" default:"0755" example:"0750" number:"true"`
	Directories []Directory   `json:"directories,omitempty" doc:"Folders to make in the partition at every boot where they are missing." merge:"path"`
	Contents    []Content     `json:"contents,omitempty" doc:"Files and folders that the partition has from the beginning. It is then made with the image. A path in place of the list is a folder whose contents become the partition's." merge:"path" scalar:"true"`
	Disk        string        `json:"disk" doc:"Which disk the partition is on: the system's, or another one as a whole, which is found by its label, else by being the only empty one." enum:"system,other" default:"system"`

	At string `json:"-"` // where the recipe has it, for [Recipe.Position]: Load brings partitions into another order
}

// PartitionSize says how large a partition is. After [Load], Min and Max hold it; Fixed is as it was written.
type PartitionSize struct {
	Fixed  Size `json:"fixed,omitempty" doc:"The size, neither less nor more." short:"true" pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" example:"2G" number:"true"`
	Min    Size `json:"min,omitempty" doc:"The least size: the disk is made large enough for it." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"256M, or the least that the file system needs" example:"512M" number:"true"`
	Max    Size `json:"max,omitempty" doc:"The largest size." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"no limit; 32G for volatile" example:"20G" number:"true"`
	Weight int  `json:"weight" doc:"Share of the disk's free room in proportion to the other partitions' weights." minimum:"0" maximum:"1000000" default:"1000; 500 for volatile"`
}

// A Directory is a folder to make in a partition.
type Directory struct {
	Path  string `json:"path" doc:"Path of the folder in the partition, beginning with /. Missing folders on the way are made." required:"true" short:"true" example:"/www"`
	Owner Owner  `json:"owner" doc:"Owner as USER:GROUP, by name or number." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER:GROUP, such as root:root or 1000:1000" default:"root:root" example:"www-data:www-data" number:"true"`
	Mode  *Mode  `json:"mode,omitempty" doc:"Permissions in octal digits." pattern:"^(0o)?[0-7]{3,5}$" want:"write octal digits such as 0755" default:"0755" example:"0750" number:"true"`
}

// Content is a file or folder that a partition has from the beginning. Exactly one of Source and Content is given.
type Content struct {
	Path    string  `json:"path" doc:"Path in the partition, beginning with /." default:"/" example:"/www/index.html"`
	Source  string  `json:"source,omitempty" doc:"File or folder to copy, relative to this recipe. A folder's contents go into the folder at path." short:"true" example:"contents"`
	Content *string `json:"content,omitempty" doc:"The file's contents." example:"Welcome.\n"`
	Mode    *Mode   `json:"mode,omitempty" doc:"Permissions in octal digits. Files in a folder given as source have 0644, or 0755 where their owner may execute them." pattern:"^(0o)?[0-7]{3,5}$" want:"write octal digits such as 0644" default:"0644, 0755 for folders and for a source that its owner may execute" example:"0644" number:"true"`
	Owner   Owner   `json:"owner" doc:"Owner as USER:GROUP, by name or number." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER:GROUP, such as root:root or 1000:1000" default:"root:root" example:"www-data:www-data" number:"true"`

	SourceFile string `json:"-"` // Source as a path to open
}

// The values of [State]'s fields.
const (
	StatePersistent = "persistent"
	StateVolatile   = "volatile"
	StateNone       = "none"
)

// State says where what the machine writes is kept: on the partition data, on volatile, or in memory.
type State struct {
	All        string `json:"all,omitempty" doc:"What holds for all places that nothing else is said of." short:"true" enum:"persistent,volatile,none"`
	Etc        string `json:"etc" doc:"Where changes to /etc go: to the partition data (persistent), to volatile, or to memory (none)." enum:"persistent,volatile,none" default:"persistent; none without the partition data"`
	Var        string `json:"var" doc:"Where changes to /var go." enum:"persistent,volatile,none" default:"persistent; none without the partition data"`
	Home       string `json:"home" doc:"Where changes to /home, /root, /opt and /srv go." enum:"persistent,volatile,none" default:"persistent; none without the partition data"`
	Log        string `json:"log" doc:"Where changes to /var/log go." enum:"persistent,volatile,none" default:"volatile; as var without the partition volatile"`
	Containers string `json:"containers" doc:"Where containers and their images are, such as /var/lib/containers." enum:"persistent,volatile,none" default:"volatile; as var without the partition volatile"`
}

// Disk describes the disk image as a whole.
type Disk struct {
	Size Size `json:"size" doc:"Size of the disk that is written, such as 8G, where it is to be larger than its partitions need. It takes no room for what is empty." short:"true" pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 8G" default:"what the partitions need at least" example:"8G" number:"true"`
}

// Partition returns the partition of a name, or nil.
func (r *Recipe) Partition(name string) *Partition {
	for i := range r.Partitions {
		if r.Partitions[i].Name == name {
			return &r.Partitions[i]
		}
	}
	return nil
}

// Mounted says that the partition has a place in the tree.
func (p *Partition) Mounted() bool { return p.Filesystem != Swap }

// least is the smallest size in bytes that a file system can be made in and is of use.
var least = map[string]Size{Ext4: 32 << 20, XFS: 300 << 20, Btrfs: 256 << 20, Swap: 1 << 20}

// mostLabel is the length of a file system's label in bytes.
var mostLabel = map[string]int{Ext4: 16, XFS: 12, Btrfs: 36, Swap: 15}

const defaultMin = 256 << 20

// fillPartitions puts the default partitions in, fills in what is left out, drops what is to be dropped and brings
// the rest into the order of the disk.
func (r *Recipe) fillPartitions() {
	list := r.Partitions
	for i := range list {
		list[i].At = fmt.Sprintf("partitions[%d]", i)
	}
	if r.Boot.Loader != LoaderNone {
		for _, name := range []string{PartitionVolatile, PartitionData} {
			if r.Partition(name) == nil {
				list = append(list, Partition{Name: name, At: "partitions"})
			}
		}
	}
	for i := range list {
		list[i].fill()
	}
	list = slices.DeleteFunc(list, func(p Partition) bool {
		return p.Filesystem == NoFilesystem && (p.Name == PartitionData || p.Name == PartitionVolatile)
	})
	slices.SortStableFunc(list, func(a, b Partition) int { return a.rank() - b.rank() })
	r.Partitions = list
}

// rank orders partitions on the disk: those that the image has come first, because they can be nowhere else, and what
// grows comes last, data at the very end: only what is last can grow with the disk.
func (p *Partition) rank() int {
	switch {
	case len(p.Contents) > 0 && !*p.Grow:
		return 0
	case len(p.Contents) > 0:
		return 1
	case !*p.Grow:
		return 2
	case p.Name != PartitionData:
		return 3
	}
	return 4
}

func (p *Partition) fill() {
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	if p.Name == Swap {
		def(&p.Filesystem, Swap)
	}
	def(&p.Filesystem, Ext4)
	def(&p.Label, p.Name)
	def(&p.Wipe, WipeNever)
	def(&p.Disk, DiskSystem)
	if p.Filesystem != Swap {
		def(&p.Mount, "/"+p.Name)
	}
	if p.Keep == nil {
		keep := p.Name != PartitionVolatile && p.Filesystem != Swap
		p.Keep = &keep
	}
	if p.Grow == nil {
		grow := p.Size.Fixed == 0 && p.Filesystem != Swap
		p.Grow = &grow
	}
	p.Size.fill(p)
	if p.Owner.User == "" {
		p.Owner = Owner{"root", "root"}
	}
	folder := Mode(0o755)
	if p.Mode == nil {
		p.Mode = &folder
	}
	for i := range p.Directories {
		d := &p.Directories[i]
		if d.Owner.User == "" {
			d.Owner = Owner{"root", "root"}
		}
		if d.Mode == nil {
			d.Mode = &folder
		}
	}
	for i := range p.Contents {
		c := &p.Contents[i]
		def(&c.Path, "/")
		c.Path = path.Clean("/" + c.Path)
		if c.Owner.User == "" {
			c.Owner = Owner{"root", "root"}
		}
	}
}

func (s *PartitionSize) fill(p *Partition) {
	switch {
	case s.Fixed != 0:
		s.Min = s.Fixed
		if !*p.Grow {
			s.Max = s.Fixed
		}
	case s.Min == 0:
		s.Min = max(defaultMin, least[p.Filesystem])
		if s.Max != 0 {
			s.Min = min(s.Min, s.Max)
		}
	}
	if !*p.Grow && s.Max == 0 {
		s.Max = s.Min
	}
	if p.Name == PartitionVolatile && s.Max == 0 && *p.Grow {
		s.Max = max(32<<30, s.Min)
	}
	if s.Weight == 0 {
		s.Weight = 1000
		if p.Name == PartitionVolatile {
			s.Weight = 500
		}
	}
}

// fill gives each place its own value.
func (s *State) fill(r *Recipe) {
	held := StateNone
	if r.Partition(PartitionData) != nil {
		held = StatePersistent
	}
	def := func(place *string, values ...string) {
		for _, value := range append([]string{s.All}, values...) {
			if *place == "" {
				*place = value
			}
		}
	}
	def(&s.Etc, held)
	def(&s.Var, held)
	def(&s.Home, held)
	forgettable := s.Var
	if r.Partition(PartitionVolatile) != nil {
		forgettable = StateVolatile
	}
	def(&s.Log, forgettable)
	def(&s.Containers, forgettable)
	s.All = ""
}
