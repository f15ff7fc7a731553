package tree

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Offsets in a ustar header, POSIX.1-2001 pax, "ustar Interchange Format".
const (
	offName     = 0
	offMode     = 100
	offUID      = 108
	offGID      = 116
	offSize     = 124
	offTime     = 136
	offChecksum = 148
	offType     = 156
	offLink     = 157
	offMagic    = 257
	offMajor    = 329
	offMinor    = 337
	offPrefix   = 345

	nameSize   = 100
	prefixSize = 155

	maxOctal7  = 1<<21 - 1 // seven digits: ids, mode, device numbers
	maxOctal11 = 1<<33 - 1 // eleven digits: size, time
)

// paxName is the name of extended headers. It is of no use to a reader.
const paxName = "PaxHeaders/entry"

// appendHeader appends the headers of an entry, in whole blocks.
func appendHeader(b []byte, e *Entry, clock time.Time) ([]byte, error) {
	name := e.Path
	if e.IsDir() {
		name += "/"
	}
	mtime := clock.Unix()
	if !e.ModTime.IsZero() {
		mtime = min(mtime, e.ModTime.Unix())
	}
	var records []record
	prefix, short, ok := splitName(name)
	if !ok {
		records = append(records, record{"path", name})
		prefix, short = "", cut(name)
	}
	linkname := ""
	if e.Typeflag == TypeLink || e.Typeflag == TypeSymlink {
		linkname = e.Linkname
		if len(linkname) > nameSize {
			records = append(records, record{"linkpath", linkname})
			linkname = cut(linkname)
		}
	}
	size := int64(0)
	if e.Typeflag == TypeReg {
		size = e.Size
	}
	number := func(key string, value, limit int64) int64 {
		if value >= 0 && value <= limit {
			return value
		}
		records = append(records, record{key, strconv.FormatInt(value, 10)})
		return 0
	}
	uid := number("uid", int64(e.UID), maxOctal7)
	gid := number("gid", int64(e.GID), maxOctal7)
	octalSize := number("size", size, maxOctal11)
	octalTime := number("mtime", mtime, maxOctal11)
	if e.Devmajor < 0 || e.Devmajor > maxOctal7 || e.Devminor < 0 || e.Devminor > maxOctal7 {
		return nil, fmt.Errorf("/%s: device %d:%d does not fit a tar header", e.Path, e.Devmajor, e.Devminor)
	}
	for key, value := range e.Xattrs {
		records = append(records, record{xattrRecord + key, value})
	}
	b = appendPAX(b, records, mtime)
	b, h := appendBlock(b)
	copy(h[offName:offName+nameSize], short)
	putOctal(h[offMode:offUID], e.Mode&0o7777)
	putOctal(h[offUID:offGID], uid)
	putOctal(h[offGID:offSize], gid)
	putOctal(h[offSize:offTime], octalSize)
	putOctal(h[offTime:offChecksum], octalTime)
	h[offType] = e.Typeflag
	copy(h[offLink:offLink+nameSize], linkname)
	putOctal(h[offMajor:offMinor], e.Devmajor)
	putOctal(h[offMinor:offPrefix], e.Devminor)
	copy(h[offPrefix:offPrefix+prefixSize], prefix)
	finish(h)
	return b, nil
}

// splitName fits a name into a ustar header's two fields.
func splitName(name string) (prefix, short string, ok bool) {
	if len(name) <= nameSize {
		return "", name, true
	}
	if len(name) > nameSize+1+prefixSize {
		return "", "", false
	}
	// The latest slash that leaves a prefix of allowed length; a folder's
	// own last slash does not count.
	i := strings.LastIndexByte(name[:min(prefixSize+1, len(name)-1)], '/')
	if i <= 0 || len(name)-i-1 > nameSize {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

func cut(name string) string { return name[:min(len(name), nameSize)] }

// A record is one line of an extended header.
type record struct{ key, value string }

// appendPAX appends an extended header with its records sorted.
func appendPAX(b []byte, records []record, mtime int64) []byte {
	if len(records) == 0 {
		return b
	}
	slices.SortFunc(records, func(x, y record) int { return strings.Compare(x.key, y.key) })
	b, _ = appendBlock(b)
	head := len(b) - blockSize
	for _, r := range records {
		b = appendRecord(b, r)
	}
	size := len(b) - head - blockSize
	b = append(b, zeros[:padding(int64(size))]...)
	h := b[head : head+blockSize]
	copy(h[offName:], paxName)
	putOctal(h[offMode:offUID], 0o644)
	putOctal(h[offUID:offGID], 0)
	putOctal(h[offGID:offSize], 0)
	putOctal(h[offSize:offTime], int64(size))
	putOctal(h[offTime:offChecksum], min(max(mtime, 0), maxOctal11))
	h[offType] = 'x'
	putOctal(h[offMajor:offMinor], 0)
	putOctal(h[offMinor:offPrefix], 0)
	finish(h)
	return b
}

// appendRecord writes "LENGTH KEY=VALUE\n", where the length counts itself.
func appendRecord(b []byte, r record) []byte {
	rest := len(" =\n") + len(r.key) + len(r.value)
	size := rest
	for {
		n := rest + len(strconv.Itoa(size))
		if n == size {
			break
		}
		size = n
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, r.key...)
	b = append(b, '=')
	b = append(b, r.value...)
	return append(b, '\n')
}

var zeros [blockSize]byte

func appendBlock(b []byte) (all, block []byte) {
	b = append(b, zeros[:]...)
	return b, b[len(b)-blockSize:]
}

// putOctal fills a field but for its last byte, which stays NUL.
func putOctal(field []byte, v int64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(v&7)
		v >>= 3
	}
}

// finish writes the magic and the checksum.
func finish(h []byte) {
	copy(h[offMagic:], "ustar\x0000")
	copy(h[offChecksum:offType], "        ")
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	putOctal(h[offChecksum:offChecksum+7], sum)
}

// padding is what is missing from n bytes to whole blocks.
func padding(n int64) int64 { return -n & (blockSize - 1) }
