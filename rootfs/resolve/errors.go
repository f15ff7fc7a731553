package resolve

import (
	"fmt"
	"strings"
)

// An UnknownPackageError says that a request names what the indexes do not have
// to install. errors.As finds it.
type UnknownPackageError struct {
	Request string // as it was given
	Name    string // of the package

	// Version or Suite is what was asked for with = or /, when the package is
	// there but not so; Versions are those there are, each with its origin.
	Version, Suite string
	Versions       []string

	// Providers are the packages that provide the name, when it is virtual:
	// one is to be named instead.
	Providers []string

	// Nearest are up to three names close to it, the closest first.
	Nearest []string

	// Others are further requests of the same call that nothing is found for.
	Others []string
}

// Error is one line.
func (e *UnknownPackageError) Error() string {
	var s string
	switch {
	case e.Version != "":
		s = fmt.Sprintf("package %s has no version %s: there is %s", e.Name, e.Version, strings.Join(e.Versions, ", "))
	case e.Suite != "":
		s = fmt.Sprintf("package %s is not in %s: there is %s", e.Name, e.Suite, strings.Join(e.Versions, ", "))
	case len(e.Providers) > 0:
		s = fmt.Sprintf("package %s is virtual: name one of the packages that provide it: %s", e.Name, enumerate(e.Providers, 8))
	case len(e.Versions) > 0:
		s = fmt.Sprintf("package %s has no version that may be installed: the pins forbid %s", e.Name, strings.Join(e.Versions, ", "))
	default:
		s = fmt.Sprintf("no package %s in the indexes", e.Name)
		if len(e.Nearest) > 0 {
			s += ": did you mean " + strings.Join(e.Nearest, " or ") + "?"
		} else {
			s += ": check the name and the release it is in"
		}
	}
	if len(e.Others) > 0 {
		s += "; nor is there " + enumerate(e.Others, 8)
	}
	return s
}

// An UnsatisfiableError says that no set of packages satisfies a request, or that
// apt's solver does not find one. errors.As finds it.
type UnsatisfiableError struct {
	// Reason is the heart of the matter in one line.
	Reason string
	// Chain leads from the request to the reason, one step a line.
	Chain []string
}

// Error is one line; Chain says how it comes to that.
func (e *UnsatisfiableError) Error() string {
	return "packages cannot be installed together: " + e.Reason
}

// Explain is the chain as text, one step a line.
func (e *UnsatisfiableError) Explain() string { return strings.Join(e.Chain, "\n") }

// enumerate lists names, at most limit of them.
func enumerate(names []string, limit int) string {
	if len(names) > limit {
		return strings.Join(names[:limit], ", ") + fmt.Sprintf(" and %d more", len(names)-limit)
	}
	return strings.Join(names, ", ")
}
