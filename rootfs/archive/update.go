package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Update brings the Release files and indexes of the sources up to date and
// returns the indexes in the order of the sources and their components. A
// Release is asked for with the validators of the one in the cache; an index
// whose digest did not change is not fetched again. Offline, everything comes
// from the cache, its signatures and digests verified, its dates not.
//
// Errors match ErrSignature, ErrUnknownKey, ErrExpired, ErrFuture, ErrSuite,
// ErrRelease, ErrDigest, ErrNotFound, ErrDenied, ErrSilence, ErrUnreachable or
// ErrOffline.
func (c *Client) Update(ctx context.Context, sources []Source) ([]Index, error) {
	found := make([][]Index, len(sources))
	errs := make([]error, len(sources))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.jobs())
	for i, s := range sources {
		g.Go(func() error {
			found[i], errs[i] = c.updateAny(gctx, s)
			return errs[i]
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// Of several errors the first source's, whichever came first; those
		// that only say they were cancelled do not count.
		for _, e := range errs {
			if e != nil && !errors.Is(e, context.Canceled) {
				return nil, e
			}
		}
		return nil, err
	}
	var all []Index
	for _, x := range found {
		all = append(all, x...)
	}
	return all, nil
}

// updateAny tries the source's mirrors in turn.
func (c *Client) updateAny(ctx context.Context, s Source) ([]Index, error) {
	if err := checkNames(s); err != nil {
		return nil, err
	}
	var first error
	for _, uri := range append([]string{s.URI}, s.Alternates...) {
		at := s
		at.URI = strings.TrimRight(uri, "/")
		list, err := c.update(ctx, at)
		if err == nil {
			return list, nil
		}
		if first == nil {
			first = err
		}
		if !movesOn(err) && !errors.Is(err, ErrExpired) && !errors.Is(err, ErrOffline) {
			break
		}
	}
	return nil, first
}

// checkNames refuses names that would not stay below dists/.
func checkNames(s Source) error {
	for _, name := range append([]string{s.Suite, s.Arch}, s.Components...) {
		bad := name == "" || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._~/") != ""
		for part := range strings.SplitSeq(name, "/") {
			bad = bad || part == "" || part == "." || part == ".."
		}
		if bad {
			return &Error{URL: s.String(), Kind: ErrRelease, Detail: fmt.Sprintf("%q is no name of a suite, component or architecture", name), Do: "correct it; an archive without suites is not supported"}
		}
	}
	return nil
}

// update brings one source's Release and indexes.
func (c *Client) update(ctx context.Context, s Source) ([]Index, error) {
	v, err := newVerifier(s, c.Now)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "indexes", sourceFolder(s))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	defer lock.Close()

	u := &updating{c: c, s: s, v: v, dir: dir}
	cached, cachedErr := u.cached()
	if c.Offline {
		if cachedErr != nil {
			e := &Error{URL: u.url("InRelease"), Kind: ErrOffline, Detail: "the Release file of " + s.Suite, Do: doFetch}
			if !errors.Is(cachedErr, os.ErrNotExist) {
				e.Err = cachedErr
			}
			return nil, e
		}
		if err := cached.file.checkSource(u.url("InRelease"), s); err != nil {
			return nil, err
		}
		return u.indexes(ctx, cached.file)
	}
	list, err := u.bring(ctx, cached, true)
	if errors.Is(err, ErrDigest) || errors.Is(err, ErrNotFound) && !errors.Is(err, errNoRelease) {
		// The mirror may have moved on between the Release and the index.
		list, err = u.bring(ctx, cached, false)
	}
	return list, err
}

// sourceFolder names a source's folder in the cache, readable and unambiguous.
func sourceFolder(s Source) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, strings.TrimLeft(s.URI[strings.IndexByte(s.URI, ':')+1:], "/"))
	if _, after, ok := strings.Cut(s.URI, "@"); ok {
		plain = after // no password in a file's name
		plain = strings.ReplaceAll(plain, "/", "_")
	}
	if len(plain) > 80 {
		plain = plain[:80]
	}
	sum := sha256.Sum256([]byte(s.URI + "\x00" + s.Suite))
	return plain + "_" + strings.ReplaceAll(s.Suite, "/", "_") + "-" + hex.EncodeToString(sum[:6])
}

// updating is the state of one source's update.
type updating struct {
	c   *Client
	s   Source
	v   *verifier
	dir string
}

// A signedRelease is a verified Release file with the bytes it came in.
type signedRelease struct {
	file *releaseFile
	// inline is InRelease; or text and signature are Release and Release.gpg.
	inline, text, signature []byte
	validators              validators
}

// validators are what a server wants to hear to answer 304.
type validators struct {
	SHA256       string `json:"sha256"` // of the file they belong to
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// errNoRelease tells a suite that is not there from an index that is not.
var errNoRelease = errors.New("neither InRelease nor Release is there")

func (u *updating) url(name string) string {
	return redact(join(u.s.URI, "dists/"+u.s.Suite+"/"+name))
}

// verify makes a releaseFile of the bytes in r.
func (u *updating) verify(r *signedRelease) error {
	var signer string
	var err error
	url, whole := u.url("InRelease"), r.inline
	text := r.text
	if r.inline != nil {
		text, signer, err = u.v.clearSigned(url, r.inline)
	} else {
		url, whole = u.url("Release"), r.text
		signer, err = u.v.detached(url, r.text, r.signature)
	}
	if err != nil {
		return err
	}
	if r.file, err = parseRelease(text); err != nil {
		return &Error{URL: url, Kind: ErrRelease, Err: err, Do: "use another mirror"}
	}
	sum := sha256.Sum256(whole)
	r.file.URI, r.file.SHA256, r.file.Signer = u.s.URI, hex.EncodeToString(sum[:]), signer
	return nil
}

// cached reads and verifies the Release in the cache.
func (u *updating) cached() (*signedRelease, error) {
	r := new(signedRelease)
	var err error
	if r.inline, err = os.ReadFile(filepath.Join(u.dir, "InRelease")); errors.Is(err, os.ErrNotExist) {
		r.inline = nil
		if r.text, err = os.ReadFile(filepath.Join(u.dir, "Release")); err == nil {
			r.signature, err = os.ReadFile(filepath.Join(u.dir, "Release.gpg"))
		}
	}
	if err != nil {
		return nil, err
	}
	if err := u.verify(r); err != nil {
		return nil, err
	}
	if raw, err := os.ReadFile(filepath.Join(u.dir, "validators.json")); err == nil {
		if json.Unmarshal(raw, &r.validators) != nil || r.validators.SHA256 != r.file.SHA256 {
			r.validators = validators{}
		}
	}
	return r, nil
}

// bring fetches the Release, then the indexes it names, and keeps both. The
// server may say that the cached Release still holds where conditional is set.
func (u *updating) bring(ctx context.Context, cached *signedRelease, conditional bool) ([]Index, error) {
	known := cached
	if !conditional {
		known = nil
	}
	r, err := u.release(ctx, known)
	if err != nil {
		return nil, err
	}
	url := u.url("InRelease")
	if err := r.file.checkSource(url, u.s); err != nil {
		return nil, err
	}
	if err := r.file.checkDates(url, u.s, u.c.Now); err != nil {
		return nil, err
	}
	if cached != nil && r != cached && r.file.Date.Before(cached.file.Date) && cached.file.checkDates(url, u.s, u.c.Now) == nil {
		// An old Release with a good signature would bring back packages
		// whose holes are known.
		cached.file.Kept = true
		r = cached
	}
	list, err := u.indexes(ctx, r.file)
	if err != nil {
		return nil, err
	}
	if err := u.keep(r); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	u.prune(r.file)
	return list, nil
}

// release fetches InRelease, or Release and Release.gpg where there is none. It
// returns cached itself when the server says that nothing changed.
func (u *updating) release(ctx context.Context, cached *signedRelease) (*signedRelease, error) {
	r := new(signedRelease)
	var known *signedRelease
	if cached != nil && cached.inline != nil {
		known = cached
	}
	data, val, err := u.small(ctx, "InRelease", known)
	switch {
	case errors.Is(err, errUnchanged):
		return cached, nil
	case err == nil:
		r.inline = data
	case errors.Is(err, ErrNotFound):
		known = nil
		if cached != nil && cached.inline == nil {
			known = cached
		}
		r.text, val, err = u.small(ctx, "Release", known)
		if errors.Is(err, errUnchanged) {
			return cached, nil
		}
		if errors.Is(err, ErrNotFound) {
			return nil, &Error{URL: u.url("InRelease"), Kind: ErrNotFound, Err: errNoRelease, Do: "check the mirror's URI and the suite's name"}
		}
		if err != nil {
			return nil, err
		}
		r.signature, _, err = u.small(ctx, "Release.gpg", nil)
		if errors.Is(err, ErrNotFound) {
			return nil, &Error{URL: u.url("Release"), Kind: ErrSignature, Detail: "it is not signed: there is neither InRelease nor Release.gpg", Do: "use an archive that signs its Release files"}
		}
		if err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if err := u.verify(r); err != nil {
		return nil, err
	}
	val.SHA256 = r.file.SHA256
	r.validators = val
	return r, nil
}

// errUnchanged stands for the answer 304.
var errUnchanged = errors.New("not modified")

// small fetches a file of the suite's folder into memory.
func (u *updating) small(ctx context.Context, name string, known *signedRelease) ([]byte, validators, error) {
	var val validators
	var data bytes.Buffer
	header := http.Header{}
	if known != nil && known.validators.ETag != "" {
		header.Set("If-None-Match", known.validators.ETag)
	}
	if known != nil && known.validators.LastModified != "" {
		header.Set("If-Modified-Since", known.validators.LastModified)
	}
	e := Event{Class: ClassRelease, Name: u.s.Suite + "/" + name, URL: u.url(name)}
	err := u.c.persist(ctx, e, func() (int64, error) {
		data.Reset()
		return 0, u.c.get(ctx, join(u.s.URI, "dists/"+u.s.Suite+"/"+name), header, func(r *response) error {
			if r.status == http.StatusNotModified && known != nil {
				return errUnchanged
			}
			if r.status != http.StatusOK {
				return &failure{err: &Error{URL: e.URL, Kind: ErrUnreachable, Detail: fmt.Sprintf("the server answers %d to a question that was not asked", r.status), Do: "check the proxy, or use another mirror"}}
			}
			val = validators{ETag: r.header.Get("ETag"), LastModified: r.header.Get("Last-Modified")}
			n, err := data.ReadFrom(io.LimitReader(r.body, maxRelease+1))
			if err == nil && n > maxRelease {
				err = &failure{err: &Error{URL: e.URL, Kind: ErrRelease, Detail: fmt.Sprintf("it is longer than %d bytes", maxRelease), Do: "use another mirror"}}
			}
			return err
		})
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, val, err
	}
	e.Bytes, e.Total, e.Done, e.Cached = int64(data.Len()), int64(data.Len()), true, err != nil
	u.c.tell(e)
	return data.Bytes(), val, err
}

// indexes brings the indexes of a Release, some at a time.
func (u *updating) indexes(ctx context.Context, f *releaseFile) ([]Index, error) {
	want, err := f.indexes(u.url("InRelease"), u.s)
	if err != nil {
		return nil, err
	}
	list := make([]Index, len(want))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.c.jobs())
	for i, w := range want {
		g.Go(func() (err error) {
			list[i], err = u.c.index(ctx, f, u.s, u.dir, w)
			return err
		})
	}
	return list, g.Wait()
}

// keep writes the Release and its validators into the cache.
func (u *updating) keep(r *signedRelease) error {
	validators, err := json.Marshal(r.validators)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"InRelease", r.inline}, {"Release", r.text}, {"Release.gpg", r.signature}, {"validators.json", validators}} {
		path := filepath.Join(u.dir, f.name)
		if f.data == nil {
			os.Remove(path) // of the archive's earlier form
			continue
		}
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, f.data) {
			continue
		}
		if err := writeFile(path, f.data); err != nil {
			return err
		}
	}
	return nil
}

// graceTime is how long an index that no Release names stays, for processes
// that are about to open it.
const graceTime = 48 * time.Hour

// prune removes indexes of earlier Releases. It does what it can; what it
// cannot remove does no harm.
func (u *updating) prune(f *releaseFile) {
	named := make(map[string]bool, len(f.files))
	for _, d := range f.files {
		named[d.sha256] = true
	}
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		digest, _, _ := strings.Cut(e.Name(), ".")
		if !isDigest(digest) || named[digest] {
			continue
		}
		if st, err := e.Info(); err == nil && u.c.Now.Sub(st.ModTime()) > graceTime {
			os.Remove(filepath.Join(u.dir, e.Name()))
		}
	}
}
