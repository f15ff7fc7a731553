package iso

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf16"
)

// The volume, its descriptors (ECMA-119, 8.4 and 8.5) and directory records
// (9.1), as offsets in bytes.
const (
	sectorSize       = 2048
	firstDescriptor  = 16 // sectors of the system area before it
	descriptorID     = "CD001"
	kindPrimary      = 1
	kindSupplement   = 2
	kindTerminator   = 255
	volSystem        = 8
	volSystemSize    = 32
	volLabel         = 40
	volLabelSize     = 32
	volSectors       = 80
	volEscapes       = 88
	volSetSize       = 120
	volSequence      = 124
	volBlockSize     = 128
	volPathBytes     = 132
	volPathLittle    = 140
	volPathBig       = 148
	volRoot          = 156
	volTexts         = 190 // names of volume set, publisher, preparer and application
	volTextsSize     = 512
	volFileNames     = 702 // of copyright, abstract and bibliography
	volFileNameSize  = 37
	volCreated       = 813
	volModified      = 830
	volExpires       = 847
	volEffective     = 864
	volStructure     = 881
	rootRecordSize   = 34
	recAttributes    = 1
	recExtent        = 2
	recSize          = 10
	recTime          = 18
	recFlags         = 25
	recUnit          = 26
	recGap           = 27
	recSequence      = 28
	recNameLen       = 32
	recName          = 33
	maxRecord        = 254 // the largest even length
	flagDir          = 0x02
	flagAssociated   = 0x04
	flagMultiExtent  = 0x80
	jolietEscape     = "%/E" // UCS-2 level 3
	versionSeparator = ";1"
)

// both lays n down in little and in big endian (ECMA-119, 7.3.3).
func both(b []byte, n uint32) {
	binary.LittleEndian.PutUint32(b, n)
	binary.BigEndian.PutUint32(b[4:], n)
}

// both16 is the same for 16 bits (7.2.3).
func both16(b []byte, n uint16) {
	binary.LittleEndian.PutUint16(b, n)
	binary.BigEndian.PutUint16(b[2:], n)
}

// shortTime is the 7 bytes of a directory record's time (9.1.5), in UTC.
func shortTime(t time.Time) []byte {
	t = t.UTC()
	return []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

// longTime is the 17 bytes of a descriptor's time (8.4.26.1), in UTC.
func longTime(t time.Time) string { return t.UTC().Format("20060102150405") + "00\x00" }

// noTime is a descriptor's time that is not specified.
const noTime = "0000000000000000\x00"

func checkTime(t time.Time) error {
	if y := t.UTC().Year(); y < 1900 || y > 1900+255 {
		return fmt.Errorf("iso: the year %d is outside of 1900 to 2155, which ISO 9660 can write", y)
	}
	return nil
}

// readTime is the inverse of shortTime; its last byte counts quarters of an
// hour east of Greenwich.
func readTime(b []byte) time.Time {
	zone := time.FixedZone("", int(int8(b[6]))*15*60)
	return time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, zone).UTC()
}

// ucs2 is s in big-endian UCS-2.
func ucs2(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}

func fromUCS2(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, binary.BigEndian.Uint16(b))
	}
	return string(utf16.Decode(u))
}

// sectors is how many sectors n bytes fill.
func sectors(n int) uint32 { return uint32((n + sectorSize - 1) / sectorSize) }
