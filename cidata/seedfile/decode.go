package seedfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/rootfs/nearest"
)

// A Text is a string of a seed file that knows its place.
type Text struct {
	Value string
	Pos   document.Position
}

// Given reports whether the seed file has it.
func (t Text) Given() bool { return t.Value != "" }

// A Truth is a boolean of a seed file that knows its place.
type Truth struct {
	Value, Given bool
	Pos          document.Position
}

// A key is one that a mapping of a seed file may have.
type key struct {
	name     string
	into     any // *Text, *[]Text, *Truth, **node or func(*node, string path)
	required bool
}

// A decoder fills a config from nodes and collects what does not fit.
type decoder struct{ problems document.Errors }

func (d *decoder) problem(pos document.Position, path, what, do string) {
	if path != "" && !strings.HasPrefix(pos.File, "--") {
		what = path + ": " + what
	}
	d.problems = append(d.problems, &document.Error{Position: pos, What: what, Do: do})
}

// mapping sets what keys name to what n holds.
func (d *decoder) mapping(n *document.Node, path string, keys ...key) {
	if n.Kind != document.Mapping {
		d.problem(n.Pos, path, "is "+n.Kind.String(), "write a mapping, KEY: VALUE")
		return
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
entries:
	for _, e := range n.Entries {
		for _, k := range keys {
			if k.name == e.Key {
				d.value(e.Value, join(path, e.Key), k.into)
				continue entries
			}
		}
		do := "use one of " + strings.Join(names, ", ")
		if near := nearest.Names(e.Key, names, 1); len(near) > 0 {
			do = "did you mean " + near[0] + "?"
		} else if path == "" {
			do += "; what cloud-init itself knows goes beneath cloud_config"
		}
		where := ""
		if path != "" {
			where = " in " + path
		}
		d.problem(e.Pos, "", fmt.Sprintf("unknown key %q%s", document.Shorten(e.Key), where), do)
	}
	for _, k := range keys {
		if k.required && n.Get(k.name) == nil {
			d.problem(n.Pos, path, k.name+" is missing", "add "+k.name)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) value(n *document.Node, path string, into any) {
	if n.Kind == document.Scalar && n.Tag == "!!null" {
		d.problem(n.Pos, path, "has no value", "give it one, or remove the key")
		return
	}
	switch into := into.(type) {
	case *Text:
		*into = d.text(n, path)
	case *[]Text:
		*into = d.texts(n, path)
	case *Truth:
		if n.Kind != document.Scalar || n.Tag != "!!bool" {
			d.problem(n.Pos, path, "is neither true nor false", "use true or false, without quotes")
			return
		}
		*into = Truth{strings.EqualFold(n.Value, "true"), true, n.Pos}
	case **document.Node:
		*into = n
	case func(*document.Node, string):
		into(n, path)
	}
}

// text reads a string. A number or date is taken as it is written: mode: 0644 is the text 0644.
func (d *decoder) text(n *document.Node, path string) Text {
	switch {
	case n.Kind != document.Scalar:
		d.problem(n.Pos, path, "is "+n.Kind.String(), "write a single value")
	case n.Tag == "!!bool" || n.Tag == "!!null":
		d.problem(n.Pos, path, strconv.Quote(n.Value)+" is not text", "put it into quotes")
	case n.Tag == "!!binary":
		d.problem(n.Pos, path, "is not text", "write text, or name a file with source")
	case strings.ContainsRune(n.Value, 0):
		d.problem(n.Pos, path, "holds a NUL character", "remove it")
	case n.Value == "" && !strings.HasSuffix(path, "content"):
		d.problem(n.Pos, path, "is empty", "give it a value, or remove the key")
	default:
		return Text{n.Value, n.Pos}
	}
	return Text{}
}

// texts reads a list of strings; one string alone is a list of one.
func (d *decoder) texts(n *document.Node, path string) []Text {
	if n.Kind == document.Mapping {
		d.problem(n.Pos, path, "is a mapping", "write a list")
		return nil
	}
	if n.Kind == document.Scalar {
		return []Text{d.text(n, path)}
	}
	list := make([]Text, len(n.Items))
	for i, item := range n.Items {
		list[i] = d.text(item, fmt.Sprintf("%s[%d]", path, i))
	}
	return list
}

// each reads a list with read.
func (d *decoder) each(n *document.Node, path string, read func(*document.Node, string)) {
	if n.Kind != document.Sequence {
		d.problem(n.Pos, path, "is "+n.Kind.String(), "write a list of mappings")
		return
	}
	for i, item := range n.Items {
		if at := fmt.Sprintf("%s[%d]", path, i); item.Kind == document.Scalar && item.Tag == "!!null" {
			d.problem(item.Pos, at, "has no value", "write a mapping")
		} else {
			read(item, at)
		}
	}
}
