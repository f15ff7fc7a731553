package resolve

// A Package is one version of a binary package as an index describes it.
type Package struct {
	Name, Version string
	Arch          string // of the package: amd64, arm64, all
	Source        string // name of the source package
	SourceVersion string
	Filename      string // below the archive's URI
	SHA256        string // of the .deb, in hexadecimal
	Size          int64  // of the .deb, in bytes
	InstalledSize int64  // as the index estimates it, in bytes
	Essential     bool
	Protected     bool   // Protected: yes, or the older Important: yes
	Priority      string // required, important, standard, optional, extra
	Section       string
	MultiArch     string // "", same, foreign, allowed
	Description   string // the first line
	Homepage      string

	PreDepends, Depends, Recommends, Suggests Relations
	Conflicts, Breaks, Replaces, Provides     Relations

	Origin *Origin // where the index came from

	mentions []mention
	numbered bool // mentions are known
}

// An Origin is the index a package was read from.
type Origin struct {
	URI       string // of the archive
	Suite     string // as sources.list names it
	Component string

	// Codename and Archive are the fields Codename and Suite of the Release
	// file, Version its version. A request NAME/SUITE matches any of them and
	// Suite.
	Codename, Archive, Version string

	// Pin is apt's priority of the index's packages: 500 unless something is
	// said (0 stands for that too), 100 for NotAutomatic suites with
	// ButAutomaticUpgrades, 1 for NotAutomatic ones. The highest pin wins,
	// then the highest version. Negative: never.
	Pin int

	// Order is the index's place among all: the one named first in
	// sources.list has the lowest. apt's choice between otherwise equal
	// providers depends on it.
	Order int
}

// defaultPin is the priority of a source nothing is said about.
const defaultPin = 500

func (o *Origin) pin() int {
	if o == nil || o.Pin == 0 {
		return defaultPin
	}
	return o.Pin
}

// String is the suite and component: trixie/main.
func (o *Origin) String() string {
	switch {
	case o == nil || o.Suite == "" && o.Component == "":
		return "the index"
	case o.Component == "":
		return o.Suite
	default:
		return o.Suite + "/" + o.Component
	}
}

// A mention says that the package's stanza is the first of its index to name
// another package in that way. apt numbers packages in the order in which names
// come up, and of providers it holds equal it takes the one numbered last.
type mention struct {
	name string
	kind mentionKind
}

type mentionKind uint8

const (
	namedByAll      mentionKind = iota // by a package of architecture all
	namedByArch                        // by a package of the index's architecture
	opposedByAll                       // the same two for Conflicts, Breaks and Replaces
	opposedByArch                      //
	namedWithSuffix                    // as name:any or name:arch
)
