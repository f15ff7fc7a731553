package document

import (
	"errors"
	"strings"
	"testing"
)

// bomb stands for 10^6 values.
const bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
	"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"

func TestADocumentThatUnfoldsToTooMuchIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"aliases": bomb,
		"deep":    strings.Repeat("[", 200) + strings.Repeat("]", 200),
		"long":    strings.Repeat("#", maxYAML+1),
	} {
		if n, problems := Parse([]byte(text), InFile("a")); n != nil || len(problems) == 0 || !errors.Is(problems, ErrTooLarge) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestWhatIsWrongHasItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"a: &x [*x]\n":             "f:1:8: alias *x stands for something it is part of: write the value out",
		"a: 1\nb: 2\na: 3\n":       "f:3:1: key \"a\" is written twice, first in line 1: remove one of the two",
		"a: !thing b\n":            "f:1:4: tag \"!thing\" has no meaning here: remove it",
		"? [a]\n: b\n":             "f:1:3: a key is not a word: write KEY: VALUE",
		"a: b\n---\nc: d\n":        "f:2:1: a second document begins: write one document in a file, without --- in it",
		"a: &x {b: c}\n<<: *x\n":   "f:2:1: the merge key << is not read: write the values out",
		"a: [\n":                   "f:1:1: not YAML: did not find expected node content: look at the indentation, colons and quotes in and above this line",
		"\x1b[31m: 1\n\x1b[31m: 2": "f:1:1: not YAML: control characters are not allowed: look at the indentation, colons and quotes in and above this line",
	} {
		_, problems := Parse([]byte(text), InFile("f"))
		if len(problems) != 1 || problems[0].Error() != want {
			t.Errorf("%q: %v, want %s", text, problems, want)
		}
	}
}

func TestMergeKeysAreTakenAsCloudInitTakesThem(t *testing.T) {
	n, problems := ParseMerged([]byte("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n"), InFile("f"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if d := n.Get("d"); d.Get("b").Value != "1" || d.Get("c").Value != "3" || len(d.Entries) != 2 {
		t.Errorf("entries %v", d.Entries)
	}
}

func TestErrorsAreInTheOrderOfTheFileAndSaidOnce(t *testing.T) {
	a, b := &Error{Position: Position{"f", 2, 1}, What: "second\x1b[0m\nline"}, &Error{Position: Position{"f", 1, 9}, What: "first", Do: "change it"}
	if got := (Errors{a, b, a}).Err().Error(); got != "f:1:9: first: change it\nf:2:1: second [0m line" {
		t.Errorf("%q", got)
	}
	if err := (Errors{}).Err(); err != nil {
		t.Errorf("%v", err)
	}
}

// Whatever a document holds: it is refused with a place, or is the same when it was written and read again.
func FuzzParse(f *testing.F) {
	for _, text := range append(texts(), bomb, "a: &x {b: [c, 1, yes, null]}\nd: *x\ne: {<<: *x}\n", "? [a]\n: b", "a: !!binary aGk=\n", "- |\n  a\n- >\n  b\n") {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, problems := ParseMerged(data, InFile("f"))
		for _, p := range problems {
			if p.Position.File != "f" || strings.ContainsAny(p.Error(), "\n\x1b") {
				t.Fatalf("%q", p.Error())
			}
		}
		if n == nil || len(problems) > 0 {
			return
		}
		out, at, err := Render(n, "")
		if err != nil {
			return // a value that YAML cannot hold
		}
		back, problems := Parse(out, at)
		if len(problems) > 0 || !Same(n, back) {
			t.Fatalf("%q became %q: %v", data, out, problems)
		}
	})
}
