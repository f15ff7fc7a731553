package archive_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// itemOf makes an item of an archive's n-th package.
func itemOf(t *testing.T, s archive.Source, a *archivetest.Archive, n int) archive.Item {
	t.Helper()
	p := a.Packages()[n]
	url, err := s.URL(p.Get("Filename"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := strconv.ParseInt(p.Get("Size"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return archive.Item{URL: url, Size: size, SHA256: p.Get("SHA256"), Name: p.Get("Package")}
}

// large is an archive with one package of some size, n of them.
func large(t *testing.T, n int) (*archivetest.Archive, []archive.Item) {
	t.Helper()
	a := archivetest.New(t, "trixie")
	body := make([]byte, 700_000)
	x := uint32(1)
	for i := range body { // xorshift: gzip must not make it small
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		body[i] = byte(x)
	}
	var items []archive.Item
	for i := range n {
		body[0] = byte(i)
		a.AddDeb("main", archivetest.Deb(t, fmt.Sprintf("Package: large%d\nVersion: 1:1.0\n", i), archivetest.Member{Name: "./data", Body: string(body)}))
		items = append(items, itemOf(t, source(a), a, i))
	}
	a.Publish()
	return a, items
}

func TestFetchComesThrough(t *testing.T) {
	for _, test := range []struct {
		name     string
		faults   map[archivetest.Fault]int
		requests int
		ranges   bool
	}{
		{name: "a good server", requests: 1},
		{name: "cut short", faults: map[archivetest.Fault]int{archivetest.Truncated: 3}, requests: 4, ranges: true},
		{name: "overloaded", faults: map[archivetest.Fault]int{archivetest.Unavailable: 3}, requests: 4},
		{name: "damaged once", faults: map[archivetest.Fault]int{archivetest.Damaged: 1}, requests: 2},
		{name: "silent once", faults: map[archivetest.Fault]int{archivetest.Silent: 1}, requests: 2, ranges: true},
		{name: "redirected", faults: map[archivetest.Fault]int{archivetest.Redirected: 1}, requests: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, items := large(t, 1)
			for f, n := range test.faults {
				a.Fail("*.deb", f, n)
			}
			c := newClient(t)
			c.Silence = 300 * time.Millisecond
			if err := c.Fetch(t.Context(), items); err != nil {
				t.Fatal(err)
			}
			requests := a.Requests()
			if len(requests) != test.requests {
				t.Errorf("%d requests, want %d: %q", len(requests), test.requests, requests)
			}
			if got := strings.Contains(strings.Join(requests, "\n"), "bytes="); got != test.ranges {
				t.Errorf("resumed %v, want %v: %q", got, test.ranges, requests)
			}
			if !c.Have(items[0]) {
				t.Error("Have says no")
			}
			if got := files(t, c.Dir); !slices.Equal(got, []string{c.Path(items[0].SHA256)}) {
				t.Errorf("the cache holds %q", got)
			}
			// Once there, it is not asked for again.
			if err := c.Fetch(t.Context(), items); err != nil || len(a.Requests()) != 0 {
				t.Errorf("the second Fetch: %v", err)
			}
		})
	}
}

func TestFetchFails(t *testing.T) {
	for _, test := range []struct {
		name     string
		fault    archivetest.Fault
		want     error
		requests int
		message  string
	}{
		{"missing", archivetest.Missing, archive.ErrNotFound, 1, "update the lock"},
		{"forbidden", archivetest.Forbidden, archive.ErrDenied, 1, "403"},
		{"damaged", archivetest.Damaged, archive.ErrDigest, 2, "SHA-256"},
		{"shorter", archivetest.Shorter, archive.ErrDigest, 2, "bytes"},
		{"longer", archivetest.Longer, archive.ErrDigest, 2, "bytes"},
		{"overloaded", archivetest.Unavailable, archive.ErrUnreachable, 3, "after 3 attempts"},
		{"silent", archivetest.Silent, archive.ErrSilence, 3, "nothing came for 100ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, items := large(t, 1)
			a.Fail("*.deb", test.fault, -1)
			c := newClient(t)
			c.Retries, c.Silence = 2, 100*time.Millisecond
			err := c.Fetch(t.Context(), items)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.message) || !strings.Contains(err.Error(), items[0].URL) {
				t.Fatalf("got %v, want %v with %q", err, test.want, test.message)
			}
			if got := len(a.Requests()); got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			if c.Have(items[0]) {
				t.Error("Have says yes")
			}
			if _, err := os.Stat(c.Path(items[0].SHA256)); err == nil {
				t.Error("an incomplete file has its final name")
			}
		})
	}
}

func TestFetchResumesAcrossRuns(t *testing.T) {
	a, items := large(t, 1)
	a.Fail("*.deb", archivetest.Truncated, -1)
	c := newClient(t)
	c.Retries = -1
	if err := c.Fetch(t.Context(), items); !errors.Is(err, archive.ErrUnreachable) {
		t.Fatal(err)
	}
	a.Heal()
	a.Requests()
	if err := c.Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if got := a.Requests(); len(got) != 1 || !strings.Contains(got[0], "bytes=") {
		t.Errorf("requests %q", got)
	}
}

func TestFetchDoesNotTrustAPart(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault archivetest.Fault
		times int
		part  func(good []byte) []byte
	}{
		{"another file's part", 0, 0, func(good []byte) []byte { return make([]byte, len(good)/2) }},
		{"too long a part", 0, 0, func(good []byte) []byte { return append(slices.Clone(good), "more"...) }},
		{"whole but wrong", 0, 0, func(good []byte) []byte { return make([]byte, len(good)) }},
		{"whole and right", archivetest.Missing, -1, func(good []byte) []byte { return good }},
		{"a server without ranges", archivetest.NoRange, -1, func(good []byte) []byte { return good[:len(good)/2] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, items := large(t, 1)
			a.Fail("*.deb", test.fault, test.times)
			c := newClient(t)
			good := a.File(a.Packages()[0].Get("Filename"))
			path := c.Path(items[0].SHA256)
			if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".part", test.part(good), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := c.Fetch(t.Context(), items); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, good) {
				t.Errorf("the file is wrong (%v)", err)
			}
		})
	}
}

func TestFetchRepairsTheCache(t *testing.T) {
	a, items := large(t, 1)
	c := newClient(t)
	if err := c.Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	damage(t, c.Path(items[0].SHA256))
	offline := &archive.Client{Dir: c.Dir, Offline: true}
	if err := offline.Fetch(t.Context(), items); !errors.Is(err, archive.ErrOffline) || !strings.Contains(err.Error(), "large0 is damaged") {
		t.Errorf("offline: %v", err)
	}
	a.Requests()
	if err := c.Fetch(t.Context(), items); err != nil || len(a.Requests()) != 1 {
		t.Errorf("online: %v", err)
	}
	if err := offline.Fetch(t.Context(), items); err != nil {
		t.Errorf("offline after repair: %v", err)
	}
}

func TestFetchNamesWhatIsMissing(t *testing.T) {
	a, items := large(t, 4)
	c := newClient(t)
	a.Fail("large1*", archivetest.Missing, -1)
	a.Fail("large3*", archivetest.Missing, -1)
	err := c.Fetch(t.Context(), items)
	if !errors.Is(err, archive.ErrNotFound) || !strings.Contains(err.Error(), "large1_") || !strings.Contains(err.Error(), "and 1 more: large3") {
		t.Errorf("got %v", err)
	}
	if !c.Have(items[0]) || !c.Have(items[2]) {
		t.Error("the others were not fetched")
	}
	offline := &archive.Client{Dir: c.Dir, Offline: true}
	err = offline.Fetch(t.Context(), items)
	if !errors.Is(err, archive.ErrOffline) || !strings.Contains(err.Error(), "large1") || !strings.Contains(err.Error(), "applbuild fetch") {
		t.Errorf("offline: %v", err)
	}
}

func TestFetchFromAlternates(t *testing.T) {
	a, items := large(t, 1)
	items[0].Alternates = []string{items[0].URL}
	items[0].URL = a.URL + "/gone.deb"
	if err := newClient(t).Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
}

func TestFetchSideBySide(t *testing.T) {
	a, items := large(t, 3)
	dir := t.TempDir()
	a.Fail("*.deb", archivetest.Truncated, 5)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			c := &archive.Client{Dir: dir, Now: now, Backoff: time.Millisecond}
			if err := c.Fetch(t.Context(), items); err != nil {
				t.Error(err)
			}
			if _, err := c.Update(t.Context(), []archive.Source{source(a)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	whole := 0
	for _, r := range a.Requests() {
		if strings.HasSuffix(r, ".deb") {
			whole++
		}
	}
	if whole > 3 {
		t.Errorf("three files were asked for %d times from the start", whole)
	}
	for _, f := range files(t, dir) {
		if strings.HasSuffix(f, ".part") {
			t.Errorf("%s was left", f)
		}
	}
}

func TestProgressTellsAllBytes(t *testing.T) {
	a, items := large(t, 2)
	a.Fail("large0*", archivetest.Unavailable, 1)
	c := newClient(t)
	var inside atomic.Int32
	done := map[string]int64{}
	retried := 0
	c.Progress = func(e archive.Event) {
		if inside.Add(1) != 1 {
			t.Error("calls overlap")
		}
		if e.Done {
			done[e.Name] = e.Bytes
		}
		if e.Retry > 0 && e.Err != nil {
			retried++
		}
		inside.Add(-1)
	}
	if err := c.Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if done[it.Name] != it.Size {
			t.Errorf("%s: %d of %d bytes", it.Name, done[it.Name], it.Size)
		}
	}
	if retried != 1 {
		t.Errorf("%d retries were told", retried)
	}
}

func TestRetryAfter(t *testing.T) {
	a, items := large(t, 1)
	a.RetryAfter = time.Second
	a.Fail("*.deb", archivetest.Unavailable, 1)
	start := time.Now()
	if err := newClient(t).Fetch(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("came again after %v", waited)
	}
	// Beyond reason: told at once.
	a.RetryAfter = time.Hour
	a.Fail("*.deb", archivetest.Unavailable, 1)
	if err := newClient(t).Fetch(t.Context(), items); !errors.Is(err, archive.ErrUnreachable) || !strings.Contains(err.Error(), "1h0m0s") {
		t.Errorf("got %v", err)
	}
}

func TestItemsWithoutDigestAreRefused(t *testing.T) {
	err := newClient(t).Fetch(t.Context(), []archive.Item{{URL: "http://127.0.0.1:1/x.deb", Name: "x", SHA256: "../../etc/passwd"}})
	if !errors.Is(err, archive.ErrDigest) {
		t.Errorf("got %v", err)
	}
}

func TestPoolNamesStayInside(t *testing.T) {
	s := archive.Source{URI: "http://example.org/debian"}
	for _, name := range []string{"", "/etc/passwd", "../x.deb", "pool/../../x.deb", "pool//x.deb", "pool/x\n.deb"} {
		if url, err := s.URL(name); err == nil {
			t.Errorf("%q became %s", name, url)
		}
	}
	if got, err := s.URL("pool/main/g/g++/g++_1%3a1~2_amd64.deb"); err != nil || got != "http://example.org/debian/pool/main/g/g++/g++_1%253a1~2_amd64.deb" {
		t.Errorf("got %s, %v", got, err)
	}
}
