package fs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
)

// entry is one member of a tree, its contents and attributes' values spooled
// into numbered files.
type entry struct {
	header  *tar.Header
	content int // number of the file with its contents
	xattrs  []xattr
	links   int    // names of it, for what is not a directory
	inode   string // "<number>" once debugfs has said it
}

type xattr struct {
	name  string
	value int // number of the file with its value
	size  int // bytes
}

// listing is a tree whose contents were spooled.
type listing struct {
	entries []*entry // in the tree's order, "." for the root
	byPath  map[string]*entry
	spool   string
	files   int
}

// unpack reads a tree and spools its contents into a folder.
func unpack(ctx context.Context, tree Tree, spool string) (*listing, error) {
	l := &listing{byPath: map[string]*entry{}, spool: spool}
	if err := member.Each(ctx, tree, l.add); err != nil {
		return nil, err
	}
	return l, nil
}

// add takes one member over.
func (l *listing) add(h *tar.Header, r io.Reader) error {
	name, err := member.Name(h)
	if err != nil {
		return err
	}
	if strings.ContainsAny(name+h.Linkname, "\n\r") {
		return errors.New("a name with a line break cannot be told to the programs; use another file system")
	}
	if len(path.Base(name)) > ext4Name || len(h.Linkname) >= ext4Block {
		return fmt.Errorf("its name or target is longer than the %d or %d bytes that ext4 has for it", ext4Name, ext4Block-1)
	}
	if _, ok := l.byPath[name]; ok {
		return errors.New("it is in the tree twice")
	}
	if parent := l.byPath[path.Dir(name)]; name != "." && path.Dir(name) != "." && (parent == nil || parent.header.Typeflag != tar.TypeDir) {
		return errors.New("it comes before its directory")
	}
	e := &entry{header: h, links: 1}
	h.Name = name
	switch h.Typeflag {
	case tar.TypeReg:
		if h.Size > 0 {
			if e.content, err = l.put(r); err != nil {
				return err
			}
		} else {
			e.content = l.empty()
		}
	case tar.TypeLink:
		target := l.byPath[path.Clean(h.Linkname)]
		if target == nil || target.header.Typeflag == tar.TypeDir {
			return fmt.Errorf("its hard link's target %q is not there before it", h.Linkname)
		}
		target.links++
		l.entries = append(l.entries, &entry{header: h})
		l.byPath[name] = target
		return nil
	case tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("type %q of a tar member cannot be in a file system", h.Typeflag)
	}
	for attr, value := range member.Xattrs(h) {
		n, err := l.put(strings.NewReader(value))
		if err != nil {
			return err
		}
		e.xattrs = append(e.xattrs, xattr{attr, n, len(value)})
	}
	l.entries = append(l.entries, e)
	l.byPath[name] = e
	return nil
}

// empty returns the number of the file that all empty files are copies of.
func (l *listing) empty() int { return 0 }

// put spools contents into the next file.
func (l *listing) put(r io.Reader) (int, error) {
	l.files++
	f, err := os.OpenFile(filepath.Join(l.spool, strconv.Itoa(l.files)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(f, r)
	return l.files, errors.Join(err, f.Close())
}

// names writes the commands that put all names and contents into an empty
// file system, each from within its directory, as debugfs's write takes no path.
func (l *listing) names(w io.Writer, contents string) error {
	if err := os.WriteFile(filepath.Join(l.spool, strconv.Itoa(l.empty())), nil, 0o600); err != nil {
		return err
	}
	s := &debugfsScript{w: bufio.NewWriterSize(w, 64<<10), cwd: "."}
	for _, e := range l.entries {
		h := e.header
		if h.Name == "." || h.Name == "lost+found" && h.Typeflag == tar.TypeDir {
			continue
		}
		s.enter(path.Dir(h.Name))
		base := quote(path.Base(h.Name))
		switch h.Typeflag {
		case tar.TypeReg:
			s.say("write", quote(contents+"/"+strconv.Itoa(e.content)), base)
		case tar.TypeLink:
			s.say("ln", quote("/"+path.Clean(h.Linkname)), base)
		case tar.TypeDir:
			s.say("mkdir", base)
		case tar.TypeSymlink:
			s.say("symlink", base, quote(h.Linkname))
		case tar.TypeFifo:
			s.say("mknod", base, "p")
		case tar.TypeChar:
			s.say("mknod", base, "c", strconv.FormatInt(h.Devmajor, 10), strconv.FormatInt(h.Devminor, 10))
		case tar.TypeBlock:
			s.say("mknod", base, "b", strconv.FormatInt(h.Devmajor, 10), strconv.FormatInt(h.Devminor, 10))
		}
	}
	return s.w.Flush()
}

// inodes takes the numbers of files and devices out of what debugfs said to the
// commands of names: a line for each write and mknod. By its number a file is found at once,
// while a name is looked for from its directory's beginning.
func (l *listing) inodes(said io.Reader) error {
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, 1<<20)
	next := func() (string, bool) {
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "Allocated inode: "); ok {
				return "<" + n + ">", true
			}
		}
		return "", false
	}
	for _, e := range l.entries {
		switch e.header.Typeflag {
		case tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
			continue
		}
		n, ok := next()
		if !ok {
			return errors.Join(fmt.Errorf("debugfs has not said where it put %q", e.header.Name), lines.Err())
		}
		e.inode = n
	}
	if n, ok := next(); ok {
		return fmt.Errorf("debugfs has put more into the file system than it was told to: %s", n)
	}
	return lines.Err()
}

// attributes writes the commands that set what entries have besides name and
// contents. They come last, as putting a name somewhere changes its directory.
func (l *listing) attributes(w io.Writer, contents string, readOnly bool) error {
	s := &debugfsScript{w: bufio.NewWriterSize(w, 64<<10), cwd: "."}
	for _, e := range l.entries {
		if e.header.Typeflag != tar.TypeLink {
			s.attributes(e, contents)
		}
	}
	if readOnly {
		s.say("feature", "read-only")
	}
	return s.w.Flush()
}

// debugfsScript writes commands for debugfs. Errors are kept by the writer
// until its Flush.
type debugfsScript struct {
	w   *bufio.Writer
	cwd string
}

func (s *debugfsScript) say(words ...string) {
	s.w.WriteString(strings.Join(words, " "))
	s.w.WriteByte('\n')
}

// enter goes to a directory of the tree.
func (s *debugfsScript) enter(dir string) {
	if dir != s.cwd {
		s.say("cd", quote("/"+dir))
		s.cwd = dir
	}
}

// attributes sets what an entry has besides name and contents.
func (s *debugfsScript) attributes(e *entry, contents string) {
	h := e.header
	name := e.inode
	if name == "" {
		s.enter(path.Dir(h.Name))
		// "./" keeps debugfs from taking a name for an inode's number or an option.
		name = quote("./" + path.Base(h.Name))
	}
	for _, x := range e.xattrs {
		s.say("ea_set", "-f", quote(contents+"/"+strconv.Itoa(x.value)), name, quote(x.name))
	}
	set := func(field, value string) { s.say("sif", name, field, value) }
	set("mode", "0"+strconv.FormatUint(uint64(member.Mode(h)), 8))
	if h.Uid != 0 {
		set("uid", strconv.Itoa(h.Uid))
	}
	if h.Gid != 0 {
		set("gid", strconv.Itoa(h.Gid))
	}
	if e.links > 1 {
		set("links_count", strconv.Itoa(e.links))
	}
	at := "@" + strconv.FormatInt(h.ModTime.Unix(), 10)
	for _, field := range []string{"mtime", "ctime", "atime"} {
		set(field, at)
	}
}

// quote puts a word into quotes as debugfs's reader of commands takes them.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
