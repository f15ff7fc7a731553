package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/applbuild/applbuild/cidata/fat"
)

var clock = time.Date(2024, 2, 29, 13, 14, 16, 0, time.UTC)

// seed has what makes volumes hard: folders, long names, names that differ in
// case only, in what level 1 cuts, and in what Joliet forbids.
func seed() []fat.File {
	long := strings.Repeat("long name ", 25)
	return []fat.File{
		{Path: "user-data", Data: []byte("#cloud-config\n")},
		{Path: "meta-data", Data: []byte("instance-id: one\n")},
		{Path: "network-config", Data: bytes.Repeat([]byte("network\n"), 1000)},
		{Path: "empty"},
		{Path: "a/b/c/d/e/f/g/deep", Data: []byte("deep")},
		{Path: "a/.profile", Data: []byte("dot")},
		{Path: "a/a.tar.gz", Data: []byte("dots")},
		{Path: "a/SHORT.TXT", Data: []byte("short")},
		{Path: "a/long.text", Data: []byte("1")},
		{Path: "a/LONG~1.TEX", Data: []byte("2")},
		{Path: "a/short", Data: []byte("lower case")},
		{Path: "a/thirteen.long", Data: []byte("fills an entry")},
		{Path: "a/grüße 世界", Data: []byte("letters")},
		{Path: "a/😀", Data: []byte("beyond UCS-2")},
		{Path: "a/w[h]a,t; +=", Data: []byte("not in short names")},
		{Path: long + "one", Data: []byte("long 1")},
		{Path: long + "two", Data: []byte("long 2")},
		{Path: strings.Repeat("m", fat.MaxName) + "/" + strings.Repeat("m", fat.MaxName), Data: []byte("longest")},
	}
}

func write(t testing.TB, files []fat.File, opts ...fat.Option) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := fat.Write(&b, files, opts...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, b []byte) *fat.Image {
	t.Helper()
	m, err := fat.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// contents lists all files of an image.
func contents(t testing.TB, fsys fs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := fs.ReadFile(fsys, path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same compares an image's files with those that were written.
func same(t testing.TB, fsys fs.FS, files []fat.File) {
	t.Helper()
	got := contents(t, fsys)
	for _, f := range files {
		if b, ok := got[f.Path]; !ok || b != string(f.Data) {
			t.Errorf("%q: %d bytes, want %d", f.Path, len(b), len(f.Data))
		}
		delete(got, f.Path)
	}
	for path := range got {
		t.Errorf("%q was not written", path)
	}
}

func TestASeedIsReadBackAsWritten(t *testing.T) {
	m := open(t, write(t, seed(), fat.Time(clock)))
	same(t, m, seed())
	if m.Label() != "CIDATA" || m.Kind() != "FAT12" {
		t.Errorf("label %q, %s", m.Label(), m.Kind())
	}
	var paths []string
	for _, f := range seed() {
		paths = append(paths, f.Path)
	}
	if err := fstest.TestFS(m, paths...); err != nil {
		t.Error(err)
	}
	for path, mode := range map[string]fs.FileMode{"user-data": 0o644, "a": fs.ModeDir | 0o755} {
		if info, err := m.Stat(path); err != nil || info.Mode() != mode || !info.ModTime().Equal(clock) {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

func TestTheSameFilesGiveTheSameBytes(t *testing.T) {
	files := seed()
	first := write(t, files)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		if !bytes.Equal(write(t, files, fat.Time(time.Date(1980, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)))), first) {
			t.Fatal("another order of files or another zone of the same time gives other bytes")
		}
	}
	if bytes.Equal(write(t, files, fat.Time(clock)), first) || bytes.Equal(write(t, files, fat.Label("SEED")), first) {
		t.Error("time or label makes no difference")
	}
}

func TestWritingLeavesItsInputAlone(t *testing.T) {
	all := []byte("user-data and what is behind it")
	write(t, []fat.File{{Path: "user-data", Data: all[:9]}})
	if string(all) != "user-data and what is behind it" {
		t.Errorf("now it is %q", all)
	}
}

func TestManyFilesInAFolderEachHaveAName(t *testing.T) {
	var files []fat.File
	for i := range 2000 {
		files = append(files, fat.File{Path: fmt.Sprintf("same-prefix-%s-%d", strings.Repeat("x", 60+i%2*140), i), Data: []byte{byte(i)}})
	}
	same(t, open(t, write(t, files)), files)
}

func TestWhatCannotBeWrittenIsRefused(t *testing.T) {
	one := []fat.File{{Path: "a"}}
	many := make([]fat.File, fat.MaxEntries+1)
	for i := range many {
		many[i].Path = fmt.Sprint(i)
	}
	half := make([]byte, fat.MaxBytes/2+1)
	for name, c := range map[string]struct {
		files []fat.File
		opt   fat.Option
		want  error
	}{
		"empty path":         {files: []fat.File{{Path: ""}}, want: fat.ErrName},
		"root":               {files: []fat.File{{Path: "."}}, want: fat.ErrName},
		"absolute":           {files: []fat.File{{Path: "/a"}}, want: fat.ErrName},
		"parent":             {files: []fat.File{{Path: "a/../b"}}, want: fat.ErrName},
		"empty part":         {files: []fat.File{{Path: "a//b"}}, want: fat.ErrName},
		"slash at the end":   {files: []fat.File{{Path: "a/"}}, want: fat.ErrName},
		"NUL":                {files: []fat.File{{Path: "a\x00b"}}, want: fat.ErrName},
		"colon":              {files: []fat.File{{Path: "a:b"}}, want: fat.ErrName},
		"backslash":          {files: []fat.File{{Path: `a\b`}}, want: fat.ErrName},
		"line":               {files: []fat.File{{Path: "a\nb"}}, want: fat.ErrName},
		"dot at the end":     {files: []fat.File{{Path: "a./b"}}, want: fat.ErrName},
		"space at the end":   {files: []fat.File{{Path: "a "}}, want: fat.ErrName},
		"case":               {files: []fat.File{{Path: "a"}, {Path: "A"}}, want: fat.ErrName},
		"case of folders":    {files: []fat.File{{Path: "a/b"}, {Path: "A/c"}}, want: fat.ErrName},
		"case, and folder":   {files: []fat.File{{Path: "a"}, {Path: "A/c"}}, want: fat.ErrName},
		"no UTF-8":           {files: []fat.File{{Path: "a\xff"}}, want: fat.ErrName},
		"long name":          {files: []fat.File{{Path: strings.Repeat("a", fat.MaxName+1)}}, want: fat.ErrName},
		"twice":              {files: []fat.File{{Path: "a"}, {Path: "b"}, {Path: "a"}}, want: fat.ErrName},
		"file and folder":    {files: []fat.File{{Path: "a/b"}, {Path: "a"}}, want: fat.ErrName},
		"folder below file":  {files: []fat.File{{Path: "a/b/c"}, {Path: "a/b"}}, want: fat.ErrName},
		"deep":               {files: []fat.File{{Path: strings.Repeat("d/", fat.MaxDepth) + "f"}}, want: fat.ErrLimit},
		"many":               {files: many, want: fat.ErrLimit},
		"large":              {files: []fat.File{{Path: "a", Data: half}, {Path: "b", Data: half}}, want: fat.ErrLimit},
		"no label":           {files: one, opt: fat.Label(""), want: fat.ErrName},
		"space at the label": {files: one, opt: fat.Label("SEED "), want: fat.ErrName},
		"long label":         {files: one, opt: fat.Label("TWELVE LETTE"), want: fat.ErrName},
		"label":              {files: one, opt: fat.Label("GRÖSSE"), want: fat.ErrName},
		"lower-case label":   {files: one, opt: fat.Label("cidata"), want: fat.ErrName},
		"early":              {files: one, opt: fat.Time(time.Date(1979, 12, 31, 0, 0, 0, 0, time.UTC))},
		"late":               {files: one, opt: fat.Time(time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		var b bytes.Buffer
		opts := []fat.Option{fat.Time(clock)}
		if c.opt != nil {
			opts = append(opts, c.opt)
		}
		err := fat.Write(&b, c.files, opts...)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || b.Len() != 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, b.Len())
		}
	}
}

// randomFiles makes a tree out of few names, so that they meet.
func randomFiles(rng *rand.Rand) []fat.File {
	names := []string{"a", "b.c", "b.cd", "USER-D~1", "user-data", "user-data2", "user-datum", "x y", "ü", "e.x.t", ".h", "a;1", "UPPER", "x.TXT", strings.Repeat("q", 70), strings.Repeat("q", 71), strings.Repeat("z", 200)}
	var files []fat.File
	taken := map[string]bool{}
	for range rng.IntN(60) {
		parts := make([]string, 1+rng.IntN(6))
		for i := range parts {
			parts[i] = names[rng.IntN(len(names))]
		}
		path := strings.Join(parts, "/")
		fits := !taken[path]
		for i := range parts[1:] {
			fits = fits && !slices.ContainsFunc(files, func(f fat.File) bool { return f.Path == strings.Join(parts[:i+1], "/") })
		}
		if !fits {
			continue
		}
		for i := range parts {
			taken[strings.Join(parts[:i+1], "/")] = true
		}
		data := bytes.Repeat([]byte{byte(rng.Uint32()), byte(rng.Uint32())}, 100000)[:[]int{0, 1, 100, 2047, 2048, 2049, 10000, 200000}[rng.IntN(8)]]
		files = append(files, fat.File{Path: path, Data: data})
	}
	return files
}

func TestRandomTreesAreReadBackAsWritten(t *testing.T) {
	trees := 300
	if testing.Short() {
		trees = 50
	}
	for n := range trees {
		files := randomFiles(rand.New(rand.NewPCG(uint64(n), 7)))
		same(t, open(t, write(t, files)), files)
		if t.Failed() {
			t.Fatalf("tree %d", n)
		}
	}
}

func TestFilesAreReadAsStreams(t *testing.T) {
	f, err := open(t, write(t, seed())).Open("network-config")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, ok := f.(io.ReadSeeker)
	if !ok {
		t.Fatal("a file is no io.Seeker")
	}
	if _, err := s.Seek(-8, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "network\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestWrongUseOfAnImageIsAnError(t *testing.T) {
	m := open(t, write(t, seed()))
	for name, f := range map[string]func() error{
		"missing file":          func() error { _, err := m.Open("missing"); return err },
		"missing folder":        func() error { _, err := m.ReadDir("a/missing"); return err },
		"file below a file":     func() error { _, err := m.ReadFile("user-data/x"); return err },
		"missing, by Stat":      func() error { _, err := m.Stat("missing"); return err },
		"absolute path":         func() error { _, err := m.Open("/user-data"); return err },
		"parent":                func() error { _, err := m.Open("a/../user-data"); return err },
		"a folder as a file":    func() error { _, err := m.ReadFile("a"); return err },
		"a file as a folder":    func() error { _, err := m.ReadDir("user-data"); return err },
		"bytes out of a folder": func() error { f, _ := m.Open("a"); _, err := f.Read(nil); return err },
	} {
		err := f()
		var path *fs.PathError
		if !errors.As(err, &path) || strings.HasPrefix(name, "missing") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
