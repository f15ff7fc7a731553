package document

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

// texts are values that a YAML of one version or the other takes for something else.
func texts() []string {
	return []string{
		"", " ", "\n", "a\n", "a\n\n", "\na", " a\n b\n", "a\n ", "a \nb", "\ta\n", "a\tb", "a\r\nb", "a\rb", "\x00", "\x1b[0m", "\u0085", "\u2028\n", "\ufeff",
		"y", "n", "yes", "No", "on", "OFF", "true", "null", "~", "1", "01", "0o7", "0x1F", "1_000", "1e3", "1:30", "190:20:30", ".inf", "-.5", "2001-01-01", "=", "<<",
		"-", "--", "---", "...", "- a", "a: b", "a:", ":a", "#a", "a #b", "a#b", "?", "? a", "!a", "&a", "*a", "%a", "@a", "`a", "|", ">", "[a", "a]", "{a", "a, b", "'a'", "\"a\"", "a'b", "\\", "a\\nb",
		"{{ x }}", "grüß", "😀", "日本\n語", strings.Repeat("long ", 1000), strings.Repeat("x", 5000) + "\n", "$6$a$b", "ALL=(ALL) NOPASSWD:ALL", "-----BEGIN-----\nabc=\n",
	}
}

// listOfTexts is the mapping texts: with all of them.
func listOfTexts() *Node {
	list := List(Position{})
	for _, s := range texts() {
		list.Items = append(list.Items, Text(s, Position{}))
	}
	n := Map(Position{})
	n.Set("texts", list)
	return n
}

func TestTextsAreReadBackAsWritten(t *testing.T) {
	data, _, err := Render(listOfTexts(), "# a header\n")
	if err != nil {
		t.Fatal(err)
	}
	back, problems := Parse(data, InFile("a"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, want := range texts() {
		if got := back.Get("texts").Items[i]; got.Tag != "!!str" || got.Value != want {
			t.Errorf("%q became %s %q", want, got.Tag, got.Value)
		}
	}
}

// What is written as YAML is read by cloud-init's YAML, which is another version, as the same text.
func TestTextsReachCloudInitUnchanged(t *testing.T) {
	tree := cloudinittest.Find(t)
	data, _, err := Render(listOfTexts(), "#cloud-config\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.NewDecoder(tree.Run(t, "testdata/texts.py", data)).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for i, want := range texts() {
		if i >= len(got) || got[i] != want {
			t.Errorf("%q became %q", want, got[i])
		}
	}
}

func TestAPlaceInWhatWasWrittenLeadsBackToItsSource(t *testing.T) {
	n, problems := Parse([]byte("b:\n    - one\n    - {x: two}\na: |\n    1\n    2\n"), InFile("seed.yml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	first := Map(Position{File: "--flag"})
	first.Set("list", n.Get("b"))
	first.Set("text", n.Get("a"))
	data, at, err := Render(first, "# header\n")
	if err != nil || string(data) != "# header\nlist:\n  - one\n  - x: two\ntext: |\n  1\n  2\n" {
		t.Fatalf("%v:\n%s", err, data)
	}
	for _, c := range []struct {
		line, column int
		want         string
	}{{2, 1, "seed.yml:2:5"}, {3, 5, "seed.yml:2:7"}, {4, 5, "seed.yml:3:8"}, {4, 8, "seed.yml:3:11"}, {5, 7, "seed.yml:4:4"}, {7, 1, "seed.yml:4:4"}} {
		if got := at(c.line, c.column).String(); got != c.want {
			t.Errorf("%d:%d comes from %s, want %s", c.line, c.column, got, c.want)
		}
	}
}
