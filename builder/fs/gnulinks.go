package fs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/applbuild/applbuild/builder/fs/internal/member"
)

// ustarLink is the longest target of a link that a tar header without
// extensions holds, in bytes.
const ustarLink = 100

// gnuLinks is a tree whose symbolic links have long targets in GNU's headers
// instead of PAX ones.
type gnuLinks struct{ tree Tree }

func (g gnuLinks) WriteTar(ctx context.Context, w io.Writer) error {
	bw := bufio.NewWriterSize(w, 256<<10)
	tw := tar.NewWriter(bw)
	err := member.Each(ctx, g.tree, func(h *tar.Header, contents io.Reader) error {
		h.Format = tar.FormatPAX
		if h.Typeflag == tar.TypeSymlink && len(h.Linkname) > ustarLink {
			h.Format, h.PAXRecords = tar.FormatGNU, nil
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(tw, contents)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(tw.Close(), bw.Flush())
}
