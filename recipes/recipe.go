package recipes

// A Recipe describes one appliance. All defaults are filled in by [Load].
type Recipe struct {
	Include      []string    `json:"include,omitempty" doc:"Recipes that this one builds on, relative to this file. They are read in order and this file is laid over them: mappings are merged, scalars replaced, lists of packages, users, files and units combined." merge:"replace" scalar:"true" example:"include/minimal.yml"`
	Name         string      `json:"name" doc:"Name of the appliance. The files that are built begin with it, and it is the host name unless hostname is given." required:"true" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" want:"use up to 63 lower-case letters, digits and hyphens, beginning and ending in a letter or digit" example:"kiosk" number:"true"`
	Version      string      `json:"version" doc:"Version of the appliance. It is part of the file names and of the labels of the partitions." pattern:"^[0-9A-Za-z][0-9A-Za-z.+~-]{0,23}$" want:"use up to 24 letters, digits, dots, plus signs, tildes and hyphens, beginning with a letter or digit" default:"0" example:"1.4.2" number:"true"`
	Distribution string      `json:"distribution" doc:"The distribution whose packages the appliance is made of." required:"true" enum:"debian,ubuntu"`
	Release      string      `json:"release" doc:"Code name of the distribution's release, such as trixie or noble." required:"true" pattern:"^[a-z][a-z0-9.-]{0,31}$" want:"use the code name in lower case, such as trixie or noble" example:"trixie"`
	Architecture string      `json:"architecture" doc:"Debian's name of the architecture to build for." enum:"amd64,arm64" default:"the architecture of the machine that builds"`
	Mirrors      []Mirror    `json:"mirrors,omitempty" doc:"Where the distribution's archive is fetched from, the first one first. Left out, it is what the machine's own apt uses for this distribution, else the public archive." merge:"replace" scalar:"true"`
	Snapshot     Timestamp   `json:"snapshot" doc:"Use the archive as it was at this time, out of the distribution's snapshot service. All pockets are pinned to it." pattern:"^[0-9]{4}-?[0-9]{2}-?[0-9]{2}([T ][0-9]{2}:?[0-9]{2}:?[0-9]{2}Z?)?$" want:"write a day (2026-03-01) or a time in UTC (20260301T120000Z)" example:"2026-03-01" number:"true"`
	Seed         string      `json:"seed" doc:"What all identifiers of the disk (partition UUIDs, salts, serial numbers) are derived from. Change it to build the same contents under other identifiers." pattern:"^[!-~]([ -~]{0,254}[!-~])?$" want:"use up to 256 printable ASCII characters, without a space at either end" default:"name and version" number:"true"`
	Packages     []string    `json:"packages,omitempty" doc:"Packages to install; their dependencies come with them. NAME=VERSION asks for one version, NAME/SUITE for that of a suite or pocket, NAME:ARCH for another architecture, and NAME- leaves a package out." merge:"package" pattern:"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[0-9A-Za-z.+:~-]+|/[0-9A-Za-z][0-9A-Za-z._-]*)?$" want:"write NAME, NAME:ARCH, NAME=VERSION, NAME/SUITE or NAME-" example:"openssh-server"`
	Recommends   bool        `json:"recommends" doc:"Install recommended packages too, as apt does on a desktop." default:"false"`
	Kernel       Kernel      `json:"kernel" doc:"The kernel. A name in place of the mapping is the package; none is no kernel." default:"the distribution's kernel for virtual machines; none where boot is none"`
	Root         Root        `json:"root" doc:"The read-only root file system."`
	Boot         Boot        `json:"boot" doc:"How the machine gets from its firmware to the kernel. A word in place of the mapping is the loader: boot: none makes a disk that does not boot."`
	Hostname     string      `json:"hostname" doc:"Host name of the machine, unless it is given another one at run time." pattern:"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$" want:"use labels of up to 63 letters, digits and hyphens, joined by dots (RFC 1123)" default:"the name of the appliance" example:"kiosk"`
	Locale       string      `json:"locale" doc:"The system's locale, written to /etc/locale.conf and /etc/default/locale." pattern:"^(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)([.][A-Za-z0-9-]+)?(@[a-z]+)?$" want:"write a locale such as C.UTF-8 or de_DE.UTF-8" default:"C.UTF-8" example:"de_DE.UTF-8"`
	Timezone     string      `json:"timezone" doc:"The system's time zone, by its name in the time zone database." pattern:"^[A-Z][A-Za-z0-9+_-]*(/[A-Z0-9][A-Za-z0-9+_-]*){0,2}$" want:"write a name of the time zone database, such as Etc/UTC or Europe/Berlin" default:"Etc/UTC" example:"Europe/Berlin"`
	Users        []User      `json:"users,omitempty" doc:"Users to make, and root if it is named. Items of one name are merged when files are." merge:"name"`
	Files        []File      `json:"files,omitempty" doc:"Files, folders and links to put into the root file system, over what packages installed. Of two items of one path the later file's is taken." merge:"path"`
	Units        Units       `json:"units" doc:"systemd units to enable, disable or mask, as systemctl does."`
	Remove       Remove      `json:"remove" doc:"What to take out of the root file system after packages were installed."`
	Partitions   []Partition `json:"partitions,omitempty" doc:"Partitions that the machine writes to. data (mounted on /data, kept) and volatile (on /volatile, expendable) are there unless dropped by filesystem: none." merge:"name"`
	Containers   *Containers `json:"containers,omitempty" doc:"Container images that are on the disk, and the containers that start with the machine."`
	State        State       `json:"state" doc:"Where what the machine writes outside of its partitions is kept. A word in place of the mapping holds for all places."`
	Disk         Disk        `json:"disk" doc:"The disk as a whole. A size in place of the mapping is the disk's."`
	Tests        []Test      `json:"tests,omitempty" doc:"What applbuild test asks of the machine and does to it, in this order. The tests of included recipes come first." merge:"append"`
	Output       Output      `json:"output" doc:"What is written, and where."`

	file      string
	positions map[string]Position
}

// A Mirror is an archive to fetch from.
type Mirror struct {
	URI     string `json:"uri" doc:"Base URI of the archive, the folder that holds dists and pool." required:"true" short:"true" pattern:"^(https?|file)://[^\\s]+$" want:"write a URI that begins with http://, https:// or file://" example:"http://archive.example.com/debian"`
	Keyring string `json:"keyring,omitempty" doc:"File with the OpenPGP keys that may sign this archive, relative to this recipe, in place of the distribution's." example:"keys/mirror.asc"`

	KeyringFile string `json:"-"` // Keyring as a path to open
}

// NoKernel is the package name that stands for no kernel at all.
const NoKernel = "none"

// Kernel says which kernel the appliance has.
type Kernel struct {
	Package string   `json:"package" doc:"Name of the kernel's package, or none." short:"true" pattern:"^[a-z0-9][a-z0-9+.-]+$" want:"write a package name, or none" default:"the distribution's kernel for virtual machines" example:"linux-image-cloud-amd64"`
	Version string   `json:"version,omitempty" doc:"Version of that package, where it is not to be the newest." pattern:"^[0-9][0-9A-Za-z.+:~-]*$" want:"write the version as apt shows it" example:"6.12.48-1"`
	Modules []string `json:"modules,omitempty" doc:"Kernel modules to have in the initrd beside those that every disk needs." merge:"append" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]*$" want:"write the module's name without folder and .ko" example:"mpt3sas"`
}

// None reports whether the appliance has no kernel.
func (k Kernel) None() bool { return k.Package == NoKernel }

// The values of [Root.Filesystem], [Root.Corruption] and [Boot.Loader].
const (
	Squashfs = "squashfs"
	EROFS    = "erofs"
	Ext4     = "ext4"

	CorruptionError   = "error"
	CorruptionRestart = "restart"
	CorruptionPanic   = "panic"

	LoaderUKI         = "uki"
	LoaderSystemdBoot = "systemd-boot"
	LoaderNone        = "none"
)

// Root describes the root file system and its protection.
type Root struct {
	Filesystem  string      `json:"filesystem" doc:"Type of the root file system." enum:"squashfs,erofs,ext4" default:"squashfs"`
	Compression Compression `json:"compression" doc:"How the root file system is compressed. A word in place of the mapping is the algorithm."`
	Size        Size        `json:"size" doc:"Size of the root partition, such as 2G, to leave room in it for later versions." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"the size of its contents" example:"2G" number:"true"`
	Verity      bool        `json:"verity" doc:"Protect the root file system with dm-verity, so that nothing in it can be changed unnoticed." default:"true"`
	Corruption  string      `json:"corruption" doc:"What the machine does on reading a block that was changed: give the reader an input/output error, restart, or panic." enum:"error,restart,panic" default:"error"`
}

// Compression of a file system.
type Compression struct {
	Algorithm string `json:"algorithm" doc:"The algorithm: zstd, lz4, lz4hc, xz, gzip or none for squashfs; zstd, lz4, lz4hc or none for erofs. ext4 has none." short:"true" enum:"zstd,lz4,lz4hc,xz,gzip,none" default:"zstd for squashfs, lz4hc for erofs, none for ext4"`
	Level     int    `json:"level" doc:"How hard to try: 1 to 22 for zstd, 1 to 9 for gzip, 1 to 12 for lz4hc in erofs. The others have no levels. 0 is the default." minimum:"0" maximum:"22" default:"3 for zstd in squashfs, else that of the program that makes the file system"`
}

// Boot describes the way from firmware to kernel.
type Boot struct {
	Loader  string   `json:"loader" doc:"What the firmware starts: the unified kernel image itself (uki), systemd-boot, which offers the images it finds, or none for a disk that does not boot. It is none where the only output is a container image." short:"true" enum:"uki,systemd-boot,none" default:"uki"`
	Cmdline []string `json:"cmdline,omitempty" doc:"Words of the kernel's command line, as one text or a list. The root hash and what goes with it are added." merge:"append" scalar:"true" pattern:"^[ -~]+$" want:"use printable ASCII characters" example:"console=ttyS0"`
	ESPSize Size     `json:"esp_size" doc:"Size of the EFI system partition, such as 512M, to leave room in it for later versions." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"the size of its contents" example:"2G" number:"true"`
}

// Units lists systemd units by what is done with them.
type Units struct {
	Enable  []string `json:"enable,omitempty" doc:"Units to enable: they start with the machine, as their [Install] section says." merge:"append" pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](service|socket|target|timer|path|mount|automount|swap|slice)$" want:"write the unit's full name, such as ssh.service" example:"systemd-networkd.service"`
	Disable []string `json:"disable,omitempty" doc:"Units to disable: they start only when something asks for them." merge:"append" pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](service|socket|target|timer|path|mount|automount|swap|slice)$" want:"write the unit's full name, such as ssh.service" example:"apt-daily.timer"`
	Mask    []string `json:"mask,omitempty" doc:"Units to mask: nothing can start them." merge:"append" pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](service|socket|target|timer|path|mount|automount|swap|slice)$" want:"write the unit's full name, such as ssh.service" example:"systemd-firstboot.service"`
}

// Remove says what is taken out of the root file system.
type Remove struct {
	Paths         []string `json:"paths,omitempty" doc:"Absolute paths to remove, folders with all in them. In each part of a path * stands for any text, ? for any character and [a-z] for one of these." merge:"append" example:"/usr/share/locale/*"`
	Documentation bool     `json:"documentation" doc:"Remove manual pages, info files and documentation, but keep the packages' copyright files." default:"false"`
}
