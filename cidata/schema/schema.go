// Package schema judges cloud-config and network-config as the command
// `cloud-init schema` does, with a line and a column for each problem: the YAML
// of version 1.1 as PyYAML's SafeLoader reads it, and cloud-init's own JSON
// schemas (draft 4, with cloud-init's meaning of anyOf, oneOf and deprecated) of
// Debian's cloud-init package, which are in the folder data.
//
// It renders no Jinja template, takes no MIME message apart, fetches no include
// and knows nothing of what cloud-init does with a value. Network configuration
// of version 2 is judged by cloud-init's schema, not by netplan's parser, which
// cloud-init asks instead where it is installed and which knows more keys
// (tunnels, wifis …).
package schema

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong in a file, or that cloud-init warns of.
type Problem struct {
	Line, Column int    // both from 1; the column counts characters
	Path         string // keys and list indices, joined by dots; empty for the file as a whole
	Message      string // one line, without the path

	Accepted   bool // cloud-init takes the file nevertheless
	Deprecated bool // a key or form that is deprecated or has changed: accepted, with a warning
	Duplicate  bool // a key written twice: accepted, the last counts
	Unknown    bool // a key, the last of Path; accepted only where cloud-init allows any but netplan does not know it
}

// String returns line:column: path: message, as it follows the name of a file.
func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
	}
	return fmt.Sprintf("%d:%d: %s: %s", p.Line, p.Column, p.Path, p.Message)
}

// Valid says whether `cloud-init schema` would accept a file with these problems.
func Valid(problems []Problem) bool {
	return !slices.ContainsFunc(problems, func(p Problem) bool { return !p.Accepted })
}

// maxProblems is how many problems of one file are returned.
const maxProblems = 100

// A Judge judges files. It reads each schema once, when it first needs it, so that
// one Judge for several files is quicker than one for each. It is not for several
// goroutines at once.
type Judge struct {
	patterns patterns
	rules    map[string]*rule // by the name of their file
}

// New returns a judge.
func New() *Judge {
	return &Judge{patterns: newPatterns(), rules: map[string]*rule{}}
}

// rule returns the schema of a file.
func (c *Judge) rule(file string) (*rule, error) {
	if r := c.rules[file]; r != nil {
		return r, nil
	}
	r, err := load(file)
	if err == nil {
		c.rules[file] = r
	}
	return r, err
}

// CloudConfig judges a cloud-config, which need not begin with #cloud-config
// here: a part of a MIME message has its type in its header. The problems are
// sorted by place, at most 100. A file of no byte has none, as cloud-init looks
// at none; a file of comments alone is no mapping, which is one.
func (c *Judge) CloudConfig(data []byte) []Problem {
	document, problems := c.document(data, "cloud-config")
	if document == nil {
		return problems
	}
	return finish(append(problems, c.judge(cloudConfigFile, document)...))
}

// NetworkConfig judges a network-config of version 1 or 2, with or without the
// key network around it, like CloudConfig. In version 2 it also names keys of
// interfaces that neither cloud-init nor netplan knows: Unknown and Accepted.
func (c *Judge) NetworkConfig(data []byte) []Problem {
	document, problems := c.document(data, "network-config")
	if document == nil {
		return problems
	}
	inner, path := document, ""
	if network := document.get("network"); network != nil {
		inner, path = network, "network"
	}
	if inner.empty() {
		return finish(problems)
	}
	if inner.kind != mapping {
		return finish(append(problems, Problem{Line: inner.line, Column: inner.column, Path: path,
			Message: inner.show() + " is no mapping, write one with a version"}))
	}
	file, version := networkV2File, inner.get("version")
	if version != nil && version.equalsNumber(1) {
		file = networkV1File
	}
	judged := c.judge(file, document)
	if p := wrongVersion(inner, version, path); p != nil && !Valid(judged) {
		return finish(append(problems, *p))
	}
	if file == networkV2File {
		judged = append(judged, unseen(inner, path)...)
	}
	return finish(append(problems, judged...))
}

// wrongVersion says in one problem what a schema, of whatever version, says in
// several.
func wrongVersion(network, version *value, path string) *Problem {
	switch {
	case version == nil:
		return &Problem{Line: network.line, Column: network.column, Path: path, Message: `the key "version" is missing, write version: 2`}
	case version.equalsNumber(1) || version.equalsNumber(2):
		return nil
	}
	return &Problem{Line: version.line, Column: version.column, Path: strings.TrimPrefix(path+".version", "."),
		Message: version.show() + " is no version of network configuration, write 2"}
}

// UserData judges a whole user-data as `cloud-init schema -c FILE` does: by its
// first line. Only a cloud-config has an inside that is judged. What has no known
// first line is a problem; everything else has none, a Jinja template too.
func (c *Judge) UserData(data []byte) []Problem {
	if len(data) == 0 {
		return nil
	}
	switch TypeOf(data) {
	case "":
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return []Problem{{Line: 1, Column: 1, Message: fmt.Sprintf(
			"the first line %s says no type of user-data, write #cloud-config", quote(string(line)))}}
	case CloudConfigPart:
		return c.CloudConfig(data)
	}
	return nil
}

// document reads a file that is to be a mapping. It returns nil with the reason
// where it is not, without one where there is nothing to judge.
func (c *Judge) document(data []byte, what string) (*value, []Problem) {
	if len(data) == 0 {
		return nil, nil
	}
	document, problems := read(data, c.patterns)
	switch {
	case document == nil || document.kind == mapping:
		return document, problems
	case document.kind == null:
		return nil, []Problem{{Line: document.line, Column: document.column,
			Message: "the " + what + " is empty, write at least one key or leave the file out"}}
	}
	return nil, finish(append(problems, Problem{Line: document.line, Column: document.column,
		Message: "the " + what + " is " + document.show() + ", write a mapping (key: value)"}))
}

// finish sorts problems by place, drops those said twice and cuts the list.
func finish(problems []Problem) []Problem {
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
	})
	problems = slices.Compact(problems)
	if len(problems) <= maxProblems {
		return problems
	}
	// What makes a file invalid must not be cut for what does not.
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(weight(a), weight(b)) })
	return finish(problems[:maxProblems])
}

func weight(p Problem) int {
	if p.Accepted {
		return 1
	}
	return 0
}
