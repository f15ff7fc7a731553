package fs

import (
	"archive/tar"
	"errors"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// xattrRecord is how PAX records of extended attributes begin.
const xattrRecord = "SCHILY.xattr."

// memberName returns a member's name within the tree, "." for the root.
func memberName(h *tar.Header) (string, error) {
	name := path.Clean(h.Name)
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name+h.Linkname, "\x00") {
		return "", errors.New("it leaves the tree")
	}
	return name, nil
}

// memberXattrs yields a member's extended attributes, sorted by name.
func memberXattrs(h *tar.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if name, ok := strings.CutPrefix(key, xattrRecord); ok && !yield(name, h.PAXRecords[key]) {
				return
			}
		}
	}
}
