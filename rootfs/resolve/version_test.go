package resolve

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// versionsByAge are in dpkg's order; those of one line are equal.
var versionsByAge = [][]string{
	{"0~~", "0:0~~"},
	{"0~"},
	{"0", "0-0", "00", "0:0", "0-"},
	{"1.0~beta1~svn1245"},
	{"1.0~beta1"},
	{"1.0", "1.0-0", "01.0", "1.00", "0:1.0-00"},
	{"1.0-1~bpo12+1"},
	{"1.0-1"},
	{"1.0-1ubuntu1"},
	{"1.0-1+b1"},
	{"1.0-1.1"},
	{"1.0-10"},
	{"1.0a"},
	{"1.0+dfsg-1"},
	{"1.0+dfsg1-1"},
	{"1.0.1"},
	// the last hyphen separates the revision
	{"1.1.0+cvs20060620-1+2.6.15-8"},
	{"1.1.0+cvs20060620-1+2.6.15-10"},
	{"1.1.0+cvs20060620-2+2.6.15-8"},
	{"1.9"},
	{"1.10"},
	{"1.99999999999999999999999999999999"},
	{"2:0.1~"},
	{"2:0.1"},
	{"10:0"},
}

func TestVersionsCompareAsInTheTable(t *testing.T) {
	for i, a := range versionsByAge {
		for j, b := range versionsByAge {
			for _, x := range a {
				for _, y := range b {
					if got := sign(CompareVersions(x, y)); got != sign(i-j) {
						t.Errorf("CompareVersions(%q, %q) = %d, want %d", x, y, got, sign(i-j))
					}
				}
			}
		}
	}
}

func TestVersionsCompareAsDpkgSays(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is missing: versions are not compared with its answer")
	}
	all := slices.Concat(versionsByAge...)
	all = slices.DeleteFunc(all, func(v string) bool { return strings.HasSuffix(v, "-") }) // dpkg warns
	for i, a := range all {
		b := all[(i*7+3)%len(all)]
		for op, holds := range map[string]bool{
			"lt": CompareVersions(a, b) < 0, "eq": CompareVersions(a, b) == 0, "gt": CompareVersions(a, b) > 0,
		} {
			err := exec.Command("dpkg", "--compare-versions", a, op, b).Run()
			if (err == nil) != holds {
				t.Errorf("%s %s %s: dpkg says %v, CompareVersions %v", a, op, b, err == nil, holds)
			}
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	all := slices.Concat(versionsByAge...)
	for i := range all {
		f.Add(all[i], all[(i+5)%len(all)], all[(i+11)%len(all)])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := sign(CompareVersions(a, b)), sign(CompareVersions(b, a))
		if ab != -ba {
			t.Errorf("CompareVersions(%q, %q) = %d, the other way round %d", a, b, ab, ba)
		}
		if CompareVersions(a, a) != 0 {
			t.Errorf("%q is not equal to itself", a)
		}
		bc, ac := sign(CompareVersions(b, c)), sign(CompareVersions(a, c))
		if ab <= 0 && bc <= 0 && ac > 0 || ab >= 0 && bc >= 0 && ac < 0 || ab == 0 && ac != bc {
			t.Errorf("order of %q, %q, %q is not transitive: %d, %d, %d", a, b, c, ab, bc, ac)
		}
	})
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
