package deb

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
)

// digests are the MD5 digests of a package's files by their names in the
// list, from which dpkg makes the md5sums of a package that has none. They
// are what dpkg --verify compares with, and no protection.
type digests map[string][md5.Size]byte

// reader returns a reader to be used in place of r, and what to call when
// the file was read.
func (d digests) reader(path string, r io.Reader) (io.Reader, func()) {
	if d == nil {
		return r, func() {}
	}
	hash := md5.New()
	return io.TeeReader(r, hash), func() { d[path] = [md5.Size]byte(hash.Sum(nil)) }
}

// link gives a hard link the digest of the file.
func (d digests) link(old, path string) {
	if digest, ok := d[old]; ok {
		d[path] = digest
	}
}

// text is the md5sums file, in the order of the list.
func (d digests) text(files []string) []byte {
	var b bytes.Buffer
	for _, path := range files {
		if digest, ok := d[path]; ok {
			fmt.Fprintf(&b, "%x  %s\n", digest, path[1:])
		}
	}
	return b.Bytes()
}
