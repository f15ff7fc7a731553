package initrd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The index files that libkmod reads (modules.dep.bin and the like): a trie in
// a file. All numbers are big endian. The file begins with magic, version and
// the position of the root node. The upper four bits of a position say which
// parts the node there has, in this order: a prefix ended by NUL; the first
// and last byte of its children and a position for each between; the number of
// its values, each a priority and a text ended by NUL.
const (
	indexMagic   = 0xB007F457
	indexVersion = 0x00020001

	indexChildren = 0x20000000
	indexValues   = 0x40000000
	indexPrefix   = 0x80000000
	indexMask     = 0x0FFFFFFF
)

// An indexKey is one key and value to be found in an index; of several values
// to a key the one with the lowest priority comes first.
type indexKey struct {
	key, value string
	priority   uint32
}

type indexNode struct {
	prefix   string
	children map[byte]*indexNode
	values   []indexKey
}

// writeIndex returns an index file of keys of ASCII.
func writeIndex(keys []indexKey) ([]byte, error) {
	root := new(indexNode)
	for _, k := range keys {
		for i := range len(k.key) {
			if k.key[i] == 0 || k.key[i] >= 0x80 {
				return nil, fmt.Errorf("module index: key %q is not ASCII", k.key)
			}
		}
		root.insert(k.key, k)
	}
	out := make([]byte, 12)
	binary.BigEndian.PutUint32(out, indexMagic)
	binary.BigEndian.PutUint32(out[4:], indexVersion)
	out, position := root.append(out)
	if len(out) > indexMask {
		return nil, errors.New("module index: larger than the format's 256 MB")
	}
	binary.BigEndian.PutUint32(out[8:], position)
	return out, nil
}

func (n *indexNode) insert(rest string, k indexKey) {
	common := 0
	for common < len(rest) && common < len(n.prefix) && rest[common] == n.prefix[common] {
		common++
	}
	if common < len(n.prefix) {
		lower := &indexNode{prefix: n.prefix[common+1:], children: n.children, values: n.values}
		first := n.prefix[common]
		*n = indexNode{prefix: n.prefix[:common], children: map[byte]*indexNode{first: lower}}
	}
	if common == len(rest) {
		n.values = append(n.values, k)
		return
	}
	child := n.children[rest[common]]
	if child == nil {
		child = &indexNode{prefix: rest[common+1:], values: []indexKey{k}}
		if n.children == nil {
			n.children = make(map[byte]*indexNode)
		}
		n.children[rest[common]] = child
		return
	}
	child.insert(rest[common+1:], k)
}

// append writes the children and then the node itself to out and returns the
// node's position with its flags.
func (n *indexNode) append(out []byte) ([]byte, uint32) {
	var first, last int
	var positions []uint32
	if len(n.children) > 0 {
		first, last = 255, 0
		for c := range n.children {
			first, last = min(first, int(c)), max(last, int(c))
		}
		positions = make([]uint32, last-first+1)
		for c := first; c <= last; c++ {
			if child := n.children[byte(c)]; child != nil {
				out, positions[c-first] = child.append(out)
			}
		}
	}
	position := uint32(len(out)) & indexMask
	if n.prefix != "" {
		position |= indexPrefix
		out = append(append(out, n.prefix...), 0)
	}
	if len(positions) > 0 {
		position |= indexChildren
		out = append(out, byte(first), byte(last))
		for _, p := range positions {
			out = binary.BigEndian.AppendUint32(out, p)
		}
	}
	if len(n.values) > 0 {
		position |= indexValues
		slices.SortStableFunc(n.values, func(a, b indexKey) int { return int(a.priority) - int(b.priority) })
		out = binary.BigEndian.AppendUint32(out, uint32(len(n.values)))
		for _, v := range n.values {
			out = binary.BigEndian.AppendUint32(out, v.priority)
			out = append(append(out, v.value...), 0)
		}
	}
	return out, position
}

// aliasKey writes an alias as libkmod looks for it: with underscores, except
// in ranges of characters.
func aliasKey(alias string) string {
	var b strings.Builder
	inRange := false
	for _, r := range alias {
		switch {
		case r == '[':
			inRange = true
		case r == ']':
			inRange = false
		case r == '-' && !inRange:
			r = '_'
		}
		b.WriteRune(r)
	}
	return b.String()
}
