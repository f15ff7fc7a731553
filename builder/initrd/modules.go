package initrd

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
)

// A moduleSet is the kernel's modules that the packages have, and of those the
// ones that were chosen.
type moduleSet struct {
	dir     string            // usr/lib/modules/VERSION
	files   map[string]*entry // by name of the module, as packed
	builtin map[string]bool   // names of modules that are part of the kernel
	// builtinAliases are the aliases of those, alias and name in turn.
	builtinAliases []indexKey
	builtinFiles   map[string]*entry // modules.builtin and its kind, modules.order
	chosen         map[string]*module
	names          []string // of chosen, dependencies before those who need them
}

// newModuleSet sorts out what of the pool belongs to the kernel's version.
func newModuleSet(p *pool, version string) *moduleSet {
	s := &moduleSet{
		dir:          path.Join("usr/lib/modules", version),
		files:        make(map[string]*entry),
		builtin:      make(map[string]bool),
		builtinFiles: make(map[string]*entry),
		chosen:       make(map[string]*module),
	}
	for name, e := range p.files {
		rest, ok := strings.CutPrefix(name, s.dir+"/")
		if !ok || e.content == nil {
			continue
		}
		if _, ok := trimModule(rest); ok {
			// A module that a later package brings under updates/ goes first.
			old := s.files[moduleName(rest)]
			if old == nil || strings.HasPrefix(rest, "updates/") || !strings.Contains(old.path, "/updates/") && name < old.path {
				s.files[moduleName(rest)] = e
			}
			continue
		}
		if !strings.Contains(rest, "/") && strings.HasPrefix(rest, "modules.") {
			s.builtinFiles[rest] = e
		}
	}
	if e := s.builtinFiles["modules.builtin"]; e != nil {
		for line := range strings.Lines(string(e.content)) {
			s.builtin[moduleName(strings.TrimSpace(line))] = true
		}
	}
	if e := s.builtinFiles["modules.builtin.modinfo"]; e != nil {
		s.readBuiltinAliases(e.content)
	}
	return s
}

// readBuiltinAliases reads NAME.key=value, each ended by NUL.
func (s *moduleSet) readBuiltinAliases(content []byte) {
	for field := range bytes.SplitSeq(content, []byte{0}) {
		key, value, ok := strings.Cut(string(field), "=")
		name, what, _ := strings.Cut(key, ".")
		if ok && what == "alias" && value != "" {
			s.builtinAliases = append(s.builtinAliases, indexKey{key: aliasKey(value), value: underscores(name)})
		}
	}
}

// choose takes a module with all it depends on. It returns false when the
// kernel has no such module; one that is built in counts as there.
func (s *moduleSet) choose(name string) (bool, error) {
	name = underscores(name)
	if s.builtin[name] || s.chosen[name] != nil {
		return true, nil
	}
	e := s.files[name]
	if e == nil {
		return false, nil
	}
	data, err := decompress(e.path, e.content, maxModule)
	if err != nil {
		return false, err
	}
	m := &module{name: name, data: data}
	m.path, _ = trimModule(strings.TrimPrefix(e.path, s.dir+"/"))
	if m.info, err = readModinfo(data); err != nil {
		return false, fmt.Errorf("%s: %w", e.path, err)
	}
	s.chosen[name] = m
	for _, dep := range m.info.depends {
		ok, err := s.choose(dep)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, fmt.Errorf("%s: needs the module %s: %w", e.path, dep, ErrMissing)
		}
	}
	for _, dep := range slices.Concat(m.info.pre, m.info.post) {
		if _, err := s.choose(dep); err != nil {
			return false, err
		}
	}
	s.names = append(s.names, name)
	return true, nil
}

// loadOrder returns the modules that m needs, those to be loaded last first,
// as modules.dep lists them.
func (s *moduleSet) loadOrder(m *module) []*module {
	var order []*module
	seen := map[string]bool{m.name: true}
	var visit func(*module)
	visit = func(m *module) {
		for _, name := range m.info.depends {
			dep := s.chosen[name]
			if dep == nil || seen[name] {
				continue
			}
			seen[name] = true
			visit(dep)
			order = append(order, dep)
		}
	}
	visit(m)
	slices.Reverse(order)
	return order
}

// entries returns the chosen modules and the index files for them, what
// depmod(8) would write.
func (s *moduleSet) entries() ([]*entry, error) {
	var list []*entry
	add := func(name string, content []byte) {
		list = append(list, &entry{path: path.Join(s.dir, name), mode: 0o644, content: content, from: "kernel"})
	}
	modules := s.inOrder()
	for _, m := range modules {
		add(m.path, m.data)
	}
	var dep, alias, softdep, devname strings.Builder
	var depKeys, aliasKeys, builtinKeys []indexKey
	for i, m := range modules {
		line := m.path + ":"
		for _, d := range s.loadOrder(m) {
			line += " " + d.path
		}
		fmt.Fprintln(&dep, line)
		depKeys = append(depKeys, indexKey{m.name, line, uint32(i)})
		for _, a := range m.info.aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, m.name)
			aliasKeys = append(aliasKeys, indexKey{aliasKey(a), m.name, uint32(i)})
		}
		for _, d := range m.info.softdeps {
			fmt.Fprintf(&softdep, "softdep %s %s\n", m.name, d)
		}
		devname.WriteString(devnameLine(m))
	}
	for name := range s.builtin {
		builtinKeys = append(builtinKeys, indexKey{key: name})
	}
	sort.Slice(builtinKeys, func(i, j int) bool { return builtinKeys[i].key < builtinKeys[j].key })
	add("modules.dep", []byte(dep.String()))
	add("modules.alias", []byte(alias.String()))
	add("modules.softdep", []byte(softdep.String()))
	add("modules.devname", []byte(devname.String()))
	for _, index := range []struct {
		name string
		keys []indexKey
	}{
		{"modules.dep.bin", depKeys},
		{"modules.alias.bin", aliasKeys},
		{"modules.symbols.bin", nil}, // libkmod opens it; nothing here asks for symbols
		{"modules.builtin.bin", builtinKeys},
		{"modules.builtin.alias.bin", s.builtinAliases},
	} {
		data, err := writeIndex(index.keys)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", index.name, err)
		}
		add(index.name, data)
	}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		if e := s.builtinFiles[name]; e != nil {
			add(name, e.content)
		}
	}
	return list, nil
}

// inOrder returns the chosen modules as modules.order has them, the rest by
// path after those.
func (s *moduleSet) inOrder() []*module {
	rank := make(map[string]int)
	if e := s.builtinFiles["modules.order"]; e != nil {
		for line := range strings.Lines(string(e.content)) {
			p, _ := trimModule(strings.TrimSpace(line))
			rank[p] = len(rank) + 1
		}
	}
	var list []*module
	for _, m := range s.chosen {
		list = append(list, m)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := rank[list[i].path], rank[list[j].path]
		if a != b && a != 0 && b != 0 {
			return a < b
		}
		if (a == 0) != (b == 0) {
			return b == 0
		}
		return list[i].path < list[j].path
	})
	return list
}

// devnameLine is the module's line of modules.devname: the device node whose
// opening loads it.
func devnameLine(m *module) string {
	var name, kind string
	var major, minor uint
	for _, a := range m.info.aliases {
		if n, ok := strings.CutPrefix(a, "devname:"); ok {
			name = n
		} else if n, err := fmt.Sscanf(a, "char-major-%d-%d", &major, &minor); err == nil && n == 2 {
			kind = "c"
		} else if n, err := fmt.Sscanf(a, "block-major-%d-%d", &major, &minor); err == nil && n == 2 {
			kind = "b"
		}
	}
	if name == "" || kind == "" {
		return ""
	}
	return fmt.Sprintf("%s %s %s%d:%d\n", m.name, name, kind, major, minor)
}
