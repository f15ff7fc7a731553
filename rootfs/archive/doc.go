// Package archive reads Debian and Ubuntu package archives: it fetches and
// verifies their Release files, their package indexes and packages, and keeps
// them in a cache that several processes may share.
//
// What is trusted follows from one signature: the Release file is verified by
// OpenPGP against the keyring of its Source, every index by the SHA-256 that
// the Release names, every package by the SHA-256 of its index (or lock). Files
// of the cache are verified again before they are used. The layout of an archive
// is that of the Debian repository format
// (https://wiki.debian.org/DebianRepository/Format); signatures are those of
// RFC 4880 and RFC 9580, clear-signed (InRelease) or detached (Release.gpg).
//
// The package does not know which distributions exist (package distro does),
// what the fields of an index mean (package resolve does) or what is inside a
// package (package deb does). It reads no environment and no clock.
package archive
