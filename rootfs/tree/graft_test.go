package tree

import (
	"bytes"
	"strings"
	"testing"
)

// paths says a line of each entry: its path, type, owner, and target or content.
func paths(t *testing.T, files *Tree) string {
	t.Helper()
	var lines []string
	err := files.Walk(func(e *Entry) error {
		line := e.Path + " " + string(e.Typeflag)
		switch e.Typeflag {
		case TypeLink, TypeSymlink:
			line += " " + e.Linkname
		case TypeReg:
			data, err := files.ReadFile(e.Path)
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func graftable(t *testing.T) *Tree {
	t.Helper()
	sub := New()
	steps := []error{
		sub.WriteFile("b", []byte("one"), 0o644, 0, 0),
		sub.Put(&Entry{Path: "a", Typeflag: TypeLink, Linkname: "b"}),
		sub.Mkdir("etc", 0o700, 7, 8),
		sub.WriteFile("etc/new", []byte("two"), 0o644, 0, 0),
		sub.Symlink("/etc", "link"),
		sub.Change(".", func(e *Entry) { e.Mode, e.UID = 0o711, 5 }),
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	return sub
}

func TestGraftHangsATreeBelowAFolder(t *testing.T) {
	sub := graftable(t)
	before := paths(t, sub)
	whole := New()
	if err := whole.WriteFile("usr/store/etc/old", []byte("old"), 0o644, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := whole.Symlink("usr/store", "at"); err != nil {
		t.Fatal(err)
	}
	if err := whole.Graft("at", sub); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{". 5", "at 2 usr/store", "usr 5", "usr/store 5", "usr/store/a 1 usr/store/b", "usr/store/b 0 one",
		"usr/store/etc 5", "usr/store/etc/new 0 two", "usr/store/etc/old 0 old", "usr/store/link 2 /etc"}, "\n")
	if got := paths(t, whole); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if e, _ := whole.Lookup("usr/store"); e.Mode != 0o711 || e.UID != 5 {
		t.Errorf("the folder has %04o and belongs to %d", e.Mode, e.UID)
	}
	if err := whole.Change("usr/store/etc", func(e *Entry) { e.UID = 1 }); err != nil {
		t.Fatal(err)
	}
	if e, _ := sub.Lookup("etc"); e.UID != 7 || paths(t, sub) != before {
		t.Error("the tree that was hung there changed")
	}
}

func TestGraftMakesTheFolder(t *testing.T) {
	whole := New()
	for _, prefix := range []string{"deep/down", "deep/down", "."} {
		if err := whole.Graft(prefix, graftable(t)); err != nil {
			t.Fatal(err)
		}
	}
	if whole.Len() != 13 {
		t.Errorf("%d entries:\n%s", whole.Len(), paths(t, whole))
	}
	if err := whole.Graft("../out", graftable(t)); err == nil {
		t.Error("a folder outside was taken")
	}
}

func TestAttributesOfOverlayfsAreWrittenAndRead(t *testing.T) {
	files := New()
	opaque := map[string]string{"trusted.overlay.opaque": "y", "user.overlay.opaque": "y"}
	if err := files.Put(&Entry{Path: "d", Typeflag: TypeDir, Mode: 0o755, Xattrs: opaque}); err != nil {
		t.Fatal(err)
	}
	if err := files.Put(&Entry{Path: "gone", Typeflag: TypeChar}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := files.WriteTar(t.Context(), &b, clock); err != nil {
		t.Fatal(err)
	}
	read, err := Index(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	differences, err := Diff(files, read)
	if err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
}
