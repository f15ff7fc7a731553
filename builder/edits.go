package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
	"github.com/applbuild/applbuild/rootfs/distro"
	"github.com/applbuild/applbuild/rootfs/overlay"
)

// edits is all that a recipe changes in the base tree, with the digest of each
// file it brings: two equal edits of one base are the same tree.
type edits struct {
	Image    map[string]string // what goes into os-release
	Hostname string
	Locale   string
	Timezone string
	Overlay  []overlay.File
	// Sources and the file's name are apt's, for an image that has apt.
	SourcesFile, Sources string
	Users                []recipes.User
	Files                []fileEdit
	Units                recipes.Units
	Remove               recipes.Remove
	Boots                bool // an init must be there
}

// fileEdit is one file, folder or link that a recipe puts into the tree.
type fileEdit struct {
	Path   string // below the tree's root, without a leading slash
	Type   fs.FileMode
	Mode   int64
	Owner  recipes.Owner
	Link   string
	Size   int64
	SHA256 string
	At     string `json:"-"` // where the recipe says so, for errors

	content string    // of a file whose text stands in the recipe
	source  string    // host's path of a file that is copied
	changed time.Time // when that was last written to, as its digest was taken
}

// maxCopied bounds how many files a recipe's folder may bring.
const maxCopied = 1 << 20

// readEdits reads what the recipe says and the digests of the files it names.
func readEdits(ctx context.Context, r *recipes.Recipe, l *lock.Lock) (*edits, error) {
	release, err := distro.Lookup(r.Distribution, r.Release)
	if err != nil {
		return nil, err
	}
	e := &edits{
		Image:    map[string]string{"IMAGE_ID": r.Name, "IMAGE_VERSION": r.Version},
		Hostname: r.Hostname, Locale: r.Locale, Timezone: r.Timezone,
		Overlay: overlay.Files(overlayOptions(r, l)),
		Users:   r.Users, Units: r.Units, Remove: r.Remove,
		Boots: r.Boot.Loader != recipes.LoaderNone,
	}
	if r.Containers != nil && len(r.Containers.Images) > 0 {
		e.Image[osReleaseContainers] = r.Containers.Runtime
	}
	if !r.Output.Has(recipes.FormatRaw) {
		e.Hostname, e.Overlay = "", containerOverlay(e.Overlay) // a runtime names the container
	}
	if slices.ContainsFunc(l.Packages, func(p lock.Package) bool { return p.Name == "apt" }) {
		e.SourcesFile, e.Sources = release.AptSources(r.Architecture, nil)
	}
	for i, f := range r.Files {
		at := r.Position(fmt.Sprintf("files[%d]", i)).String()
		if err := e.readFile(ctx, f, at); err != nil {
			return nil, fmt.Errorf("%s: file %s: %w", at, f.Path, err)
		}
	}
	return e, nil
}

func modeOr(mode *recipes.Mode, otherwise int64) int64 {
	if mode != nil {
		return int64(*mode)
	}
	return otherwise
}

func (e *edits) readFile(ctx context.Context, f recipes.File, at string) error {
	edit := fileEdit{Path: strings.TrimPrefix(f.Path, "/"), Owner: f.Owner, At: at}
	switch {
	case f.Content != nil:
		sum := sha256.Sum256([]byte(*f.Content))
		edit.Mode, edit.content = modeOr(f.Mode, 0o644), *f.Content
		edit.Size, edit.SHA256 = int64(len(*f.Content)), hex.EncodeToString(sum[:])
	case f.Directory:
		edit.Type, edit.Mode = fs.ModeDir, modeOr(f.Mode, 0o755)
	case f.Link != "":
		edit.Type, edit.Mode, edit.Link = fs.ModeSymlink, 0o777, f.Link
	default:
		return e.copySource(ctx, f, edit)
	}
	e.Files = append(e.Files, edit)
	return nil
}

// copySource reads a file or a whole folder of the host. Permissions are made
// those of a checkout, whatever the umask was: 0755 for what may be executed.
func (e *edits) copySource(ctx context.Context, f recipes.File, edit fileEdit) error {
	info, err := os.Lstat(f.SourceFile)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if !info.IsDir() {
		copied, err := copiedFile(ctx, f.SourceFile, info, edit)
		if err != nil {
			return err
		}
		if copied.Type == 0 {
			copied.Mode = modeOr(f.Mode, copied.Mode)
		}
		e.Files = append(e.Files, copied)
		return nil
	}
	return filepath.WalkDir(f.SourceFile, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(e.Files) > maxCopied {
			return fmt.Errorf("more than %d files: name a smaller folder", maxCopied)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(f.SourceFile, name)
		if err != nil {
			return err
		}
		at := edit
		at.Path = path.Join(edit.Path, filepath.ToSlash(below))
		copied, err := copiedFile(ctx, name, info, at)
		if err != nil {
			return err
		}
		if below == "." {
			copied.Mode = modeOr(f.Mode, copied.Mode)
		}
		e.Files = append(e.Files, copied)
		return nil
	})
}

func copiedFile(ctx context.Context, name string, info fs.FileInfo, edit fileEdit) (fileEdit, error) {
	switch {
	case info.IsDir():
		edit.Type, edit.Mode = fs.ModeDir, 0o755
		return edit, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		edit.Type, edit.Mode, edit.Link = fs.ModeSymlink, 0o777, target
		return edit, err
	case !info.Mode().IsRegular():
		return edit, fmt.Errorf("%s is neither file, folder nor link: name one of these", name)
	}
	edit.Mode = 0o644
	if info.Mode()&0o100 != 0 {
		edit.Mode = 0o755
	}
	f, err := os.Open(name)
	if err != nil {
		return edit, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return edit, err
	}
	if err := ctx.Err(); err != nil {
		return edit, err
	}
	edit.changed = info.ModTime()
	hash := sha256.New()
	edit.Size, err = io.Copy(hash, f)
	edit.SHA256, edit.source = hex.EncodeToString(hash.Sum(nil)), name
	return edit, err
}

// errChanged says that a source changed while the image was built.
var errChanged = errors.New("changed while the image was built: build again")

// open gives the contents of a file that is put into the tree, and how to
// close them.
func (f *fileEdit) open() (io.ReaderAt, func() error, error) {
	if f.source == "" {
		return strings.NewReader(f.content), func() error { return nil }, nil
	}
	file, err := os.Open(f.source)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = f.sameAs(info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, file.Close, nil
}

// sameAs says whether a source is what its digest was taken of.
func (f *fileEdit) sameAs(info fs.FileInfo) error {
	if info.Size() != f.Size || !info.ModTime().Equal(f.changed) {
		return fmt.Errorf("%s %w", f.source, errChanged)
	}
	return nil
}

// unchanged checks, when the tree is written, that no source has changed
// meanwhile: the result is kept under a key that has their digests.
func (e *edits) unchanged() error {
	for i := range e.Files {
		f := &e.Files[i]
		if f.source == "" {
			continue
		}
		info, err := os.Lstat(f.source)
		if err == nil {
			err = f.sameAs(info)
		}
		if err != nil {
			return fmt.Errorf("%s: file /%s: %w", f.At, f.Path, err)
		}
	}
	return nil
}
