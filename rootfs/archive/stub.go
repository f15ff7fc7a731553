package archive

import (
	"context"
	"io"
	"os"
)

func openVerified(path, sha256 string, size int64) (io.ReadCloser, error) { return os.Open(path) }

// Update brings the indexes.
func (c *Client) Update(ctx context.Context, sources []Source) ([]Index, error) { return nil, nil }

// Fetch brings the items.
func (c *Client) Fetch(ctx context.Context, items []Item) error { return nil }

// Have reports whether the item is in the cache.
func (c *Client) Have(item Item) bool { return false }
