package archive

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a Client does where its fields say nothing.
const (
	defaultJobs    = 16
	defaultRetries = 4
	defaultBackoff = 500 * time.Millisecond
	defaultSilence = 30 * time.Second
	maxBackoff     = 15 * time.Second
	// maxRetryAfter bounds what a server may ask for by Retry-After; when it
	// wants more, the attempt has failed.
	maxRetryAfter = 60 * time.Second
	// goodProgress is how many bytes make an attempt count as no failure, so
	// that a large file comes through a line that often breaks.
	goodProgress = 256 << 10
	userAgent    = "applbuild"
)

// A failure is an attempt that did not work.
type failure struct {
	err   *Error
	retry bool          // another attempt may work
	after time.Duration // the server's Retry-After
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// A response is what a server, or a folder, answers.
type response struct {
	status int // as of HTTP
	header http.Header
	body   io.Reader // its errors are of type *failure, but for io.EOF
	length int64     // of body in bytes; -1 when not known
	start  int64     // offset of body in the file
}

// get asks for one file once and hands the answer, of status 200, 206 or 304,
// to use.
func (c *Client) get(ctx context.Context, rawurl string, header http.Header, use func(*response) error) error {
	u, err := url.Parse(rawurl)
	if err != nil {
		return &failure{err: &Error{URL: rawurl, Kind: ErrUnreachable, Detail: "this is no URL", Do: "correct the mirror"}}
	}
	switch u.Scheme {
	case "file":
		return getFile(u, header, use)
	case "http", "https":
		return c.getHTTP(ctx, u, header, use)
	}
	return &failure{err: &Error{URL: u.Redacted(), Kind: ErrUnreachable, Detail: fmt.Sprintf("the scheme %q is not supported", u.Scheme), Do: "use http, https or file"}}
}

func (c *Client) getHTTP(ctx context.Context, u *url.URL, header http.Header, use func(*response) error) error {
	name := u.Redacted()
	ctx, watch := newWatch(ctx, c.silence())
	defer watch.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err, Do: "correct the mirror"}}
	}
	req.Header.Set("User-Agent", userAgent)
	// The digests are of the file as it lies on the server.
	req.Header.Set("Accept-Encoding", "identity")
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return c.broken(ctx, name, err)
	}
	defer resp.Body.Close()
	watch.touch()
	if err := statusFailure(name, resp); err != nil {
		return err
	}
	r := &response{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	if resp.StatusCode == http.StatusPartialContent {
		if r.start, err = rangeStart(resp.Header.Get("Content-Range")); err != nil {
			return &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err, Do: "use another mirror"}}
		}
	}
	r.body = readerFunc(func(p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		if n > 0 {
			watch.touch()
		}
		if err != nil && err != io.EOF {
			err = c.broken(ctx, name, err)
		}
		return n, err
	})
	return use(r)
}

// statusFailure turns an answer that brings no file into its error.
func statusFailure(name string, resp *http.Response) error {
	e := &Error{URL: name, Detail: resp.Status}
	f := &failure{err: e}
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent, code == http.StatusNotModified:
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		e.Kind, e.Do = ErrNotFound, "check the URL; an archive drops old versions: update the lock, or use a snapshot"
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		e.Kind, e.Do = ErrDenied, "check the credentials and the proxy"
	case code == http.StatusRequestedRangeNotSatisfiable:
		e.Kind, f.retry = errRange, true
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		e.Kind, e.Do, f.retry = ErrUnreachable, "try again later, or use another mirror", true
		f.after = retryAfter(resp.Header)
		if f.after > maxRetryAfter {
			f.retry = false
			e.Detail += fmt.Sprintf(", it asks to wait %v", f.after)
		}
	default:
		e.Kind, e.Do = ErrUnreachable, "check the URL"
	}
	return f
}

// errRange is a server's refusal to continue where a part ends.
var errRange = errors.New("range refused")

// retryAfter reads Retry-After in seconds, or as a date relative to the server's
// own clock.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, until.Sub(at))
}

// rangeStart reads the first byte's offset out of Content-Range (RFC 9110,
// section 14.4).
func rangeStart(v string) (int64, error) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	first, _, ok2 := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || !ok2 || err != nil || n < 0 {
		return 0, fmt.Errorf("Content-Range %q is not understood", v)
	}
	return n, nil
}

// broken classifies an error of the transport or the body.
func (c *Client) broken(ctx context.Context, name string, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errSilent):
		return &failure{err: &Error{URL: name, Kind: ErrSilence, Detail: fmt.Sprintf("nothing came for %v", c.silence()), Do: "try again later, or use another mirror"}, retry: true}
	case cause != nil:
		return cause
	}
	// url.Error repeats the method and the URL, with its password perhaps.
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	f := &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err, Do: "check the network, the proxy and the mirror's name"}, retry: true}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		f.err.Err, f.err.Detail = nil, "the connection ended before the file"
	case errors.As(err, &dns):
		f.retry = !dns.IsNotFound
	case errors.As(err, &unknown), errors.As(err, &cert), errors.As(err, &record):
		f.retry = false
	case strings.Contains(err.Error(), "stopped after"): // net/http's bound on redirects
		f.retry = false
	}
	return f
}

// getFile answers for a file URI as a server would.
func getFile(u *url.URL, header http.Header, use func(*response) error) error {
	name := u.String()
	if u.Host != "" && u.Host != "localhost" {
		return &failure{err: &Error{URL: name, Kind: ErrUnreachable, Detail: "a file URI names no host", Do: "write file:///path"}}
	}
	f, err := os.Open(u.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{err: &Error{URL: name, Kind: ErrNotFound, Detail: "there is no such file", Do: "check the path of the mirror"}}
	}
	if errors.Is(err, fs.ErrPermission) {
		return &failure{err: &Error{URL: name, Kind: ErrDenied, Err: err, Do: "make the mirror readable"}}
	}
	if err != nil {
		return &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err}}
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err}}
	}
	return use(&response{status: http.StatusOK, header: http.Header{}, length: st.Size(), body: readerFunc(func(p []byte) (int, error) {
		n, err := f.Read(p)
		if err != nil && err != io.EOF {
			err = &failure{err: &Error{URL: name, Kind: ErrUnreachable, Err: err}}
		}
		return n, err
	})})
}

// persist makes attempts until one works, none may, or they are used up. An
// attempt tells how many bytes it gained.
func (c *Client) persist(ctx context.Context, e Event, attempt func() (gained int64, err error)) error {
	wait := c.backoff()
	for failed, n := 0, 1; ; n++ {
		gained, err := attempt()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var f *failure
		if !errors.As(err, &f) {
			return err
		}
		if !f.retry {
			return f.err
		}
		if gained >= goodProgress {
			failed, wait = 0, c.backoff()
		}
		if failed++; failed > c.retries() {
			if failed > 1 {
				f.err.Detail = strings.TrimPrefix(f.err.Detail+fmt.Sprintf(", after %d attempts", n), ", ")
			}
			return f.err
		}
		pause := max(wait, f.after)
		wait = min(2*wait, maxBackoff)
		e.Retry, e.Err, e.Wait = n, f.err, pause
		c.tell(e)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// errSilent is the cause of a context that a watch has ended.
var errSilent = errors.New("silence")

// A watch ends a context when it is not touched for a time.
type watch struct {
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

func newWatch(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{time.AfterFunc(limit, func() { cancel(errSilent) }), limit, cancel}
}

func (w *watch) touch() { w.timer.Reset(w.limit) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// client returns the HTTP client to use.
func (c *Client) client() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	c.once.Do(func() {
		dialer := &net.Dialer{Timeout: c.silence()}
		c.own = &http.Client{Transport: &http.Transport{
			Proxy:               c.Proxy,
			DialContext:         dialer.DialContext,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: c.silence(),
			MaxIdleConnsPerHost: c.jobs(),
			IdleConnTimeout:     30 * time.Second,
			DisableCompression:  true,
		}}
	})
	return c.own
}

// tell hands an event to Progress, one at a time.
func (c *Client) tell(e Event) {
	if c.Progress == nil {
		return
	}
	c.progress.Lock()
	defer c.progress.Unlock()
	c.Progress(e)
}

func (c *Client) jobs() int {
	if c.Jobs <= 0 {
		return defaultJobs
	}
	return c.Jobs
}

func (c *Client) retries() int {
	if c.Retries == 0 {
		return defaultRetries
	}
	return max(0, c.Retries)
}

func (c *Client) backoff() time.Duration {
	if c.Backoff <= 0 {
		return defaultBackoff
	}
	return c.Backoff
}

func (c *Client) silence() time.Duration {
	if c.Silence <= 0 {
		return defaultSilence
	}
	return c.Silence
}
