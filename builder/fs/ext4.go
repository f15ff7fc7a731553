package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/fs/internal/imagefile"
	"github.com/google/uuid"
)

// Ext4 writes ext4 file systems with mke2fs and debugfs (e2fsprogs 1.46 or
// later).
//
// mke2fs can fill a file system by itself, but takes access and change times
// and, from directories, the order of their entries from the machine it runs
// on; archives it reads only in versions and builds that few distributions
// have. So an empty file system is made and debugfs is told what to put into it,
// entry by entry, which needs no privileges and is the same with all versions.
type Ext4 struct {
	tool     Tool
	clock    time.Time
	uuid     uuid.UUID
	hashSeed uuid.UUID
	label    string
	size     int64
	writable bool
}

// Ext4Option changes how an Ext4 writes.
type Ext4Option func(*Ext4)

// Ext4Size sets the size in bytes, a multiple of 4096. Otherwise it is what
// the tree needs, with less than 1 % to spare.
func Ext4Size(n int64) Ext4Option { return func(e *Ext4) { e.size = n } }

// Ext4Label sets the volume's label, at most 16 bytes.
func Ext4Label(label string) Ext4Option { return func(e *Ext4) { e.label = label } }

// Ext4Writable makes a file system that is to be written and to grow: with a
// journal, an inode for every 16 KiB, descriptors' room for a thousand times its size,
// and without the flag that makes Linux refuse to mount it writable. It needs
// Ext4Size, of MinimumSize at least.
func Ext4Writable() Ext4Option { return func(e *Ext4) { e.writable = true } }

// NewExt4 returns a writer. The clock is the file system's creation time and
// that of a root directory the tree does not have; hashSeed is for the hashes
// of directories.
func NewExt4(tool Tool, clock time.Time, id, hashSeed uuid.UUID, opts ...Ext4Option) *Ext4 {
	e := &Ext4{tool: tool, clock: clock, uuid: id, hashSeed: hashSeed}
	for _, o := range opts {
		o(e)
	}
	return e
}

// Features by name (ext4(5)). They are all named, so that a machine's
// mke2fs.conf counts for nothing.
const (
	ext4Features = "none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
	ext4Writable = ",has_journal,resize_inode"
)

// Write makes a file system of the tree at path. While it does, the contents
// of all files lie beside it, in a folder of the same name with ".contents"
// behind it. Errors match ErrNoSpace.
func (e *Ext4) Write(ctx context.Context, tree Tree, path string) error {
	if err := e.write(ctx, tree, path); err != nil {
		return fmt.Errorf("ext4: %w", err)
	}
	return nil
}

func (e *Ext4) write(ctx context.Context, tree Tree, path string) (err error) {
	if e.writable {
		if err := CheckVolume(KindExt4, e.label, e.size, ext4Block); err != nil {
			return err
		}
	}
	if e.size%ext4Block != 0 || e.size < 0 || len(e.label) > 16 {
		return fmt.Errorf("size %d must be a multiple of %d and label %q have at most 16 bytes", e.size, ext4Block, e.label)
	}
	return imagefile.Create(path, func(dir, name string) (err error) {
		contents := name + ".contents"
		spool := filepath.Join(dir, contents)
		if err := os.Mkdir(spool, 0o700); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(spool)) }()
		l, err := unpack(ctx, tree, spool)
		if err != nil {
			return err
		}
		blocks, inodes := l.need(e.reserve())
		size := e.size
		if size == 0 {
			size = blocks * ext4Block
		} else if short := blocks*ext4Block - size; short > 0 {
			return fmt.Errorf("%w: %d bytes, %d more are needed", ErrNoSpace, size, short)
		}
		if err := truncate(filepath.Join(dir, name), size); err != nil {
			return err
		}
		if err := e.format(ctx, dir, name, inodes); err != nil {
			return err
		}
		return e.fill(ctx, dir, name, contents, l)
	})
}

func (e *Ext4) environment() []string {
	return environment("MKE2FS_CONFIG=/dev/null", "E2FSPROGS_FAKE_TIME="+strconv.FormatInt(e.clock.Unix(), 10))
}

// reserve returns what a file system has besides what its tree needs.
func (e *Ext4) reserve() ext4Reserve {
	if !e.writable {
		return ext4Reserve{}
	}
	return ext4Reserve{inodes: e.size / ext4InodeRatio, journal: ext4Journal(e.size), grows: true}
}

// format makes the empty file system.
func (e *Ext4) format(ctx context.Context, dir, name string, inodes int64) error {
	argv := []string{"mke2fs", "-q", "-F", "-T", "default", "-b", strconv.Itoa(ext4Block), "-I", strconv.Itoa(ext4Inode),
		"-N", strconv.FormatInt(inodes, 10), "-m", "0", "-U", e.uuid.String(), "-L", e.label,
		"-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0,hash_seed=" + e.hashSeed.String()}
	if e.writable {
		// The journal's default size and the superblock's room for growing
		// depend on the version otherwise.
		argv = append(argv, "-O", ext4Features+ext4Writable, "-J", "size="+strconv.FormatInt(ext4Journal(e.size)*ext4Block>>20, 10))
	} else {
		argv = append(argv, "-O", ext4Features)
	}
	return run(ctx, e.tool, Command{Argv: append(argv, name), Env: e.environment(), Dir: dir})
}

// fill puts the entries into the empty file system.
func (e *Ext4) fill(ctx context.Context, dir, name, contents string, l *listing) error {
	var said bytes.Buffer
	if err := e.debugfs(ctx, dir, name, contents, &said, func(w io.Writer) error { return l.names(w, contents) }); err != nil {
		return err
	}
	if err := l.inodes(&said); err != nil {
		return err
	}
	return e.debugfs(ctx, dir, name, contents, io.Discard, func(w io.Writer) error { return l.attributes(w, contents, !e.writable) })
}

// debugfs runs debugfs with commands from a file. It tells of errors on its
// standard error only, behind its name and version, and goes on.
func (e *Ext4) debugfs(ctx context.Context, dir, name, contents string, stdout io.Writer, commands func(io.Writer) error) error {
	script, err := os.Create(filepath.Join(dir, contents, "commands"))
	if err != nil {
		return err
	}
	defer script.Close()
	if err := commands(script); err != nil {
		return err
	}
	if _, err := script.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var said tail
	cmd := Command{Argv: []string{"debugfs", "-w", "-f", "-", name}, Env: e.environment(), Stdin: script, Stdout: stdout, Stderr: &said, Dir: dir}
	if err := run(ctx, e.tool, cmd); err != nil {
		return fmt.Errorf("%w: %s", err, said.line())
	}
	if wrong := strings.TrimPrefix(said.line(), debugfsBanner(said.line())); wrong != "" {
		if strings.Contains(wrong, "Could not allocate") {
			return fmt.Errorf("%w: debugfs: %s", ErrNoSpace, strings.TrimPrefix(wrong, "; "))
		}
		return fmt.Errorf("debugfs: %s", strings.TrimPrefix(wrong, "; "))
	}
	return nil
}

// debugfsBanner returns the line that debugfs begins its errors with, as in
// "debugfs 1.47.0 (5-Feb-2023)".
func debugfsBanner(said string) string {
	first, _, _ := strings.Cut(said, "; ")
	if strings.HasPrefix(first, "debugfs ") && strings.HasSuffix(first, ")") {
		return first
	}
	return ""
}
