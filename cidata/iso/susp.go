package iso

import "time"

// SUSP and RRIP fields: signature, length, version, contents (SUSP, 4.1).
const (
	suspHeader   = 4
	ceSize       = 28
	nameContinue = 0x01
	nameCurrent  = 0x02
	nameParent   = 0x04
	maxNamePart  = 250
	timeModify   = 0x02
	timeAccess   = 0x04
	timeChange   = 0x08
	timeLong     = 0x80
	modeType     = 0o170000
	modeDir      = 0o040000 | 0o555
	modeFile     = 0o100000 | 0o444
	modeLink     = 0o120000
)

// The extension's announcement (RRIP, 4.3).
const (
	rripID          = "IEEE_P1282"
	rripDescription = "THE IEEE P1282 PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
	rripSource      = "PLEASE CONTACT THE IEEE STANDARDS DEPARTMENT, PISCATAWAY, NJ, USA FOR THE P1282 SPECIFICATION."
)

func field(signature string, contents ...byte) []byte {
	return append([]byte{signature[0], signature[1], byte(suspHeader + len(contents)), 1}, contents...)
}

// fieldSP begins the system use area of the root's first record (SUSP, 5.3).
func fieldSP() []byte { return field("SP", 0xbe, 0xef, 0) }

// fieldER names the extension in use (SUSP, 5.5).
func fieldER() []byte {
	b := []byte{byte(len(rripID)), byte(len(rripDescription)), byte(len(rripSource)), 1}
	return field("ER", append(b, rripID+rripDescription+rripSource...)...)
}

// fieldPX is mode, links, owner, group and serial number (RRIP, 4.1.1).
func fieldPX(s *source) []byte {
	mode, links := uint32(modeFile), uint32(1)
	if s.dir {
		mode, links = modeDir, 2
		for _, c := range s.children {
			if c.dir {
				links++
			}
		}
	}
	b := make([]byte, 40)
	both(b, mode)
	both(b[8:], links)
	both(b[32:], s.serial)
	return field("PX", b...)
}

// fieldTF is the times of modification, access and change (RRIP, 4.1.6).
func fieldTF(t time.Time) []byte {
	b := []byte{timeModify | timeAccess | timeChange}
	for range 3 {
		b = append(b, shortTime(t)...)
	}
	return field("TF", b...)
}

// fieldsNM is a name, in as many fields as it takes (RRIP, 4.1.4).
func fieldsNM(name string) [][]byte {
	var fields [][]byte
	for ; len(name) > maxNamePart; name = name[maxNamePart:] {
		fields = append(fields, field("NM", append([]byte{nameContinue}, name[:maxNamePart]...)...))
	}
	return append(fields, field("NM", append([]byte{0}, name...)...))
}

// continuations collects the fields that have no room in the records of one
// folder, in sectors from first on. No record's fields cross a sector: Linux refuses that.
type continuations struct {
	first uint32
	data  []byte
}

// place fits fields into room bytes. What does not fit goes to the
// continuation area, and a field CE says where it is (SUSP, 5.1).
func (c *continuations) place(fields [][]byte, room int) []byte {
	total := 0
	for _, f := range fields {
		total += len(f)
	}
	var here []byte
	if total <= room {
		for _, f := range fields {
			here = append(here, f...)
		}
		return here
	}
	for len(here)+len(fields[0]) <= room-ceSize {
		here = append(here, fields[0]...)
		fields = fields[1:]
	}
	var rest []byte
	for _, f := range fields {
		rest = append(rest, f...)
	}
	if used := len(c.data) % sectorSize; used+len(rest) > sectorSize {
		c.data = append(c.data, make([]byte, sectorSize-used)...)
	}
	b := make([]byte, 24)
	both(b, c.first+uint32(len(c.data)/sectorSize))
	both(b[8:], uint32(len(c.data)%sectorSize))
	both(b[16:], uint32(len(rest)))
	c.data = append(c.data, rest...)
	return append(here, field("CE", b...)...)
}
