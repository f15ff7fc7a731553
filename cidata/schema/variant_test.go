package schema

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

const (
	variantSeed = 3
	variants    = 900 // of which testdata/variants.txt has the verdicts
)

// trialCount is how many variants cloud-init is asked about; more in a long run.
func trialCount(t *testing.T) int {
	text := os.Getenv("APPLBUILD_SCHEMA_CASES")
	if text == "" {
		return variants
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return max(n, variants)
}

// letters writes verdicts by their first letters, sixty a line.
func letters(words []string) string {
	var b strings.Builder
	for i, w := range words {
		b.WriteString(w[:1])
		if i%60 == 59 || i == len(words)-1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestVariantsAreJudgedAsCloudInitOnceJudgedThem(t *testing.T) {
	var ours []string
	checker := New()
	for _, c := range newMutator(t, variantSeed).trials(t, variants) {
		ours = append(ours, ourWord(c.judge(checker)))
	}
	if got, want := letters(ours), string(readFile(t, "testdata/variants.txt")); got != want {
		t.Errorf("verdicts (valid, invalid, deprecated) are\n%s\nwant\n%s", got, want)
	}
}

func TestVariantsAreJudgedAsCloudInitJudgesThem(t *testing.T) {
	cloud := cloudinittest.Find(t)
	trials := newMutator(t, variantSeed).trials(t, trialCount(t))
	counts := map[string]int{}
	wrong := 0
	checker := New()
	var all []string
	for i, v := range cloudInitJudges(t, cloud, trials) {
		problems := trials[i].judge(checker)
		ours, theirs := ourWord(problems), word(v.Valid, v.Deprecated)
		counts[theirs]++
		all = append(all, theirs)
		if ours == theirs {
			continue
		}
		if wrong++; wrong <= 20 {
			t.Errorf("variant %d, a %s: we say %s, cloud-init %s\n%s\nours: %v\ncloud-init's: %s", i, trials[i].Type, ours, theirs, trials[i].Data, problems, v.Why)
		}
	}
	t.Logf("%s variants, %d judged differently", fmt.Sprint(counts), wrong)
	got := letters(all[:variants])
	if *update {
		if err := os.WriteFile("testdata/variants.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(readFile(t, "testdata/variants.txt")); got != want {
		t.Errorf("cloud-init says\n%s\nthe golden file\n%s", got, want)
	}
}
