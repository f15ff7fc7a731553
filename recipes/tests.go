package recipes

// A Test is one item of the list of tests: a check, which asks the running machine, or a step, which does something to
// it. Exactly one of the fields from Run on is given, beside Expect, which goes with Run.
type Test struct {
	Name    string   `json:"name,omitempty" doc:"What the result is called." default:"a description of the check or step" example:"web server answers"`
	Timeout Duration `json:"timeout,omitempty" doc:"How long the check or step may take, for a machine with KVM; five times as long where the machine is emulated." pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 90s" default:"30s; 60s for what boots or ends the machine" example:"90s" number:"true"`

	Run      string       `json:"run,omitempty" doc:"Check: a shell command for the machine, as root." example:"curl -fsS http://localhost/"`
	Expect   *Expect      `json:"expect,omitempty" doc:"What is expected of run. Left out, it is that the command succeeds."`
	Unit     *UnitTest    `json:"unit,omitempty" doc:"Check: the state of a systemd unit. A name in place of the mapping is a unit that is to be active."`
	Port     *PortTest    `json:"port,omitempty" doc:"Check: something listens on a port of the machine. A number in place of the mapping is a TCP port."`
	File     *FileTest    `json:"file,omitempty" doc:"Check: a file of the machine, its contents, owner and permissions. A path in place of the mapping is a file that is to be there."`
	Journal  *JournalTest `json:"journal,omitempty" doc:"Check: what this boot's journal has and has not. A text in place of the mapping is to be in it."`
	Mounted  *MountTest   `json:"mounted,omitempty" doc:"Check: what is mounted on a path. A path in place of the mapping is to be a mount point."`
	BootTime *TimeTest    `json:"boot_time,omitempty" doc:"Check: how long this boot took, from the kernel's start until a target was reached. A time in place of the mapping is the bound for multi-user.target."`
	SSH      *SSHTest     `json:"ssh,omitempty" doc:"Check: log in to the machine from the host, through a forwarded port, and run a command."`

	Machine  *TestMachine  `json:"machine,omitempty" doc:"Step: what the machine is made of, from its next start on."`
	Boot     *BootStep     `json:"boot,omitempty" doc:"Step: start the machine, which is off, and wait for the end of the boot. A check of a machine that is off does so too."`
	Reboot   *BootStep     `json:"reboot,omitempty" doc:"Step: reboot the machine and wait for the end of the boot."`
	PowerCut *PowerCutStep `json:"power_cut,omitempty" doc:"Step: switch the machine off as a power cut does. One that is off is started first."`
	Poweroff *PoweroffStep `json:"poweroff,omitempty" doc:"Step: shut the machine down in good order. Write poweroff: {}."`
	AddDisk  *AddDiskStep  `json:"add_disk,omitempty" doc:"Step: add a disk, while the machine runs or while it is off. A size in place of the mapping is an empty disk."`
	GrowDisk *GrowDiskStep `json:"grow_disk,omitempty" doc:"Step: make a disk larger, while the machine runs or while it is off; one of a machine with bus: nvme while it is off. A size in place of the mapping is for the disk it boots from."`
	Corrupt  *CorruptStep  `json:"corrupt,omitempty" doc:"Step: flip all bits of a part of a disk while the machine is off. The checks that follow say what is to come of it."`
	Cidata   *CidataStep   `json:"cidata,omitempty" doc:"Step: the seed that the machine finds from its next start on. A file in place of the mapping is the seed."`
	Network  string        `json:"network,omitempty" doc:"Step: what the network card is joined to: nothing (none), an isolated network with DHCP and the ports that the host forwards (isolated), or the host's network too (user). A machine that runs keeps its card; with none the cable is pulled." enum:"none,isolated,user"`
	Cmdline  string        `json:"cmdline,omitempty" doc:"Step: words to add to the kernel's command line from the next start on. It needs systemd-stub 254 or later, and no Secure Boot." pattern:"^[ -~]+$" want:"use printable ASCII characters" example:"systemd.log_level=debug"`
	Wait     Duration      `json:"wait,omitempty" doc:"Step: let time pass, the same with and without KVM." pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 90s" example:"5s" number:"true"`
}

// Expect says what is expected of a command.
type Expect struct {
	Exit   int        `json:"exit" doc:"Status that the command exits with." minimum:"0" maximum:"255" default:"0"`
	Stdout *TextMatch `json:"stdout,omitempty" doc:"What the command writes to its standard output. A text in place of the mapping is to be in it."`
	Stderr *TextMatch `json:"stderr,omitempty" doc:"What the command writes to its standard error. A text in place of the mapping is to be in it."`
}

// TextMatch says what a text is to be.
type TextMatch struct {
	Contains []string `json:"contains,omitempty" doc:"What is to be in the text: each as it is, or between slashes as a regular expression (RE2 syntax) such as /^up [0-9]+/, with (?m) before it where ^ and $ mean lines." short:"true" merge:"append" scalar:"true" example:"Welcome"`
	Not      []string `json:"not,omitempty" doc:"What is not to be in the text, written as for contains." merge:"append" scalar:"true" example:"/(?i)error/"`
	Equals   string   `json:"equals,omitempty" doc:"The whole text, without blanks and newlines at its end." example:"running"`
	Empty    bool     `json:"empty,omitempty" doc:"The text is to be empty." default:"false"`
}

// UnitTest asks for the state of a systemd unit.
type UnitTest struct {
	Name  string `json:"name" doc:"Full name of the unit." required:"true" short:"true" pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](service|socket|target|timer|path|mount|automount|swap|slice|device|scope)$" want:"write the unit's full name, such as ssh.service" example:"ssh.service"`
	State string `json:"state" doc:"The state it is to be in, as systemctl is-active prints it." enum:"active,inactive,failed,activating,deactivating" default:"active"`
}

// PortTest asks whether something listens.
type PortTest struct {
	Port     int    `json:"port" doc:"Number of the port, from 1 to 65535." required:"true" short:"true" minimum:"1" maximum:"65535" example:"22"`
	Protocol string `json:"protocol" doc:"Protocol of the port." enum:"tcp,udp" default:"tcp"`
	Closed   bool   `json:"closed,omitempty" doc:"Nothing is to listen there." default:"false"`
}

// FileTest asks for a file.
type FileTest struct {
	Path     string     `json:"path" doc:"Absolute path of the file." required:"true" short:"true" example:"/etc/hostname"`
	Kind     string     `json:"kind,omitempty" doc:"What it is to be. Links are not followed." enum:"file,directory,link" default:"any kind"`
	Contents *TextMatch `json:"contents,omitempty" doc:"What is to be in the file. A text in place of the mapping is to be in it."`
	Owner    Owner      `json:"owner,omitzero" doc:"Owner as USER:GROUP, by name or number; USER alone is that user with the group of the same name." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER:GROUP, such as root:root or 1000:1000" default:"any owner" example:"www-data:www-data" number:"true"`
	Mode     *Mode      `json:"mode,omitempty" doc:"Permissions in octal digits." pattern:"^(0o)?[0-7]{3,5}$" want:"write octal digits such as 0644" default:"any permissions" example:"0644" number:"true"`
	Absent   bool       `json:"absent,omitempty" doc:"The file is not to be there." default:"false"`
}

// JournalTest looks into the journal of the boot.
type JournalTest struct {
	Unit   string   `json:"unit,omitempty" doc:"Look at the messages of this unit only." pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](service|socket|target|timer|path|mount|automount|swap|slice|device|scope)$" want:"write the unit's full name, such as ssh.service" example:"ssh.service"`
	Has    []string `json:"has,omitempty" doc:"What is to be in a message: each as it is, or between slashes as a regular expression." short:"true" merge:"append" scalar:"true" example:"Server listening on"`
	HasNot []string `json:"has_not,omitempty" doc:"What is to be in no message, written as for has." merge:"append" scalar:"true" example:"/(?i)schema.*invalid/"`
}

// MountTest asks for what is mounted.
type MountTest struct {
	Path       string   `json:"path" doc:"Absolute path of the mount point." required:"true" short:"true" example:"/data"`
	Filesystem string   `json:"filesystem,omitempty" doc:"Type of the file system." pattern:"^[a-z0-9._]+$" want:"write the type as findmnt shows it, such as ext4" default:"any type" example:"ext4"`
	Options    []string `json:"options,omitempty" doc:"Options of the mount or of the file system, all of which are to be among those that findmnt shows." merge:"append" scalar:"true" pattern:"^[!-~]+$" want:"write one option in each item" example:"ro"`
	AtLeast    Size     `json:"at_least,omitempty" doc:"Least size of the file system, of which its own tables are not a part." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" example:"2G" number:"true"`
	Absent     bool     `json:"absent,omitempty" doc:"Nothing is to be mounted there." default:"false"`
}

// TimeTest bounds the time of a boot.
type TimeTest struct {
	Below  Duration `json:"below" doc:"The bound, for a machine with KVM; five times as long where the machine is emulated." required:"true" short:"true" pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 90s" example:"10s" number:"true"`
	Target string   `json:"target" doc:"The unit that is reached in this time." pattern:"^[A-Za-z0-9:_.@\\\\-]+[.](target|service)$" want:"write the unit's full name, such as multi-user.target" default:"multi-user.target" example:"multi-user.target"`
}

// SSHTest logs in from the host.
type SSHTest struct {
	User   string  `json:"user" doc:"The user to log in as." required:"true" pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"write a user's name" example:"admin"`
	Run    string  `json:"run" doc:"The command to run." default:"true" example:"id -un"`
	Expect *Expect `json:"expect,omitempty" doc:"What is expected of the command. Left out, it is that it succeeds."`
	Key    string  `json:"key,omitempty" doc:"File with the private key, relative to this file." default:"a key of this run, which cidata's test_key_for gives to a user" example:"keys/test"`
	Port   int     `json:"port" doc:"Port of the machine that sshd listens on." minimum:"0" maximum:"65535" default:"22"`

	KeyFile string `json:"-"` // Key as a path to open
}

// TestMachine says what a machine is made of. What is left out stays as it was.
type TestMachine struct {
	Memory      Size     `json:"memory,omitempty" doc:"Memory of the machine." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"1G" example:"2G" number:"true"`
	CPUs        int      `json:"cpus,omitempty" doc:"Processors of the machine." minimum:"1" maximum:"64" default:"2"`
	Bus         string   `json:"bus,omitempty" doc:"What the disks are attached to: virtio, or nvme as on EC2." enum:"virtio,nvme" default:"virtio"`
	TPM         *bool    `json:"tpm,omitempty" doc:"Give the machine a TPM 2.0." default:"false"`
	Disk        Size     `json:"disk,omitempty" doc:"Size of the disk it boots from, where that is to be larger than the image." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"the size of the image" example:"4G" number:"true"`
	AllowFailed []string `json:"allow_failed,omitempty" doc:"Units that may have failed at the end of a boot; * stands for any text. All others are reported." merge:"append" scalar:"true" pattern:"^[A-Za-z0-9:_.@*?\\\\-]+$" want:"write a unit's full name, such as ssh.service, with * for any text" example:"cloud-final.service"`
}

// BootStep says what is expected of a boot.
type BootStep struct {
	Fails   bool       `json:"fails,omitempty" doc:"The machine is not to come up. It is off afterwards." default:"false"`
	Console *TextMatch `json:"console,omitempty" doc:"What the boot is to write to the console, escape sequences left out. A text in place of the mapping is to be in it."`
}

// PowerCutStep says when the power is cut.
type PowerCutStep struct {
	After Duration `json:"after,omitempty" doc:"How long after this step began, or after the start of a machine that was off. It is scaled as timeout is." short:"true" pattern:"^[0-9]+([.][0-9]+)?(ms|s|m|h)?$" want:"write seconds, or a number with ms, s, m or h such as 90s" default:"at once; for a machine that is off, when it is up" example:"3s" number:"true"`
}

// PoweroffStep has nothing to say.
type PoweroffStep struct{}

// SystemDisk is the name of the disk that a machine under test boots from.
const SystemDisk = "system"

// BusNVMe is the bus of disks that are NVMe's.
const BusNVMe = "nvme"

// AddDiskStep adds a disk. Exactly one of Size and Source is given.
type AddDiskStep struct {
	Size   Size   `json:"size,omitempty" doc:"Size of an empty disk." short:"true" pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" example:"1G" number:"true"`
	Source string `json:"source,omitempty" doc:"Raw disk to add, relative to this file. What the machine writes to it is kept until the end of the test, and the file is left as it is." example:"disks/foreign.raw"`
	Name   string `json:"name" doc:"Name of the disk, for later steps; the machine sees it as the disk's serial number." pattern:"^[a-z][a-z0-9-]{0,15}$" want:"use up to 16 lower-case letters, digits and hyphens, beginning with a letter" default:"disk1, disk2 and so on" example:"other"`

	SourceFile string `json:"-"` // Source as a path to open
}

// GrowDiskStep makes a disk larger.
type GrowDiskStep struct {
	Size Size   `json:"size" doc:"Size that the disk has afterwards." required:"true" short:"true" pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" example:"4G" number:"true"`
	Disk string `json:"disk" doc:"The disk: system, or the name of one that was added." pattern:"^[a-z][a-z0-9-]{0,15}$" want:"write system, or the name of a disk that was added" default:"system" example:"other"`
}

// CorruptStep damages a disk. At most one of Block and Offset is given.
type CorruptStep struct {
	Disk      string `json:"disk" doc:"The disk: system, or the name of one that was added." pattern:"^[a-z][a-z0-9-]{0,15}$" want:"write system, or the name of a disk that was added" default:"system" example:"other"`
	Partition string `json:"partition,omitempty" doc:"The partition, by its label or type: esp, root, root-verity, data. Without it the whole disk is meant." pattern:"^[A-Za-z0-9._-]{1,36}$" want:"write the partition's label or type" default:"none: the whole disk" example:"root"`
	Block     *int   `json:"block,omitempty" doc:"Number of the first block to damage, of 4096 bytes, from 0 on." minimum:"0" maximum:"2147483647" default:"0" example:"1000"`
	Offset    *Size  `json:"offset,omitempty" doc:"Where to begin, in place of block: bytes from the beginning." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" example:"1M" number:"true"`
	Length    Size   `json:"length,omitempty" doc:"How much to damage." pattern:"^[0-9]{1,19}[KMGT]?$" want:"write bytes, or a number with K, M, G or T such as 512M" default:"4K" example:"64K" number:"true"`
}

// CidataStep is a seed for cloud-init.
type CidataStep struct {
	Seed       string `json:"seed" doc:"The seed, relative to this file: a YAML file as applbuild cidata takes it, or a ready ISO whose name ends in .iso; none takes the seed away." required:"true" short:"true" example:"seed.yml"`
	TestKeyFor string `json:"test_key_for,omitempty" doc:"User of the seed who gets the key of this run, for checks with ssh. It needs a seed in YAML." pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"write a user's name" example:"admin"`

	SeedFile string `json:"-"` // Seed as a path to open; empty for none
}

// NoSeed is the word in place of a seed that takes it away.
const NoSeed = "none"
