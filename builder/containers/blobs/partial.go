package blobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/applbuild/applbuild/builder/containers"
)

// A Partial is the beginning of a blob. It belongs to the function that Fill
// calls and is used by one goroutine.
type Partial struct {
	file   *os.File
	digest containers.Digest
	size   int64
	have   int64
	hash   hash.Hash // of the first have bytes
}

func (d *Dir) partial(digest containers.Digest) string {
	return filepath.Join(d.dir, partialDir, digest.Hex())
}

// resume reads what an earlier attempt left.
func (p *Partial) resume(ctx context.Context) error {
	info, err := p.file.Stat()
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	if info.Size() > p.size {
		return p.Restart()
	}
	p.have, err = io.Copy(p.hash, contextReader{ctx, p.file})
	if err != nil {
		return fmt.Errorf("blobs: %s: %w", p.digest, err)
	}
	return nil
}

// Offset is how many bytes there are: where the next Write goes.
func (p *Partial) Offset() int64 { return p.have }

// Write continues the blob. More bytes than the blob has are refused with an
// error that matches ErrDigest.
func (p *Partial) Write(b []byte) (int, error) {
	if int64(len(b)) > p.size-p.have {
		return 0, fmt.Errorf("%s: %w: there are more than the %d bytes announced", p.digest, ErrDigest, p.size)
	}
	n, err := p.file.WriteAt(b, p.have)
	p.hash.Write(b[:n])
	p.have += int64(n)
	if err != nil {
		return n, fmt.Errorf("blobs: %w", err)
	}
	return n, nil
}

// Restart forgets the bytes there are.
func (p *Partial) Restart() error {
	p.have = 0
	p.hash.Reset()
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	return nil
}

// Verify says whether the blob is complete and right. Errors match ErrDigest.
func (p *Partial) Verify() error {
	if p.have != p.size {
		return fmt.Errorf("%s: %w: it has %d bytes, it should have %d", p.digest, ErrDigest, p.have, p.size)
	}
	if got := hex.EncodeToString(p.hash.Sum(nil)); got != p.digest.Hex() {
		return fmt.Errorf("%s: %w: its bytes have sha256:%s", p.digest, ErrDigest, got)
	}
	return nil
}

// lockFile opens a file, making it where it is missing, and takes its lock,
// which goes with Close. When the one who had it before has renamed or removed
// the file, another is made.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, f); err != nil {
			f.Close()
			return nil, err
		}
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		named, err := os.Stat(path)
		if err == nil && os.SameFile(held, named) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// flock waits for the lock, and for the context's end, whichever comes first.
func flock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
