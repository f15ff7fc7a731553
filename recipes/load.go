package recipes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
)

// Options of [Load].
type Options struct {
	// Set holds settings of the form PATH=VALUE or PATH+=VALUE that are laid over the files in order. PATH is keys
	// joined by dots, with [2] for an item of a list or [admin] for the item of that name or path; VALUE is YAML.
	Set []string
	// Architecture is that of a recipe that names none; empty means that of this program.
	Architecture string
	// ReadFile reads a recipe; nil reads from the file system, up to 4 MiB.
	ReadFile func(name string) ([]byte, error)
}

// Load reads the recipe at path and all that it includes, and checks it. What is wrong with the recipe is returned as
// [Errors], or as an [*Error] that wraps the cause where a file cannot be read.
func Load(path string, opts Options) (*Recipe, error) {
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	l := loader{read: opts.ReadFile}
	root, err := l.load(path, Position{File: path}, nil)
	if err != nil {
		return nil, err
	}
	for _, setting := range opts.Set {
		if root, err = l.set(root, setting); err != nil {
			return nil, err
		}
	}
	recipe := &Recipe{file: path, Root: Root{Verity: true}}
	d := decoder{positions: map[string]Position{}, top: Position{File: path, Line: 1, Column: 1}}
	d.value(root, reflect.ValueOf(recipe).Elem(), field{}, "")
	recipe.positions = d.positions
	recipe.Include = nil
	if len(d.problems) == 0 {
		recipe.fill(opts.Architecture)
		d.problems = recipe.check()
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b *Error) int { return comparePositions(path, a.Position, b.Position) })
		return nil, d.problems
	}
	return recipe, nil
}

// comparePositions puts the recipe itself first, then other files by name, then by line and column.
func comparePositions(path string, a, b Position) int {
	if a.File != b.File {
		if a.File == path {
			return -1
		}
		if b.File == path {
			return 1
		}
		return strings.Compare(a.File, b.File)
	}
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return a.Column - b.Column
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}

// A loader reads the files of one recipe.
type loader struct {
	read  func(name string) ([]byte, error)
	yaml  reader
	files int
}

// load reads one file, named at from, and lays it over the files that it includes. chain holds the files that are
// being read, outermost first.
func (l *loader) load(path string, from Position, chain []string) (*node, error) {
	path = filepath.Clean(path)
	if slices.Contains(chain, path) {
		return nil, Errors{{Position: from, What: "include goes round in a circle: " + strings.Join(append(chain, path), " → "), Do: "remove one of these includes"}}
	}
	if l.files++; l.files > maxIncludes || len(chain) >= maxDepth {
		return nil, Errors{{Position: from, What: "too many files are included", Do: fmt.Sprintf("include at most %d files, %d deep", maxIncludes, maxDepth)}}
	}
	data, err := l.read(path)
	if err != nil {
		return nil, unreadable(path, from, len(chain) > 0, err)
	}
	if len(data) > maxFileSize {
		return nil, Errors{{Position: Position{File: path}, What: "the recipe is larger than 4 MiB", Do: "put large contents into a file of their own and name it as source"}}
	}
	root, err := l.yaml.read(data, func(line, column int) Position { return Position{path, line, column} })
	if err != nil {
		return nil, err
	}
	if root.kind != mapping {
		return nil, Errors{{Position: root.pos, What: "the recipe is " + root.kind.String(), Do: "write KEY: VALUE lines, such as name: kiosk"}}
	}
	shape(root, reflect.TypeFor[Recipe](), field{})
	var base *node
	includes := root.get("include")
	if includes == nil || includes.kind != sequence {
		return root, nil
	}
	for _, item := range includes.items {
		if item.kind != scalar || item.tag != "!!str" || item.value == "" {
			return nil, Errors{{Position: item.pos, What: "include is not a file name", Do: "write the path of a recipe, relative to this one"}}
		}
		included, err := l.load(relativeTo(path, item.value), item.pos, append(chain, path))
		if err != nil {
			return nil, err
		}
		base = merge(base, included, reflect.TypeFor[Recipe](), field{})
	}
	return merge(base, root, reflect.TypeFor[Recipe](), field{}), nil
}

func unreadable(path string, from Position, included bool, err error) error {
	if included {
		return &Error{Position: from, What: "included recipe " + path + " cannot be read: " + reason(err), Do: "check the path, which is relative to the file that names it", Err: err}
	}
	return &Error{Position: Position{File: path}, What: "the recipe cannot be read: " + reason(err), Do: "check the path, or make a recipe with applbuild init", Err: err}
}

// reason is why a file cannot be read, without its name.
func reason(err error) string {
	var cause *os.PathError
	if errors.As(err, &cause) {
		return cause.Err.Error()
	}
	return err.Error()
}

// relativeTo returns name as seen from the folder of file.
func relativeTo(file, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(filepath.Dir(file), name)
}

// fill gives every field that was left out its default.
func (r *Recipe) fill(architecture string) {
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	def(&r.Version, "0")
	def(&r.Architecture, architecture)
	def(&r.Architecture, runtime.GOARCH)
	def(&r.Seed, r.Name+"_"+r.Version)
	def(&r.Hostname, r.Name)
	def(&r.Locale, "C.UTF-8")
	def(&r.Timezone, "Etc/UTC")
	def(&r.Root.Filesystem, Squashfs)
	def(&r.Root.Corruption, CorruptionError)
	r.Output.fill(r)
	if r.Output.imageOnly() {
		def(&r.Boot.Loader, LoaderNone)
	}
	def(&r.Boot.Loader, LoaderUKI)
	if r.Boot.Loader == LoaderNone {
		def(&r.Kernel.Package, NoKernel)
	}
	c := &r.Root.Compression
	def(&c.Algorithm, map[string]string{Squashfs: "zstd", EROFS: "lz4hc", Ext4: "none"}[r.Root.Filesystem])
	if r.Root.Filesystem == Squashfs && c.Algorithm == "zstd" && c.Level == 0 {
		c.Level = 3
	}
	for i := range r.Users {
		r.Users[i].fill()
	}
	for i := range r.Files {
		r.Files[i].fill()
	}
	r.fillPartitions()
	r.State.fill(r)
	r.fillContainers()
	r.fillTests()
}

func (u *User) fill() {
	shell, home := "/bin/bash", "/home/"+u.Name
	switch {
	case u.Name == "root":
		home = "/root"
	case u.System:
		shell, home = "/usr/sbin/nologin", "/"
	}
	if u.Shell == "" {
		u.Shell = shell
	}
	if u.Home == "" {
		u.Home = home
	}
}

func (f *File) fill() {
	if f.Owner.User == "" {
		f.Owner = Owner{"root", "root"}
	}
	if f.Mode == nil && f.Source == "" && f.Link == "" {
		mode := Mode(0o644)
		if f.Directory {
			mode = 0o755
		}
		f.Mode = &mode
	}
}
