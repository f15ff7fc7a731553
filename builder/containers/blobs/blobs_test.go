package blobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/applbuild/applbuild/builder/containers"
)

func open(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func content(t *testing.T, d *Dir, digest containers.Digest) string {
	t.Helper()
	f, err := d.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// files are the names of all files below a folder.
func files(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestBlobIsThereAfterPut(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	digest := containers.DigestOf([]byte("layer"))
	if _, err := d.Open(t.Context(), digest); !errors.Is(err, ErrMiss) {
		t.Errorf("before: %v", err)
	}
	if err := d.Put(t.Context(), digest, 5, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d, digest); got != "layer" {
		t.Errorf("read %q", got)
	}
	if !d.Has(digest, 5) || !d.Has(digest, -1) || d.Has(digest, 4) {
		t.Error("Has does not know the size")
	}
	if got := files(t, dir); got != "sha256/"+digest.Hex() {
		t.Errorf("the folder holds %s", got)
	}
	if _, err := d.ReadFile(t.Context(), digest, 4); err == nil {
		t.Error("a blob was read past the limit")
	}
}

func TestWhatDoesNotFitLeavesNothing(t *testing.T) {
	digest := containers.DigestOf([]byte("layer"))
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		digest containers.Digest
		r      io.Reader
		want   error
	}{
		"other bytes":    {digest, strings.NewReader("Layer"), ErrDigest},
		"too short":      {digest, strings.NewReader("laye"), ErrDigest},
		"too long":       {digest, strings.NewReader("layers"), ErrDigest},
		"a broken line":  {digest, io.MultiReader(strings.NewReader("la"), iotest.ErrReader(broken)), broken},
		"no digest":      {"sha256:../../x", strings.NewReader("layer"), nil},
		"another digest": {"sha512:00", strings.NewReader("layer"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			err := d.Put(t.Context(), test.digest, 5, test.r)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if got := files(t, dir); got != "" {
				t.Errorf("left behind: %s", got)
			}
		})
	}
}

func TestDamageIsFoundOnceAndRemoved(t *testing.T) {
	dir := t.TempDir()
	digest := containers.DigestOf([]byte("layer"))
	if err := open(t, dir).Put(t.Context(), digest, 5, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, blobDir, digest.Hex()), []byte("Layer"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	if _, err := d.Open(t.Context(), digest); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if got := files(t, dir); got != "" {
		t.Errorf("left behind: %s", got)
	}
	if err := d.Put(t.Context(), digest, 5, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d, digest); got != "layer" {
		t.Errorf("brought again: %q", got)
	}
}

func TestTruncatedBlobIsBroughtAgain(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	digest := containers.DigestOf([]byte("layer"))
	if err := os.WriteFile(filepath.Join(dir, blobDir, digest.Hex()), []byte("lay"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), digest, 5, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d, digest); got != "layer" {
		t.Errorf("brought again: %q", got)
	}
}

func TestPartialIsContinued(t *testing.T) {
	dir := t.TempDir()
	digest := containers.DigestOf([]byte("layer"))
	cut := errors.New("cut")
	err := open(t, dir).Fill(t.Context(), digest, 5, func(p *Partial) error {
		io.WriteString(p, "lay")
		return cut
	})
	if !errors.Is(err, cut) {
		t.Fatalf("got %v", err)
	}
	d := open(t, dir)
	if d.Has(digest, -1) {
		t.Error("half a blob is visible")
	}
	err = d.Fill(t.Context(), digest, 5, func(p *Partial) error {
		if p.Offset() != 3 {
			t.Errorf("continued at %d", p.Offset())
		}
		_, err := io.WriteString(p, "er")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, d, digest); got != "layer" {
		t.Errorf("read %q", got)
	}
	if got := files(t, dir); got != "sha256/"+digest.Hex() {
		t.Errorf("the folder holds %s", got)
	}
}

func TestPartialThatIsTooLongIsForgotten(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	digest := containers.DigestOf([]byte("layer"))
	if err := os.WriteFile(d.partial(digest), []byte("layers"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := d.Fill(t.Context(), digest, 5, func(p *Partial) error {
		_, err := io.WriteString(p, "layer")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOneOfManyFills(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("layer"), 1<<18)
	digest := containers.DigestOf(data)
	var fills atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			d, err := New(dir)
			if err == nil {
				err = d.Fill(t.Context(), digest, int64(len(data)), func(p *Partial) error {
					fills.Add(1)
					time.Sleep(10 * time.Millisecond)
					_, err := p.Write(data)
					return err
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if fills.Load() != 1 {
		t.Errorf("filled %d times", fills.Load())
	}
	if got := files(t, dir); got != "sha256/"+digest.Hex() {
		t.Errorf("the folder holds %s", got)
	}
}

// A reader that finds damage and a writer of the same blob take the same two
// locks.
func TestReadersAndWritersOfADamagedBlobEnd(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	digest := containers.DigestOf([]byte("layer"))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				if err := d.Put(t.Context(), digest, 5, strings.NewReader("layer")); err != nil {
					t.Error(err)
				}
				os.WriteFile(filepath.Join(dir, blobDir, digest.Hex()), []byte("Layer"), 0o644)
				if f, err := open(t, dir).Open(t.Context(), digest); err == nil {
					f.Close()
				} else if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMiss) {
					t.Error(err)
				}
				if f, err := d.Open(t.Context(), digest); err == nil {
					f.Close()
				}
			}
		})
	}
	wait.Wait()
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	d := open(t, t.TempDir())
	digest := containers.DigestOf([]byte("layer"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := d.Fill(t.Context(), digest, 5, func(*Partial) error {
		return d.Fill(ctx, digest, 5, func(*Partial) error { return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledFillLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := open(t, dir).Put(ctx, containers.DigestOf([]byte("layer")), 5, strings.NewReader("layer"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := files(t, dir); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

const killedDir = "APPLBUILD_TEST_BLOBS"

// TestKilledProcessLeavesAPartialThatIsContinued runs this test again as the
// process that is killed.
func TestKilledProcessLeavesAPartialThatIsContinued(t *testing.T) {
	digest := containers.DigestOf([]byte("layer"))
	if dir := os.Getenv(killedDir); dir != "" {
		open(t, dir).Fill(t.Context(), digest, 5, func(p *Partial) error {
			io.WriteString(p, "lay")
			os.Stdout.WriteString("written\n")
			select {}
		})
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("written\n"))); err != nil {
		t.Error(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	d := open(t, dir)
	if d.Has(digest, -1) {
		t.Error("half a blob is visible")
	}
	err = d.Fill(t.Context(), digest, 5, func(p *Partial) error {
		if p.Offset() != 3 {
			t.Errorf("continued at %d", p.Offset())
		}
		_, err := io.WriteString(p, "er")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
