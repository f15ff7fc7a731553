package archive

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// DefaultPriority is the pin of a source that names none, as for apt.
const DefaultPriority = 500

// A Source is one suite of one archive.
type Source struct {
	// URI is the archive's base, http, https or file, without a final slash:
	// dists/SUITE and pool lie below it.
	URI string
	// Alternates are base URIs of mirrors of the same archive, tried in order
	// when URI cannot be reached.
	Alternates []string
	// Suite is the suite's name or codename: trixie, trixie-security, stable.
	Suite      string
	Components []string
	// Arch is the architecture as dpkg names it. Packages of architecture all
	// come with it.
	Arch string
	// Keyring holds the OpenPGP keys that may sign, binary or armored.
	Keyring []byte
	// KeyringName says in errors where Keyring comes from.
	KeyringName string
	// IgnoreValidUntil accepts a Release whose Valid-Until has passed.
	IgnoreValidUntil bool
	// IgnoreDate accepts a Release from the future.
	IgnoreDate bool
	// IgnoreReason says who asked to ignore dates, for the user's eyes.
	IgnoreReason string
	// Priority is apt's pin; 0 stands for DefaultPriority.
	Priority int
}

// String names the source as apt's messages do.
func (s Source) String() string { return redact(s.URI) + " " + s.Suite }

// URL returns the URL of a file of the archive's pool, given the Filename field
// of an index. A name that leaves the archive is an error.
func (s Source) URL(filename string) (string, error) {
	if filename == "" || path.IsAbs(filename) || path.Clean(filename) != filename || strings.HasPrefix(filename, "../") || filename == ".." || strings.ContainsAny(filename, "\x00\n\r\\") {
		return "", &Error{URL: s.String(), Kind: ErrRelease, Detail: fmt.Sprintf("the index names a file %q outside the archive", filename), Do: "do not use this archive"}
	}
	return join(s.URI, filename), nil
}

// A Release is what a verified Release file says of its suite.
type Release struct {
	URI, Suite, Codename   string // URI is the base that served it
	Origin, Label, Version string
	Date, ValidUntil       time.Time // ValidUntil is zero when there is none
	// SHA256 is the digest of InRelease, or of Release where the archive has
	// no InRelease, in hexadecimal.
	SHA256        string
	Components    []string
	Architectures []string
	// NotAutomatic and ButAutomaticUpgrades lower the default pin to 1 and
	// 100 (apt_preferences(5)).
	NotAutomatic, ButAutomaticUpgrades bool
	// Signer is the fingerprint of the key whose signature was good.
	Signer string
	// Kept tells that the archive offered an older Release than the one seen
	// before, which is used on.
	Kept bool
}

// An Index is one verified Packages file in the cache.
type Index struct {
	Source    Source // with URI being the base that served it
	Release   *Release
	Component string
	Arch      string // Source.Arch or all
	SHA256    string // of the decompressed index, in hexadecimal
	Size      int64  // of the decompressed index, in bytes

	path string
}

// An Item is a file to fetch.
type Item struct {
	URL string
	// Alternates are further URLs of the same file.
	Alternates []string
	Size       int64  // bytes
	SHA256     string // hexadecimal
	Name       string // what messages and events call it
}

// Class is the kind of file an Event is about.
type Class string

// The classes of files.
const (
	ClassRelease Class = "release"
	ClassIndex   Class = "index"
	ClassPackage Class = "package"
)

// An Event tells how far one file is.
type Event struct {
	Class Class
	Name  string // of the item, or suite/component/arch
	URL   string // without a password
	Bytes int64  // that are there
	Total int64  // expected; 0 when not known
	// Done: the file is complete and verified. Cached: without a transfer of
	// its contents.
	Done, Cached bool
	// Retry counts attempts after the first; with it Err is why, and Wait how
	// long until the next.
	Retry int
	Err   error
	Wait  time.Duration
}

// A Client fetches from archives into a cache. Its methods may be called
// concurrently, and several processes may share Dir.
type Client struct {
	// HTTP does the requests. Nil stands for a client of the package's own,
	// which goes through Proxy.
	HTTP *http.Client
	// Proxy chooses the proxy of a request when HTTP is nil; nil is none.
	Proxy func(*http.Request) (*url.URL, error)
	// Dir is the cache: indexes/ and packages/ are made below it.
	Dir string
	// Now is compared with Date and Valid-Until and with the keys' expiry.
	Now time.Time
	// Jobs is the number of transfers at a time; 0 stands for 16.
	Jobs int
	// Retries is the number of attempts after a failed one without progress;
	// 0 stands for 4, negative for none.
	Retries int
	// Backoff is the wait before the first retry, doubled each time; 0 stands
	// for half a second.
	Backoff time.Duration
	// Silence is how long a server may send nothing; 0 stands for 30 seconds.
	Silence time.Duration
	// Offline forbids every transfer, of file URIs too.
	Offline bool
	// Progress is told of every file. Calls do not overlap.
	Progress func(Event)

	once     sync.Once
	own      *http.Client
	progress sync.Mutex
}

// Path returns where the package of that SHA-256 lies, or would lie, in the
// cache.
func (c *Client) Path(sha256 string) string {
	return filepath.Join(c.Dir, "packages", shard(sha256), sha256+".deb")
}

// Open returns the index's text. It is verified before Open returns; the caller
// closes it. A damaged file is ErrDigest.
func (x Index) Open() (io.ReadCloser, error) {
	f, err := openVerified(x.path, x.SHA256, x.Size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Pin returns the priority of the index's packages: that of its source, or what
// apt gives to a Release that does not want to be used by itself
// (apt_preferences(5), "APT's Default Priority Assignments").
func (x Index) Pin() int {
	p := x.Source.Priority
	switch {
	case p != 0 && p != DefaultPriority || x.Release == nil || !x.Release.NotAutomatic:
	case x.Release.ButAutomaticUpgrades:
		return 100
	default:
		return 1
	}
	if p == 0 {
		return DefaultPriority
	}
	return p
}

// shard is the folder of a digest: its first two digits.
func shard(digest string) string {
	if len(digest) < 2 {
		return "_"
	}
	return digest[:2]
}

// join appends a path to a base URI, escaping what a path may not hold.
func join(base, name string) string {
	return strings.TrimRight(base, "/") + "/" + (&url.URL{Path: name}).EscapedPath()
}

// redact removes a password from a URI.
func redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	return u.Redacted()
}
