// Package rootfs makes a configured base tree out of Debian packages: unpacked
// in process, configured by the packages' own scripts inside a sandbox, and
// packed into one canonical tar.
//
// The order is dpkg's: packages that are essential or have no preinst script
// are unpacked first, then each of the others has its preinst run before it is
// unpacked, then dpkg configures the essential packages with all they need, and
// then everything. No service is started, no initrd
// is built, nobody is asked anything. What would differ from one build to the
// next (logs, caches, backups, dates of accounts, identities of the machine)
// is taken out or given the build's clock.
//
// It resolves and downloads nothing and knows no recipe: see rootfs/resolve,
// rootfs/archive and package builder.
package rootfs
