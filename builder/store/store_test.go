package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/applbuild/applbuild/builder/plan"
)

func write(t *testing.T, d *Draft, name, text string) {
	t.Helper()
	f, err := d.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestResultIsMadeOnceAndTakenAfterwards(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	var builds atomic.Int32
	build := func(_ context.Context, d *Draft) error {
		builds.Add(1)
		write(t, d, "image", "contents")
		d.Set("root hash", "abc")
		return nil
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			other, err := Open(ctx, dir)
			if err != nil {
				t.Error(err)
				return
			}
			result, _, err := other.Do(ctx, "k1", build)
			if err != nil {
				t.Error(err)
				return
			}
			if result.Values["root hash"] != "abc" || result.Size("image") != 8 {
				t.Errorf("taken: %+v", result)
			}
		})
	}
	wait.Wait()
	if builds.Load() != 1 {
		t.Errorf("built %d times", builds.Load())
	}
	if _, cached, err := s.Do(ctx, "k1", build); err != nil || !cached {
		t.Errorf("afterwards: cached %v, %v", cached, err)
	}
	left, _ := os.ReadDir(filepath.Join(dir, scratchDir))
	if len(left) != 0 {
		t.Errorf("left in scratch: %v", left)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, _, err = s.Do(t.Context(), "k", func(_ context.Context, d *Draft) error {
		write(t, d, "half", "x")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Get("k"); !errors.Is(err, ErrMiss) {
		t.Errorf("after a failure: %v", err)
	}
	left, _ := os.ReadDir(filepath.Join(s.Dir(), scratchDir))
	if len(left) != 0 {
		t.Errorf("left in scratch: %v", left)
	}
}

func TestDamageIsFoundWhenReadAndTruncationMendedByDo(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, _ := Open(ctx, dir)
	build := func(_ context.Context, d *Draft) error { write(t, d, "image", "contents"); return nil }
	if _, _, err := s.Do(ctx, "k", build); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, resultsDir, "k", "image")
	if err := os.WriteFile(path, []byte("Contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	result, err := s.Get("k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.Open(ctx, "image"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a flipped bit: %v", err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	result, cached, err := s.Do(ctx, "k", build)
	if err != nil || cached {
		t.Fatalf("truncated: cached %v, %v", cached, err)
	}
	f, err := result.Open(ctx, "image")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, _ := io.ReadAll(f); string(data) != "contents" {
		t.Errorf("after mending: %q", data)
	}
}

func TestOpenSweepsWhatAKilledBuildLeft(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, _ := Open(ctx, dir)
	mine, err := s.Scratch("mine")
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, scratchDir, "stage-dead")
	if err := os.Mkdir(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead+".lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead build's folder: %v", err)
	}
	if _, err := os.Stat(mine.Dir); err != nil {
		t.Errorf("a living build's folder was removed: %v", err)
	}
	if err := mine.Remove(ctx); err != nil {
		t.Error(err)
	}
}

func TestWaitingForAnotherBuildEndsWithTheContext(t *testing.T) {
	s, _ := Open(t.Context(), t.TempDir())
	unlock, err := s.lock(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Do(ctx, plan.Key("k"), func(context.Context, *Draft) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFolderIsMadeOnceOrNotAtAll(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, _, err = s.Folder(t.Context(), "k", func(_ context.Context, dir string) error {
		os.WriteFile(filepath.Join(dir, "half"), nil, 0o644)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	build := func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "tool"), []byte("x"), 0o755)
	}
	dir, cached, err := s.Folder(t.Context(), "k", build)
	if err != nil || cached {
		t.Fatalf("cached %v, %v", cached, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "tool" {
		t.Errorf("the folder has %v", left)
	}
	if again, cached, err := s.Folder(t.Context(), "k", build); err != nil || !cached || again != dir {
		t.Errorf("again: %s, cached %v, %v", again, cached, err)
	}
}
