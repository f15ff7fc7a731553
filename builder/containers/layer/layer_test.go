package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/rootfs/tree"
)

var clock = time.Unix(1700000000, 0).UTC()

// makeTar makes an archive of headers; a regular file's content is its Uname.
func makeTar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		given := *h
		data := given.Uname
		given.Uname, given.Format = "", tar.FormatPAX
		if given.ModTime.IsZero() {
			given.ModTime = clock
		}
		if given.Typeflag == 0 {
			given.Typeflag, given.Size = tar.TypeReg, int64(len(data))
		}
		if err := w.WriteHeader(&given); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, data string) *tar.Header { return &tar.Header{Name: name, Mode: 0o644, Uname: data} }
func folder(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}
func symlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}
func link(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}
}

// list says a line of each entry of a tree.
func list(t testing.TB, files *tree.Tree) string {
	t.Helper()
	var lines []string
	err := files.Walk(func(e *tree.Entry) error {
		line := fmt.Sprintf("%s %c %04o", e.Path, e.Typeflag, e.Mode)
		switch e.Typeflag {
		case tree.TypeReg:
			data, err := io.ReadAll(e.Content())
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", data)
		case tree.TypeLink, tree.TypeSymlink:
			line += " " + e.Linkname
		case tree.TypeChar:
			line += fmt.Sprintf(" %d:%d", e.Devmajor, e.Devminor)
		}
		for _, name := range []string{opaqueXattr, userOpaqueXattr, "user.a", "security.capability"} {
			if value, ok := e.Xattrs[name]; ok {
				line += " " + name + "=" + value
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestIndexFollowsTheRulesOfContainersStorage(t *testing.T) {
	const root = ". 5 0555\n"
	for name, test := range map[string]struct {
		archive []*tar.Header
		want    string
	}{
		"a whiteout is a device 0:0":             {[]*tar.Header{folder("etc"), file("etc/.wh.motd", "")}, root + "etc 5 0755\netc/motd 3 0000 0:0"},
		"an opaque folder says so twice":         {[]*tar.Header{folder("etc"), file("etc/.wh..wh..opq", "")}, root + "etc 5 0755 trusted.overlay.opaque=y user.overlay.opaque=y"},
		"an opaque folder stays so":              {[]*tar.Header{file("etc/.wh..wh..opq", ""), folder("etc")}, root + "etc 5 0755 trusted.overlay.opaque=y user.overlay.opaque=y"},
		"AUFS's own files are left out":          {[]*tar.Header{file(".wh..wh.aufs", ""), folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x")}, strings.TrimSpace(root)},
		"what is removed twice is removed":       {[]*tar.Header{file("a/.wh.b", ""), file("a/b/.wh.c", ""), file("a/b/c/.wh.d", "")}, root + "a 5 0755\na/b 3 0000 0:0"},
		"a file put after a whiteout stays":      {[]*tar.Header{file(".wh.a", ""), file("a", "x")}, root + `a 0 0644 "x"`},
		"a file put before a whiteout stays":     {[]*tar.Header{file("a", "x"), file(".wh.a", "")}, root + `a 0 0644 "x"`},
		"the later entry counts":                 {[]*tar.Header{file("a", "x"), file("./a", "y")}, root + `a 0 0644 "y"`},
		"a folder that comes again keeps files":  {[]*tar.Header{folder("d"), file("d/a", "x"), {Typeflag: tar.TypeDir, Name: "d/", Mode: 0o700}}, root + "d 5 0700\n" + `d/a 0 0644 "x"`},
		"a file in place of a folder removes it": {[]*tar.Header{file("d/a", "x"), file("d", "y")}, root + `d 0 0644 "y"`},
		"folders that are missing are made":      {[]*tar.Header{file("a/b/c", "x")}, root + "a 5 0755\na/b 5 0755\n" + `a/b/c 0 0644 "x"`},
		"a link to a folder is followed":         {[]*tar.Header{folder("usr/lib"), symlink("lib", "usr/lib"), file("lib/a/b", "x")}, root + "lib 2 0777 usr/lib\nusr 5 0755\nusr/lib 5 0755\nusr/lib/a 5 0755\n" + `usr/lib/a/b 0 0644 "x"`},
		"a link never leads out":                 {[]*tar.Header{folder("etc"), symlink("up", "../../../etc"), file("up/a", "x")}, root + "etc 5 0755\n" + `etc/a 0 0644 "x"` + "\nup 2 0777 ../../../etc"},
		"a leading slash is the layer's root":    {[]*tar.Header{{Typeflag: tar.TypeDir, Name: "/", Mode: 0o750}, file("/a", "x")}, ". 5 0750\n" + `a 0 0644 "x"`},
		"the entry ./ counts for nothing":        {[]*tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}, file("./a", "x")}, root + `a 0 0644 "x"`},
		"hard links are one file":                {[]*tar.Header{file("b", "x"), link("a", "./b"), link("c", "a")}, root + "a 1 0644 b\n" + `b 0 0644 "x"` + "\nc 1 0644 b"},
		"the file of a link may be replaced":     {[]*tar.Header{file("b", "x"), link("a", "b"), file("b", "y")}, root + `a 0 0644 "x"` + "\n" + `b 0 0644 "y"`},
		"a link to a link is the same link":      {[]*tar.Header{symlink("b", "x"), link("a", "b")}, root + "a 2 0644 x\nb 2 0777 x"},
		"attributes are kept": {[]*tar.Header{{Name: "a", Mode: 0o4755, PAXRecords: map[string]string{
			"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.selinux": "no", "SCHILY.xattr.trusted.overlay.redirect": "/no", "SCHILY.xattr.user.overlay.opaque": "y"}}}, root + `a 0 4755 "" user.a=1`},
		"libarchive's attributes are kept": {[]*tar.Header{{Name: "a", Mode: 0o755, PAXRecords: map[string]string{
			"LIBARCHIVE.xattr.security%2ecapability": base64.RawStdEncoding.EncodeToString([]byte("cap"))}}}, root + `a 0 0755 "" security.capability=cap`},
	} {
		t.Run(name, func(t *testing.T) {
			archive := makeTar(t, test.archive...)
			files, err := Index(bytes.NewReader(archive), int64(len(archive)))
			if err != nil {
				t.Fatal(err)
			}
			if got := list(t, files); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if err := files.WriteTar(t.Context(), io.Discard, clock); err != nil {
				t.Errorf("the tree cannot be written: %v", err)
			}
		})
	}
}

func TestIndexRefusesWhatLeavesTheLayer(t *testing.T) {
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("n", 99)+"/", 30), "/")
	for name, test := range map[string]struct {
		archive []*tar.Header
		is      error
		says    string
	}{
		"up and out":                {[]*tar.Header{file("../evil", "x")}, ErrPath, `entry "../evil"`},
		"up and in again":           {[]*tar.Header{file("a/../../evil", "x")}, ErrPath, `"a/../../evil"`},
		"through a dangling link":   {[]*tar.Header{symlink("a", "/nowhere"), file("a/evil", "x")}, ErrPath, "nowhere in the layer"},
		"through a link to itself":  {[]*tar.Header{symlink("a", "a"), file("a/evil", "x")}, ErrPath, `"a/evil"`},
		"through a file":            {[]*tar.Header{file("a", "x"), file("a/evil", "x")}, ErrPath, "no folder"},
		"through a removed folder":  {[]*tar.Header{file(".wh.a", ""), file("a/evil", "x")}, ErrPath, "removed"},
		"hard link out":             {[]*tar.Header{link("a", "../../etc/shadow")}, ErrPath, "leads out"},
		"hard link to nothing":      {[]*tar.Header{link("a", "etc/shadow")}, ErrPath, `"etc/shadow", which is not in the layer`},
		"hard link to a folder":     {[]*tar.Header{folder("d"), link("a", "d")}, ErrPath, "is a folder"},
		"hard link to what it ends": {[]*tar.Header{file("a/b", "x"), link("a", "a/b")}, ErrPath, "not in the layer"},
		"a long name":               {[]*tar.Header{file(strings.Repeat("n", 256), "x")}, ErrPath, "256 bytes"},
		"a long path":               {[]*tar.Header{folder(strings.Repeat(strings.Repeat("n", 99)+"/", 42))}, ErrPath, "4199 bytes"},
		"many folders":              {[]*tar.Header{folder(strings.Repeat("n/", 300))}, ErrPath, "in 300 folders"},
		"a long path by a link":     {[]*tar.Header{folder(long), symlink("l", long), file("l/"+long+"/x", "")}, ErrPath, "4095 are allowed"},
		"a whiteout of nothing":     {[]*tar.Header{file("a/.wh.", "")}, ErrPath, "removes no name"},
		"a whiteout of ..":          {[]*tar.Header{file("a/.wh...", "")}, ErrPath, "removes no name"},
		"an owner of no number":     {[]*tar.Header{{Name: "a", Uid: 1 << 32}}, ErrFormat, "owner"},
		"a device of no number":     {[]*tar.Header{{Typeflag: tar.TypeChar, Name: "a", Devmajor: 1 << 20}}, ErrFormat, "device"},
		"a long attribute":          {[]*tar.Header{{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 1<<17)}}}, ErrFormat, "user.a"},
	} {
		t.Run(name, func(t *testing.T) {
			archive := makeTar(t, test.archive...)
			_, err := Index(bytes.NewReader(archive), int64(len(archive)))
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line of %v with %q", err, test.is, test.says)
			}
		})
	}
}

// TestIndexBoundsWhatFewBytesAskFor begins shortly before the bound.
func TestIndexBoundsWhatFewBytesAskFor(t *testing.T) {
	x := &indexer{tree: tree.New(), names: maxNames - 1<<20}
	deep := strings.Repeat(strings.Repeat("n", 15)+"/", 254)
	for i := range 4 { // each asks for half a megabyte of paths
		err := x.entry(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%d/%sx", i, deep)}, nil)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%d files with long paths are no error", x.tree.Len())
}

func TestSparseFilesHaveTheirHoles(t *testing.T) {
	archive := sparseTar(t)
	files, err := Index(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("\x00", 4096) + "data"
	for _, name := range []string{"sparse", "after"} {
		got, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "after" {
			want = "after"
		}
		if string(got) != want {
			t.Errorf("%s: %d bytes %.20q", name, len(got), got)
		}
	}
	e, _ := files.Lookup("sparse")
	part := make([]byte, 2)
	for _, offset := range []int64{4098, 4096} { // backwards
		if _, err := e.Content().ReadAt(part, offset); err != nil || string(part) != "data"[offset-4096:][:2] {
			t.Errorf("at %d: %q, %v", offset, part, err)
		}
	}
}

// sparseTar is an archive of a file that has a hole, in GNU's form 0.1.
func sparseTar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	record := func(key, value string) string {
		n := len(key) + len(value) + 3
		line := fmt.Sprintf("%d %s=%s\n", n+2, key, value)
		if len(line) != n+2 {
			t.Fatalf("length of %q", line)
		}
		return line
	}
	records := record("GNU.sparse.major", "0") + record("GNU.sparse.minor", "1") + record("GNU.sparse.name", "sparse") +
		record("GNU.sparse.numblocks", "1") + record("GNU.sparse.map", "4096,4") + record("GNU.sparse.size", "4100")
	// archive/tar does not write such records: the header is made by hand.
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "records", Size: int64(len(records)), Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, records)
	if err := w.WriteHeader(ustar("sparse.data", 4)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "data")
	if err := w.WriteHeader(ustar("after", 5)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "after")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	raw := b.Bytes()
	raw[156] = 'x'
	sum := 0
	copy(raw[148:156], "        ")
	for _, c := range raw[:512] {
		sum += int(c)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func ustar(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatUSTAR}
}

func TestFlattenShowsWhatOverlayfsShows(t *testing.T) {
	lower := []*tar.Header{folder("etc"), file("etc/a", "1"), file("etc/b", "1"), file("etc/sub/c", "1"), file("one", "x"), link("two", "one"), symlink("lib", "usr")}
	upper := []*tar.Header{folder("etc"), file("etc/.wh.a", ""), file("etc/sub/.wh..wh..opq", ""), file("etc/sub/new", "2"), file(".wh.one", ""), file("lib/x", "2"), link("aa", "etc/sub/new")}
	var layers []*tree.Tree
	for _, headers := range [][]*tar.Header{lower, upper} {
		archive := makeTar(t, headers...)
		files, err := Index(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, files)
	}
	merged, err := Flatten(layers)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{". 5 0555", "aa 1 0644 etc/sub/new", "etc 5 0755", `etc/b 0 0644 "1"`, "etc/sub 5 0755", `etc/sub/new 0 0644 "2"`,
		"lib 5 0755", `lib/x 0 0644 "2"`, `two 0 0644 "x"`}, "\n")
	if got := list(t, merged); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// blob compresses an archive and describes it.
func blob(t testing.TB, archive []byte, compression Compression) ([]byte, containers.Layer) {
	t.Helper()
	var b bytes.Buffer
	switch compression {
	case Gzip:
		// Two members, as parallel compressors write them.
		for _, part := range [][]byte{archive[:len(archive)/2], archive[len(archive)/2:]} {
			w := gzip.NewWriter(&b)
			w.Write(part)
			w.Close()
		}
	case Zstd:
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(archive)
		w.Close()
	default:
		b.Write(archive)
	}
	return b.Bytes(), containers.Layer{
		Digest: containers.DigestOf(b.Bytes()), DiffID: containers.DigestOf(archive), Size: int64(b.Len()),
	}
}

func unpack(data []byte, l containers.Layer, limits Limits) (Info, []byte, []byte, error) {
	var archive, split bytes.Buffer
	info, err := Unpack(context.Background(), bytes.NewReader(data), l, &archive, &split, limits)
	return info, archive.Bytes(), split.Bytes(), err
}

func TestUnpackGivesTheArchive(t *testing.T) {
	owned := file("b", "content")
	owned.Uid, owned.Gid = 70000, 7
	archive := append(makeTar(t, file("a", "x"), owned, file(".wh.c", "")), make([]byte, 10<<10)...) // with more padding
	for _, compression := range []Compression{Plain, Gzip, Zstd} {
		data, l := blob(t, archive, compression)
		info, got, split, err := unpack(data, l, DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, archive) {
			t.Errorf("%d: another archive of %d bytes", compression, len(got))
		}
		if want := (Info{Size: int64(len(archive)), Entries: 3, Compression: compression}); fmt.Sprint(info.UIDs, info.GIDs) != "[0 70000] [0 7]" ||
			info.Size != want.Size || info.Entries != want.Entries || info.Compression != want.Compression || info.Repeats {
			t.Errorf("%d: %+v", compression, info)
		}
		_, _, again, err := unpack(data, l, DefaultLimits())
		if err != nil || !bytes.Equal(split, again) || len(split) == 0 {
			t.Errorf("%d: tar-split's data are not the same a second time: %v", compression, err)
		}
	}
}

func TestUnpackNotesPathsThatRepeat(t *testing.T) {
	data, l := blob(t, makeTar(t, file("a", "x"), file("b", "y"), file("a", "z")), Gzip)
	info, _, _, err := unpack(data, l, DefaultLimits())
	if err != nil || !info.Repeats || info.Entries != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestUnpackRefusesWhatIsNotTheLayer(t *testing.T) {
	archive := makeTar(t, file("a", strings.Repeat("x", 1<<20)), file("b", "y"))
	good, l := blob(t, archive, Gzip)
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	otherDiff, otherSize := l, l
	otherDiff.DiffID, otherSize.Size = containers.DigestOf(nil), l.Size-1
	noTar, noTarLayer := blob(t, []byte(strings.Repeat("no archive ", 1000)), Zstd)
	xz, xzLayer := blob(t, []byte("\xfd7zXZ\x00 and so on"), Plain)
	small := Limits{Size: 1 << 19, Entries: 100}
	for name, test := range map[string]struct {
		data   []byte
		layer  containers.Layer
		limits Limits
		is     error
		says   string
	}{
		"cut off":          {good[:len(good)-20], l, DefaultLimits(), ErrDigest, "ends after"},
		"damaged":          {damaged, l, DefaultLimits(), ErrDigest, "its content is"},
		"empty":            {nil, l, DefaultLimits(), ErrDigest, "ends after 0 bytes"},
		"longer than told": {good, otherSize, DefaultLimits(), ErrDigest, "goes on"},
		"another diff id":  {good, otherDiff, DefaultLimits(), ErrDigest, "config says"},
		"no archive":       {noTar, noTarLayer, DefaultLimits(), ErrFormat, ""},
		"xz":               {xz, xzLayer, DefaultLimits(), ErrFormat, "xz"},
		"a bomb":           {good, l, small, ErrTooLarge, "524288 bytes"},
		"many entries":     {good, l, Limits{Size: 1 << 30, Entries: 1}, ErrTooLarge, "more than 1 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := unpack(test.data, test.layer, test.limits)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line of %v with %q", err, test.is, test.says)
			}
		})
	}
}

// failing is a writer or reader without success.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Read([]byte) (int, error)  { return 0, f.err }

func TestUnpackGivesTheErrorsOfItsStreams(t *testing.T) {
	data, l := blob(t, makeTar(t, file("a", "x")), Zstd)
	wrong := errors.New("the disk is full")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, run := range map[string]func() error{
		"archive": func() error {
			_, err := Unpack(t.Context(), bytes.NewReader(data), l, failing{wrong}, io.Discard, DefaultLimits())
			return err
		},
		"split": func() error {
			_, err := Unpack(t.Context(), bytes.NewReader(data), l, io.Discard, failing{wrong}, DefaultLimits())
			return err
		},
		"blob": func() error {
			_, err := Unpack(t.Context(), failing{wrong}, l, io.Discard, io.Discard, DefaultLimits())
			return err
		},
	} {
		if err := run(); !errors.Is(err, wrong) || errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Unpack(ended, bytes.NewReader(data), l, io.Discard, io.Discard, DefaultLimits()); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context ended: %v", err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(makeTar(f, folder("etc"), file("etc/.wh.a", ""), file("b", "x"), link("c", "b"), symlink("d", "etc"), file("d/.wh..wh..opq", "")))
	f.Add(sparseTar(f))
	f.Fuzz(func(t *testing.T, archive []byte) {
		files, err := Index(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrPath) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v matches nothing", err)
			}
			return
		}
		err = files.Walk(func(e *tree.Entry) error {
			if strings.HasPrefix(e.Path, "/") || strings.Contains("/"+e.Path+"/", "/../") {
				t.Errorf("path %q", e.Path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		merged, err := Flatten([]*tree.Tree{files, files})
		if err != nil {
			t.Fatal(err)
		}
		if size(merged) > 1<<20 {
			return
		}
		if err := merged.WriteTar(t.Context(), io.Discard, clock); err != nil {
			t.Error(err)
		}
	})
}

func size(files *tree.Tree) (sum int64) {
	_ = files.Walk(func(e *tree.Entry) error {
		sum += e.Size
		return nil
	})
	return sum
}

func FuzzUnpack(f *testing.F) {
	for _, compression := range []Compression{Plain, Gzip, Zstd} {
		data, _ := blob(f, makeTar(f, file("a", "x"), folder("d")), compression)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := containers.Layer{Digest: containers.DigestOf(data), Size: int64(len(data))}
		info, archive, _, err := unpack(data, l, Limits{Size: 1 << 20, Entries: 100})
		if err == nil {
			t.Fatalf("%+v with no diff id", info)
		}
		if int64(len(archive)) > 1<<20 {
			t.Errorf("%d bytes were written", len(archive))
		}
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrDigest) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v matches nothing", err)
		}
	})
}
