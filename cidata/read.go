package cidata

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/fat"
	"github.com/applbuild/applbuild/cidata/iso"
	"github.com/applbuild/applbuild/cidata/userdata"
)

// Formats that a seed is read from.
const (
	FormatISO    = "iso9660"
	FormatVFAT   = "vfat"
	FormatFolder = "folder"
	FormatTar    = "tar"
)

// Read reads a seed out of size bytes: an ISO 9660 or FAT file system, or a tar, gzip'ed or not. It may come from
// anywhere; nothing in it is checked, see [Seed.Inspect]. What holds no seed gives an error that matches ErrNotSeed.
func Read(r io.ReaderAt, size int64) (*Seed, error) {
	head := make([]byte, 2048)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	descriptor := make([]byte, 6)
	if n, _ := r.ReadAt(descriptor, 16*2048); n == 6 && string(descriptor[1:]) == "CD001" {
		image, err := iso.Open(r, size)
		if err != nil {
			return nil, err
		}
		return fromFS(image, FormatISO, image.Label())
	}
	switch {
	case userdata.IsGzip(head):
		return readTarball(io.NewSectionReader(r, 0, size))
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return readTar(io.NewSectionReader(r, 0, size))
	case len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa:
		image, err := fat.Open(r, size)
		if err != nil {
			return nil, err
		}
		return fromFS(image, FormatVFAT, image.Label())
	}
	return nil, fmt.Errorf("neither an ISO 9660 nor a FAT file system nor a tar: %w", ErrNotSeed)
}

// ReadDir reads a seed out of a folder.
func ReadDir(dir string) (*Seed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, name := range []string{UserData, MetaData} {
		if _, err := root.Stat(name); err == nil {
			return fromFS(root.FS(), FormatFolder, "")
		}
	}
	return nil, fmt.Errorf("the folder has no user-data and no meta-data: %w", ErrNotSeed)
}

// A tally counts what is read.
type tally struct {
	files int
	bytes int64
}

func (t *tally) add(name string, size int64) error {
	t.files++
	t.bytes += size
	if size < 0 || size > maxFile || t.files > maxFiles || t.bytes > maxTotal {
		return fmt.Errorf("%s: %w: a file may have %d MiB, all %d MiB in %d files", document.Quote(name), ErrTooLarge, maxFile>>20, maxTotal>>20, maxFiles)
	}
	return nil
}

// fromFS reads all regular files of fsys.
func fromFS(fsys fs.FS, format, label string) (*Seed, error) {
	s := &Seed{format: format, label: label}
	var t tally
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := fs.Stat(fsys, name)
		if err != nil && e.Type()&fs.ModeSymlink == 0 {
			return err
		}
		if err != nil || !info.Mode().IsRegular() {
			return nil // a folder, or a link that leads nowhere in here
		}
		if err := t.add(name, info.Size()); err != nil {
			return err
		}
		if info.ModTime().After(s.time) && format != FormatFolder {
			s.time = info.ModTime().UTC()
		}
		f, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, info.Size()))
		if err != nil {
			return err
		}
		s.files = append(s.files, File{name, data})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.whole()
}

// whole sorts the files of a seed that was read, and refuses what is none.
func (s *Seed) whole() (*Seed, error) {
	slices.SortFunc(s.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	_, user := s.File(UserData)
	_, meta := s.File(MetaData)
	if !user && !meta {
		return nil, fmt.Errorf("there is no user-data and no meta-data in it: %w", ErrNotSeed)
	}
	return s, nil
}

func readTarball(r io.Reader) (*Seed, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return readTar(z)
}

// readTar reads a tar of a seed's files, which may all lie in one folder.
func readTar(r io.Reader) (*Seed, error) {
	s := &Seed{format: FormatTar}
	var t tally
	reader := tar.NewReader(io.LimitReader(r, 2*maxTotal))
	for entries := 0; ; entries++ {
		h, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		if entries > 2*maxFiles {
			return nil, fmt.Errorf("tar: %w", ErrTooLarge)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag != tar.TypeReg || name == "" {
			continue
		}
		if err := t.add(name, h.Size); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(reader, maxFile))
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		s.files = slices.DeleteFunc(s.files, func(f File) bool { return f.Path == name }) // the last one counts
		s.files = append(s.files, File{name, data})
	}
	if folder := s.folder(); folder != "" {
		for i := range s.files {
			s.files[i].Path = strings.TrimPrefix(s.files[i].Path, folder)
		}
	}
	return s.whole()
}

// folder is the one folder that all files lie in, with a slash, "" where there is none.
func (s *Seed) folder() string {
	folder := ""
	for _, f := range s.files {
		first, _, inside := strings.Cut(f.Path, "/")
		if !inside || folder != "" && folder != first+"/" {
			return ""
		}
		folder = first + "/"
	}
	return folder
}

// Same reports whether two seeds hold the same files.
func (s *Seed) Same(other *Seed) bool {
	return slices.EqualFunc(s.files, other.files, func(a, b File) bool { return a.Path == b.Path && bytes.Equal(a.Data, b.Data) })
}
