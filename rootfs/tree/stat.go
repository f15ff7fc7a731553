package tree

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// newEntry makes an entry of what the kernel says about a file.
func newEntry(name string, st *unix.Stat_t) *Entry {
	e := &Entry{
		Path:    name,
		Mode:    int64(st.Mode & 0o7777),
		UID:     int(st.Uid),
		GID:     int(st.Gid),
		ModTime: time.Unix(int64(st.Mtim.Sec), 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Typeflag, e.Size = TypeReg, st.Size
	case unix.S_IFDIR:
		e.Typeflag = TypeDir
	case unix.S_IFLNK:
		e.Typeflag = TypeSymlink
	case unix.S_IFIFO:
		e.Typeflag = TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Typeflag = TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Typeflag = TypeBlock
		}
		e.Devmajor, e.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
	return e
}

// openAt opens without following a link, and without waiting should it have
// become a pipe.
func openAt(dir int, base string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, base, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readlink(dir int, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// An fdReader reads from an open file. Reading less than asked for is an
// error: the file became shorter.
type fdReader int

func (fd fdReader) ReadAt(p []byte, offset int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(int(fd), p[done:], offset+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrUnexpectedEOF
		}
		done += n
	}
	return done, nil
}

// keptXattr says which extended attributes belong into a tree. Others come
// from the machine that the tree lies on (labels of security modules,
// trusted.*) or have no place in an archive that all readers know (access
// control lists).
func keptXattr(name string) bool {
	return name == capability || strings.HasPrefix(name, "user.")
}

const capability = "security.capability"

// xattrs reads those extended attributes of an open file that are kept.
func xattrs(fd int) (map[string]string, error) {
	n, err := unix.Flistxattr(fd, nil)
	if n <= 0 || err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return nil, err
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	var kept map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !keptXattr(name) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			kept = map[string]string{}
		}
		value = value[:n]
		if name == capability {
			value = plainCapability(value)
		}
		kept[name] = string(value)
	}
	return kept, nil
}

// File capabilities, linux/capability.h: struct vfs_ns_cap_data, little endian.
const (
	capRevisionMask = 0xff000000
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capSize2        = 20 // bytes: magic, then permitted and inheritable twice
	capSize3        = 24 // the same and the id of the namespace's root
)

// plainCapability turns the form that belongs to one user namespace into
// the form of the first: the bytes are the same then, whoever made the tree.
func plainCapability(value []byte) []byte {
	if len(value) != capSize3 {
		return value
	}
	magic := binary.LittleEndian.Uint32(value)
	if magic&capRevisionMask != capRevision3 {
		return value
	}
	plain := slices.Clone(value[:capSize2])
	binary.LittleEndian.PutUint32(plain, magic&^uint32(capRevisionMask)|capRevision2)
	return plain
}
