package schema

import (
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed data/*.json
var files embed.FS

const (
	cloudConfigFile = "data/schema-cloud-config-v1.json"
	networkV1File   = "data/schema-network-config-v1.json"
	networkV2File   = "data/schema-network-config-v2.json"
)

// A rule is a schema: the keywords that cloud-init's schemas have, which beside
// $ref count too, unlike in plain draft 4.
type rule struct {
	refName    string // of $ref, without #/$defs/
	ref        *rule
	types      []string
	enum       []any
	required   []string
	properties []property // sorted by name
	patterns   []patternRule
	additional *rule // nil: anything
	closed     bool  // additionalProperties is false
	items      *rule
	oneOf      []*rule
	anyOf      []*rule
	allOf      []*rule
	pattern    *regexp.Regexp
	wanted     string // the pattern as it is written
	isDate     bool   // format, of which cloud-init checks only this one
	unique     bool
	minimum    *float64
	maximum    *float64
	minItems   int
	maxItems   int // -1: no bound
	minKeys    int
	maxLength  int      // -1: no bound
	notices    []string // what cloud-init warns of where a value stands here
}

type property struct {
	name string
	rule *rule
}

type patternRule struct {
	pattern *regexp.Regexp
	wanted  string // the pattern as it is written
	rule    *rule
}

func (r *rule) property(name string) *rule {
	i, ok := slices.BinarySearchFunc(r.properties, name, func(p property, name string) int { return strings.Compare(p.name, name) })
	if !ok {
		return nil
	}
	return r.properties[i].rule
}

// A compiler makes rules of one file.
type compiler struct {
	definitions map[string]*rule
	sources     map[string]json.RawMessage
}

// load reads a schema of the folder data.
func load(name string) (*rule, error) {
	data, err := files.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var top struct {
		Definitions map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &compiler{definitions: map[string]*rule{}, sources: top.Definitions}
	r, err := c.rule(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// source is a schema as it is written.
type source struct {
	Ref                  string                     `json:"$ref"`
	Type                 json.RawMessage            `json:"type"`
	Enum                 []any                      `json:"enum"`
	Required             []string                   `json:"required"`
	Properties           map[string]json.RawMessage `json:"properties"`
	PatternProperties    map[string]json.RawMessage `json:"patternProperties"`
	AdditionalProperties json.RawMessage            `json:"additionalProperties"`
	Items                json.RawMessage            `json:"items"`
	OneOf                []json.RawMessage          `json:"oneOf"`
	AnyOf                []json.RawMessage          `json:"anyOf"`
	AllOf                []json.RawMessage          `json:"allOf"`
	Pattern              *string                    `json:"pattern"`
	Format               string                     `json:"format"`
	UniqueItems          bool                       `json:"uniqueItems"`
	Minimum              *float64                   `json:"minimum"`
	Maximum              *float64                   `json:"maximum"`
	MinItems             int                        `json:"minItems"`
	MaxItems             *int                       `json:"maxItems"`
	MinProperties        int                        `json:"minProperties"`
	MaxLength            *int                       `json:"maxLength"`
	Deprecated           bool                       `json:"deprecated"`
	DeprecatedVersion    string                     `json:"deprecated_version"`
	DeprecatedText       string                     `json:"deprecated_description"`
	Changed              bool                       `json:"changed"`
	ChangedVersion       string                     `json:"changed_version"`
	ChangedText          string                     `json:"changed_description"`

	// These say nothing about a value: notes to a reader, a keyword of a later
	// draft, and one that counts only where items is a list.
	Schema          string                     `json:"$schema"`
	Definitions     map[string]json.RawMessage `json:"$defs"`
	Description     string                     `json:"description"`
	Label           string                     `json:"label"`
	Default         any                        `json:"default"`
	New             bool                       `json:"new"`
	NewVersion      string                     `json:"new_version"`
	NewText         string                     `json:"new_description"`
	PrefixItems     any                        `json:"prefixItems"`
	Hidden          []string                   `json:"hidden"`
	AdditionalItems any                        `json:"additionalItems"`
}

func (c *compiler) rule(data json.RawMessage) (*rule, error) {
	r := new(rule)
	return r, c.fill(r, data)
}

func (c *compiler) fill(r *rule, data json.RawMessage) error {
	var s source
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return err
	}
	*r = rule{enum: s.Enum, required: s.Required, isDate: s.Format == "date", unique: s.UniqueItems,
		minimum: s.Minimum, maximum: s.Maximum, minItems: s.MinItems, maxItems: -1, minKeys: s.MinProperties, maxLength: -1}
	if s.MaxItems != nil {
		r.maxItems = *s.MaxItems
	}
	if s.MaxLength != nil {
		r.maxLength = *s.MaxLength
	}
	r.notices = s.notices()
	if err := c.scalars(r, &s); err != nil {
		return err
	}
	return c.children(r, &s)
}

// scalars reads the keywords of r that hold no schema.
func (c *compiler) scalars(r *rule, s *source) (err error) {
	if s.Pattern != nil {
		r.wanted = *s.Pattern
		if r.pattern, err = compilePattern(*s.Pattern); err != nil {
			return err
		}
	}
	if len(s.Type) == 0 {
		return nil
	}
	if s.Type[0] == '[' {
		return json.Unmarshal(s.Type, &r.types)
	}
	r.types = make([]string, 1)
	return json.Unmarshal(s.Type, &r.types[0])
}

// compilePattern compiles a pattern of Python's, whose $ fits before a last line
// break too.
func compilePattern(text string) (*regexp.Regexp, error) {
	if start, ok := strings.CutSuffix(text, "$"); ok {
		text = start + `\n?$`
	}
	return regexp.Compile(text)
}

// children reads the keywords of r that hold schemas.
func (c *compiler) children(r *rule, s *source) (err error) {
	if s.Ref != "" {
		if r.refName, r.ref, err = c.definition(s.Ref); err != nil {
			return err
		}
	}
	for name, data := range s.Properties {
		p := property{name: name}
		if p.rule, err = c.rule(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.properties = append(r.properties, p)
	}
	slices.SortFunc(r.properties, func(a, b property) int { return strings.Compare(a.name, b.name) })
	for text, data := range s.PatternProperties {
		p := patternRule{wanted: text}
		if p.pattern, err = compilePattern(text); err != nil {
			return err
		}
		if p.rule, err = c.rule(data); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		r.patterns = append(r.patterns, p)
	}
	slices.SortFunc(r.patterns, func(a, b patternRule) int { return strings.Compare(a.wanted, b.wanted) })
	switch text := string(s.AdditionalProperties); text {
	case "", "true":
	case "false":
		r.closed = true
	default:
		if r.additional, err = c.rule(s.AdditionalProperties); err != nil {
			return err
		}
	}
	if len(s.Items) > 0 {
		if r.items, err = c.rule(s.Items); err != nil {
			return fmt.Errorf("items: %w", err)
		}
	}
	return c.branches(r, s)
}

func (c *compiler) branches(r *rule, s *source) error {
	for _, list := range []struct {
		from []json.RawMessage
		to   *[]*rule
	}{{s.OneOf, &r.oneOf}, {s.AnyOf, &r.anyOf}, {s.AllOf, &r.allOf}} {
		for _, data := range list.from {
			branch, err := c.rule(data)
			if err != nil {
				return err
			}
			*list.to = append(*list.to, branch)
		}
	}
	return nil
}

// definition returns the rule that a $ref names. A rule may hold itself.
func (c *compiler) definition(ref string) (string, *rule, error) {
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok {
		return "", nil, fmt.Errorf("the $ref %s leads out of $defs", ref)
	}
	if r, ok := c.definitions[name]; ok {
		return name, r, nil
	}
	data, ok := c.sources[name]
	if !ok {
		return "", nil, fmt.Errorf("the $ref %s leads nowhere", ref)
	}
	r := new(rule)
	c.definitions[name] = r
	if err := c.fill(r, data); err != nil {
		return "", nil, fmt.Errorf("%s: %w", name, err)
	}
	return name, r, nil
}

// notices are cloud-init's words about a deprecated or changed key, without the
// marks of reStructuredText.
func (s *source) notices() (texts []string) {
	plain := strings.NewReplacer("**", "", "``", "", "\n", " ")
	if s.Deprecated {
		texts = append(texts, strings.TrimSpace("deprecated since cloud-init "+s.DeprecatedVersion+". "+plain.Replace(s.DeprecatedText)))
	}
	if s.Changed {
		texts = append(texts, strings.TrimSpace("changed in cloud-init "+s.ChangedVersion+". "+plain.Replace(s.ChangedText)))
	}
	return texts
}
