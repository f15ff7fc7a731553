package schema

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

var update = flag.Bool("update", false, "write the golden files as cloud-init judges")

// examples are the files of testdata, sorted by name.
func examples(t testing.TB) (names []string, trials []trial) {
	t.Helper()
	for _, pattern := range []string{"testdata/examples/*", "testdata/network-v2/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		c := trial{Type: "cloud-config", Data: readFile(t, name)}
		if filepath.Ext(name) == ".yaml" {
			c.Type = "network-config"
		}
		trials = append(trials, c)
	}
	return names, trials
}

func word(valid, deprecated bool) string {
	switch {
	case !valid:
		return "invalid"
	case deprecated:
		return "deprecated"
	}
	return "valid"
}

func ourWord(problems []Problem) string {
	return word(Valid(problems), slices.ContainsFunc(problems, func(p Problem) bool { return p.Deprecated }))
}

func TestExamplesOfCloudInitAreJudgedAsItJudgesThem(t *testing.T) {
	names, trials := examples(t)
	var b strings.Builder
	checker := New()
	for i, c := range trials {
		fmt.Fprintf(&b, "%-60s %s\n", filepath.ToSlash(names[i]), ourWord(c.judge(checker)))
	}
	if want := string(readFile(t, "testdata/verdicts.txt")); b.String() != want {
		t.Errorf("verdicts are\n%s\nwant\n%s", b.String(), want)
	}
}

// The golden file says what cloud-init says, and the examples are the package's.
func TestVerdictsAreCloudInits(t *testing.T) {
	cloud := cloudinittest.Find(t)
	names, trials := examples(t)
	var b strings.Builder
	for i, v := range cloudInitJudges(t, cloud, trials) {
		fmt.Fprintf(&b, "%-60s %s\n", filepath.ToSlash(names[i]), word(v.Valid, v.Deprecated))
	}
	if *update {
		if err := os.WriteFile("testdata/verdicts.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(readFile(t, "testdata/verdicts.txt")); b.String() != want {
		t.Errorf("cloud-init says\n%s\nthe golden file\n%s", b.String(), want)
	}
}

// A newer package in the archive shows here: its files are to be copied.
func TestFilesAreThoseOfDebiansPackage(t *testing.T) {
	cloud := cloudinittest.Find(t)
	for ours, theirs := range map[string]string{
		"data/*.json":              "usr/lib/python3/dist-packages/cloudinit/config/schemas",
		"testdata/examples/[a-r]*": "usr/share/doc/cloud-init/examples",
		"testdata/examples/user-*": "usr/share/doc/cloud-init/examples",
	} {
		names, err := filepath.Glob(ours)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", ours, len(names), err)
		}
		for _, name := range names {
			if !bytes.Equal(readFile(t, name), readFile(t, filepath.Join(cloud.Root, theirs, filepath.Base(name)))) {
				t.Errorf("%s differs from the package's", name)
			}
		}
	}
	listed, err := os.ReadDir(filepath.Join(cloud.Root, "usr/share/doc/cloud-init/examples"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range listed {
		if _, err := os.Stat(filepath.Join("testdata/examples", entry.Name())); err != nil && !entry.IsDir() {
			t.Errorf("the package has an example more: %v", err)
		}
	}
}

// spelled reads testdata/spellings.txt: a type, cloud-init's verdict and a file in
// Go's quotes on each line.
func spelled(t testing.TB) (trials []trial, verdicts []string) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, "testdata/spellings.txt"))) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		data, err := strconv.Unquote(fields[len(fields)-1])
		if err != nil || len(fields) != 3 {
			t.Fatalf("%s: %v", line, err)
		}
		trials = append(trials, trial{fields[0], []byte(data)})
		verdicts = append(verdicts, fields[1])
	}
	return trials, verdicts
}

func TestYAMLIsReadAsCloudInitReadsIt(t *testing.T) {
	trials, verdicts := spelled(t)
	checker := New()
	for i, c := range trials {
		problems := c.judge(checker)
		if got := ourWord(problems); got != verdicts[i] {
			t.Errorf("%q is %s, want %s: %v", c.Data, got, verdicts[i], problems)
		}
	}
}

func TestSpellingsAreJudgedByCloudInitAsWritten(t *testing.T) {
	cloud := cloudinittest.Find(t)
	trials, verdicts := spelled(t)
	var b strings.Builder
	for i, v := range cloudInitJudges(t, cloud, trials) {
		got := word(v.Valid, v.Deprecated)
		fmt.Fprintf(&b, "%s %s %s\n", trials[i].Type, got, strconv.Quote(string(trials[i].Data)))
		if got != verdicts[i] {
			t.Errorf("cloud-init says of %q %s, the file %s: %s", trials[i].Data, got, verdicts[i], v.Why)
		}
	}
	if *update {
		if err := os.WriteFile("testdata/spellings.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
