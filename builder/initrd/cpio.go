package initrd

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// The newc format of cpio: a header of 110 bytes of ASCII, the name with a
// NUL, padding to 4 bytes, the contents, padding to 4 bytes.
const (
	cpioMagic   = "070701"
	cpioTrailer = "TRAILER!!!"

	cpioDirectory = 0o040000
	cpioRegular   = 0o100000
	cpioSymlink   = 0o120000

	maxCpioFile = 1<<32 - 1 // the size is a field of 32 bits
)

// A cpioWriter writes entries in the order they come, with inode numbers that
// count from 1, owned by root, all of one modification time.
type cpioWriter struct {
	w      *bufio.Writer
	offset int64
	inode  uint32
	mtime  uint32 // seconds since 1970
}

func newCpioWriter(w io.Writer, mtime int64) (*cpioWriter, error) {
	if mtime < 0 || mtime > 1<<32-1 {
		return nil, fmt.Errorf("cpio: modification time %d is not in the 32 bits of the format", mtime)
	}
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<16), mtime: uint32(mtime)}, nil
}

func (c *cpioWriter) write(e *entry) error {
	if strings.HasPrefix(e.path, "/") || e.path == "" || e.path == cpioTrailer {
		return fmt.Errorf("cpio: %q can't be a name", e.path)
	}
	mode, data := uint32(e.mode.Perm()), e.content
	if e.mode&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	links := 1
	switch e.mode.Type() {
	case 0:
		mode |= cpioRegular
	case fs.ModeDir:
		mode, data, links = mode|cpioDirectory, nil, 2
	case fs.ModeSymlink:
		mode, data = 0o777|cpioSymlink, []byte(e.link)
	default:
		return fmt.Errorf("cpio: %s: a file of type %v can't be written", e.path, e.mode.Type())
	}
	c.inode++
	return c.record(e.path, mode, links, c.mtime, data)
}

// close writes the trailer. It does not close the writer below.
func (c *cpioWriter) close() error {
	c.inode = 0
	if err := c.record(cpioTrailer, 0, 1, 0, nil); err != nil {
		return err
	}
	return c.w.Flush()
}

func (c *cpioWriter) record(name string, mode uint32, links int, mtime uint32, data []byte) error {
	if int64(len(data)) > maxCpioFile {
		return fmt.Errorf("cpio: %s: %d bytes, the format ends at %d", name, len(data), int64(maxCpioFile))
	}
	// inode, mode, uid, gid, links, mtime, size, device (two fields), device
	// of a device file (two fields), length of the name, checksum
	n, err := fmt.Fprintf(c.w, "%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		cpioMagic, c.inode, mode, 0, 0, links, mtime, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.offset += int64(n)
	if err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	n, err = c.w.Write(data)
	c.offset += int64(n)
	if err != nil {
		return err
	}
	return c.pad()
}

func (c *cpioWriter) pad() error {
	for c.offset%4 != 0 {
		if err := c.w.WriteByte(0); err != nil {
			return err
		}
		c.offset++
	}
	return nil
}
