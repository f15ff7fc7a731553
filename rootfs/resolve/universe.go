package resolve

// A Request says which packages are wanted.
type Request struct {
	// Names are requests as on apt-get's command line: name, name=version,
	// name/suite, name:arch, and name- to leave a package out.
	Names []string
	// Essential adds all packages with Essential: yes.
	Essential bool
	// Recommends installs recommended packages too.
	Recommends bool
	// Priorities adds all packages of these priorities: required, important,
	// standard.
	Priorities []string
}

// A Universe is all packages there are to choose from. It is safe for concurrent
// use.
type Universe struct {
	arch string
	pkgs []*Package
}

// NewUniverse returns the universe of the packages for a system of architecture
// arch. Packages are given in the order of their indexes.
func NewUniverse(arch string, pkgs []*Package) *Universe {
	return &Universe{arch: arch, pkgs: pkgs}
}
