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
	"syscall"

	"github.com/applbuild/applbuild/cidata"
)

// newFileMode is the mode of a seed's files: with a secret in them they are their owner's alone.
func newFileMode(secret bool) fs.FileMode {
	if secret {
		return 0o600
	}
	return 0o644
}

// A place is where a seed is written to: a file, a folder, or both.
type place struct {
	file, dir string
	force     bool
}

// check refuses to replace what is there, before anything is written: a seed lands in both places or in none.
func (p place) check() error {
	if p.file != "" {
		info, err := os.Lstat(p.file)
		switch {
		case err == nil && !p.force:
			return existsError(p.file)
		case err == nil && !info.Mode().IsRegular():
			return fmt.Errorf("%s is no regular file: name another one", p.file)
		}
	}
	if p.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(p.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is no folder, or lies in none: name another one", p.dir)
	case err != nil:
		return err
	case len(entries) > 0 && !p.force:
		return fmt.Errorf("%s is not empty: name another folder, or use --force to replace the seed in it", p.dir)
	}
	return nil
}

// write writes a seed's image to the file, by write, and its files into the folder.
func (p place) write(seed *cidata.Seed, mode fs.FileMode, write func(io.Writer) error) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.file != "" {
		if err := writeNewFile(p.file, mode, p.force, write); err != nil {
			return err
		}
	}
	if p.dir == "" {
		return nil
	}
	return writeNewFolder(p.dir, mode, seed.Files())
}

// written lists the places that a seed was written to.
func (p place) written() []string {
	return slices.DeleteFunc([]string{p.file, p.dir}, func(name string) bool { return name == "" })
}

func existsError(name string) error {
	return fmt.Errorf("%s is there already: name another file, or use --force to replace it", name)
}

// writeNewFile writes a file beside its place and moves it there when it is whole. What is there is replaced with force
// only.
func writeNewFile(name string, mode fs.FileMode, force bool, write func(io.Writer) error) error {
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
			err = existsError(name)
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
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: its folder is not there: make it, or name another one", name)
	}
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

// writeNewFolder writes files into a folder. In one with something in it files of the same names are replaced, those of
// an earlier seed removed, and all else is left.
func writeNewFolder(dir string, mode fs.FileMode, files []cidata.File) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return writeWholeFolder(dir, mode, files)
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
