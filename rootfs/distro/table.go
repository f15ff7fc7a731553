package distro

// row holds the columns that methods give access to.
type row struct {
	archives []place
	security []place
	snapshot [2]string
	keyring  string
	kernel   map[string]string
	stub     []string
	initrd   []string
}

// A place is the public archive of some architectures.
type place struct {
	arch string
	uri  string
}

var releases = [...]Release{}

// Kernel returns the package of the kernel that boots by default.
func (r *Release) Kernel(arch string) string { return r.kernel[arch] }

// StubPackages returns the packages with systemd's boot stub and loader.
func (r *Release) StubPackages(arch string) []string { return r.stub }

// InitrdPackages returns the packages an initrd is made of.
func (r *Release) InitrdPackages(arch string) []string { return r.initrd }

// ToolPackages returns the packages of the programs a build runs.
func (r *Release) ToolPackages(arch string) []string { return nil }

// BootPackages returns the packages of the emulator and its firmware.
func (r *Release) BootPackages(arch string) []string { return nil }

// DefaultMirror returns the URI of the public archive.
func (r *Release) DefaultMirror(arch string) string { return "" }
