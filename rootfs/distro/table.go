package distro

import "maps"

// row holds the columns that methods give access to.
type row struct {
	archives map[string]string // base URI of the public archive by architecture
	security map[string]string // that of the security archive
	// snapshots are the base URIs of the archive and of the security archive
	// as of a time, which stands in them as @SNAPSHOTID@, apt's name for it.
	snapshots [2]string
	keyring   string // file name in keys/ and in /usr/share/keyrings
	kernel    map[string]string
	stub      []string
	initrd    []string
	tools     []string
	boot      map[string][]string
}

// The public archives. Up to 25.04 Ubuntu keeps architectures other than amd64
// on a server of their own; from 25.10 arm64 is on the main one.
var (
	debianArchive  = everywhere("http://ftp.debian.org/debian")
	debianSecurity = everywhere("http://security.debian.org/debian-security")
	ubuntuArchive  = everywhere("http://archive.ubuntu.com/ubuntu")
	ubuntuSecurity = everywhere("http://security.ubuntu.com/ubuntu")
	ubuntuPorts    = map[string]string{"amd64": "http://archive.ubuntu.com/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"}
	ubuntuPortsSec = map[string]string{"amd64": "http://security.ubuntu.com/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"}
)

const (
	snapshotID   = "@SNAPSHOTID@"
	snapshotForm = "20060102T150405Z"
)

var (
	debianSnapshots = [2]string{"http://snapshot.debian.org/archive/debian/" + snapshotID, "http://snapshot.debian.org/archive/debian-security/" + snapshotID}
	ubuntuSnapshots = [2]string{"http://snapshot.ubuntu.com/ubuntu/" + snapshotID, "http://snapshot.ubuntu.com/ubuntu/" + snapshotID}
)

const (
	debianKeyring = "debian-archive-keyring.gpg"
	ubuntuKeyring = "ubuntu-archive-keyring.gpg"
)

var (
	debianKernel = map[string]string{"amd64": "linux-image-cloud-amd64", "arm64": "linux-image-cloud-arm64"}
	ubuntuKernel = everywhere("linux-image-virtual")

	// systemd in the initrd: udev and dmsetup bring the rules without which
	// /dev/mapper/root never appears, e2fsprogs checks and makes partitions,
	// base-files and base-passwd say which system it is and who there is, dash
	// and coreutils run the program that mounts the machine's state.
	initrdBase = []string{"base-files", "base-passwd", "coreutils", "dash", "systemd", "udev", "dmsetup", "kmod", "mount", "util-linux", "e2fsprogs", "libcryptsetup12"}
	// Where verity and repart have packages of their own.
	initrdSplit = append(append([]string(nil), initrdBase...), "systemd-cryptsetup", "systemd-repart")

	buildTools = []string{"squashfs-tools", "erofs-utils", "e2fsprogs", "dosfstools", "mtools"}
	// The same in all releases. xfsprogs brings python3 for programs of its own
	// that nobody needs here.
	filesystemTools = map[string][]string{
		"ext4": {"e2fsprogs"}, "xfs": {"xfsprogs"}, "btrfs": {"btrfs-progs"}, "vfat": {"dosfstools"}, "swap": {"util-linux"},
	}
	bootTools = map[string][]string{"amd64": {"qemu-system-x86", "ovmf", "swtpm"}, "arm64": {"qemu-system-arm", "qemu-efi-aarch64", "swtpm"}}
)

var releases = [...]Release{
	debian("bookworm", "12", UsrAliases, initrdBase),
	debian("trixie", "13", UsrLinks, initrdSplit),
	debian("sid", "", UsrLinks, initrdSplit, "unstable"),
	ubuntu("jammy", "22.04", UsrAliases, ubuntuPorts, ubuntuPortsSec, "systemd", initrdBase),
	ubuntu("noble", "24.04", UsrLinks, ubuntuPorts, ubuntuPortsSec, "systemd-boot-efi", initrdBase),
	ubuntu("resolute", "26.04", UsrLinks, ubuntuArchive, ubuntuSecurity, "systemd-boot-efi", initrdSplit),
}

func debian(name, version string, usr UsrMerge, initrd []string, suites ...string) Release {
	r := Release{Distribution: "debian", Name: name, Version: version, Suites: suites, Components: []string{"main"}, MergedUsr: usr, row: row{
		archives: debianArchive, security: debianSecurity, snapshots: debianSnapshots, keyring: debianKeyring,
		kernel: debianKernel, stub: []string{"systemd-boot-efi"}, initrd: initrd, tools: buildTools, boot: bootTools,
	}}
	r.Pockets = []Pocket{{Suite: name}}
	if version != "" {
		r.Pockets = append(r.Pockets, Pocket{Suite: name + "-updates"}, Pocket{Suite: name + "-security", Security: true})
	}
	return r
}

func ubuntu(name, version string, usr UsrMerge, archives, security map[string]string, stub string, initrd []string) Release {
	return Release{Distribution: "ubuntu", Name: name, Version: version, Components: []string{"main", "universe"}, MergedUsr: usr,
		Pockets: []Pocket{{Suite: name}, {Suite: name + "-updates"}, {Suite: name + "-security", Security: true}},
		row: row{
			archives: archives, security: security, snapshots: ubuntuSnapshots, keyring: ubuntuKeyring,
			kernel: ubuntuKernel, stub: []string{stub}, initrd: initrd, tools: buildTools, boot: bootTools,
		}}
}

// everywhere is a column that is the same for every architecture.
func everywhere(v string) map[string]string {
	m := make(map[string]string, len(arches))
	for _, a := range arches {
		m[a.Name] = v
	}
	return m
}

// Kernel returns the package of the kernel that boots where a recipe names none;
// "" for an unknown architecture.
func (r *Release) Kernel(arch string) string { return r.kernel[arch] }

// StubPackages returns the packages with systemd's boot stub (linuxx64.efi.stub)
// and loader (systemd-bootx64.efi) in usr/lib/systemd/boot/efi.
func (r *Release) StubPackages(arch string) []string { return clone(r.stub) }

// InitrdPackages returns the packages an initrd is made of, without their
// dependencies and without the kernel's.
func (r *Release) InitrdPackages(arch string) []string { return clone(r.initrd) }

// ToolPackages returns the packages of the programs that a build runs.
func (r *Release) ToolPackages(arch string) []string { return clone(r.tools) }

// MakesPartitions says that systemd-repart is among the release's packages, which
// makes partitions at a machine's first boot.
func (r *Release) MakesPartitions() bool { return r.Name != "jammy" }

// FilesystemPackages returns the packages of the programs that make, check and
// grow a file system of a kind (ext4, xfs, btrfs, vfat) or swap; none for other kinds.
func (r *Release) FilesystemPackages(kind string) []string { return clone(filesystemTools[kind]) }

// BootPackages returns the packages of the emulator of an architecture, its
// firmware and its TPM.
func (r *Release) BootPackages(arch string) []string { return clone(r.boot[arch]) }

// ReaderPackages returns the packages of the programs that read a file out of a
// root file system: unsquashfs, dump.erofs and debugfs.
func (r *Release) ReaderPackages() []string {
	return []string{"e2fsprogs", "erofs-utils", "squashfs-tools"}
}

// DefaultMirror returns the base URI of the public archive, "" for an unknown
// architecture.
func (r *Release) DefaultMirror(arch string) string { return r.archives[arch] }

// SecurityMirror returns the base URI of the public security archive.
func (r *Release) SecurityMirror(arch string) string { return r.security[arch] }

// KeyringFile returns the name of the archive's keyring in /usr/share/keyrings.
func (r *Release) KeyringFile() string { return r.keyring }

func clone(s []string) []string { return append([]string(nil), s...) }

// Arches returns the architectures of the row, as dpkg names them, in the order
// of the table of architectures.
func (r *Release) Arches() []string {
	var names []string
	have := maps.Clone(r.archives)
	for _, a := range arches {
		if have[a.Name] != "" {
			names = append(names, a.Name)
		}
	}
	return names
}
