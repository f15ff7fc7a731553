// Package disk plans, writes and reads GPT disks.
//
// It follows the UEFI Specification 2.10 (section 5) for the partition table
// and the Discoverable Partitions Specification for types and flags. Planning
// is a pure function of the layout; writing keeps holes, so that a disk of
// many gigabytes takes only the room of its contents; reading checks all there
// is to check and says what is wrong instead of repairing it.
//
// It makes no file systems, draws no GUIDs and does not look into partitions.
package disk
