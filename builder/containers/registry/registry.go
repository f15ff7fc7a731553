// Package registry pulls container images from registries.
//
// It speaks the OCI distribution specification (v1.1, section "Pull"), with
// go-containerregistry for names and logins and code of its own for what that
// library does not do: layers are continued by Range after a break, what comes
// is bounded and verified before it is kept, and a registry that falls silent is
// given up by name. Everything lands in a folder of blobs (see package blobs);
// an image is pinned by its digest first (Resolve) and then fetched (Fetch),
// from the mirrors that a registries.conf names (containers-registries.conf(5))
// and with the credentials that docker and podman keep
// (containers-auth.json(5)).
//
// It pushes nothing, unpacks nothing and checks no signatures.
package registry

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/blobs"
)

// What a Client does where its fields say nothing.
const (
	defaultParallel = 6
	defaultRetries  = 4
	defaultBackoff  = 500 * time.Millisecond
	defaultStall    = 30 * time.Second
	defaultLimit    = 2 * time.Minute
	maxBackoff      = 15 * time.Second
	// maxRetryAfter bounds what a registry may ask for by Retry-After; when it
	// wants more, the attempt has failed.
	maxRetryAfter = 60 * time.Second
	// maxSilences is how often a registry may fall silent in a row: each time
	// costs the whole of Client.Stall.
	maxSilences = 2
	// maxWrong is how often what came may have another digest than was promised:
	// a proxy may have damaged it once.
	maxWrong  = 2
	userAgent = "applbuild"
)

// A Client pulls images. It is safe for use by several goroutines; its fields
// must not change after the first call.
type Client struct {
	// Blobs is where everything is kept. It must be set.
	Blobs *blobs.Dir
	// Transport makes the requests and knows the proxies. It must not decompress
	// answers. Where nil, one without a proxy.
	Transport http.RoundTripper
	// Insecure makes the requests to hosts that registries.conf calls insecure,
	// and may do without verifying their certificates. Transport where nil.
	Insecure http.RoundTripper
	// Keychain knows credentials; none where nil.
	Keychain authn.Keychain
	// Mirrors are asked before the registries they stand for; none where nil.
	Mirrors *Mirrors
	// PlainHTTP names the hosts, with or without a port, that may be spoken to
	// in plain HTTP. This machine itself always may.
	PlainHTTP []string
	// Offline forbids every request: what is not in Blobs gives ErrOffline.
	Offline bool
	// Stall is how long nothing may come from a registry: 30 s where zero.
	Stall time.Duration
	// Limit is how long a login or a manifest may take: 2 min where zero. Layers
	// may take as long as bytes come.
	Limit time.Duration
	// Retries is how many attempts may fail before the last one: 4 where zero,
	// none where negative. A part of a layer that came does not count as failed.
	Retries int
	// Backoff is the pause before the second attempt: 0.5 s where zero. It
	// doubles with each.
	Backoff time.Duration
	// Parallel is how many layers of an image are fetched at once: 6 where zero.
	Parallel int
	// Progress is told what happens, by one goroutine at a time; may be nil.
	Progress func(Event)
	// Wait pauses between attempts; a timer where nil.
	Wait func(context.Context, time.Duration) error

	progress sync.Mutex
	mu       sync.Mutex
	remotes  map[endpoint]*remote
	own      http.RoundTripper // where Transport is nil
}

// An Event tells how far a blob has come.
type Event struct {
	Image    string
	Registry string // host that is asked; empty where none is
	Digest   containers.Digest
	Bytes    int64 // that are there
	Size     int64
	Done     bool
	Cached   bool          // it was in Blobs before
	Retry    int           // the attempt that failed, from 1; 0 where none did
	Wait     time.Duration // before the next attempt
	Err      error         // of the attempt that failed
}

func (c *Client) tell(e Event) {
	if c.Progress == nil {
		return
	}
	c.progress.Lock()
	defer c.progress.Unlock()
	c.Progress(e)
}

// pause waits between two attempts.
func (c *Client) pause(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// mayPlain says whether a host may be spoken to in plain HTTP.
func (c *Client) mayPlain(host string) bool {
	bare := host
	if name, _, err := net.SplitHostPort(host); err == nil {
		bare = name
	}
	bare = strings.Trim(bare, "[]")
	if bare == "localhost" || strings.HasSuffix(bare, ".localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(bare); err == nil && ip.IsLoopback() {
		return true
	}
	return slices.Contains(c.PlainHTTP, host) || slices.Contains(c.PlainHTTP, bare)
}

func (c *Client) stall() time.Duration { return positive(c.Stall, defaultStall) }

func (c *Client) limit() time.Duration { return positive(c.Limit, defaultLimit) }

func (c *Client) backoff() time.Duration { return positive(c.Backoff, defaultBackoff) }

func (c *Client) parallel() int { return positive(c.Parallel, defaultParallel) }

func (c *Client) retries() int {
	if c.Retries < 0 {
		return 0
	}
	return positive(c.Retries, defaultRetries)
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
