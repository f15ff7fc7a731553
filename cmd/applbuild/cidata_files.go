package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata"
)

// newFileMode is the mode of a seed's files: with a secret in them they are their owner's alone.
func newFileMode(secret bool) fs.FileMode {
	if secret {
		return 0o600
	}
	return 0o644
}

// writeNewFile writes a file beside its place and moves it there when it is whole. What is there is replaced with force
// only.
func writeNewFile(name string, mode fs.FileMode, force bool, write func(io.Writer) error) error {
	exists := fmt.Errorf("%s is there already: name another file, or use --force to replace it", name)
	info, err := os.Lstat(name)
	switch {
	case err == nil && !force:
		return exists
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file: name another one", name)
	}
	temp, err := draft(name, mode, write)
	if err != nil {
		return err
	}
	if force {
		err = os.Rename(temp, name)
	} else {
		// A link, unlike a rename, replaces nothing that came in between.
		err = os.Link(temp, name)
		if errors.Is(err, fs.ErrExist) {
			err = exists
		} else if err != nil {
			// A file system without links.
			err = os.Rename(temp, name)
		}
	}
	if removeErr := os.Remove(temp); err == nil && removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	return err
}

// draft writes a file under a hidden name in the folder of name.
func draft(name string, mode fs.FileMode, write func(io.Writer) error) (temp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// seedNames are the files that NoCloud reads from a folder.
var seedNames = []string{cidata.UserData, cidata.MetaData, cidata.NetworkConfig, cidata.VendorData}

// writeNewFolder writes files into a folder. A folder with something in it is taken with force only; then files of the
// same names are replaced, those of an earlier seed removed, and all else is left.
func writeNewFolder(dir string, mode fs.FileMode, force bool, files []cidata.File) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeWholeFolder(dir, mode, files)
	case err != nil:
		return err
	case len(entries) > 0 && !force:
		return fmt.Errorf("%s is not empty: name another folder, or use --force to replace the seed in it", dir)
	}
	drafts := map[string]string{}
	defer func() {
		for _, temp := range drafts {
			os.Remove(temp) // those that got no name
		}
	}()
	for _, f := range files {
		if drafts[f.Path], err = draftIn(dir, f, mode); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.Rename(drafts[f.Path], filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
		delete(drafts, f.Path)
	}
	for _, name := range seedNames {
		if slices.ContainsFunc(files, func(f cidata.File) bool { return f.Path == name }) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func draftIn(dir string, f cidata.File, mode fs.FileMode) (string, error) {
	name := filepath.Join(dir, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", err
	}
	return draft(name, mode, func(w io.Writer) error {
		_, err := w.Write(f.Data)
		return err
	})
}

// writeWholeFolder makes a folder beside its place and moves it there when it is whole.
func writeWholeFolder(dir string, mode fs.FileMode, files []cidata.File) (err error) {
	dir = filepath.Clean(strings.TrimSuffix(dir, "/"))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	for _, f := range files {
		hidden, err := draftIn(temp, f, mode)
		if err != nil {
			return err
		}
		if err := os.Rename(hidden, filepath.Join(temp, filepath.FromSlash(f.Path))); err != nil {
			return err
		}
	}
	// Who may read its files may look into it.
	if err := os.Chmod(temp, mode|mode>>2&0o111); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}
