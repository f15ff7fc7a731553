package resolve

import (
	"reflect"
	"strings"
	"testing"
)

func TestRelationsParse(t *testing.T) {
	for _, test := range []struct {
		field string
		want  [][]Relation
	}{
		{"", nil},
		{"libc6", [][]Relation{{{Name: "libc6"}}}},
		{"libc6 (>= 2.36), ", [][]Relation{{{Name: "libc6", Op: GreaterEqual, Version: "2.36"}}}},
		{"a(<<1)|b:any( >> 2 ),\n c:arm64 (<= 3) , d (= 1:4-5)", [][]Relation{
			{{Name: "a", Op: Less, Version: "1"}, {Name: "b", Arch: "any", Op: Greater, Version: "2"}},
			{{Name: "c", Arch: "arm64", Op: LessEqual, Version: "3"}},
			{{Name: "d", Op: Equal, Version: "1:4-5"}},
		}},
		{"a (< 1), b (> 2), c (3)", [][]Relation{
			{{Name: "a", Op: LessEqual, Version: "1"}}, {{Name: "b", Op: GreaterEqual, Version: "2"}}, {{Name: "c", Op: Equal, Version: "3"}},
		}},
	} {
		got, err := Relations(test.field).Parse()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("Parse(%q) = %v, %v, want %v", test.field, got, err, test.want)
		}
	}
}

func TestMalformedRelationsAreRefused(t *testing.T) {
	for _, field := range []string{"a b", "a (>= 1", "a (>= )", "a |", "a | | b", "a, , b", " , ", ":any", "a:", "a::b", "a [amd64]", "a <!nocheck>", "a (1) (2)", "(>= 1)", "a )", "a ("} {
		if got, err := Relations(field).Parse(); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", field, got)
		} else if strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("Parse(%q): the error has several lines: %q", field, err)
		}
	}
}

func FuzzRelations(f *testing.F) {
	for _, s := range []string{"a", "a (>= 1) | b:any, c (<< 2~)", "a (", "a |", "a\n (= 1)", "a(1)", "()", "|,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		groups, err := Relations(s).Parse()
		if err != nil {
			return
		}
		// what was parsed reads the same when it is written out
		var fields []string
		for _, g := range groups {
			var alternatives []string
			for _, r := range g {
				if r.Name == "" && r.Arch == "" {
					t.Fatalf("%q: a relation without a name", s)
				}
				alternatives = append(alternatives, r.String())
			}
			fields = append(fields, strings.Join(alternatives, " | "))
		}
		again, err := Relations(strings.Join(fields, ", ")).Parse()
		if err != nil || !reflect.DeepEqual(groups, again) {
			t.Errorf("%q is read as %v, that as %v (%v)", s, groups, again, err)
		}
	})
}
