package recipes

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema (draft 2020-12) of a recipe, indented. It is made from the same struct tags that
// [Load] reads; what only the whole of a recipe shows, contradictions above all, is left to Load.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Recipe](), field{})
	s.Version = jsonschema.Version
	s.Title = "applbuild recipe"
	s.Description = "Describes an appliance: a bootable disk image made of a distribution's packages."
	// A recipe may have from one that it includes what is required.
	s.AnyOf = []*jsonschema.Schema{{Required: s.Required}, {Required: []string{"include"}}}
	s.Required = nil
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// schemaOf returns the schema of values of type t, declared as f.
func schemaOf(t reflect.Type, f field) *jsonschema.Schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := &jsonschema.Schema{}
	switch {
	case t.Kind() == reflect.Struct && !isParser(t):
		s = schemaOfStruct(t)
	case t.Kind() == reflect.Slice && f.is("words"):
		one := &jsonschema.Schema{Type: "string", Examples: []any{f.tag.Get("example")}}
		s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{one, {Type: "array", Items: schemaOf(t.Elem(), field{})}}}
	case t.Kind() == reflect.Slice:
		item := schemaOf(t.Elem(), field{tag: f.tag})
		item.Examples = nil
		s = &jsonschema.Schema{Type: "array", Items: item}
		if f.is("scalar") {
			s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{schemaOf(t.Elem(), field{tag: f.tag}), s}}
		}
	case t.Kind() == reflect.Map:
		values := map[string]*jsonschema.Schema{f.tag.Get("pattern"): schemaOf(t.Elem(), word)}
		s = &jsonschema.Schema{Type: "object", PatternProperties: values, AdditionalProperties: jsonschema.FalseSchema}
	case t.Kind() == reflect.Bool:
		s.Type = "boolean"
	case t.Kind() == reflect.Int && !isParser(t):
		s.Type = "integer"
		s.Minimum, s.Maximum = json.Number(f.tag.Get("minimum")), json.Number(f.tag.Get("maximum"))
	default:
		schemaOfText(s, f)
	}
	return s
}

func schemaOfText(s *jsonschema.Schema, f field) {
	s.Pattern = f.tag.Get("pattern")
	if example := f.tag.Get("example"); example != "" {
		s.Examples = []any{example}
	}
	if enum := f.tag.Get("enum"); enum != "" {
		for value := range strings.SplitSeq(enum, ",") {
			s.Enum = append(s.Enum, plain(value))
		}
	}
	switch {
	case slices.Contains(s.Enum, any(true)): // true, false or a word: no single type
	case f.is("number"):
		s.Extras = map[string]any{"type": []string{"string", "number"}}
	default:
		s.Type = "string"
	}
}

// plain returns a truth value or number as such, other text as it is.
func plain(text string) any {
	if b, err := strconv.ParseBool(text); err == nil && len(text) > 1 {
		return b
	}
	return text
}

func schemaOfStruct(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
	var short *jsonschema.Schema
	for _, f := range fields(t) {
		p := schemaOf(t.Field(f.index).Type, f)
		p.Description = f.tag.Get("doc")
		describeDefault(p, f)
		if f.is("short") {
			alone := *p
			short = &alone
		}
		if f.is("required") {
			s.Required = append(s.Required, f.name)
		}
		s.Properties.Set(f.name, p)
	}
	if short != nil {
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{short, s}}
	}
	return s
}

// describeDefault says what a field is when it is left out: as the schema's default where that is a value, else in
// words.
func describeDefault(s *jsonschema.Schema, f field) {
	text := f.tag.Get("default")
	switch {
	case text == "":
		return
	case s.Type == "boolean", slices.Contains(s.Enum, plain(text)):
		s.Default = plain(text)
	case s.Pattern != "" && !strings.Contains(text, " ") && s.Type == "string":
		s.Default = text
	}
	s.Description += " Default: " + text + "."
}
