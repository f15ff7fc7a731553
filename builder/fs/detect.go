package fs

import (
	"encoding/binary"
	"io"
)

// Kinds of file systems and partition contents that Detect tells apart.
const (
	KindSquashfs = "squashfs"
	KindErofs    = "erofs"
	KindExt4     = "ext4"
	KindVFAT     = "vfat"
	KindBtrfs    = "btrfs"
	KindXFS      = "xfs"
	KindSwap     = "swap"
	KindLUKS     = "crypto_LUKS"
	KindVerity   = "DM_verity_hash"
	KindISO9660  = "iso9660"
)

// Detect tells from the superblock what a partition contains. It returns the
// kind as blkid names it, ext2 and ext3 as ext4, or "" when it knows none.
func Detect(r io.ReaderAt) string {
	for _, s := range []struct {
		kind, magic string
		offset      int64 // bytes
	}{
		{KindSquashfs, "hsqs", 0},
		{KindErofs, "\xe2\xe1\xf5\xe0", 1024},
		{KindXFS, "XFSB", 0},
		{KindLUKS, "LUKS\xba\xbe", 0},
		{KindVerity, "verity\x00\x00", 0},
		{KindExt4, "\x53\xef", 1024 + 56},
		{KindSwap, "SWAPSPACE2", 4096 - 10},
		{KindISO9660, "\x01CD001", 32768},
		{KindBtrfs, "_BHRfS_M", 65536 + 64},
	} {
		b := make([]byte, len(s.magic))
		if n, _ := r.ReadAt(b, s.offset); n == len(b) && string(b) == s.magic {
			return s.kind
		}
	}
	if isFAT(r) {
		return KindVFAT
	}
	return ""
}

// isFAT checks the fields of a FAT boot sector that tell it from the boot
// sectors of other systems (Microsoft FAT specification, section 3.1).
func isFAT(r io.ReaderAt) bool {
	b := make([]byte, 512)
	if n, _ := r.ReadAt(b, 0); n < len(b) || b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	sector, cluster := binary.LittleEndian.Uint16(b[11:]), b[13]
	named := string(b[54:57]) == "FAT" || string(b[82:87]) == "FAT32"
	return named && sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 &&
		cluster != 0 && cluster&(cluster-1) == 0 && (b[16] == 1 || b[16] == 2) && b[21] >= 0xf0
}
