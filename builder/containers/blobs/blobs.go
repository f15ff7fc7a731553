// Package blobs keeps blobs of container images by digest: layers, configs,
// manifests and indexes.
//
// The folder is laid out as the blobs of an OCI image layout (image-spec v1.1,
// image-layout.md): sha256/HEX. A blob is complete or absent: it grows in
// partial/HEX and is renamed when its size and digest are right. What came of a
// blob before a break stays there and is continued by the next attempt, of this
// process or another. A lock on that file lets one at a time write a blob; the
// others wait and find it done.
//
// The package knows nothing of what the blobs mean, nor where they come from.
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/applbuild/applbuild/builder/containers"
)

var (
	// ErrMiss says that a blob is not in the folder.
	ErrMiss = errors.New("not in the store")
	// ErrCorrupt says that a blob is not what was put there. It has been
	// removed, so that the next pull brings it again.
	ErrCorrupt = errors.New("damaged in the store; the next pull brings it again")
	// ErrDigest says that what was to become a blob has another size or digest.
	ErrDigest = errors.New("wrong digest")
)

const (
	blobDir    = "sha256"
	partialDir = "partial"
)

// A Dir is a folder of blobs. It is safe for use by several goroutines, and the
// folder by several processes at once.
type Dir struct {
	dir string

	mu      sync.Mutex
	checked map[containers.Digest]*check
}

// A check is the state of one blob: whether its bytes were read and were right.
type check struct {
	mu sync.Mutex
	ok bool
}

// New opens a folder of blobs, making it where it is missing.
func New(dir string) (*Dir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("blobs %s: %w", dir, err)
	}
	for _, name := range []string{blobDir, partialDir} {
		if err := os.MkdirAll(filepath.Join(abs, name), 0o755); err != nil {
			return nil, fmt.Errorf("blobs: %w", err)
		}
	}
	return &Dir{dir: abs, checked: map[containers.Digest]*check{}}, nil
}

func (d *Dir) path(digest containers.Digest) string {
	return filepath.Join(d.dir, blobDir, digest.Hex())
}

// Has says whether a blob of that digest and size in bytes is there. Its bytes
// are looked at by Open only. A negative size is any.
func (d *Dir) Has(digest containers.Digest, size int64) bool {
	if _, err := containers.ParseDigest(string(digest)); err != nil {
		return false
	}
	info, err := os.Lstat(d.path(digest))
	return err == nil && info.Mode().IsRegular() && (size < 0 || info.Size() == size)
}

// Open opens a blob after checking its digest, once for each Dir. The caller
// closes it and must not write to it. Errors match ErrMiss and ErrCorrupt.
func (d *Dir) Open(ctx context.Context, digest containers.Digest) (*os.File, error) {
	if _, err := containers.ParseDigest(string(digest)); err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	f, err := os.Open(d.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", digest, ErrMiss)
	}
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	if err := d.verify(ctx, digest, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile returns a blob of at most so many bytes, checked as with Open.
func (d *Dir) ReadFile(ctx context.Context, digest containers.Digest, most int64) ([]byte, error) {
	f, err := d.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s: it has %d bytes, %d are allowed here", digest, info.Size(), most)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("blobs: %s: %w", digest, err)
	}
	return data, nil
}

func (d *Dir) check(digest containers.Digest) *check {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.checked[digest]
	if c == nil {
		c = &check{}
		d.checked[digest] = c
	}
	return c
}

// verify reads f and leaves it at its start.
func (d *Dir) verify(ctx context.Context, digest containers.Digest, f *os.File) error {
	c := d.check(digest)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ok {
		return nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, contextReader{ctx, f}); err != nil {
		return fmt.Errorf("blobs: %s: %w", digest, err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != digest.Hex() {
		if err := d.discard(ctx, digest, f); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", digest, ErrCorrupt)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("blobs: %s: %w", digest, err)
	}
	c.ok = true
	return nil
}

// discard removes the damaged blob that is open as f, unless somebody has put
// another into its place already.
func (d *Dir) discard(ctx context.Context, digest containers.Digest, f *os.File) error {
	part, err := lockFile(ctx, d.partial(digest))
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	defer part.Close()
	damaged, err := f.Stat()
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	named, err := os.Stat(d.path(digest))
	if err == nil && os.SameFile(damaged, named) {
		err = os.Remove(d.path(digest))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blobs: %w", err)
	}
	if info, err := part.Stat(); err == nil && info.Size() == 0 {
		os.Remove(part.Name())
	}
	return nil
}

// Put keeps what r gives, which must have that digest and size in bytes. A blob
// that is there already is left alone and r unread. Errors match ErrDigest.
func (d *Dir) Put(ctx context.Context, digest containers.Digest, size int64, r io.Reader) error {
	return d.Fill(ctx, digest, size, func(p *Partial) error {
		if err := p.Restart(); err != nil {
			return err
		}
		if _, err := io.Copy(p, contextReader{ctx, r}); err != nil {
			// Nobody knows how to continue r.
			return errors.Join(err, p.Restart())
		}
		return nil
	})
}

// Fill brings a blob of that digest and size in bytes, unless it is there. fill
// writes what the Partial lacks. When it is complete afterwards and its digest
// is right it becomes the blob; when the digest is wrong nothing stays; when
// fill fails, what it wrote stays for the next call. Fill waits while another
// fills the same blob. Errors match ErrDigest, or are those of fill.
func (d *Dir) Fill(ctx context.Context, digest containers.Digest, size int64, fill func(*Partial) error) error {
	if _, err := containers.ParseDigest(string(digest)); err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	if d.Has(digest, size) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	made, err := d.fill(ctx, digest, size, fill)
	if made {
		// Only after the file's lock is free: Open takes the two the other way
		// around.
		c := d.check(digest)
		c.mu.Lock()
		c.ok = true
		c.mu.Unlock()
	}
	return err
}

func (d *Dir) fill(ctx context.Context, digest containers.Digest, size int64, fill func(*Partial) error) (made bool, err error) {
	f, err := lockFile(ctx, d.partial(digest))
	if err != nil {
		return false, fmt.Errorf("blobs: %w", err)
	}
	defer f.Close()
	if d.Has(digest, size) {
		return false, os.Remove(f.Name())
	}
	p := &Partial{file: f, digest: digest, size: size, hash: sha256.New()}
	err = p.resume(ctx)
	if err == nil {
		err = fill(p)
	}
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		if info, serr := f.Stat(); errors.Is(err, ErrDigest) || serr == nil && info.Size() == 0 {
			os.Remove(f.Name()) // nothing worth keeping
		}
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, fmt.Errorf("blobs: %w", err)
	}
	if err := os.Rename(f.Name(), d.path(digest)); err != nil {
		return false, fmt.Errorf("blobs: %w", err)
	}
	if err := syncDir(filepath.Join(d.dir, blobDir)); err != nil {
		return false, err
	}
	return true, nil
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	return nil
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}
