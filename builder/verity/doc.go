// Package verity writes and checks the Merkle tree that dm-verity reads a
// partition through.
//
// The format is the Linux kernel's (Documentation/admin-guide/device-mapper/
// verity.rst) with cryptsetup's superblock: hash type 1, SHA-256, data and hash
// blocks of 4096 bytes. A block's digest is SHA-256(salt ‖ block). The hash
// device begins with the superblock in a block of its own; the levels follow,
// the top one first. The root hash is the digest of the top level's only block,
// or of the data where that is a single block.
//
// It does not set up devices, and it does not write trees of other kinds,
// forward error correction or signatures.
package verity
