package fs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ustarLink is the longest target of a link that a tar header without
// extensions holds, in bytes.
const ustarLink = 100

// gnuLinks is a tree whose symbolic links have long targets in GNU's headers
// instead of PAX ones.
type gnuLinks struct{ tree Tree }

func (g gnuLinks) WriteTar(ctx context.Context, w io.Writer) error {
	return readTree(ctx, g.tree, func(r io.Reader) error {
		tr := tar.NewReader(r)
		bw := bufio.NewWriterSize(w, 256<<10)
		tw := tar.NewWriter(bw)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return errors.Join(tw.Close(), bw.Flush())
			}
			if err != nil {
				return err
			}
			h.Format = tar.FormatPAX
			if h.Typeflag == tar.TypeSymlink && len(h.Linkname) > ustarLink {
				h.Format, h.PAXRecords = tar.FormatGNU, nil
			}
			if err := tw.WriteHeader(h); err != nil {
				return fmt.Errorf("%q: %w", h.Name, err)
			}
			if _, err := io.Copy(tw, tr); err != nil {
				return err
			}
		}
	})
}

// readTree has read read what the tree writes, in a pipe.
func readTree(ctx context.Context, tree Tree, read func(io.Reader) error) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	// A smaller pipe is slower but as good.
	unix.FcntlInt(pw.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	wrote := make(chan error, 1)
	go func() {
		err := tree.WriteTar(ctx, pw)
		wrote <- errors.Join(err, pw.Close())
	}()
	err = read(bufio.NewReaderSize(pr, 256<<10))
	if err == nil {
		_, err = io.Copy(io.Discard, pr)
	}
	// With the last reader gone a tree that is still being written ends.
	pr.Close()
	if treeErr := <-wrote; treeErr != nil && !errors.Is(treeErr, unix.EPIPE) {
		return fmt.Errorf("read tree: %w", treeErr)
	}
	return err
}
