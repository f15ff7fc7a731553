package archive_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

func TestMirrorsAreTriedInTurn(t *testing.T) {
	a := hello(t)
	a.Publish()
	s := source(a)
	s.URI, s.Alternates = "http://127.0.0.1:1/debian", []string{a.URL}
	c := newClient(t)
	c.Retries = -1
	list, err := c.Update(t.Context(), []archive.Source{s})
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Source.URI != a.URL || list[0].Release.URI != a.URL {
		t.Errorf("served by %s, %s says the index", a.URL, list[0].Source.URI)
	}
	s.Alternates = nil
	if _, err := c.Update(t.Context(), []archive.Source{s}); !errors.Is(err, archive.ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestFileMirror(t *testing.T) {
	a := hello(t)
	a.Publish()
	dir := t.TempDir()
	a.WriteDir(dir)
	s := source(a)
	s.URI = "file://" + dir
	c := newClient(t)
	list, err := c.Update(t.Context(), []archive.Source{s})
	if err != nil {
		t.Fatal(err)
	}
	it := itemOf(t, list[0].Source, a, 0)
	if err := c.Fetch(t.Context(), []archive.Item{it}); err != nil || !c.Have(it) {
		t.Fatalf("Fetch: %v", err)
	}
	it.URL, it.SHA256 = "file://"+dir+"/none.deb", strings.Repeat("0", 64)
	if err := c.Fetch(t.Context(), []archive.Item{it}); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	a := hello(t)
	a.Publish()
	a.Fail("InRelease", archivetest.Silent, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newClient(t).Update(ctx, []archive.Source{source(a)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPasswordsStayOutOfErrors(t *testing.T) {
	a := hello(t)
	a.Publish()
	a.Fail("InRelease", archivetest.Forbidden, -1)
	s := source(a)
	s.URI = strings.Replace(s.URI, "http://", "http://me:secret@", 1)
	c := newClient(t)
	_, err := c.Update(t.Context(), []archive.Source{s})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	for _, f := range files(t, c.Dir) {
		if strings.Contains(f, "secret") {
			t.Errorf("password in the name %s", f)
		}
	}
}
