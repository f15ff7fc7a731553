// Package deb reads Debian binary packages and unpacks them into a
// directory in the way dpkg does, with dpkg's database beside the files, so
// that dpkg itself can go on from there with --configure.
//
// It follows deb(5) for the archive, deb-control(5), deb-conffiles(5) and
// deb-triggers(5) for the control members, and what dpkg 1.22 does for the
// unpacking and for the files below var/lib/dpkg. Paths in the tree are
// resolved by the kernel below the tree's root (openat2 with
// RESOLVE_IN_ROOT, Linux 5.6), so that no name and no symbolic link of a
// package, nor of one unpacked before it, leads out of the tree.
//
// The package runs no maintainer script, resolves no dependency, upgrades
// and removes nothing: it fills a new tree. Packages are applied one after
// the other in the order given, which is what makes conflicts between them
// come out as with dpkg and the same every time; reading and decompressing
// goes ahead on all cores.
package deb
