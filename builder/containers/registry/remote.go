package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A remote is one repository of one registry, and the login to it.
type remote struct {
	client *Client
	end    endpoint
	repo   name.Repository
	inner  http.RoundTripper

	mu        sync.Mutex // of what follows; held while logging in
	challenge *transport.Challenge
	auth      authn.Authenticator
	header    string // Authorization
	dead      bool   // a mirror that could not be reached
}

// view is a remote in the service of one image.
type view struct {
	*remote
	image string
}

var errRedirects = errors.New("it redirects too often")

const maxRedirects = 5

// at returns the remote of an endpoint, the same one each time.
func (c *Client) at(image string, e endpoint) (*view, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.remotes[e]; r != nil {
		return &view{r, image}, nil
	}
	options := []name.Option{name.WeakValidation}
	host, _, _ := strings.Cut(e.repository, "/")
	if e.insecure || c.mayPlain(host) {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(e.repository, options...)
	if err != nil {
		return nil, &Error{Image: image, Registry: host, Kind: ErrName, Detail: fmt.Sprintf("registries.conf makes %q of it", e.repository)}
	}
	r := &remote{client: c, end: e, repo: repo, inner: c.Transport}
	if e.insecure && c.Insecure != nil {
		r.inner = c.Insecure
	}
	if r.inner == nil {
		if c.own == nil {
			c.own = &http.Transport{ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.stall(), MaxIdleConnsPerHost: c.parallel(), IdleConnTimeout: 30 * time.Second}
		}
		r.inner = c.own
	}
	if c.remotes == nil {
		c.remotes = map[endpoint]*remote{}
	}
	c.remotes[e] = r
	return &view{r, image}, nil
}

// host is the registry as people know it.
func (r *remote) host() string {
	host, _, _ := strings.Cut(r.end.repository, "/")
	return host
}

// RoundTrip is the way of every request, of a login's and a redirected one too:
// it keeps plain HTTP to the hosts that are allowed it.
func (r *remote) RoundTrip(req *http.Request) (*http.Response, error) {
	own := r.end.insecure && req.URL.Host == r.repo.RegistryStr()
	if req.URL.Scheme != "https" && !own && !r.client.mayPlain(req.URL.Host) {
		return nil, ErrPlainHTTP
	}
	return r.inner.RoundTrip(req)
}

// credentials asks the keychain, once. A helper may wait for its user, so no
// limit of the registry's counts.
func (v *view) credentials(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.auth != nil {
		return nil
	}
	auth := authn.Anonymous
	if v.client.Keychain != nil {
		var err error
		if auth, err = authn.Resolve(ctx, v.client.Keychain, v.repo); err != nil {
			var own *Error
			if errors.As(err, &own) {
				return &failure{err: own}
			}
			return &failure{err: &Error{Image: v.image, Registry: v.host(), Kind: ErrConfig, Detail: "its credentials"}}
		}
	}
	v.auth = auth
	return nil
}

// login makes the Authorization header, which may be empty. refused is one that
// the registry did not take; when another goroutine has replaced it already,
// that one serves.
func (v *view) login(ctx context.Context, refused string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.challenge != nil && (refused == "" || v.header != refused) {
		return v.header, nil
	}
	challenge := v.challenge
	if challenge == nil {
		var err error
		if challenge, err = transport.Ping(ctx, v.repo.Registry, v.remote); err != nil {
			return "", err
		}
	}
	config, err := authn.Authorization(ctx, v.auth)
	if err != nil {
		return "", err
	}
	header := ""
	switch {
	case config.RegistryToken != "":
		header = "Bearer " + config.RegistryToken
	case strings.EqualFold(challenge.Scheme, "bearer"):
		scopes := []string{v.repo.Scope(transport.PullScope)}
		token, err := transport.Exchange(ctx, v.repo.Registry, v.auth, v.remote, scopes, challenge)
		if err != nil {
			return "", err
		}
		header = "Bearer " + cmp.Or(token.AccessToken, token.Token)
	case config.Username != "":
		header = "Basic " + base64.StdEncoding.EncodeToString([]byte(config.Username+":"+config.Password))
	}
	v.challenge, v.header = challenge, header
	return header, nil
}

// anonymous says whether the registry was asked without credentials.
func (r *remote) anonymous() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.auth == nil || r.auth == authn.Anonymous
}

// bury remembers that a mirror cannot be talked to, so that it is not asked for
// each layer again.
func (r *remote) bury(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = r.dead || why == ErrUnreachable || why == ErrTimeout || why == ErrPlainHTTP
}

func (r *remote) isDead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead
}

// get asks once for a manifest or a blob and hands the answer, of status 200 or
// 206, to use. A body that falls silent gives an error that broken understands.
// Errors are failures, those of use, or the context's.
func (v *view) get(ctx context.Context, kind, id string, header http.Header, total time.Duration, use func(*http.Response) error) error {
	if err := v.credentials(ctx); err != nil {
		return err
	}
	ctx, watch := newWatch(ctx, v.client.stall(), total)
	defer watch.stop()
	auth, err := v.login(ctx, "")
	if err != nil {
		return v.broken(ctx, err)
	}
	watch.touch()
	resp, err := v.send(ctx, kind, id, header, auth)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && auth != "" {
		// A token lives for minutes only.
		fresh, lerr := v.login(ctx, auth)
		if lerr != nil {
			resp.Body.Close()
			return v.broken(ctx, lerr)
		}
		if fresh != auth {
			resp.Body.Close()
			resp, err = v.send(ctx, kind, id, header, fresh)
		}
	}
	if err != nil {
		return v.broken(ctx, err)
	}
	defer resp.Body.Close()
	watch.touch()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return v.statusFailure(resp.StatusCode, resp.Header)
	}
	body := resp.Body
	resp.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		if n > 0 {
			watch.touch()
		}
		if err != nil && err != io.EOF {
			err = v.broken(ctx, err)
		}
		return n, err
	}))
	return use(resp)
}

func (v *view) send(ctx context.Context, kind, id string, header http.Header, auth string) (*http.Response, error) {
	scheme := "https"
	if v.challenge.Insecure {
		scheme = "http"
	}
	u := url.URL{Scheme: scheme, Host: v.repo.RegistryStr(), Path: "/v2/" + v.repo.RepositoryStr() + "/" + kind + "/" + id}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", userAgent)
	// The digests are of the bytes as the registry keeps them.
	req.Header.Set("Accept-Encoding", "identity")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	client := &http.Client{Transport: v.remote, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errRedirects
		}
		// net/http passes credentials on to subdomains and other ports.
		if next.URL.Host != u.Host || next.URL.Scheme != u.Scheme {
			next.Header.Del("Authorization")
		}
		next.Header.Del("Referer")
		return nil
	}}
	return client.Do(req)
}

// persist makes attempts until one works, none may, or they are used up. An
// attempt tells whether it brought anything on.
func (c *Client) persist(ctx context.Context, e Event, attempt func() (gained bool, err error)) error {
	wait, failed, silences, wrong := c.backoff(), 0, 0, 0
	for n := 1; ; n++ {
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
		if gained {
			failed, silences, wait = 0, 0, c.backoff()
		}
		failed++
		if f.err.Kind == ErrTimeout {
			silences++
		}
		if f.err.Kind == ErrDigest && !f.resumed {
			wrong++
		}
		if !f.retry || failed > c.retries() || silences >= maxSilences || wrong >= maxWrong {
			if n > 1 {
				f.err.Detail = strings.TrimPrefix(fmt.Sprintf("%s, in attempt %d", f.err.Detail, n), ", ")
			}
			return f.err
		}
		pause := max(wait, f.after)
		wait = min(2*wait, maxBackoff)
		e.Retry, e.Err, e.Wait = n, f.err, pause
		c.tell(e)
		if err := c.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// retryAfter reads Retry-After in seconds, or as a date relative to the
// registry's own clock.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, until.Sub(now))
}

// A lateError is the cause of a context that a watch has ended.
type lateError struct {
	stalled bool
	limit   time.Duration
}

func (e *lateError) Error() string {
	if e.stalled {
		return fmt.Sprintf("nothing came for %v", e.limit)
	}
	return fmt.Sprintf("a small answer took more than %v", e.limit)
}

// A watch ends a context when it is not touched for a time, or after a total
// where that is not zero.
type watch struct {
	stall, total *time.Timer
	limit        time.Duration
	cancel       context.CancelCauseFunc
}

func newWatch(ctx context.Context, stall, total time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{limit: stall, cancel: cancel}
	w.stall = time.AfterFunc(stall, func() { cancel(&lateError{true, stall}) })
	if total > 0 {
		w.total = time.AfterFunc(total, func() { cancel(&lateError{false, total}) })
	}
	return ctx, w
}

func (w *watch) touch() { w.stall.Reset(w.limit) }

func (w *watch) stop() {
	w.stall.Stop()
	if w.total != nil {
		w.total.Stop()
	}
	w.cancel(nil)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
