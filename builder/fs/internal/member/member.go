// Package member reads the trees that file systems are made of, member by
// member of a tar archive (POSIX.1-2017, pax, "Extended tar Interchange
// Format"; extended attributes as star writes them).
//
// It does not judge whether a file system can have what a member says.
package member

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// XattrRecord is how PAX records of extended attributes begin.
const XattrRecord = "SCHILY.xattr."

// pipeSize is the size in bytes that is asked for between the writer and the
// reader of a tree.
const pipeSize = 1 << 20

// Tree is what is read: a file system's contents as a tar archive.
type Tree interface {
	WriteTar(ctx context.Context, w io.Writer) error
}

// Pipe has the tree written into a pipe. The caller closes the pipe, and then
// takes the writer's error from the channel: with the last reader gone a tree
// that is still being written ends with EPIPE.
func Pipe(ctx context.Context, tree Tree) (*os.File, <-chan error, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	// A smaller pipe is slower but as good.
	unix.FcntlInt(pw.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	wrote := make(chan error, 1)
	go func() {
		err := tree.WriteTar(ctx, pw)
		wrote <- errors.Join(err, pw.Close())
	}()
	return pr, wrote, nil
}

// Each calls use with each member of the tree and its contents, until one
// gives an error. That error is returned with the member's name before it.
func Each(ctx context.Context, tree Tree, use func(h *tar.Header, contents io.Reader) error) error {
	pr, wrote, err := Pipe(ctx, tree)
	if err != nil {
		return err
	}
	err = each(ctx, bufio.NewReaderSize(pr, 256<<10), use)
	if err == nil {
		_, err = io.Copy(io.Discard, pr)
	}
	pr.Close()
	if treeErr := <-wrote; treeErr != nil && !errors.Is(treeErr, unix.EPIPE) {
		return fmt.Errorf("read tree: %w", treeErr)
	}
	return err
}

func each(ctx context.Context, r io.Reader, use func(h *tar.Header, contents io.Reader) error) error {
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tree: %w", err)
		}
		if err := use(h, tr); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// Name returns a member's name within the tree, "." for the root.
func Name(h *tar.Header) (string, error) {
	name := path.Clean(h.Name)
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name+h.Linkname, "\x00") {
		return "", errors.New("it leaves the tree")
	}
	return name, nil
}

// Xattrs yields a member's extended attributes, sorted by name.
func Xattrs(h *tar.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if name, ok := strings.CutPrefix(key, XattrRecord); ok && !yield(name, h.PAXRecords[key]) {
				return
			}
		}
	}
}

// Mode returns a member's type and permissions as an inode has them.
func Mode(h *tar.Header) uint32 {
	kind := uint32(unix.S_IFREG)
	switch h.Typeflag {
	case tar.TypeDir:
		kind = unix.S_IFDIR
	case tar.TypeSymlink:
		kind = unix.S_IFLNK
	case tar.TypeChar:
		kind = unix.S_IFCHR
	case tar.TypeBlock:
		kind = unix.S_IFBLK
	case tar.TypeFifo:
		kind = unix.S_IFIFO
	}
	return kind | uint32(h.Mode)&0o7777
}
