package paper

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The text of a code, format 1, in the characters of QR's alphanumeric mode (ISO/IEC 18004, 7.4.4):
//
//	APPLSEED1:SHA256:NUMBER/TOTAL:SIZE:PAYLOAD:CRC
//
// SHA256 is the digest of the whole archive, 64 digits in upper case; NUMBER counts from 1, S before it marks a spare
// code; TOTAL counts the codes without the spare ones; SIZE is that of the archive in bytes. PAYLOAD is base32 (RFC
// 4648, section 6) with - for = as padding: blanks that scanners add or take away do it no harm, as they would to
// base45 (RFC 9285), and coreutils read it. CRC is CRC-32 (ISO-HDLC, as in gzip) of all before the colon in front of
// it, 8 digits.
//
// All payloads but the last are equally long, a multiple of 5 bytes. Spare code number s of ceil(TOTAL/8) is the XOR of
// all codes number n with (n-1) mod ceil(TOTAL/8) = s-1, each filled up with zeros.
const (
	magic   = "APPLSEED"
	version = "1"

	// MaxCodes is how many codes an archive may need, without the spare ones.
	MaxCodes = 999
	// chunkSize is the most bytes of the archive in a code: what a QR code of version 24 holds at level M, 1326
	// characters, without 101 of the other fields.
	chunkSize = 765
	// MaxSize is the largest archive that fits on paper, in bytes.
	MaxSize = MaxCodes * chunkSize

	perSpare = 8 // codes that one spare code stands for
)

// A Code is one code of a seed.
type Code struct {
	Number int // from 1, spare codes on their own
	Total  int // codes without the spare ones
	Spare  bool
	Text   string
}

// A SizeError says that an archive does not fit on paper.
type SizeError struct{ Size int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the seed packed has %d bytes, paper holds at most %d: print a smaller seed", e.Size, MaxSize)
}

func spares(total int) int { return (total + perSpare - 1) / perSpare }

// Split cuts an archive into codes, the spare ones last; a [*SizeError] where it is too large.
func Split(archive []byte) ([]Code, error) {
	if len(archive) > MaxSize {
		return nil, &SizeError{len(archive)}
	}
	if len(archive) == 0 {
		return nil, errors.New("an empty archive needs no paper")
	}
	// All codes get about the same length; rounding it up may save one.
	n := (len(archive) + chunkSize - 1) / chunkSize
	chunk := ((len(archive)+n-1)/n + 4) / 5 * 5
	parts := slices.Collect(slices.Chunk(archive, chunk))
	total := len(parts)
	xor := make([][]byte, spares(total))
	for i, part := range parts {
		s := i % len(xor)
		if xor[s] == nil {
			xor[s] = make([]byte, len(parts[0]))
		}
		mix(xor[s], part)
	}
	sum := sha256.Sum256(archive)
	var codes []Code
	for i, part := range slices.Concat(parts, xor) {
		c := Code{Number: i + 1, Total: total}
		if c.Spare = i >= total; c.Spare {
			c.Number -= total
		}
		c.Text = text(sum, c, len(archive), part)
		codes = append(codes, c)
	}
	return codes, nil
}

// mix adds the bytes of part to sum by XOR.
func mix(sum, part []byte) {
	for i, b := range part {
		sum[i] ^= b
	}
}

func text(sum [sha256.Size]byte, c Code, size int, payload []byte) string {
	number := strconv.Itoa(c.Number)
	if c.Spare {
		number = "S" + number
	}
	s := fmt.Sprintf("%s%s:%X:%s/%d:%d:%s", magic, version, sum, number, c.Total, size,
		strings.ReplaceAll(base32.StdEncoding.EncodeToString(payload), "=", "-"))
	return fmt.Sprintf("%s:%08X", s, crc32.ChecksumIEEE([]byte(s)))
}

// A Scan is text that a scanner made of codes: any number of them, in any order, also several times.
type Scan struct {
	Name string // for errors
	Text []byte
}

// piece is a code as it was read.
type piece struct {
	sum     string // hexadecimal, upper case
	number  int
	total   int
	spare   bool
	size    int
	payload []byte
	where   string
}

var (
	anyCode = regexp.MustCompile(magic + `([0-9]+):`)
	head    = regexp.MustCompile(`^` + magic + version + `:[0-9A-F]{64}:(S?)([0-9]{1,3})/[0-9]{1,3}:`)
	oneCode = regexp.MustCompile(`^` + magic + version + `:([0-9A-F]{64}):(S?)([0-9]{1,3})/([0-9]{1,3}):([0-9]{1,7}):([A-Z2-7]+-{0,6}):([0-9A-F]{8})`)
)

// read finds the codes in a scan. Blanks, line breaks and all that is no printable ASCII may be anywhere; what stands
// between codes is skipped. damaged are codes whose text is not whole or not what its checksum says.
func (s Scan) read() (pieces []piece, damaged []Damage, err error) {
	stripped, lineOf := strip(s.Text)
	found := anyCode.FindAllSubmatchIndex(stripped, -1)
	for i, at := range found {
		end := len(stripped)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		where := fmt.Sprintf("%s:%d", s.Name, lineOf(at[0]))
		if v := string(stripped[at[2]:at[3]]); v != version {
			return nil, nil, fmt.Errorf("%s: a code of format %s, this applbuild reads format %s: use a newer one", where, v, version)
		}
		p, d := parse(stripped[at[0]:end])
		if d != nil {
			d.Where = where
			damaged = append(damaged, *d)
			continue
		}
		p.where = where
		pieces = append(pieces, *p)
	}
	return pieces, damaged, nil
}

// strip returns the printable ASCII of text in upper case, without blanks, and a function that says which line an
// offset in it is from.
func strip(text []byte) ([]byte, func(int) int) {
	var breaks []int
	out := make([]byte, 0, len(text))
	for _, c := range text {
		switch {
		case c == '\n':
			breaks = append(breaks, len(out))
		case c > ' ' && c < 0x7f:
			out = append(out, c)
		}
	}
	return bytes.ToUpper(out), func(at int) int {
		n, _ := slices.BinarySearch(breaks, at+1)
		return n + 1
	}
}

func parse(text []byte) (*piece, *Damage) {
	m := oneCode.FindSubmatch(text)
	if m == nil {
		d := &Damage{Reason: "its text is not whole"}
		if m := head.FindSubmatch(text); m != nil {
			d.Spare = len(m[1]) > 0
			d.Number, _ = strconv.Atoi(string(m[2]))
		}
		return nil, d
	}
	p := &piece{sum: string(m[1]), spare: len(m[2]) > 0}
	p.number, _ = strconv.Atoi(string(m[3]))
	p.total, _ = strconv.Atoi(string(m[4]))
	p.size, _ = strconv.Atoi(string(m[5]))
	d := &Damage{Number: p.number, Spare: p.spare}
	var err error
	body := m[0][:len(m[0])-len(m[7])-1]
	if crc := fmt.Sprintf("%08X", crc32.ChecksumIEEE(body)); crc != string(m[7]) {
		d.Reason = fmt.Sprintf("its checksum is %s, its text has %s", m[7], crc)
		return nil, d
	}
	p.payload, err = base32.StdEncoding.DecodeString(strings.ReplaceAll(string(m[6]), "-", "="))
	if err != nil || !p.sound() {
		d.Reason = "what it says contradicts itself"
		return nil, d
	}
	return p, nil
}

// sound reports whether a code's number, total, size and length can all be true.
func (p piece) sound() bool {
	last, length := p.total, len(p.payload)
	if p.spare {
		last = spares(p.total)
	}
	if length == 0 || p.number < 1 || p.number > last {
		return false
	}
	if !p.spare && p.number == p.total {
		return length <= p.size && p.size >= p.total
	}
	return (p.total-1)*length < p.size && p.size <= p.total*length
}

// digest is a code's SHA-256 as sha256sum writes it.
func (p piece) digest() string { return strings.ToLower(p.sum) }

// verify compares an archive with the digest in its codes.
func verify(archive []byte, want string) error {
	if sum := sha256.Sum256(archive); hex.EncodeToString(sum[:]) != want {
		return fmt.Errorf("the codes fit together, but their SHA-256 is %x and should be %s: they were made or changed by another program", sum, want)
	}
	return nil
}
