package schema

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// spellings are values that YAML 1.1 and 1.2, Go and Python might read differently.
func spellings() []string {
	return []string{
		"yes", "No", "on", "OFF", "y", "true", "TRUE", "~", "null", "''", `"x"`, "=", "<<", "0", "1", "-1", "0644", "0o644", "08", "0x1F",
		"0b101", "1_000", "1:30", "190:20:30", "1.5", "1e3", "1.0e+3", ".5", "+.5", ".inf", ".NaN", "1:30.5", "2024-01-31", "2024-02-30",
		"2024-1-3", "2024-01-31T10:00:00Z", "2024-01-31 10:00:00 +25", "!!binary aGk=", "!!binary a", "!!str 1", "!!int '7'", "!!int x",
		"!!float 1", "!!bool yes", "!!bool 1", "!!null x", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1, b: 2]", "!!omap [a]", "!local x",
		"!!seq {}", "!!map []", "[]", "{}", "[a, 1]", "[a, a]", "{a: 1}", "{1: a}", "{~: a}", "{a: 1, a: 2}", "{type: x}", "[[a], {b: c}]",
		"{<<: {a: b}}", "{<<: [{a: b}, {a: c}]}", "{<<: x}", "&a x", "*a", "'it''s'", "\"a\\tb\"", "{[a]: b}", "{? a : b}", "default", "10G", "a:b",
		"http://a/", "%x", "@x", "`x", "#x", "- x", "a: b", "|", "> x", "\"", "'", "[", "}", ",", "? x", "123456789012345678901234567890",
	}
}

// A mutator makes variants of files, the same for the same seed.
type mutator struct {
	random *rand.Rand
	names  []string // keys of the schemas
}

func newMutator(t testing.TB, seed uint64) *mutator {
	m := &mutator{random: rand.New(rand.NewPCG(seed, 1))}
	seen := map[*rule]bool{}
	var walk func(r *rule)
	walk = func(r *rule) {
		if r == nil || seen[r] {
			return
		}
		seen[r] = true
		for _, p := range r.properties {
			m.names = append(m.names, p.name)
			walk(p.rule)
		}
		for _, p := range r.patterns {
			walk(p.rule)
		}
		for _, branch := range slices.Concat(r.oneOf, r.anyOf, r.allOf, []*rule{r.ref, r.items, r.additional}) {
			walk(branch)
		}
	}
	for _, file := range []string{cloudConfigFile, networkV1File, networkV2File} {
		walk(mustLoad(t, file))
	}
	slices.Sort(m.names)
	m.names = slices.Compact(m.names)
	return m
}

func mustLoad(t testing.TB, file string) *rule {
	r, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pick[T any](m *mutator, list []T) T { return list[m.random.IntN(len(list))] }

func (m *mutator) chance(percent int) bool { return m.random.IntN(100) < percent }

// lines changes a file as text: what comes out may be no YAML.
func (m *mutator) lines(data []byte) []byte {
	lines := strings.SplitAfter(string(data), "\n")
	for range 1 + m.random.IntN(3) {
		i := m.random.IntN(len(lines))
		line := lines[i]
		before, _, keyed := strings.Cut(line, ": ")
		switch m.random.IntN(10) {
		case 0:
			lines = slices.Delete(lines, i, i+1)
		case 1:
			lines = slices.Insert(lines, m.random.IntN(len(lines)+1), line)
		case 2:
			lines[i] = " " + line
		case 3:
			lines[i] = strings.TrimPrefix(line, " ")
		case 4, 5, 6:
			if keyed {
				lines[i] = before + ": " + pick(m, spellings()) + "\n"
			}
		case 7:
			lines[i] = strings.Replace(line, "#", "", 1)
		case 8:
			at := m.random.IntN(len(line) + 1)
			lines[i] = line[:at] + string(pick(m, []rune(":-#\"'[]{},&*!|>% \t\n\x7f\u00a0é"))) + line[at:]
		case 9:
			lines[i] = "- " + line
		}
		if len(lines) == 0 {
			break
		}
	}
	return []byte(strings.Join(lines, ""))
}

// values changes a file as a tree: what comes out is YAML.
func (m *mutator) values(data []byte) []byte {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil || len(document.Content) == 0 {
		return m.lines(data)
	}
	for range 1 + m.random.IntN(2) {
		m.change(pick(m, within(&document)))
	}
	var b bytes.Buffer
	b.WriteString("#cloud-config\n")
	if err := yaml.NewEncoder(&b).Encode(&document); err != nil {
		return m.lines(data)
	}
	return b.Bytes()
}

// within lists the collections of a tree.
func within(n *yaml.Node) []*yaml.Node {
	list := []*yaml.Node{n}
	for _, child := range n.Content {
		if len(child.Content) > 0 {
			list = append(list, within(child)...)
		}
	}
	return list
}

func (m *mutator) scalar() *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: pick(m, []string{"x", "1", "true", "yes", "0644", "", "2024-01-31", "1.5", "~"})}
}

func (m *mutator) change(n *yaml.Node) {
	i := m.random.IntN(max(len(n.Content), 1))
	if len(n.Content) == 0 {
		return
	}
	if n.Kind == yaml.MappingNode {
		key, inner := i&^1, i|1
		switch m.random.IntN(6) {
		case 0:
			n.Content[key] = &yaml.Node{Kind: yaml.ScalarNode, Value: pick(m, m.names)}
		case 1:
			n.Content[key] = m.scalar()
		case 2:
			n.Content = slices.Delete(n.Content, key, key+2)
		case 3:
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: pick(m, m.names)}, m.scalar())
		case 4:
			n.Content[inner] = m.scalar()
		case 5:
			n.Content[inner] = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n.Content[inner]}}
		}
		return
	}
	switch m.random.IntN(4) {
	case 0:
		n.Content[i] = m.scalar()
	case 1:
		n.Content[i] = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: pick(m, m.names)}, n.Content[i]}}
	case 2:
		if n.Kind == yaml.SequenceNode {
			n.Content = append(n.Content, n.Content[i])
		}
	case 3:
		if child := n.Content[i]; len(child.Content) > 0 {
			n.Content[i] = child.Content[len(child.Content)-1]
		}
	}
}

// generate writes a value that a rule probably accepts, as JSON, which is YAML.
func (m *mutator) generate(r *rule, depth int) string {
	switch {
	case m.chance(2):
		return pick(m, []string{"1", `"x"`, "[]", "{}", "null", "true", `["a"]`, `{"type": "x"}`, `{"name": 1}`, `["a", "a"]`, "1.0", "2024-01-31"})
	case r.ref != nil && (len(r.types) == 0 || m.chance(50)):
		return m.generate(r.ref, depth)
	case len(r.enum) > 0:
		return jsonText(pick(m, r.enum))
	case len(r.oneOf) > 0 && len(r.properties) == 0:
		return m.generate(pick(m, r.oneOf), depth)
	case len(r.anyOf) > 0 && len(r.properties) == 0:
		return m.generate(pick(m, r.anyOf), depth)
	case len(r.allOf) > 0 && len(r.properties) == 0 && len(r.types) == 0:
		return m.generate(pick(m, r.allOf), depth)
	case len(r.types) == 0 && (len(r.properties) > 0 || len(r.patterns) > 0):
		return m.object(r, depth)
	case len(r.types) == 0:
		return `"any"`
	}
	switch pick(m, r.types) {
	case "object":
		return m.object(r, depth)
	case "array":
		return m.array(r, depth)
	case "integer", "number":
		return strconv.Itoa(m.random.IntN(9) - 1)
	case "boolean":
		return strconv.FormatBool(m.chance(50))
	case "null":
		return "null"
	}
	return strconv.Quote(pick(m, []string{"x", "a:b", "2024-01-31", "10G", "true", "http://192.0.2.1/", "+5", "", "now", "eth0"}))
}

func (m *mutator) object(r *rule, depth int) string {
	var members []string
	for _, p := range r.properties {
		if slices.Contains(r.required, p.name) && m.chance(95) || depth < 6 && m.random.IntN(len(r.properties)) < 2 {
			members = append(members, strconv.Quote(p.name)+": "+m.generate(p.rule, depth+1))
		}
	}
	if r.additional != nil {
		members = append(members, `"some": `+m.generate(r.additional, depth+1))
	}
	for _, p := range r.patterns {
		key := pick(m, []string{`"some"`, `"rsa_public"`, `"a b"`, "1", "yes", `"rsa_public\n"`})
		members = append(members, key+": "+m.generate(p.rule, depth+1))
	}
	if m.chance(3) {
		members = append(members, strconv.Quote(pick(m, m.names))+`: "x"`)
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func (m *mutator) array(r *rule, depth int) string {
	var items []string
	for range max(r.minItems, m.random.IntN(3)) {
		if r.items == nil {
			items = append(items, `"x"`)
			continue
		}
		items = append(items, m.generate(r.items, depth+1))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func jsonText(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}

// trials makes n variants: a third of them of the examples' lines, a third of
// their values, a third out of the schemas.
func (m *mutator) trials(t testing.TB, n int) []trial {
	_, from := examples(t)
	rules := map[string][]*rule{"cloud-config": {mustLoad(t, cloudConfigFile)}, "network-config": {mustLoad(t, networkV1File), mustLoad(t, networkV2File)}}
	made := make([]trial, n)
	for i := range made {
		c := pick(m, from)
		switch i % 3 {
		case 0:
			c.Data = m.lines(c.Data)
		case 1:
			c.Data = m.values(c.Data)
		case 2:
			r := pick(m, rules[c.Type])
			if c.Type == "cloud-config" && len(r.allOf) > 0 && m.chance(90) {
				var parts []string
				for range 1 + m.random.IntN(2) {
					if text := m.generate(pick(m, r.allOf), 0); len(text) > 2 && text[0] == '{' {
						parts = append(parts, text[1:len(text)-1])
					}
				}
				c.Data = []byte("#cloud-config\n{" + strings.Join(parts, ", ") + "}\n")
				break
			}
			c.Data = []byte("#cloud-config\n" + m.generate(r, 0) + "\n")
		}
		made[i] = c
	}
	return made
}
