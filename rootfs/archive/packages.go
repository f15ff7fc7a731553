package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Fetch brings the items into the cache, where Path finds them. Items that are
// there are read and verified; damaged ones are fetched again. When some items
// cannot be had the others are brought all the same, and the error names the
// first of them in the order of items; an unreachable server ends it at once.
//
// Errors match ErrNotFound, ErrDenied, ErrDigest, ErrSilence, ErrUnreachable or
// ErrOffline.
func (c *Client) Fetch(ctx context.Context, items []Item) error {
	for _, it := range items {
		if !isDigest(it.SHA256) || strings.ToLower(it.SHA256) != it.SHA256 || it.Size < 0 {
			return &Error{URL: redact(it.URL), Kind: ErrDigest, Detail: fmt.Sprintf("%s has no SHA-256 digest and size to be checked against", it.Name), Do: "update the lock"}
		}
	}
	if c.Offline {
		return c.verifyAll(ctx, items)
	}
	// Large files first, so that none is left alone at the end.
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return items[order[a]].Size > items[order[b]].Size })
	failed := make([]error, len(items))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.jobs())
	for _, i := range order {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil // the error that ended it is known
			}
			err := c.fetch(ctx, c.transferOf(items[i]))
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDigest) {
				failed[i] = err
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return firstOf(items, failed)
}

func (c *Client) transferOf(it Item) *transfer {
	return &transfer{
		class:  ClassPackage,
		name:   it.Name,
		urls:   append([]string{it.URL}, it.Alternates...),
		dest:   c.Path(it.SHA256),
		size:   it.Size,
		sha256: it.SHA256,
		stale:  "the mirror's file is damaged: use another mirror, or update the lock",
	}
}

// verifyAll looks after all items in the cache without a network.
func (c *Client) verifyAll(ctx context.Context, items []Item) error {
	failed := make([]error, len(items))
	g := new(errgroup.Group)
	g.SetLimit(c.jobs())
	for i, it := range items {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := verifyFile(c.Path(it.SHA256), it.SHA256, it.Size)
			if err == nil {
				c.tell(Event{Class: ClassPackage, Name: it.Name, URL: redact(it.URL), Bytes: it.Size, Total: it.Size, Done: true, Cached: true})
				return nil
			}
			e := &Error{URL: redact(it.URL), Kind: ErrOffline, Detail: it.Name, Do: doFetch}
			if errors.Is(err, ErrDigest) {
				e.Detail, e.Err = it.Name+" is damaged in the cache", nil
			} else if !errors.Is(err, os.ErrNotExist) {
				e.Err = err
			}
			failed[i] = e
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return firstOf(items, failed)
}

// doFetch is what to do about a file that is missing offline.
const doFetch = "run `applbuild fetch` once with a network"

// firstOf returns the first error, saying how many more there are.
func firstOf(items []Item, failed []error) error {
	var first error
	var others []string
	for i, err := range failed {
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			others = append(others, items[i].Name)
		}
	}
	var e *Error
	if len(others) == 0 || !errors.As(first, &e) {
		return first
	}
	more := fmt.Sprintf("and %d more: ", len(others))
	if len(others) > 5 {
		others = append(others[:5:5], "…")
	}
	whole := *e
	whole.Detail = strings.TrimPrefix(whole.Detail+" ("+more+strings.Join(others, ", ")+")", " ")
	return &whole
}

// Have reports whether the item is in the cache with its size. The digest is
// verified by Fetch.
func (c *Client) Have(item Item) bool {
	st, err := os.Stat(c.Path(item.SHA256))
	return err == nil && st.Mode().IsRegular() && st.Size() == item.Size
}
