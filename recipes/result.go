package recipes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"
)

// File returns the path that the recipe was loaded from.
func (r *Recipe) File() string { return r.file }

// Position returns where the value at path was written: keys joined by dots, items by number, as in
// "users[0].groups[1]". For a value that is a default it is the position of the nearest mapping or list around it, for
// want of that the file.
func (r *Recipe) Position(path string) Position {
	for p := path; p != ""; p = p[:max(0, strings.LastIndexAny(p, ".["))] {
		if pos, found := r.positions[p]; found {
			return pos
		}
	}
	return Position{File: r.file, Line: 1, Column: 1}
}

// Problem returns an error about the value at path, for what is found only after loading.
func (r *Recipe) Problem(path, what, do string, cause error) *Error {
	d := decoder{}
	d.problem(r.Position(path), path, what, do)
	d.problems[0].Err = cause
	return d.problems[0]
}

// Canonical returns the recipe with all its defaults as JSON, the same bytes for every recipe that means the same:
// neither the order of keys nor the files and folders it was read from, nor where its output goes, nor its tests show in
// it. Contents of files that it names as source do not either: who builds a key adds their digests.
func (r *Recipe) Canonical() ([]byte, error) {
	c := *r
	c.Include = nil
	c.Output.Dir = ""
	c.Tests = nil
	return json.Marshal(&c)
}

// Digest returns the SHA-256 of the canonical form in hexadecimal digits.
func (r *Recipe) Digest() (string, error) {
	data, err := r.Canonical()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// CommandLine returns the recipe's part of the kernel's command line, its words joined by single spaces.
func (b Boot) CommandLine() string {
	return strings.Join(strings.Fields(strings.Join(b.Cmdline, " ")), " ")
}

// Match reports whether an absolute path in the appliance is to be removed, itself or with a folder above it.
// Removal of documentation is not part of it.
func (r Remove) Match(name string) bool {
	parts := strings.Split(name, "/")
	for _, pattern := range r.Paths {
		wanted := strings.Split(pattern, "/")
		if len(wanted) > len(parts) {
			continue
		}
		matches := true
		for i, part := range wanted {
			if ok, err := path.Match(part, parts[i]); err != nil || !ok {
				matches = false
				break
			}
		}
		if matches {
			return true
		}
	}
	return false
}
