package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// eventStep is after how many bytes a transfer tells of its progress.
const eventStep = 256 << 10

// A transfer is one file of known size and digest on its way into the cache.
type transfer struct {
	class  Class
	name   string
	urls   []string // tried in order while the file is not found
	dest   string
	size   int64
	sha256 string
	stale  string // what to do when the digest is wrong
}

// fetch brings the file to dest, complete or not at all. What came of it stays
// in dest.part for the next attempt. A lock on that part lets one process write
// it at a time; the others wait and find the file done.
func (c *Client) fetch(ctx context.Context, t *transfer) error {
	if err := os.MkdirAll(filepath.Dir(t.dest), 0o755); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	part := t.dest + ".part"
	f, err := lockFile(ctx, part)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	defer f.Close()
	if verifyFile(t.dest, t.sha256, t.size) == nil {
		os.Remove(part)
		c.tell(Event{Class: t.class, Name: t.name, URL: redact(t.urls[0]), Bytes: t.size, Total: t.size, Done: true, Cached: true})
		return nil
	}
	for i, u := range t.urls {
		err = c.fetchFrom(ctx, t, u, f)
		if err == nil {
			break
		}
		last := i == len(t.urls)-1
		if last || !movesOn(err) {
			if errors.Is(err, ErrDigest) || errors.Is(err, ErrNotFound) {
				os.Remove(part)
			}
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	if err := os.Rename(part, t.dest); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	c.tell(Event{Class: t.class, Name: t.name, URL: redact(t.urls[0]), Bytes: t.size, Total: t.size, Done: true})
	return nil
}

// movesOn reports whether the next URL of the same file is worth a try.
func movesOn(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrSilence) || errors.Is(err, ErrDenied) || errors.Is(err, ErrDigest)
}

// fetchFrom fills f from one URL until its digest is right.
func (c *Client) fetchFrom(ctx context.Context, t *transfer, rawurl string, f *os.File) error {
	e := Event{Class: t.class, Name: t.name, URL: redact(rawurl), Total: t.size}
	restarted := false
	var most int64 // bytes that an attempt ended with: only more is progress
	return c.persist(ctx, e, func() (int64, error) {
		had, resumed, err := c.attempt(ctx, t, rawurl, f, e)
		if err == nil || !errors.Is(err, ErrDigest) && !errors.Is(err, errRange) {
			gained := had - most
			most = max(most, had)
			return gained, err
		}
		// A part that does not fit, or a proxy's damaged copy: once more from
		// the first byte.
		if terr := f.Truncate(0); terr != nil {
			return 0, fmt.Errorf("cache: %w", terr)
		}
		if restarted && !resumed {
			return 0, err
		}
		restarted = true
		_, _, err = c.attempt(ctx, t, rawurl, f, e)
		if err != nil && errors.Is(err, ErrDigest) {
			f.Truncate(0)
		}
		return 0, err
	})
}

// attempt makes one request for what f lacks. It tells how many bytes there are
// then and whether some of them are from an earlier attempt.
func (c *Client) attempt(ctx context.Context, t *transfer, rawurl string, f *os.File, e Event) (have int64, resumed bool, err error) {
	h := sha256.New()
	have, err = rehash(f, h, t.size)
	if err != nil {
		return 0, false, fmt.Errorf("cache: %w", err)
	}
	resumed = have > 0
	if have < t.size {
		header := http.Header{}
		if have > 0 {
			header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		}
		err = c.get(ctx, rawurl, header, func(r *response) error {
			if r.start != have || r.status == http.StatusOK {
				// The server gives all of it, or another range.
				if r.start != 0 {
					return &failure{err: &Error{URL: e.URL, Kind: errRange, Detail: "another range than asked for"}, retry: true}
				}
				if err := f.Truncate(0); err != nil {
					return fmt.Errorf("cache: %w", err)
				}
				have, resumed = 0, false
				h.Reset()
			}
			if r.length >= 0 && have+r.length != t.size {
				return &failure{err: &Error{URL: e.URL, Kind: ErrDigest, Detail: fmt.Sprintf("it has %d bytes, it should have %d", have+r.length, t.size), Do: t.stale}}
			}
			gained, err := c.receive(r.body, f, h, have, t, e)
			have += gained
			return err
		})
		if err != nil {
			return have, resumed, err
		}
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != t.sha256 {
		return have, resumed, &failure{err: &Error{URL: e.URL, Kind: ErrDigest, Detail: fmt.Sprintf("its SHA-256 is %s, it should be %s", sum, t.sha256), Do: t.stale}}
	}
	return have, resumed, nil
}

// receive copies the body to the file behind offset have, no further than the
// file's size.
func (c *Client) receive(body io.Reader, f *os.File, h hash.Hash, have int64, t *transfer, e Event) (gained int64, err error) {
	buf := make([]byte, 128<<10)
	told := have
	for {
		n, err := body.Read(buf)
		if have+gained+int64(n) > t.size {
			return gained, &failure{err: &Error{URL: e.URL, Kind: ErrDigest, Detail: fmt.Sprintf("it is longer than the %d bytes promised", t.size), Do: t.stale}}
		}
		if n > 0 {
			if _, werr := f.WriteAt(buf[:n], have+gained); werr != nil {
				return gained, fmt.Errorf("cache: %w", werr)
			}
			h.Write(buf[:n])
			gained += int64(n)
			if have+gained-told >= eventStep {
				told = have + gained
				e.Bytes = told
				c.tell(e)
			}
		}
		if err == io.EOF {
			if have+gained < t.size {
				return gained, &failure{err: &Error{URL: e.URL, Kind: ErrUnreachable, Detail: fmt.Sprintf("it ends after %d of %d bytes", have+gained, t.size), Do: "try again later, or use another mirror"}, retry: true}
			}
			return gained, nil
		}
		if err != nil {
			return gained, err
		}
	}
}

// rehash feeds what f holds to h and returns its length; more than size is cut
// to nothing.
func rehash(f *os.File, h hash.Hash, size int64) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() > size {
		return 0, f.Truncate(0)
	}
	return io.Copy(h, io.NewSectionReader(f, 0, st.Size()))
}

// lockFile opens a file, making it where it is absent, and takes its lock. The
// lock goes with the file's Close. When the one who had it before has renamed
// or removed the file, another is made.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
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
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// verifyFile reports whether the file is there and of that size and digest.
func verifyFile(path, sum string, size int64) error {
	f, err := openVerified(path, sum, size)
	if err != nil {
		return err
	}
	return f.Close()
}

// openVerified opens a file of the cache after reading it once to see that it is
// what it should be.
func openVerified(path, sum string, size int64) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := verifyOpen(f, sum, size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func verifyOpen(f *os.File, sum string, size int64) error {
	const do = "it is fetched again by the next run that may use the network"
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != size {
		return &Error{URL: f.Name(), Kind: ErrDigest, Detail: fmt.Sprintf("the cache's file has %d bytes, not %d", st.Size(), size), Do: do}
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return &Error{URL: f.Name(), Kind: ErrDigest, Detail: "the cache's file is damaged", Do: do}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// writeFile writes a small file beside, syncs and renames it.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
