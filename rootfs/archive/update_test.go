package archive_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// now is a day after the test archives are published.
var now = archivetest.Date.Add(24 * time.Hour)

func newClient(t *testing.T) *archive.Client {
	return &archive.Client{Dir: t.TempDir(), Now: now, Backoff: time.Millisecond, Silence: 5 * time.Second}
}

func source(a *archivetest.Archive) archive.Source {
	return archive.Source{URI: a.URL, Suite: a.Suite, Components: a.Components, Arch: "amd64", Keyring: a.Keyring, KeyringName: "the test's keyring"}
}

// hello is an archive with one package.
func hello(t *testing.T, options ...archivetest.Option) *archivetest.Archive {
	t.Helper()
	a := archivetest.New(t, "trixie", options...)
	a.AddDeb("main", archivetest.Deb(t, "Package: hello\nVersion: 1.0\nArchitecture: amd64\n"))
	return a
}

func read(t *testing.T, x archive.Index) string {
	t.Helper()
	r, err := x.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUpdateBringsVerifiedIndexes(t *testing.T) {
	for _, forms := range [][]string{{""}, {".gz"}, {".xz"}, {".zst"}, {"", ".gz", ".xz", ".zst"}} {
		for _, byHash := range []bool{true, false} {
			for _, detached := range []bool{false, true} {
				a := hello(t)
				a.Forms, a.ByHash, a.Detached = forms, byHash, detached
				a.Publish()
				list, err := newClient(t).Update(t.Context(), []archive.Source{source(a)})
				if err != nil {
					t.Fatalf("forms %q, by-hash %v, detached %v: %v", forms, byHash, detached, err)
				}
				if len(list) != 1 || !strings.HasPrefix(read(t, list[0]), "Package: hello\n") {
					t.Fatalf("forms %q: indexes %+v", forms, list)
				}
				r := list[0].Release
				if r.Suite != "trixie" || r.Origin != "Test" || !r.Date.Equal(archivetest.Date) || len(r.SHA256) != 64 || r.URI != a.URL || len(r.Signer) != 40 {
					t.Errorf("Release %+v", r)
				}
				got := strings.Join(a.Requests(), " ")
				if strings.Contains(got, "by-hash") != byHash {
					t.Errorf("by-hash %v, but asked for %s", byHash, got)
				}
			}
		}
	}
}

func TestSecondUpdateFetchesNoIndex(t *testing.T) {
	for _, validators := range []bool{false, true} {
		a := hello(t)
		a.Validators = validators
		a.Publish()
		c := newClient(t)
		var events []archive.Event
		for range 2 {
			a.Requests()
			events = nil
			c.Progress = func(e archive.Event) { events = append(events, e) }
			if _, err := c.Update(t.Context(), []archive.Source{source(a)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := a.Requests(); !slices.Equal(got, []string{"dists/trixie/InRelease"}) {
			t.Errorf("validators %v: the second update asked for %q", validators, got)
		}
		for _, e := range events {
			if e.Class == archive.ClassRelease && e.Cached != validators {
				t.Errorf("validators %v: Release cached %v", validators, e.Cached)
			}
			if e.Class == archive.ClassIndex && !e.Cached {
				t.Errorf("index was transferred: %+v", e)
			}
		}
		// A new package changes the index's digest, and only then is it fetched.
		a.AddDeb("main", archivetest.Deb(t, "Package: world\nVersion: 2\nArchitecture: amd64\n"))
		a.Date = a.Date.Add(time.Hour)
		a.Publish()
		list, err := c.Update(t.Context(), []archive.Source{source(a)})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(read(t, list[0]), "Package: world\n") {
			t.Error("the new package is not in the index")
		}
	}
}

func TestUpdateRefusesWhatItCannotTrust(t *testing.T) {
	expiring := archivetest.NewExpiringKey(t, "Old", 24*time.Hour)
	for _, test := range []struct {
		name    string
		change  func(*archivetest.Archive)
		ask     func(*archive.Source)
		want    error
		message []string
	}{
		{name: "unsigned", change: func(a *archivetest.Archive) { a.Signature = archivetest.Unsigned }, want: archive.ErrSignature, message: []string{"not signed"}},
		{name: "unknown key", change: func(a *archivetest.Archive) { a.Signature = archivetest.UnknownKey }, want: archive.ErrUnknownKey, message: []string{"the test's keyring", "key ", "keyring package"}},
		{name: "tampered text", change: func(a *archivetest.Archive) { a.Signature = archivetest.Tampered }, want: archive.ErrSignature, message: []string{"the test's keyring"}},
		{name: "tampered text, detached", change: func(a *archivetest.Archive) { a.Signature, a.Detached = archivetest.Tampered, true }, want: archive.ErrSignature},
		{name: "unknown key, detached", change: func(a *archivetest.Archive) { a.Signature, a.Detached = archivetest.UnknownKey, true }, want: archive.ErrUnknownKey},
		{name: "text before the signed block", change: func(a *archivetest.Archive) { a.Signature = archivetest.TextBefore }, want: archive.ErrSignature},
		{name: "text after the signed block", change: func(a *archivetest.Archive) { a.Signature = archivetest.TextAfter }, want: archive.ErrSignature},
		{name: "expired key", change: func(a *archivetest.Archive) { a.SignWith(expiring) }, want: archive.ErrSignature, message: []string{"expired", "newer keyring"}},
		{name: "no key at all", ask: func(s *archive.Source) { s.Keyring = nil }, want: archive.ErrUnknownKey},
		{name: "no keyring but text", ask: func(s *archive.Source) { s.Keyring = []byte("hello") }, want: archive.ErrUnknownKey},
		{name: "expired", change: func(a *archivetest.Archive) { a.ValidUntil = now.Add(-time.Hour) }, want: archive.ErrExpired, message: []string{"valid until Sat, 03 Jan 2026 02:04:05", "snapshot"}},
		{name: "from the future", change: func(a *archivetest.Archive) { a.Date = now.Add(25 * time.Hour) }, want: archive.ErrFuture, message: []string{"clock"}},
		{name: "no such component", ask: func(s *archive.Source) { s.Components = []string{"main", "universe"} }, want: archive.ErrRelease, message: []string{`"universe"`, "main"}},
		{name: "no such architecture", ask: func(s *archive.Source) { s.Arch = "arm64" }, want: archive.ErrRelease, message: []string{"amd64"}},
		{name: "no such suite", ask: func(s *archive.Source) { s.Suite = "sid" }, want: archive.ErrNotFound, message: []string{"dists/sid/InRelease", "suite's name"}},
		{name: "suite that leaves dists", ask: func(s *archive.Source) { s.Suite = "../sid" }, want: archive.ErrRelease},
		{name: "scheme", ask: func(s *archive.Source) { s.URI = "ftp://example.org/debian" }, want: archive.ErrUnreachable, message: []string{"http, https or file"}},
		{name: "damaged index", change: func(a *archivetest.Archive) { a.ByHash = false; a.Fail("Packages*", archivetest.Damaged, -1) }, want: archive.ErrDigest},
		{name: "shorter index", change: func(a *archivetest.Archive) {
			a.Fail("dists/trixie/main/binary-amd64/by-hash/SHA256/*", archivetest.Shorter, -1)
			a.Fail("Packages*", archivetest.Shorter, -1)
		}, want: archive.ErrDigest, message: []string{"bytes"}},
		{name: "index is missing", change: func(a *archivetest.Archive) { a.ByHash = false; a.Fail("Packages*", archivetest.Missing, -1) }, want: archive.ErrNotFound},
		{name: "forbidden", change: func(a *archivetest.Archive) { a.Fail("InRelease", archivetest.Forbidden, -1) }, want: archive.ErrDenied},
		{name: "503 for ever", change: func(a *archivetest.Archive) { a.Fail("InRelease", archivetest.Unavailable, -1) }, want: archive.ErrUnreachable, message: []string{"503", "attempts"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := hello(t)
			if test.change != nil {
				test.change(a)
			}
			a.Publish()
			s := source(a)
			if test.ask != nil {
				test.ask(&s)
			}
			c := newClient(t)
			_, err := c.Update(t.Context(), []archive.Source{s})
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			for _, m := range test.message {
				if !strings.Contains(err.Error(), m) {
					t.Errorf("%q does not say %q", err, m)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
			for _, f := range files(t, c.Dir) {
				if strings.HasSuffix(f, "InRelease") || strings.HasSuffix(f, ".Packages") {
					t.Errorf("%s was left behind", f)
				}
			}
		})
	}
}

// files lists the regular files below dir.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUpdateAcceptsWhatAptAccepts(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*archivetest.Archive)
		ask    func(*archive.Source)
	}{
		{name: "one of two signatures is known", change: func(a *archivetest.Archive) { a.Signature = archivetest.BothKeys }},
		{name: "expired, and not to be looked at", change: func(a *archivetest.Archive) { a.ValidUntil = now.Add(-time.Hour) }, ask: func(s *archive.Source) { s.IgnoreValidUntil = true }},
		{name: "future, and not to be looked at", change: func(a *archivetest.Archive) { a.Date = now.Add(48 * time.Hour) }, ask: func(s *archive.Source) { s.IgnoreDate = true }},
		{name: "some hours ahead", change: func(a *archivetest.Archive) { a.Date = now.Add(23 * time.Hour) }},
		{name: "by codename", change: func(a *archivetest.Archive) { a.Codename = "forky" }},
		{name: "slash after the URI", ask: func(s *archive.Source) { s.URI += "/" }},
		{name: "components of the security archive", change: func(a *archivetest.Archive) { a.Components = []string{"updates/main"} }, ask: func(s *archive.Source) { s.Components = []string{"main"} }},
		{name: "by-hash announced and not there", change: func(a *archivetest.Archive) {
			a.Fail("dists/trixie/main/binary-amd64/by-hash/SHA256/*", archivetest.Missing, -1)
		}},
		{name: "xz announced and not there", change: func(a *archivetest.Archive) { a.ByHash = false; a.Fail("Packages.xz", archivetest.Missing, -1) }},
		{name: "xz damaged, gz not", change: func(a *archivetest.Archive) { a.ByHash = false; a.Fail("Packages.xz", archivetest.Damaged, -1) }},
		{name: "some failures, then none", change: func(a *archivetest.Archive) {
			a.Fail("InRelease", archivetest.Unavailable, 2)
			a.Fail("InRelease", archivetest.Truncated, 1)
			a.ByHash = false
			a.Fail("Packages.xz", archivetest.Unavailable, 2)
			a.Fail("Packages.xz", archivetest.Truncated, 1)
			a.Fail("Packages.xz", archivetest.Damaged, 1)
		}},
		{name: "redirected", change: func(a *archivetest.Archive) { a.Fail("*", archivetest.Redirected, 1) }},
		{name: "empty index", change: func(a *archivetest.Archive) { a.Components = []string{"main", "universe"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := hello(t)
			if test.change != nil {
				test.change(a)
			}
			a.Publish()
			s := source(a)
			if test.ask != nil {
				test.ask(&s)
			}
			c := newClient(t)
			for range 2 {
				list, err := c.Update(t.Context(), []archive.Source{s})
				if err != nil {
					t.Fatal(err)
				}
				if len(list) != len(s.Components) {
					t.Fatalf("%d indexes", len(list))
				}
				for _, x := range list {
					read(t, x)
				}
			}
		})
	}
}

func TestSuiteMustBeTheOneAskedFor(t *testing.T) {
	for _, test := range []struct {
		asked, suite, codename string
		want                   error
	}{
		{"stable", "stable", "trixie", nil},
		{"trixie", "stable", "trixie", nil},
		{"sid", "unstable", "sid", nil},
		{"noble-updates", "noble-updates", "noble", nil},
		{"noble", "noble-updates", "noble", archive.ErrSuite},
		{"trixie", "oldstable", "bookworm", archive.ErrSuite},
		{"trixie-security", "stable", "trixie", archive.ErrSuite},
	} {
		a := archivetest.New(t, test.suite)
		a.Codename = test.codename
		a.Publish()
		s := source(a)
		if s.Suite = test.asked; test.asked != test.suite {
			a.Replace("dists/"+test.asked+"/InRelease", a.File("dists/"+test.suite+"/InRelease"))
			for _, form := range a.Forms {
				name := "main/binary-amd64/Packages" + form
				a.Replace("dists/"+test.asked+"/"+name, a.File("dists/"+test.suite+"/"+name))
			}
		}
		_, err := newClient(t).Update(t.Context(), []archive.Source{s})
		if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("asked for %s, got suite %s of %s: %v", test.asked, test.suite, test.codename, err)
		}
	}
}

func TestArchitectureAllApart(t *testing.T) {
	for _, test := range []struct {
		apart bool
		extra string
		want  int
	}{
		{false, "", 1},
		{true, "", 2},
		{true, "No-Support-for-Architecture-all: Packages\n", 1},
	} {
		a := hello(t)
		a.AddDeb("main", archivetest.Deb(t, "Package: doc\nVersion: 1\n"))
		a.AllApart, a.Extra = test.apart, test.extra
		a.Publish()
		list, err := newClient(t).Update(t.Context(), []archive.Source{source(a)})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != test.want {
			t.Errorf("apart %v %q: %d indexes, want %d", test.apart, test.extra, len(list), test.want)
		}
		if test.want == 2 && (list[1].Arch != "all" || !strings.Contains(read(t, list[1]), "Package: doc")) {
			t.Errorf("the second index is %+v", list[1])
		}
	}
}

func TestOfflineUsesWhatIsThere(t *testing.T) {
	a := hello(t)
	a.Publish()
	s := source(a)
	c := newClient(t)
	offline := &archive.Client{Dir: c.Dir, Now: now, Offline: true}
	_, err := offline.Update(t.Context(), []archive.Source{s})
	if !errors.Is(err, archive.ErrOffline) || !strings.Contains(err.Error(), "applbuild fetch") || !strings.Contains(err.Error(), "trixie") {
		t.Fatalf("with an empty cache: %v", err)
	}
	if _, err := c.Update(t.Context(), []archive.Source{s}); err != nil {
		t.Fatal(err)
	}
	a.Requests()
	list, err := offline.Update(t.Context(), []archive.Source{s})
	if err != nil {
		t.Fatal(err)
	}
	read(t, list[0])
	if got := a.Requests(); len(got) != 0 {
		t.Errorf("offline asked for %q", got)
	}
	// What changed in the cache is not used.
	for _, f := range files(t, c.Dir) {
		if strings.HasSuffix(f, ".Packages") {
			damage(t, f)
		}
	}
	if _, err := list[0].Open(); !errors.Is(err, archive.ErrDigest) {
		t.Errorf("a damaged index opened: %v", err)
	}
	if _, err := offline.Update(t.Context(), []archive.Source{s}); !errors.Is(err, archive.ErrOffline) {
		t.Errorf("a damaged index, offline: %v", err)
	}
	if list, err = c.Update(t.Context(), []archive.Source{s}); err != nil {
		t.Fatalf("a damaged index, online: %v", err)
	}
	read(t, list[0])
	for _, f := range files(t, c.Dir) {
		if filepath.Base(f) == "InRelease" {
			damage(t, f)
		}
	}
	if _, err := offline.Update(t.Context(), []archive.Source{s}); !errors.Is(err, archive.ErrOffline) || !errors.Is(err, archive.ErrSignature) {
		t.Errorf("a damaged InRelease, offline: %v", err)
	}
}

// damage changes one byte of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOlderReleaseIsNotUsed(t *testing.T) {
	a := hello(t)
	a.Publish()
	c := newClient(t)
	if _, err := c.Update(t.Context(), []archive.Source{source(a)}); err != nil {
		t.Fatal(err)
	}
	a.Date = a.Date.Add(-24 * time.Hour)
	a.Publish()
	list, err := c.Update(t.Context(), []archive.Source{source(a)})
	if err != nil {
		t.Fatal(err)
	}
	if r := list[0].Release; !r.Kept || !r.Date.Equal(archivetest.Date) {
		t.Errorf("Release of %v, kept %v", r.Date, r.Kept)
	}
}

// An old Release stays refused when the mirror withholds its indexes as well, so
// that the Release is asked for a second time.
func TestOlderReleaseIsNotUsedTheSecondTime(t *testing.T) {
	a := hello(t)
	a.ByHash = false
	a.Publish()
	c := newClient(t)
	if _, err := c.Update(t.Context(), []archive.Source{source(a)}); err != nil {
		t.Fatal(err)
	}
	for _, f := range files(t, c.Dir) {
		if strings.HasSuffix(f, ".Packages") {
			damage(t, f)
		}
	}
	a.Date = a.Date.Add(-24 * time.Hour)
	a.AddDeb("main", archivetest.Deb(t, "Package: old\nVersion: 0.1\nArchitecture: amd64\n"))
	a.Publish()
	if list, err := c.Update(t.Context(), []archive.Source{source(a)}); !errors.Is(err, archive.ErrDigest) {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestUnaskedNotModified(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	defer server.Close()
	s := source(hello(t))
	s.URI = server.URL
	if _, err := newClient(t).Update(t.Context(), []archive.Source{s}); !errors.Is(err, archive.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestPinOfIndex(t *testing.T) {
	for _, test := range []struct {
		priority, want int
		not, but       bool
	}{{0, 500, false, false}, {500, 500, false, false}, {990, 990, true, true}, {500, 100, true, true}, {0, 1, true, false}} {
		x := archive.Index{Source: archive.Source{Priority: test.priority}, Release: &archive.Release{NotAutomatic: test.not, ButAutomaticUpgrades: test.but}}
		if got := x.Pin(); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}
