// Package nearest finds the name somebody probably meant, so that an error about an unknown key, unit, group or
// package can end in a suggestion. It knows nothing of what the names stand for.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// Names returns up to limit of the candidates that are close to name, closest first, those equally close in
// alphabetical order. What differs in more than a third of its letters (two in a short word) is not returned.
func Names(name string, candidates []string, limit int) []string {
	type match struct {
		name     string
		distance int
	}
	most := max(2, len(name)/3)
	var matches []match
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), most); d <= most && d < len(name) {
			matches = append(matches, match{c, d})
		}
	}
	slices.SortFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, m := range matches {
		if len(names) == limit {
			break
		}
		if !slices.Contains(names, m.name) {
			names = append(names, m.name)
		}
	}
	return names
}

// distance is the number of letters to insert, remove, change or swap with a neighbour between a and b
// (optimal string alignment), or most+1 as soon as it is known to be larger.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > most {
			return most + 1
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
