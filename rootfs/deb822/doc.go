// Package deb822 reads the paragraphs of Debian's control files: package
// indexes, Release files, a package's own control file, dpkg's status and the
// .sources files of apt. The format is that of Debian Policy, chapter 5,
// "Control files and their fields", and of deb822(5).
//
// The reader is strict where dpkg and apt are: a line that is neither a field
// nor the continuation of one, a field given twice, a NUL byte or a paragraph
// beyond the bounds is an error that names the line. It knows nothing of what
// fields mean, does not check signatures and does not interpret the
// substitution variables of source packages.
package deb822
