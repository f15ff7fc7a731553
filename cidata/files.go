package cidata

import (
	"slices"
	"strings"
	"time"
)

// FromFiles makes a seed of files as they are, dated t. Nothing in them is checked, see [Seed.Inspect].
func FromFiles(files []File, t time.Time) *Seed {
	s := &Seed{files: slices.Clone(files), time: t}
	slices.SortFunc(s.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return s
}

// Time is the date of the seed's files on the file systems that are written.
func (s *Seed) Time() time.Time { return s.date() }
