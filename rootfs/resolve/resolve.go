package resolve

// Resolve returns the packages an empty system gets for the request, sorted by
// name and architecture. An error is an *UnknownPackageError or an
// *UnsatisfiableError.
func (u *Universe) Resolve(req Request) ([]*Package, error) {
	return nil, &UnsatisfiableError{}
}

// Order returns the packages in an order in which each follows what it depends
// on.
func Order(pkgs []*Package) []*Package { return pkgs }
