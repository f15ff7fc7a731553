// Package imagefile makes files that are there whole or not at all. It knows
// nothing of what is in them.
package imagefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Create makes an image by do, which writes path, given as directory and name.
// An old file goes first; after an error none is left.
func Create(path string, do func(dir, name string) error) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, name := filepath.Split(path)
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := do(abs, name); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}
