package archivetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// Date is when an archive is published if nothing else is said: a fixed time, so
// that what is made of it is the same in every run.
var Date = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// An Archive is one suite, with the pockets asked for, on a server of its own.
// Set fields before Publish, which may be called again after a change.
type Archive struct {
	URL     string // base URI
	Keyring []byte // the public key, binary
	Suite   string

	Codename      string
	Components    []string
	Architectures []string
	Pockets       []string // further suites, with no packages in them
	Forms         []string // of indexes: some of "", ".gz", ".xz", ".zst"
	Date          time.Time
	ValidUntil    time.Time // none when zero
	ByHash        bool
	AllApart      bool // packages of architecture all are in binary-all only
	Detached      bool // Release and Release.gpg, no InRelease
	Validators    bool // send ETag and Last-Modified
	Signature     Signature
	// Extra is appended to the fields of the Release files.
	Extra string

	t        testing.TB
	server   *httptest.Server
	entity   *openpgp.Entity
	packages []entry
	*serving
}

// An entry is one package in the pool.
type entry struct {
	component, arch string
	filename        string
	stanza          deb822.Paragraph
}

// An Option changes a new Archive before its first use.
type Option func(*Archive)

// Pockets adds suites without packages, such as noble-updates.
func Pockets(suites ...string) Option { return func(a *Archive) { a.Pockets = suites } }

// Arch sets the architectures; amd64 when not given.
func Arch(names ...string) Option { return func(a *Archive) { a.Architectures = names } }

// Components sets the components; main when not given.
func Components(names ...string) Option { return func(a *Archive) { a.Components = names } }

// New starts the server of an empty archive, which ends with the test. Nothing
// can be fetched before Publish.
func New(t testing.TB, suite string, options ...Option) *Archive {
	t.Helper()
	a := &Archive{
		Suite:         suite,
		Codename:      suite,
		Components:    []string{"main"},
		Architectures: []string{"amd64"},
		Forms:         []string{"", ".gz", ".xz"},
		Date:          Date,
		ByHash:        true,
		t:             t,
		serving:       newServing(),
	}
	for _, o := range options {
		o(a)
	}
	a.entity = NewKey(t, "Archive "+suite)
	a.Keyring = PublicKey(t, a.entity)
	a.server = httptest.NewServer(a.handler(a))
	a.URL = a.server.URL + "/archive"
	t.Cleanup(func() {
		a.release()
		a.server.Close()
	})
	return a
}

// AddDeb puts a package into the pool.
func (a *Archive) AddDeb(component string, deb []byte) {
	a.t.Helper()
	control, err := readControl(bytes.NewReader(deb))
	if err != nil {
		a.t.Fatalf("archivetest: %v", err)
	}
	sum := sha256.Sum256(deb)
	name := a.add(component, control, int64(len(deb)), hex.EncodeToString(sum[:]))
	a.put(name, file{data: deb})
}

// AddPool puts all packages of a folder into the pool, in the component main.
// They are served from there.
func (a *Archive) AddPool(dir string) {
	a.t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(paths) == 0 {
		a.t.Fatalf("archivetest: no packages in %s (%v)", dir, err)
	}
	slices.Sort(paths)
	for _, p := range paths {
		a.addFile(p)
	}
}

func (a *Archive) addFile(path string) {
	a.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		a.t.Fatalf("archivetest: %v", err)
	}
	control, err := readControl(bytes.NewReader(data))
	if err != nil {
		a.t.Fatalf("archivetest: %s: %v", path, err)
	}
	sum := sha256.Sum256(data)
	a.put(a.add("main", control, int64(len(data)), hex.EncodeToString(sum[:])), file{path: path})
}

// add makes the index's stanza of a package and returns its path in the archive.
func (a *Archive) add(component string, control deb822.Paragraph, size int64, sum string) string {
	name, version, arch := control.Get("Package"), control.Get("Version"), control.Get("Architecture")
	source := strings.Fields(control.Get("Source") + " " + name)[0]
	_, upstream, ok := strings.Cut(version, ":")
	if !ok {
		upstream = version
	}
	filename := fmt.Sprintf("pool/%s/%s/%s/%s_%s_%s.deb", component, source[:1], source, name, upstream, arch)
	stanza := append(slices.Clone(control),
		deb822.Field{Name: "Filename", Value: filename},
		deb822.Field{Name: "Size", Value: fmt.Sprint(size)},
		deb822.Field{Name: "SHA256", Value: sum})
	a.packages = append(a.packages, entry{component, arch, filename, stanza})
	return filename
}

// Packages returns the stanzas of all packages, in the order they were added.
func (a *Archive) Packages() []deb822.Paragraph {
	var list []deb822.Paragraph
	for _, e := range a.packages {
		list = append(list, e.stanza)
	}
	return list
}

// Publish writes the indexes and Release files of all suites anew and signs
// them.
func (a *Archive) Publish() {
	a.t.Helper()
	a.clear("dists/")
	a.publish(a.Suite, a.packages)
	for _, pocket := range a.Pockets {
		a.publish(pocket, nil)
	}
}

func (a *Archive) publish(suite string, packages []entry) {
	a.t.Helper()
	base := "dists/" + suite + "/"
	list := map[string]string{} // digest lines by path
	arches := slices.Clone(a.Architectures)
	if a.AllApart {
		arches = append(arches, "all")
	}
	for _, component := range a.Components {
		for _, arch := range arches {
			path := strings.TrimPrefix(component, "updates/") + "/binary-" + arch + "/Packages"
			plain := a.index(packages, component, arch)
			for _, form := range append([]string{""}, a.Forms...) {
				data := compress(a.t, form, plain)
				sum := sha256.Sum256(data)
				list[path+form] = fmt.Sprintf(" %x %d %s\n", sum, len(data), path+form)
				if !slices.Contains(a.Forms, form) {
					continue // named only, as on the real archives
				}
				a.put(base+path+form, file{data: data})
				if a.ByHash {
					a.put(base+filepath.Dir(path)+"/by-hash/SHA256/"+hex.EncodeToString(sum[:]), file{data: data})
				}
			}
		}
	}
	var r strings.Builder
	fmt.Fprintf(&r, "Origin: Test\nLabel: Test\nSuite: %s\nCodename: %s\nDate: %s\n", suite, a.codename(suite), a.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"))
	if !a.ValidUntil.IsZero() {
		fmt.Fprintf(&r, "Valid-Until: %s\n", a.ValidUntil.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"))
	}
	if a.ByHash {
		r.WriteString("Acquire-By-Hash: yes\n")
	}
	fmt.Fprintf(&r, "Architectures: %s\nComponents: %s\n%sSHA256:\n", strings.Join(arches, " "), strings.Join(a.Components, " "), a.Extra)
	for _, path := range slices.Sorted(maps.Keys(list)) {
		r.WriteString(list[path])
	}
	a.sign(base, []byte(r.String()))
}

func (a *Archive) codename(suite string) string {
	if suite == a.Suite {
		return a.Codename
	}
	return suite
}

// index is the Packages file of one component and architecture.
func (a *Archive) index(packages []entry, component, arch string) []byte {
	var b []byte
	for _, e := range packages {
		if e.component != component || e.arch != arch && (e.arch != "all" || a.AllApart) {
			continue
		}
		b = append(e.stanza.AppendText(b), '\n')
	}
	return b
}

func compress(t testing.TB, form string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch form {
	case "":
		return data
	case ".gz":
		w := gzip.NewWriter(&b)
		_, err = w.Write(data)
		w.Close()
	case ".xz":
		var w *xz.Writer
		if w, err = xz.NewWriter(&b); err == nil {
			_, err = w.Write(data)
			w.Close()
		}
	case ".zst":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&b); err == nil {
			_, err = w.Write(data)
			w.Close()
		}
	default:
		err = fmt.Errorf("unknown form %q", form)
	}
	if err != nil {
		t.Fatalf("archivetest: %v", err)
	}
	return b.Bytes()
}

// WriteDir writes the published archive into a folder, for file URIs.
func (a *Archive) WriteDir(dir string) {
	a.t.Helper()
	for name, f := range a.all() {
		data, err := f.bytes()
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			a.t.Fatalf("archivetest: %v", err)
		}
	}
}
