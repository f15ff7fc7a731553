package recipes

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// A parser is a type of its own that is written as a single value.
type parser interface{ parse(text string) error }

var parserType = reflect.TypeFor[parser]()

// A field is what the tags of a struct's field say.
type field struct {
	name  string
	index int
	tag   reflect.StructTag
}

// fields lists the fields of a struct that a recipe may set.
func fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "" && name != "-" {
			list = append(list, field{name, i, f.Tag})
		}
	}
	return list
}

func (f field) is(tag string) bool { return f.tag.Get(tag) == "true" }

// isParser reports whether values of t are written as a single value that t reads itself.
func isParser(t reflect.Type) bool { return reflect.PointerTo(t).Implements(parserType) }

// A decoder fills a recipe from nodes and collects what does not fit.
type decoder struct {
	top       Position // of what is missing as a whole
	positions map[string]Position
	problems  Errors
}

func (d *decoder) problem(pos Position, path, what, do string) {
	if path != "" && !strings.HasSuffix(pos.File, " "+path) {
		what = path + ": " + what
	}
	d.problems = append(d.problems, &Error{Position: pos, What: what, Do: do})
}

// value sets v, declared as f, to what n holds.
func (d *decoder) value(n *node, v reflect.Value, f field, path string) {
	d.positions[path] = n.pos
	if n.kind == scalar && n.tag == "!!null" {
		d.problem(n.pos, path, "has no value", "give it one, or remove the key")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch t := v.Type(); {
	case isParser(t):
		d.parsed(n, v, f, path)
	case t.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case t.Kind() == reflect.Slice:
		d.list(n, v, f, path)
	case t.Kind() == reflect.Map:
		d.words(n, v, f, path)
	case n.kind != scalar:
		d.problem(n.pos, path, "is "+n.kind.String(), "write "+wanted(t, f))
	case t.Kind() == reflect.Bool:
		if n.tag != "!!bool" {
			d.problem(n.pos, path, strconv.Quote(n.value)+" is neither true nor false", "use true or false, without quotes")
			return
		}
		v.SetBool(strings.EqualFold(n.value, "true"))
	case t.Kind() == reflect.Int:
		d.number(n, v, f, path)
	default:
		d.text(n, v, f, path)
	}
}

// wanted says in words what a value of type t looks like.
func wanted(t reflect.Type, f field) string {
	switch want := f.tag.Get("want"); {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && !isParser(t.Elem()):
		return "a list of mappings"
	case f.is("words"):
		return "a list of words, or a text in which every quote has its end"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Struct && !isParser(t), t.Kind() == reflect.Map:
		return "a mapping"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a number"
	case f.tag.Get("enum") != "":
		return "one of " + strings.ReplaceAll(f.tag.Get("enum"), ",", ", ")
	case want != "":
		return "a single value: " + want
	}
	return "a single value"
}

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.problem(n.pos, path, "is "+n.kind.String(), "write a mapping, KEY: VALUE")
		return
	}
	known := fields(v.Type())
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
entries:
	for _, e := range n.entries {
		for _, f := range known {
			if f.name == e.key {
				d.value(e.value, v.Field(f.index), f, join(path, e.key))
				continue entries
			}
		}
		do := "use one of " + strings.Join(names, ", ")
		if near := nearest.Names(e.key, names, 1); len(near) > 0 {
			do = "did you mean " + near[0] + "?"
		}
		where := ""
		if path != "" {
			where = " in " + path
		}
		d.problem(e.pos, "", fmt.Sprintf("unknown key %q%s", e.key, where), do)
	}
	for _, f := range known {
		if f.is("required") && n.get(f.name) == nil {
			pos, what := n.pos, f.name+" is missing"
			if path == "" {
				pos = d.top
			} else {
				what = path + ": " + what
			}
			d.problem(pos, "", what, "add "+f.name+": "+strings.TrimSuffix(firstSentence(f.tag.Get("doc")), "."))
		}
	}
}

// word is the value of a mapping whose keys are the recipe's own: any text.
var word = field{tag: `empty:"true" number:"true"`}

// words sets a mapping whose keys are the recipe's own. The pattern of its field is that of the keys.
func (d *decoder) words(n *node, v reflect.Value, f field, path string) {
	if n.kind != mapping {
		d.problem(n.pos, path, "is "+n.kind.String(), "write a mapping, KEY: VALUE")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		if ok, err := regexp.MatchString(f.tag.Get("pattern"), e.key); err != nil || !ok {
			d.problem(e.pos, path, strconv.Quote(shorten(e.key))+" is not valid as a name", f.tag.Get("want"))
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, value, word, join(path, e.key))
		v.SetMapIndex(reflect.ValueOf(e.key), value)
	}
}

func firstSentence(text string) string {
	sentence, _, _ := strings.Cut(text, ". ")
	return sentence
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) list(n *node, v reflect.Value, f field, path string) {
	if n.kind != sequence {
		d.problem(n.pos, path, "is "+n.kind.String(), "write "+wanted(v.Type(), f))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.value(item, list.Index(i), f, fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

func (d *decoder) number(n *node, v reflect.Value, f field, path string) {
	number, err := strconv.Atoi(n.value)
	if n.tag != "!!int" || err != nil {
		d.problem(n.pos, path, strconv.Quote(n.value)+" is not a whole number", "write digits, without quotes")
		return
	}
	least, _ := strconv.Atoi(f.tag.Get("minimum"))
	most, _ := strconv.Atoi(f.tag.Get("maximum"))
	if number < least || number > most {
		d.problem(n.pos, path, fmt.Sprintf("%d is out of range", number), fmt.Sprintf("use a number from %d to %d", least, most))
		return
	}
	v.SetInt(int64(number))
}

// parsed hands the text of n to the type of v.
func (d *decoder) parsed(n *node, v reflect.Value, f field, path string) {
	if n.kind != scalar {
		d.problem(n.pos, path, "is "+n.kind.String(), "write "+wanted(v.Type(), f))
		return
	}
	if err := v.Addr().Interface().(parser).parse(n.value); err != nil {
		d.problem(n.pos, path, err.Error(), "")
		return
	}
	d.fits(n, f, path)
}

// text sets a string. A number or date is taken as it is written: version: 1.10 is the text 1.10.
func (d *decoder) text(n *node, v reflect.Value, f field, path string) {
	switch n.tag {
	case "!!str", "!!int", "!!float", "!!timestamp":
	case "!!bool":
		d.problem(n.pos, path, n.value+" is a truth value and not text", "put it into quotes")
		return
	default:
		d.problem(n.pos, path, "is not text", "put it into quotes")
		return
	}
	if strings.ContainsRune(n.value, 0) {
		d.problem(n.pos, path, "holds a NUL character", "remove it")
		return
	}
	if n.value == "" && f.name != "content" && !f.is("empty") {
		d.problem(n.pos, path, "is empty", "give it a value, or remove the key")
		return
	}
	if d.fits(n, f, path) {
		v.SetString(n.value)
	}
}

// fits checks the text of n against the enum or pattern of its field.
func (d *decoder) fits(n *node, f field, path string) bool {
	if enum := f.tag.Get("enum"); enum != "" {
		allowed := strings.Split(enum, ",")
		for _, value := range allowed {
			if value == n.value {
				return true
			}
		}
		do := "use one of " + strings.Join(allowed, ", ")
		if len(allowed) == 1 {
			do = "use " + allowed[0]
		}
		d.problem(n.pos, path, strconv.Quote(n.value)+" is not known", do)
		return false
	}
	pattern := f.tag.Get("pattern")
	if pattern == "" {
		return true
	}
	if ok, err := regexp.MatchString(pattern, n.value); err != nil || !ok {
		what := strconv.Quote(shorten(n.value)) + " is not valid"
		if f.is("secret") {
			what = "is not valid"
		}
		d.problem(n.pos, path, what, f.tag.Get("want"))
		return false
	}
	return true
}

// shorten keeps an error on one line of bearable length.
func shorten(text string) string {
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}
