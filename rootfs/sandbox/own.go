package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MakeOwned makes the directory dir, mode 0755, owned by root of the Range sandboxes:
// an empty tree. The directory above it must be there. The error matches fs.ErrExist
// when dir is there already.
func MakeOwned(ctx context.Context, dir string) error {
	h := thisHost()
	m, err := h.mappings(Range)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if !m.outer {
		err = makeOwned(dir, int(m.rootUID), int(m.rootGID))
	} else {
		err = inOuter(ctx, h, m, opMakeOwned, dir)
	}
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

func makeOwned(dir string, uid, gid int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	err := os.Chmod(dir, 0o755)
	if err == nil {
		err = os.Lchown(dir, uid, gid)
	}
	if err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return nil
}

// RemoveAll removes dir and all below it, whichever ids of the Range sandboxes own
// it. What is not there is no error.
func RemoveAll(ctx context.Context, dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	h := thisHost()
	m, mapErr := h.mappings(Range)
	if mapErr != nil {
		// The caller's own files may be in directories that are closed to him.
		if m, mapErr = h.mappings(Caller); mapErr != nil {
			return err
		}
	}
	if !m.outer {
		return err
	}
	if err := inOuter(ctx, h, m, opRemoveAll, dir); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

// inOuter has an outer child, which is root over the caller's ids and the
// subordinate ones, do something to a host path.
func inOuter(ctx context.Context, h Host, m mappings, op, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	c, err := start(ctx, h, m, [3]*os.File{null, null, null}, nil, false)
	if err != nil {
		return err
	}
	report, err := c.obey(ctx, &outerOrder{Op: op, Path: dir, RootUID: m.rootUID, RootGID: m.rootGID})
	if err != nil {
		return err
	}
	if report.Failure != nil {
		return h.explain(&wireError{*report.Failure})
	}
	return nil
}
