package volume

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func file(name, text string) *File {
	return &File{Name: name, Mode: 0o444, Size: int64(len(text)), Contents: strings.NewReader(text)}
}

func folder(name string, children ...*File) *File {
	return &File{Name: name, Mode: fs.ModeDir | 0o555, Children: children}
}

func TestATreeIsAFileSystem(t *testing.T) {
	tree, err := New(folder(".", file("z", ""), folder("Deep", file("x", "y"))), strings.ToUpper)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "z", "Deep/x"); err != nil {
		t.Error(err)
	}
}

func TestNamesAreFoundByTheirKey(t *testing.T) {
	date := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	dated := file("user-data", "#!/bin/sh\n")
	dated.Modified = date
	link := &File{Name: "link", Mode: fs.ModeSymlink | 0o777, Unread: "a symbolic link"}
	tree, err := New(folder(".", file("z", ""), dated, folder("Deep", folder("deeper", file("x", "y"))), link), strings.ToUpper)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := tree.ReadFile("deep/DEEPER/X"); err != nil || string(data) != "y" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := tree.Stat("USER-DATA"); err != nil || !info.ModTime().Equal(date) || info.Size() != 10 || info.Name() != "user-data" {
		t.Errorf("%v, %v", info, err)
	}
	for name, want := range map[string]error{"nothere": fs.ErrNotExist, "z/x": fs.ErrNotExist, "../z": fs.ErrInvalid, "link": fs.ErrInvalid} {
		if _, err := tree.Open(name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tree.ReadFile("Deep"); err == nil {
		t.Error("a folder was read as a file")
	}
	if _, err := tree.ReadDir("z"); err == nil {
		t.Error("a file was listed as a folder")
	}
}

func TestTwoFilesOfOneNameAreRefused(t *testing.T) {
	if _, err := New(folder(".", folder("a", file("x", ""), file("X", ""))), strings.ToUpper); err == nil || err.Error() != `two files with the name "x" in one folder` {
		t.Errorf("%v", err)
	}
}
