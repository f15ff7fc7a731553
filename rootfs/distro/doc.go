// Package distro is the table of distributions applbuild knows: for each release
// its archives by architecture, pockets, components and keyring, the kernel it
// boots by default and the packages that the boot stub, the initrd and the tools
// tree are made of. It also finds out where the host gets the same distribution
// from, so that a mirror set up for the host serves a build too.
//
// It fetches nothing (package archive does) and resolves nothing.
package distro
