package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/applbuild/applbuild/builder/plan"
)

const foldersDir = "folders"

// Folder returns the folder kept under key, making it with build where it is
// missing: complete or absent, and made once, as with Do. It is for what only
// works as files in a file system, such as a tree of tools; it is local to this
// store and its contents are not checked again. Nobody may write to it.
func (s *Store) Folder(ctx context.Context, key plan.Key, build func(ctx context.Context, dir string) error) (dir string, cached bool, err error) {
	target := filepath.Join(s.dir, foldersDir, string(key))
	if isDir(target) {
		return target, true, nil
	}
	unlock, err := s.lock(ctx, string(key))
	if err != nil {
		return "", false, err
	}
	defer unlock()
	if isDir(target) {
		return target, true, nil
	}
	scratch, err := s.Scratch("folder")
	if err != nil {
		return "", false, err
	}
	defer scratch.Remove(context.WithoutCancel(ctx))
	made := filepath.Join(scratch.Dir, "folder")
	if err := os.Mkdir(made, 0o755); err != nil {
		return "", false, fmt.Errorf("store: %w", err)
	}
	if err := build(ctx, made); err != nil {
		return "", false, err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", false, fmt.Errorf("store: %w", err)
	}
	if err := syncAll(made); err != nil {
		return "", false, err
	}
	if err := os.Rename(made, target); err != nil {
		return "", false, fmt.Errorf("store: %w", err)
	}
	return target, false, syncDir(filepath.Dir(target))
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
