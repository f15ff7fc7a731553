package builder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/builder/disk"
	"github.com/applbuild/applbuild/builder/fs"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/sandbox"
)

// Where the reader of a root file system sees the disk.
const readerDisk = "/disk.raw"

// rootFile reads a file of the root file system on a disk, up to limit bytes.
// Nothing is mounted and no privilege is needed: the program that belongs to
// the file system reads it in a sandbox. Links are not followed. The error of a
// file that is not there matches fs.ErrNotExist.
func (b *Builder) rootFile(ctx context.Context, image string, root disk.Entry, kind, name string, limit int64) ([]byte, error) {
	image, err := existing(image)
	if err != nil {
		return nil, err
	}
	tools, err := b.ownTools(ctx, "image-tools", "readers", (*distro.Release).ReaderPackages)
	if err != nil {
		return nil, err
	}
	var argv []string
	offset := strconv.FormatInt(root.Offset, 10)
	switch kind {
	case fs.KindSquashfs:
		argv = []string{"/usr/bin/unsquashfs", "-no-progress", "-o", offset, "-cat", readerDisk, name}
	case fs.KindErofs:
		argv = []string{"/usr/bin/dump.erofs", "--cat", "--offset=" + offset, "--path=/" + name, readerDisk}
	case fs.KindExt4:
		argv = []string{"/usr/sbin/debugfs", "-R", "cat /" + name, readerDisk + "?offset=" + offset}
	default:
		return nil, fmt.Errorf("%s: the root partition holds %q, which is none of squashfs, erofs and ext4", image, kind)
	}
	out, said := &bounded{limit: limit}, &bounded{limit: 64 << 10}
	err = sandbox.Run(ctx, sandbox.Spec{
		Root: tools.dir, ReadOnlyRoot: true,
		Binds: []sandbox.Bind{{Source: image, Target: readerDisk, ReadOnly: true}},
		Argv:  argv, Stdout: out, Stderr: said,
	})
	text := said.String()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.over:
		return nil, fmt.Errorf("%s: /%s is larger than %d bytes", image, name, limit)
	case isMissing(text):
		return nil, fmt.Errorf("%s: /%s: %w", image, name, iofs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("%s: reading /%s of the root: %w: %s", image, name, err, strings.TrimSpace(text))
	}
	return out.Bytes(), nil
}

// existing is the absolute name of a disk's file.
func existing(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		return "", fmt.Errorf("disk: %w", err)
	}
	return name, nil
}

// isMissing says that a reader did not find the file: unsquashfs, dump.erofs and
// debugfs say so each in words of its own, and not all by their exit status.
func isMissing(text string) bool {
	for _, words := range []string{"no matches for", "No such file or directory", "File not found by ext2_lookup"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// bounded keeps what is written to it up to a limit, and takes the rest for
// nothing.
type bounded struct {
	bytes.Buffer
	limit int64
	over  bool
}

var _ io.Writer = (*bounded)(nil)

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - int64(b.Len()); int64(len(p)) > room {
		b.over = true
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
