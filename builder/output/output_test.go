package output_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/output"
)

var names = []string{"a.raw", "a.efi", "a.json"}

// build writes three outputs with text in them.
func build(t *testing.T, dir, text string, force bool) ([]output.File, error) {
	t.Helper()
	if err := output.Check(dir, names); err != nil && !force {
		return nil, err
	}
	s, err := output.New(dir, force)
	if err != nil {
		return nil, err
	}
	defer s.Abort()
	for _, name := range names {
		f, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(name + text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return s.Commit(t.Context())
}

// listing returns the names in dir with their contents.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.(*fs.PathError).Err.Error()
	}
	var lines []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == output.SumsName {
			data = []byte(strings.Join(strings.Fields(string(bytes.ReplaceAll(data, []byte("\n"), []byte(" ")))), " "))
			data = []byte(fmt.Sprint(len(strings.Fields(string(data)))/2, " lines"))
		}
		lines = append(lines, e.Name()+": "+string(data))
	}
	return strings.Join(lines, ", ")
}

const first = "SHA256SUMS: 3 lines, a.efi: a.efi1, a.json: a.json1, a.raw: a.raw1"

func TestCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "out")
	files, err := build(t, dir, "1", false)
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); got != first {
		t.Errorf("the folder holds %s", got)
	}
	sum := sha256.Sum256([]byte("a.raw1"))
	if files[0] != (output.File{Name: "a.raw", Size: 6, SHA256: hex.EncodeToString(sum[:])}) {
		t.Errorf("files %+v", files)
	}
	if info, err := os.Stat(filepath.Join(dir, "a.raw")); err != nil || info.Mode().Perm()&0o600 != 0o600 || info.Mode().Perm()&0o111 != 0 {
		t.Errorf("mode of an output: %v, %v", info.Mode(), err)
	}
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("SKIPPED: sha256sum is missing: install coreutils")
	}
	check := exec.Command("sha256sum", "--check", "--strict", output.SumsName)
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
}

func TestOutputsAreNotOverwrittenWithoutForce(t *testing.T) {
	dir := t.TempDir()
	if _, err := build(t, dir, "1", false); err != nil {
		t.Fatal(err)
	}
	_, err := build(t, dir, "2", false)
	var exists *output.ExistsError
	if !errors.As(err, &exists) || !slices.Equal(exists.Names, []string{"a.efi", "a.json", "a.raw"}) || !strings.Contains(err.Error(), "a.efi, a.json, a.raw exist already") {
		t.Errorf("a second build: %v", err)
	}
	if got := listing(t, dir); got != first {
		t.Errorf("the folder holds %s", got)
	}
	if _, err := build(t, dir, "2", true); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); got != strings.ReplaceAll(strings.ReplaceAll(first, "1", "2"), "3 lines", "3 lines") {
		t.Errorf("after force the folder holds %s", got)
	}
}

func TestSameOutputsStayUntouched(t *testing.T) {
	dir := t.TempDir()
	files, err := build(t, dir, "1", false)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range append([]string{output.SumsName}, names...) {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := build(t, dir, "1", true); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{output.SumsName}, names...) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(old) {
			t.Errorf("%s was written again: %v", name, err)
		}
	}
	if same, err := output.Same(t.Context(), dir, files); err != nil || !same {
		t.Errorf("Same: %t, %v", same, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.efi"), []byte("a.efi2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if same, err := output.Same(t.Context(), dir, files); err != nil || same {
		t.Errorf("Same with a changed file: %t, %v", same, err)
	}
	if same, err := output.Same(t.Context(), filepath.Join(dir, "none"), files); err != nil || same {
		t.Errorf("Same without a folder: %t, %v", same, err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "x", "y")
	s, err := output.New(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("a.raw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); strings.Contains(got, "a.raw:") {
		t.Errorf("before Commit the folder holds %s", got)
	}
	if err := errors.Join(f.Close(), s.Abort(), s.Abort()); err != nil {
		t.Error(err)
	}
	if got := listing(t, top); got != "" {
		t.Errorf("after Abort there is %s", got)
	}
}

func TestCancelledCommitLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	s, err := output.New(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Create("a.raw")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if got := listing(t, dir); got != "no such file or directory" {
		t.Errorf("the folder: %s", got)
	}
}

// TestFailureWhileRenamingTakesAllBack puts a folder in the way of the last of three outputs after the check.
func TestFailureWhileRenamingTakesAllBack(t *testing.T) {
	dir := t.TempDir()
	if _, err := build(t, dir, "1", false); err != nil {
		t.Fatal(err)
	}
	s, err := output.New(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := s.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(name + "2"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	// Nothing can be linked under the hidden name of the third while a folder with something in it has that name.
	if err := os.MkdirAll(filepath.Join(dir, ".a.json.new", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context()); err == nil {
		t.Error("Commit succeeds")
	}
	if err := os.RemoveAll(filepath.Join(dir, ".a.json.new")); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); got != first {
		t.Errorf("the folder holds %s", got)
	}
}

func TestSumsOfOtherBuildsAreKept(t *testing.T) {
	dir := t.TempDir()
	other := strings.Repeat("0", 64)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "other.raw"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, output.SumsName), []byte(other+"  other.raw\n"+other+" *gone.raw\n"+other+"  a.raw\n"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	files, err := build(t, dir, "1", false)
	if err != nil {
		t.Fatal(err)
	}
	sums, err := output.ReadSums(dir)
	if err != nil || len(sums) != 4 || sums[3] != (output.Sum{Name: "other.raw", SHA256: other}) || sums[2].SHA256 != files[0].SHA256 {
		t.Errorf("sums %v, %v", sums, err)
	}
	_, err = output.Verify(t.Context(), dir, nil)
	var problem *output.SumError
	if !errors.As(err, &problem) || problem.Name != "other.raw" || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("Verify: %v", err)
	}
	if good, err := output.Verify(t.Context(), dir, func(name string) bool { return strings.HasPrefix(name, "a.") }); err != nil || len(good) != 3 {
		t.Errorf("Verify of a build's own files: %v, %v", good, err)
	}
	if err := os.Remove(filepath.Join(dir, "a.raw")); err != nil {
		t.Fatal(err)
	}
	if _, err = output.Verify(t.Context(), dir, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Verify with a file missing: %v", err)
	}
}

func TestBuildsSideBySide(t *testing.T) {
	dir := t.TempDir()
	errs := make(chan error)
	for i := range 8 {
		go func() {
			name := fmt.Sprintf("%d.raw", i)
			s, err := output.New(dir, false)
			if err == nil {
				var f *os.File
				if f, err = s.Create(name); err == nil {
					_, err = f.WriteString(name)
					f.Close()
				}
				if err == nil {
					_, err = s.Commit(t.Context())
				}
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if files, err := output.Verify(t.Context(), dir, nil); err != nil || len(files) != 8 {
		t.Errorf("after eight builds: %v, %v", files, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Symlink("file", filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "bad"), 0o755),
		os.WriteFile(filepath.Join(dir, "bad", output.SumsName), []byte("what?\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, name, want string
	}{
		{file, "a", "is a file: choose another folder"},
		{dir, "link", "is not a regular file"},
		{dir, "bad", "is not a regular file"},
		{dir, "../x", "not a name"},
		{dir, ".hidden", "not a name"},
		{dir, output.SumsName, "not a name"},
		{filepath.Join(dir, "bad"), "a", "SHA256SUMS:1: not a digest"},
	} {
		err := output.Check(test.dir, []string{test.name})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Check(%s, %s): %v, want %s", test.dir, test.name, err, test.want)
		}
	}
	if err := output.Check(filepath.Join(dir, "none"), names); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	s, err := output.New(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	if _, err := s.Create("../x"); err == nil {
		t.Error("Create makes a file in another folder")
	}
	if _, err := s.Create("once"); err != nil {
		t.Error(err)
	}
	if _, err := s.Create("once"); err == nil {
		t.Error("Create makes a file twice")
	}
}

func TestCommitSeesWhatAppearedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	s, err := output.New(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Create("a.raw"); err != nil {
		t.Fatal(err)
	} else if _, err := f.WriteString("ours"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.raw"), []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	var exists *output.ExistsError
	if _, err := s.Commit(t.Context()); !errors.As(err, &exists) || listing(t, dir) != "a.raw: theirs" {
		t.Errorf("Commit: %v; the folder holds %s", err, listing(t, dir))
	}
}

// TestDigestOfHoles compares with a digest of the bytes, and hashes 1 GiB of holes.
func TestDigestOfHoles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 5 << 20, 5<<20 + 4096, 17<<20 + 1} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 3000), at); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int64{17<<20 + 3001, 40 << 20, 40<<20 + 7} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want := sha256.Sum256(data)
		n, got, err := output.Digest(t.Context(), name)
		if err != nil || n != size || got != hex.EncodeToString(want[:]) {
			t.Errorf("size %d: %d, %s, %v", size, n, got, err)
		}
	}
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	var info unix.Stat_t
	if err := unix.Stat(name, &info); err != nil || info.Blocks*512 > 1<<20 {
		t.Skip("SKIPPED: this file system has no holes: set TMPDIR to ext4, xfs, btrfs or tmpfs")
	}
	start := time.Now()
	if _, _, err := output.Digest(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Logf("1 GiB of holes took %v", time.Since(start))
	if err := unix.Mkfifo(name+".pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := output.Digest(t.Context(), name+".pipe"); err == nil {
		t.Error("Digest reads a pipe")
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(strings.Repeat("0", 64) + "  a.raw\n" + strings.Repeat("F", 64) + " *b c\r\n"))
	f.Add([]byte("\\" + strings.Repeat("0", 64) + "  a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sums, err := output.ParseSums(data)
		if err != nil {
			return
		}
		for _, s := range sums {
			if s.Name == "" || filepath.Base(s.Name) != s.Name || len(s.SHA256) != 64 {
				t.Errorf("%+v", s)
			}
		}
	})
}
