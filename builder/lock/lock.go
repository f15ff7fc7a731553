// Package lock reads and writes RECIPE.lock.yml: the exact packages, with
// digests, that a recipe came to at some time, and the Release files they were
// chosen from.
//
// A build with a lock needs no index. What a recipe asks for is condensed into
// Inputs; a lock whose Inputs differ no longer fits its recipe. The package
// resolves and downloads nothing.
package lock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/applbuild/applbuild/builder/containers"
)

// Version is the version of the file's form.
const Version = 1

// maxSize bounds a lock file, in bytes: a thousand packages take 300 KB.
const maxSize = 32 << 20

// ErrMissing says that there is no lock file.
var ErrMissing = errors.New("no lock file")

// Lock is the contents of a lock file.
type Lock struct {
	Version      int    `yaml:"version"`
	Inputs       string `yaml:"inputs"` // digest of what the recipe asks for
	Distribution string `yaml:"distribution"`
	Release      string `yaml:"release"`
	Architecture string `yaml:"architecture"`
	Kernel       string `yaml:"kernel,omitempty"` // the package with the kernel image

	Sources  []Source  `yaml:"sources"`
	Packages []Package `yaml:"packages"` // the image's
	Initrd   []Package `yaml:"initrd,omitempty"`
	Tools    []Package `yaml:"tools,omitempty"`

	Containers []Container `yaml:"containers,omitempty"` // by reference and platform
}

// Container is one image of a registry, for one platform.
type Container struct {
	Ref      string `yaml:"ref"`             // as the recipe has it, in canonical form
	Platform string `yaml:"platform"`        // OS/ARCHITECTURE[/VARIANT]
	Index    string `yaml:"index,omitempty"` // digest of the index that the image was chosen from
	Digest   string `yaml:"digest"`          // of the image's manifest
	// Verify is a digest of how the image is to be signed, and SignedBy are the
	// fingerprints of the keys that it was then found to be signed by.
	Verify   string   `yaml:"verify,omitempty"`
	SignedBy []string `yaml:"signed_by,omitempty"`
	SBOM     *SBOM    `yaml:"sbom,omitempty"`
}

// SBOM is a bill of materials that is attached to an image.
type SBOM struct {
	MediaType string `yaml:"media_type"`
	Digest    string `yaml:"digest"`
	Size      int64  `yaml:"size"` // bytes
}

// Container finds the image that a reference was pinned to, for a platform.
func (l *Lock) Container(ref, platform string) (Container, bool) {
	for _, c := range l.Containers {
		if c.Ref == ref && c.Platform == platform {
			return c, true
		}
	}
	return Container{}, false
}

// Source is one suite of an archive, with the Release file that was believed.
type Source struct {
	URI        string    `yaml:"uri"`
	Suite      string    `yaml:"suite"`
	Components []string  `yaml:"components,flow"`
	Codename   string    `yaml:"codename,omitempty"`
	Origin     string    `yaml:"origin,omitempty"`
	Date       time.Time `yaml:"date"`
	SHA256     string    `yaml:"sha256"` // of InRelease
}

// Package is one package of a set.
type Package struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	Arch    string `yaml:"arch"`
	Source  int    `yaml:"source"` // index into Lock.Sources
	Path    string `yaml:"path"`   // below the source's URI
	Size    int64  `yaml:"size"`   // bytes
	SHA256  string `yaml:"sha256"`
}

// URL is where the package lies.
func (l *Lock) URL(p Package) string {
	return JoinURL(l.Sources[p.Source].URI, p.Path)
}

// JoinURL puts a path of an index below a base URI.
func JoinURL(base, name string) string {
	return strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(name, "/")
}

// Newest is the newest date among the Release files.
func (l *Lock) Newest() time.Time {
	var newest time.Time
	for _, source := range l.Sources {
		if source.Date.After(newest) {
			newest = source.Date
		}
	}
	return newest
}

// All returns each package of all sets once.
func (l *Lock) All() []Package {
	seen := map[string]bool{}
	var all []Package
	for _, set := range [][]Package{l.Packages, l.Initrd, l.Tools} {
		for _, p := range set {
			if !seen[p.SHA256] {
				seen[p.SHA256] = true
				all = append(all, p)
			}
		}
	}
	return all
}

// PathFor is where the lock of a recipe lies: beside it, as NAME.lock.yml.
func PathFor(recipe string) string {
	return strings.TrimSuffix(strings.TrimSuffix(recipe, ".yaml"), ".yml") + ".lock.yml"
}

// Read reads a lock file. The error of a file that isn't there matches
// ErrMissing.
func Read(name string) (*Lock, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: run `applbuild lock`", name, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	l, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove the file, or mend it from version control", name, err)
	}
	return l, nil
}

// Parse reads the text of a lock file and checks it wholly: what it returns
// can be used without further bounds checks.
func Parse(data []byte) (*Lock, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes", maxSize)
	}
	var l Lock
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&l); err != nil {
		return nil, fmt.Errorf("not a lock file: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if l.Version != Version {
		return nil, fmt.Errorf("version %d of the lock's form, this program knows %d", l.Version, Version)
	}
	for i, source := range l.Sources {
		if u, err := url.Parse(source.URI); err != nil || u.Scheme == "" {
			return nil, fmt.Errorf("source %d: uri %q is none", i, source.URI)
		}
	}
	for _, set := range [][]Package{l.Packages, l.Initrd, l.Tools} {
		for _, p := range set {
			if err := l.check(p); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range l.Containers {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Ref, err)
		}
	}
	return &l, nil
}

func (c Container) check() error {
	if _, err := containers.ParseDigest(c.Digest); err != nil {
		return err
	}
	if c.Index != "" {
		if _, err := containers.ParseDigest(c.Index); err != nil {
			return err
		}
	}
	if s := c.SBOM; s != nil {
		if _, err := containers.ParseDigest(s.Digest); err != nil {
			return err
		}
		if s.Size < 0 {
			return fmt.Errorf("a bill of materials of %d bytes", s.Size)
		}
	}
	_, err := containers.ParsePlatform(c.Platform)
	return err
}

func (l *Lock) check(p Package) error {
	if digest, err := hex.DecodeString(p.SHA256); err != nil || len(digest) != 32 || strings.ToLower(p.SHA256) != p.SHA256 {
		return fmt.Errorf("package %s: sha256 %q is no digest", p.Name, p.SHA256)
	}
	if p.Source < 0 || p.Source >= len(l.Sources) {
		return fmt.Errorf("package %s: source %d, there are %d", p.Name, p.Source, len(l.Sources))
	}
	if p.Size <= 0 {
		return fmt.Errorf("package %s: size %d", p.Name, p.Size)
	}
	if p.Path == "" || path.IsAbs(p.Path) || path.Clean("/"+p.Path) != "/"+p.Path {
		return fmt.Errorf("package %s: path %q leaves the archive", p.Name, p.Path)
	}
	return nil
}

const header = `# Written by applbuild: the exact packages of the recipe beside this file.
# Keep it under version control; "applbuild lock --update" moves it on.
`

// Encode gives the text of a lock file, always the same for the same lock.
func (l *Lock) Encode() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(l); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return out.Bytes(), nil
}

// Write writes the lock file, whole or not at all.
func (l *Lock) Write(name string) error {
	data, err := l.Encode()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	return nil
}
