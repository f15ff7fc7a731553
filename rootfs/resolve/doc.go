// Package resolve answers which packages an empty system gets when some are
// asked for: the set and the versions that apt-get install would choose.
//
// The answer is apt's by construction. The package follows the classic solver
// of apt (as released in 2.6 and 3.0) step by step: candidates by pin
// (apt_preferences(5)), the depth-first marking of dependencies in the order of
// the fields, apt's preference among providers, its memory of candidates found
// impossible, the problem resolver that runs when something is still broken, and
// the removal of what nothing needs in the end. Where apt finds no solution
// although one exists, neither does this package. Debian Policy, chapter 7, says
// what relations mean, deb-version(7) how versions compare, and the Multi-Arch
// specification of Debian and Ubuntu what foreign, same and allowed do.
//
// It does not know installed packages, so nothing is ever upgraded or removed;
// patterns and tasks on apt's command line are not understood; and in which
// order packages are unpacked and configured is dpkg's business (Order is a
// sequence good enough for scripts that run before unpacking).
package resolve
