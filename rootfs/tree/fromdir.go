package tree

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A PackOption changes what FromDir writes.
type PackOption func(*packer)

// Ignore leaves out what matches one of the patterns, with all below it. A
// pattern is that of path.Match on the whole Path ("var/cache/apt/*").
func Ignore(patterns ...string) PackOption {
	return func(p *packer) { p.ignore = append(p.ignore, patterns...) }
}

// Notice is called with a line of text for each file that cannot be in an
// archive and is left out: sockets.
func Notice(fn func(string)) PackOption {
	return func(p *packer) { p.notice = fn }
}

const (
	smallFile   = 256 << 10 // bytes up to which a file is read ahead as a whole
	readAhead   = 256       // entries that may be read ahead
	packReaders = 2         // goroutines that read files
)

// FromDir writes the directory dir with all in it as a canonical archive.
// Owners are those that the caller sees: in a user namespace, those inside.
// Symbolic links are not followed; what is mounted below dir is entered.
// Times after the clock become the clock. Nothing may change below dir
// meanwhile.
func FromDir(ctx context.Context, dir string, w io.Writer, clock time.Time, options ...PackOption) error {
	p := &packer{notice: func(string) {}, inodes: map[inode]string{}}
	for _, o := range options {
		o(p)
	}
	for _, pattern := range p.ignore {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.ctx = ctx
	p.ordered = make(chan *packed, readAhead)
	p.toRead = make(chan *packed, readAhead)
	var wg sync.WaitGroup
	for range packReaders {
		wg.Go(p.read)
	}
	wg.Go(func() {
		p.err = p.walk(dir)
		close(p.toRead)
		close(p.ordered)
	})
	out := newWriter(ctx, w, clock)
	err := p.write(out)
	cancel()
	for item := range p.ordered {
		item.drop()
	}
	wg.Wait()
	return err
}

// A packer walks a directory and hands what it finds to the readers and, in
// order, to the writer.
type packer struct {
	ctx     context.Context
	ignore  []string
	notice  func(string)
	inodes  map[inode]string // files with several names
	ordered chan *packed
	toRead  chan *packed
	err     error // of the walk; good once ordered is closed
}

type inode struct{ dev, ino uint64 }

// packed is an entry on its way to the writer.
type packed struct {
	entry *Entry
	fd    int           // of a regular file, else -1
	ready chan struct{} // closed when a reader is done; nil where none is needed
	data  []byte        // of a small file
	err   error
}

// walk sends the folder and all below it.
func (p *packer) walk(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return p.dir(fd, ".", &st)
}

// dir sends a folder and what is in it, sorted, and closes it.
func (p *packer) dir(fd int, name string, st *unix.Stat_t) error {
	f := os.NewFile(uintptr(fd), "/"+name)
	defer f.Close()
	e := newEntry(name, st)
	var err error
	if e.Xattrs, err = xattrs(fd); err != nil {
		return &fs.PathError{Op: "read attributes of", Path: "/" + name, Err: err}
	}
	if err := p.send(&packed{entry: e, fd: -1}); err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, base := range names {
		child := join(name, base)
		if p.ignored(child) {
			continue
		}
		if err := p.child(fd, base, child); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) ignored(name string) bool {
	return slices.ContainsFunc(p.ignore, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// child sends what base is in the folder dir, and what is below it.
func (p *packer) child(dir int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: "/" + name, Err: err}
	}
	e := newEntry(name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		p.notice(fmt.Sprintf("/%s: a socket, which no archive can hold: left out", name))
		return nil
	case unix.S_IFDIR:
		fd, err := openAt(dir, base, unix.O_DIRECTORY)
		if err != nil {
			return &fs.PathError{Op: "open", Path: "/" + name, Err: err}
		}
		return p.dir(fd, name, &st)
	case unix.S_IFREG:
		return p.file(dir, base, e, &st)
	case unix.S_IFLNK:
		target, err := readlink(dir, base)
		if err != nil {
			return &fs.PathError{Op: "readlink", Path: "/" + name, Err: err}
		}
		e.Linkname = target
	}
	return p.send(&packed{entry: e, fd: -1})
}

func (p *packer) file(dir int, base string, e *Entry, st *unix.Stat_t) error {
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.inodes[id]; ok {
			e.Typeflag, e.Linkname, e.Size = TypeLink, first, 0
			return p.send(&packed{entry: e, fd: -1})
		}
		p.inodes[id] = e.Path
	}
	fd, err := openAt(dir, base, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/" + e.Path, Err: err}
	}
	item := &packed{entry: e, fd: fd, ready: make(chan struct{})}
	if err := p.send(item); err != nil {
		unix.Close(fd)
		return err
	}
	// The writer has the item already and waits for it: no need to heed the
	// context, the readers go on until the channel is closed.
	p.toRead <- item
	return nil
}

func (p *packer) send(item *packed) error {
	select {
	case p.ordered <- item:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// read is what each reader does.
func (p *packer) read() {
	for item := range p.toRead {
		item.entry.Xattrs, item.err = xattrs(item.fd)
		if size := item.entry.Size; item.err == nil && size <= smallFile && p.ctx.Err() == nil {
			item.data = make([]byte, size)
			_, item.err = fdReader(item.fd).ReadAt(item.data, 0)
		}
		close(item.ready)
	}
}

// write writes what the walk sent.
func (p *packer) write(out *writer) error {
	for item := range p.ordered {
		err := item.write(out)
		item.drop()
		if err != nil {
			return err
		}
	}
	if p.err != nil {
		return p.err
	}
	return out.close()
}

func (item *packed) write(out *writer) error {
	e := item.entry
	if item.ready == nil {
		return out.entry(e)
	}
	<-item.ready
	if item.err != nil {
		return &fs.PathError{Op: "read", Path: "/" + e.Path, Err: item.err}
	}
	if item.data == nil {
		e.content = fdReader(item.fd)
		return out.entry(e)
	}
	if err := out.header(e); err != nil {
		return err
	}
	if err := out.write(item.data); err != nil {
		return err
	}
	return out.pad(e.Size)
}

// drop closes the file once no reader has it.
func (item *packed) drop() {
	if item.ready != nil {
		<-item.ready
		unix.Close(item.fd)
	}
}
