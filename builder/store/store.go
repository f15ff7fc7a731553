// Package store keeps the results of stages by content key: complete or absent.
//
// A result is a few files and a few values. It is written into a draft beside
// the results, synced, and renamed into place, so that whatever interrupts a
// build, a key is either there with all its files or not there at all. Two
// builds that want the same key wait for each other: one makes it, the other
// takes it. Each file's digest is kept with the result and checked before the
// file is read.
//
// The store knows nothing of what it keeps, and downloaded packages are not
// its matter (see rootfs/archive).
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/plan"
)

// ErrMiss says that the store has no result for a key.
var ErrMiss = errors.New("not in the store")

// ErrCorrupt says that a file of a result is not what was put there.
var ErrCorrupt = errors.New("damaged in the store")

const (
	resultsDir = "stages"
	locksDir   = "locks"
	scratchDir = "tmp"
	recordName = "result.json"
)

// Store is a folder of results. It is safe for use by several goroutines and
// several processes at once.
type Store struct {
	dir    string
	remove func(context.Context, string) error
}

// Option changes how a store works.
type Option func(*Store)

// WithRemover sets how scratch folders are removed: a folder that holds files
// of mapped ids needs more than os.RemoveAll.
func WithRemover(remove func(context.Context, string) error) Option {
	return func(s *Store) { s.remove = remove }
}

// Open makes the store's folders below dir where they are missing and removes
// the scratch folders that a killed build left.
func Open(ctx context.Context, dir string, options ...Option) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	s := &Store{dir: abs, remove: func(_ context.Context, path string) error { return os.RemoveAll(path) }}
	for _, option := range options {
		option(s)
	}
	for _, name := range []string{resultsDir, locksDir, scratchDir} {
		if err := os.MkdirAll(filepath.Join(abs, name), 0o755); err != nil {
			return nil, fmt.Errorf("store: %w: name another folder with --store or APPLBUILD_STORE", err)
		}
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Dir is the store's folder, absolute.
func (s *Store) Dir() string { return s.dir }

// Path names a folder of the store's neighbours, such as the packages of
// rootfs/archive, which live below the same roof.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

type fileRecord struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type record struct {
	Files  map[string]fileRecord `json:"files"`
	Values map[string]string     `json:"values"`
}

// Result is what a stage made. Its files must not be written to.
type Result struct {
	Key    plan.Key
	Values map[string]string

	dir     string
	files   map[string]fileRecord
	mu      sync.Mutex
	checked map[string]bool
}

// Get returns the result of a key, or an error that matches ErrMiss.
func (s *Store) Get(key plan.Key) (*Result, error) {
	dir := s.resultDir(key)
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", key, ErrMiss)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", key, ErrCorrupt, err)
	}
	for name, file := range rec.Files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Size() != file.Size {
			return nil, fmt.Errorf("%s of %s: %w", name, key, ErrCorrupt)
		}
	}
	return &Result{Key: key, Values: rec.Values, dir: dir, files: rec.Files, checked: map[string]bool{}}, nil
}

// Has says whether the store has a result for a key.
func (s *Store) Has(key plan.Key) bool {
	_, err := s.Get(key)
	return err == nil
}

// HasFolder says whether the store has a folder for a key.
func (s *Store) HasFolder(key plan.Key) bool {
	return isDir(filepath.Join(s.dir, foldersDir, string(key)))
}

// Do returns the result of key, making it with build where it is missing. Of
// several callers with the same key, in this process or others, one builds
// and the others wait and take what it made. cached says that build was not
// called. A result whose files are damaged is made anew.
func (s *Store) Do(ctx context.Context, key plan.Key, build func(context.Context, *Draft) error) (result *Result, cached bool, err error) {
	if result, err := s.Get(key); err == nil {
		return result, true, nil
	}
	unlock, err := s.lock(ctx, string(key))
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	result, err = s.Get(key)
	switch {
	case err == nil:
		return result, true, nil
	case errors.Is(err, ErrCorrupt):
		if err := os.RemoveAll(s.resultDir(key)); err != nil {
			return nil, false, fmt.Errorf("store: %w", err)
		}
	case !errors.Is(err, ErrMiss):
		return nil, false, err
	}
	draft, err := s.draft(key)
	if err != nil {
		return nil, false, err
	}
	defer draft.abort()
	if err := build(ctx, draft); err != nil {
		return nil, false, err
	}
	if err := draft.commit(ctx); err != nil {
		return nil, false, err
	}
	result, err = s.Get(key)
	if err != nil {
		return nil, false, err
	}
	for name := range result.files {
		result.checked[name] = true
	}
	return result, false, nil
}

// Discard removes the result of key, for a caller that found it damaged.
func (s *Store) Discard(key plan.Key) error {
	return os.RemoveAll(s.resultDir(key))
}

func (s *Store) resultDir(key plan.Key) string {
	return filepath.Join(s.dir, resultsDir, string(key))
}

// Size is the length of a file of the result, in bytes.
func (r *Result) Size(name string) int64 { return r.files[name].Size }

// SHA256 is the digest of a file of the result, in hexadecimal.
func (r *Result) SHA256(name string) string { return r.files[name].SHA256 }

// Open opens a file of the result after checking its digest, once for each
// Result. The caller closes it. A file that was changed since it was put
// there gives an error that matches ErrCorrupt.
func (r *Result) Open(ctx context.Context, name string) (*os.File, error) {
	want, ok := r.files[name]
	if !ok {
		return nil, fmt.Errorf("%s of %s: %w", name, r.Key, fs.ErrNotExist)
	}
	f, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checked[name] {
		return f, nil
	}
	got, err := digest(ctx, f)
	if err == nil && got.SHA256 != want.SHA256 {
		err = fmt.Errorf("%s of %s: %w", name, r.Key, ErrCorrupt)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	r.checked[name] = true
	return f, nil
}

// digest reads f from where it stands to its end.
func digest(ctx context.Context, f io.Reader) (fileRecord, error) {
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return fileRecord{}, err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return fileRecord{Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
		}
		if err != nil {
			return fileRecord{}, err
		}
	}
}

// Draft is a result in the making.
type Draft struct {
	scratch *Scratch
	key     plan.Key
	target  string
	values  map[string]string
	mu      sync.Mutex
	names   map[string]bool
}

func (s *Store) draft(key plan.Key) (*Draft, error) {
	scratch, err := s.Scratch("stage")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(scratch.Dir, "result"), 0o755); err != nil {
		scratch.Remove(context.Background())
		return nil, err
	}
	return &Draft{scratch: scratch, key: key, target: s.resultDir(key), values: map[string]string{}, names: map[string]bool{}}, nil
}

// Create makes a file of the result. The caller closes it before the stage
// returns.
func (d *Draft) Create(name string) (*os.File, error) {
	return os.Create(d.File(name))
}

// File gives the path of a file of the result, for a writer that wants a path;
// the file becomes part of the result.
func (d *Draft) File(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = true
	return filepath.Join(d.scratch.Dir, "result", name)
}

// Set records a value with the result.
func (d *Draft) Set(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.values[name] = value
}

func (d *Draft) commit(ctx context.Context) error {
	dir := filepath.Join(d.scratch.Dir, "result")
	rec := record{Files: map[string]fileRecord{}, Values: d.values}
	var mu sync.Mutex
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for name := range d.names {
		group.Go(func() error {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			defer f.Close()
			file, err := digest(groupCtx, f)
			if err != nil {
				return fmt.Errorf("store: %s: %w", name, err)
			}
			mu.Lock()
			rec.Files[name] = file
			mu.Unlock()
			if err := f.Sync(); err != nil {
				return fmt.Errorf("store: %s: %w", name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(dir, recordName), data); err != nil {
		return err
	}
	if err := os.Rename(dir, d.target); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(filepath.Dir(d.target))
}

func (d *Draft) abort() { d.scratch.Remove(context.Background()) }

// Scratch makes a folder for the stage's work that goes with the draft.
func (d *Draft) Scratch(name string) (string, error) {
	dir := filepath.Join(d.scratch.Dir, name)
	return dir, os.Mkdir(dir, 0o755)
}

// Scratch is a folder for a stage's work. It goes when Remove is called, or at
// the next Open after the process that made it died.
type Scratch struct {
	Dir    string
	lock   *os.File
	remove func(context.Context, string) error
}

// Scratch makes an empty folder in the store.
func (s *Store) Scratch(purpose string) (*Scratch, error) {
	// The lock comes first, so that no folder is ever there without one.
	lock, err := os.CreateTemp(filepath.Join(s.dir, scratchDir), purpose+"-*.lock")
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("store: lock of %s: %w", lock.Name(), err)
	}
	dir := strings.TrimSuffix(lock.Name(), ".lock")
	// World-readable, because the mapped ids of a sandbox are other users.
	if err := os.Mkdir(dir, 0o755); err != nil {
		lock.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		lock.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Scratch{Dir: dir, lock: lock, remove: s.remove}, nil
}

// Remove removes the folder and all in it.
func (s *Scratch) Remove(ctx context.Context) error {
	err := s.remove(ctx, s.Dir)
	if err == nil {
		err = os.Remove(s.lock.Name())
	}
	s.lock.Close()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// sweep removes the scratch folders whose makers are gone: their lock is free.
func (s *Store) sweep(ctx context.Context) error {
	dir := filepath.Join(s.dir, scratchDir)
	locks, err := filepath.Glob(filepath.Join(dir, "*.lock"))
	if err != nil {
		return err
	}
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // its owner removed it just now
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			lock.Close()
			continue
		}
		left := &Scratch{Dir: strings.TrimSuffix(name, ".lock"), lock: lock, remove: s.remove}
		if err := left.Remove(ctx); err != nil {
			return fmt.Errorf("what a killed build left in %s cannot be removed: %w", left.Dir, err)
		}
	}
	return nil
}

// lock takes the lock of a name, waiting for another process or goroutine that
// holds it until ctx ends.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, locksDir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	timer := time.NewTicker(50 * time.Millisecond)
	defer timer.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("store: lock of %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

func writeSynced(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// syncAll syncs the file system that a folder lies on: quicker than its
// thousands of files one by one.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
