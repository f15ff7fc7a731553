// Package fs makes file system images with the standard tools: squashfs,
// erofs, ext4 and xfs out of a tree, FAT32 out of a few files. It writes swap
// by itself. Packages below it write btrfs and read FAT32. MinimumSize and
// MaxLabel say what kinds of data partitions take.
//
// Trees come as tar streams, so that owners, devices and capabilities need
// neither privileges nor a copy on disk. The tools run through a Tool, which
// in a build is a sandbox over a tree of pinned packages. Every time, UUID and
// seed that a tool would take from the clock or draw is handed in: the same
// tree and options give the same bytes with the same version of the tool.
//
// The package does not read file systems, beyond telling their kind, and knows
// nothing of partitions or verity.
package fs
