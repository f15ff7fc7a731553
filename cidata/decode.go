package cidata

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/rootfs/nearest"
)

// A text is a string of a seed file that knows its place.
type text struct {
	value string
	pos   Position
}

func (t text) given() bool { return t.value != "" }

// A truth is a boolean of a seed file that knows its place.
type truth struct {
	value, given bool
	pos          Position
}

// A key is one that a mapping of a seed file may have.
type key struct {
	name     string
	into     any // *text, *[]text, *truth, **node or func(*node, string path)
	required bool
}

// A decoder fills a config from nodes and collects what does not fit.
type decoder struct{ problems Errors }

func (d *decoder) problem(pos Position, path, what, do string) {
	if path != "" && !strings.HasPrefix(pos.File, "--") {
		what = path + ": " + what
	}
	d.problems = append(d.problems, &Error{Position: pos, What: what, Do: do})
}

// mapping sets what keys name to what n holds.
func (d *decoder) mapping(n *node, path string, keys ...key) {
	if n.kind != mapping {
		d.problem(n.pos, path, "is "+n.kind.String(), "write a mapping, KEY: VALUE")
		return
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
entries:
	for _, e := range n.entries {
		for _, k := range keys {
			if k.name == e.key {
				d.value(e.value, join(path, e.key), k.into)
				continue entries
			}
		}
		do := "use one of " + strings.Join(names, ", ")
		if near := nearest.Names(e.key, names, 1); len(near) > 0 {
			do = "did you mean " + near[0] + "?"
		} else if path == "" {
			do += "; what cloud-init itself knows goes beneath cloud_config"
		}
		where := ""
		if path != "" {
			where = " in " + path
		}
		d.problem(e.pos, "", fmt.Sprintf("unknown key %q%s", shorten(e.key), where), do)
	}
	for _, k := range keys {
		if k.required && n.get(k.name) == nil {
			d.problem(n.pos, path, k.name+" is missing", "add "+k.name)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) value(n *node, path string, into any) {
	if n.kind == scalar && n.tag == "!!null" {
		d.problem(n.pos, path, "has no value", "give it one, or remove the key")
		return
	}
	switch into := into.(type) {
	case *text:
		*into = d.text(n, path)
	case *[]text:
		*into = d.texts(n, path)
	case *truth:
		if n.kind != scalar || n.tag != "!!bool" {
			d.problem(n.pos, path, "is neither true nor false", "use true or false, without quotes")
			return
		}
		*into = truth{strings.EqualFold(n.value, "true"), true, n.pos}
	case **node:
		*into = n
	case func(*node, string):
		into(n, path)
	}
}

// text reads a string. A number or date is taken as it is written: mode: 0644 is the text 0644.
func (d *decoder) text(n *node, path string) text {
	switch {
	case n.kind != scalar:
		d.problem(n.pos, path, "is "+n.kind.String(), "write a single value")
	case n.tag == "!!bool" || n.tag == "!!null":
		d.problem(n.pos, path, strconv.Quote(n.value)+" is not text", "put it into quotes")
	case n.tag == "!!binary":
		d.problem(n.pos, path, "is not text", "write text, or name a file with source")
	case strings.ContainsRune(n.value, 0):
		d.problem(n.pos, path, "holds a NUL character", "remove it")
	case n.value == "" && !strings.HasSuffix(path, "content"):
		d.problem(n.pos, path, "is empty", "give it a value, or remove the key")
	default:
		return text{n.value, n.pos}
	}
	return text{}
}

// texts reads a list of strings; one string alone is a list of one.
func (d *decoder) texts(n *node, path string) []text {
	if n.kind == mapping {
		d.problem(n.pos, path, "is a mapping", "write a list")
		return nil
	}
	if n.kind == scalar {
		return []text{d.text(n, path)}
	}
	list := make([]text, len(n.items))
	for i, item := range n.items {
		list[i] = d.text(item, fmt.Sprintf("%s[%d]", path, i))
	}
	return list
}

// each reads a list with read.
func (d *decoder) each(n *node, path string, read func(*node, string)) {
	if n.kind != sequence {
		d.problem(n.pos, path, "is "+n.kind.String(), "write a list of mappings")
		return
	}
	for i, item := range n.items {
		if at := fmt.Sprintf("%s[%d]", path, i); item.kind == scalar && item.tag == "!!null" {
			d.problem(item.pos, at, "has no value", "write a mapping")
		} else {
			read(item, at)
		}
	}
}
