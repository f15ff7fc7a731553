package fat

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The boot sector, as offsets in bytes ("Boot Sector and BPB"). The second
// offset of some is that of FAT32.
const (
	sectorSize        = 512 // of what is written
	bpbSector         = 11
	bpbPerCluster     = 13
	bpbReserved       = 14
	bpbTables         = 16
	bpbRootEntries    = 17
	bpbSectors16      = 19
	bpbMedia          = 21
	bpbTableSize16    = 22
	bpbSectorsTrack   = 24
	bpbHeads          = 26
	bpbSectors32      = 32
	bpbTableSize32    = 36
	bpbFlags32        = 40
	bpbRootCluster32  = 44
	bootDrive         = 36
	bootMark          = 38
	bootSerial        = 39
	bootLabel         = 43
	bootLabel32       = 71
	labelAfterMark    = bootLabel - bootMark
	bootKind          = 54
	bootSignature     = 510
	labelSize         = 11
	markExtended      = 0x29
	mediaFixed        = 0xf8
	flagOneTable      = 0x80 // in bpbFlags32: only the table in the low bits is kept
	noLabel           = "NO NAME    "
	maxClusters12     = 4084 // the most that FAT12 has
	maxClusters16     = 65524
	firstCluster      = 2
	maxFolderBytes    = 2 << 20
	maxFixedRootSlots = 65520
)

// A directory entry ("FAT Directory Structure").
const (
	slotSize        = 32
	slotAttributes  = 11
	slotCase        = 12
	slotCreatedTime = 14
	slotCreatedDate = 16
	slotAccessDate  = 18
	slotClusterHigh = 20
	slotTime        = 22
	slotDate        = 24
	slotCluster     = 26
	slotFileSize    = 28
	attrVolume      = 0x08
	attrFolder      = 0x10
	attrArchive     = 0x20
	attrLong        = 0x0f
	attrLongMask    = 0x3f
	caseBase        = 0x08 // Windows NT: the base is lower case
	caseExtension   = 0x10
	slotFree        = 0xe5
	slotKanji       = 0x05 // stands for a first byte of 0xe5

	longLast     = 0x40
	longChecksum = 13
	longUnits    = 13 // units of UTF-16 in an entry
	maxLong      = 20 // entries of one name
)

// longSpans are where the units of a long name lie in its entry.
var longSpans = [3][2]int{{1, 11}, {14, 26}, {28, 32}}

// checksum ties long entries to their short name ("Checksum").
func checksum(short []byte) byte {
	var sum byte
	for _, c := range short[:labelSize] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

func checkTime(t time.Time) error {
	if y := t.UTC().Year(); y < 1980 || y > 1980+127 {
		return fmt.Errorf("fat: the year %d is outside of 1980 to 2107, which FAT can write", y)
	}
	return nil
}

// stamp is a time as FAT has it ("Date and Time Formats").
func stamp(t time.Time) (date, clock uint16) {
	t = t.UTC()
	return uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()), uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}

// readTime is the inverse of stamp; a date of zero is none.
func readTime(slot []byte) time.Time {
	date, clock := int(binary.LittleEndian.Uint16(slot[slotDate:])), int(binary.LittleEndian.Uint16(slot[slotTime:]))
	if date == 0 {
		return time.Time{}
	}
	return time.Date(1980+date>>9, time.Month(date>>5&15), date&31, clock>>11, clock>>5&63, clock&31*2, 0, time.UTC)
}

// upper is the second half of code page 437, in which Linux reads short names.
var upper = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

func fromCodePage(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		if r[i] = rune(c); c >= 0x80 {
			r[i] = upper[c-0x80]
		}
	}
	return string(r)
}
