package resolve

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/rootfs/deb822"
)

// ReadPackages reads a Packages index. The packages are in the index's order and
// share the origin. What a resolver, a fetcher and a manifest need is kept, the
// rest of a stanza is not. An error names the package, or the line, and what is
// wrong with it; names, architectures and versions are checked to be ones that
// can be part of a file name.
func ReadPackages(r io.Reader, origin *Origin) ([]*Package, error) {
	rd := reader{
		origin:   origin,
		index:    make(map[string]int32),
		interned: make(map[string]string),
	}
	var pkgs []*Package
	stanzas := deb822.NewReader(r)
	for {
		fields, err := stanzas.Next()
		if errors.Is(err, io.EOF) {
			return pkgs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("package index of %s: %w", origin, err)
		}
		p, err := rd.read(fields)
		if err != nil {
			return nil, fmt.Errorf("package index of %s: %w", origin, err)
		}
		pkgs = append(pkgs, p)
	}
}

// A reader turns stanzas into packages. Strings of few kinds are interned, the
// others copied into large blocks, so that the stanzas themselves are let go.
type reader struct {
	origin   *Origin
	block    strings.Builder
	interned map[string]string
	index    map[string]int32 // of named by name
	named    []occurrence
	packages []Package // allocated, not handed out yet
	mentions []mention // the same
}

// Sizes of the blocks that packages are allocated in.
const (
	textBlock    = 1 << 20 // bytes
	packageBlock = 512
	mentionBlock = 4096
)

func (rd *reader) read(fields deb822.Paragraph) (*Package, error) {
	if len(rd.packages) == 0 {
		rd.packages = make([]Package, packageBlock)
	}
	p := &rd.packages[0]
	*p = Package{Origin: rd.origin}
	var enhances Relations // matters for the numbering of names only
	for i := range fields {
		if err := rd.field(p, &enhances, &fields[i]); err != nil {
			return nil, err
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Source == "" {
		p.Source = p.Name
	}
	if p.SourceVersion == "" {
		p.SourceVersion = p.Version
	}
	if err := rd.number(p, enhances); err != nil {
		return nil, err
	}
	rd.packages = rd.packages[1:]
	return p, nil
}

// field keeps one field of a stanza.
func (rd *reader) field(p *Package, enhances *Relations, f *deb822.Field) error {
	v := f.Value
	var err error
	switch f.Name {
	case "Package":
		p.Name = rd.keep(strings.ToLower(v))
	case "Version":
		p.Version = rd.keep(v)
	case "Architecture":
		p.Arch = rd.intern(v)
	case "Source":
		p.Source, p.SourceVersion = rd.source(v)
	case "Filename":
		p.Filename = rd.keep(v)
	case "SHA256":
		p.SHA256 = rd.keep(v)
	case "Size":
		p.Size, err = number(f, 1)
	case "Installed-Size":
		p.InstalledSize, err = number(f, 1024)
	case "Essential":
		p.Essential = v == "yes"
	case "Protected", "Important":
		p.Protected = p.Protected || v == "yes"
	case "Priority":
		p.Priority = rd.intern(v)
	case "Section":
		p.Section = rd.intern(v)
	case "Multi-Arch":
		p.MultiArch = rd.intern(v)
	case "Description":
		v, _, _ = strings.Cut(v, "\n")
		p.Description = rd.keep(v)
	case "Homepage":
		p.Homepage = rd.keep(v)
	case "Pre-Depends":
		p.PreDepends = Relations(rd.keep(v))
	case "Depends":
		p.Depends = Relations(rd.keep(v))
	case "Recommends":
		p.Recommends = Relations(rd.keep(v))
	case "Suggests":
		p.Suggests = Relations(rd.keep(v))
	case "Conflicts":
		p.Conflicts = Relations(rd.keep(v))
	case "Breaks":
		p.Breaks = Relations(rd.keep(v))
	case "Replaces":
		p.Replaces = Relations(rd.keep(v))
	case "Provides":
		p.Provides = Relations(rd.keep(v))
	case "Enhances":
		*enhances = Relations(v)
	}
	if err != nil {
		return fmt.Errorf("package %s: %w", p.Name, err)
	}
	return nil
}

// source splits "name (version)"; the version is absent where it is the binary
// package's own.
func (rd *reader) source(v string) (name, version string) {
	name, rest, ok := strings.Cut(v, " ")
	if ok {
		rest = strings.TrimPrefix(strings.TrimSpace(rest), "(")
		version = rd.keep(strings.TrimSuffix(rest, ")"))
	}
	return rd.keep(name), version
}

// number reads a count of units and returns bytes.
func number(f *deb822.Field, unit int64) (int64, error) {
	n, err := strconv.ParseInt(f.Value, 10, 64)
	if err != nil || n < 0 || n > 1<<62/unit {
		return 0, fmt.Errorf("field %s: %q is no size", f.Name, clip(f.Value))
	}
	return n * unit, nil
}

// keep copies a string into the current block.
func (rd *reader) keep(s string) string {
	if s == "" {
		return ""
	}
	if rd.block.Cap()-rd.block.Len() < len(s) {
		if len(s) > textBlock/8 {
			return strings.Clone(s)
		}
		rd.block = strings.Builder{}
		rd.block.Grow(textBlock)
	}
	start := rd.block.Len()
	rd.block.WriteString(s)
	return rd.block.String()[start:]
}

// intern returns the one copy of a string that many packages have.
func (rd *reader) intern(s string) string {
	if kept, ok := rd.interned[s]; ok {
		return kept
	}
	kept := strings.Clone(s)
	rd.interned[kept] = kept
	return kept
}

// check refuses what cannot be a package of an archive.
func (p *Package) check() error {
	switch {
	case p.Name == "":
		return errors.New("a stanza has no field Package")
	case !made(p.Name, "+-."):
		return fmt.Errorf("package name %q has characters that names cannot have", clip(p.Name))
	case p.Version == "":
		return fmt.Errorf("package %s has no field Version", p.Name)
	case !made(strings.ToLower(p.Version), "+-.~:"):
		return fmt.Errorf("package %s: version %q has characters that versions cannot have", p.Name, clip(p.Version))
	case p.Arch == "" || !made(p.Arch, "-"):
		return fmt.Errorf("package %s: %q is no architecture", p.Name, clip(p.Arch))
	case p.SHA256 != "" && (len(p.SHA256) != 64 || strings.Trim(p.SHA256, "0123456789abcdef") != ""):
		return fmt.Errorf("package %s: %q is no SHA-256 in hexadecimal", p.Name, clip(p.SHA256))
	}
	return nil
}

// made reports whether s consists of lower-case letters, digits and the others,
// with a letter or digit first.
func made(s, others string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || digit(c) || i > 0 && strings.IndexByte(others, c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// number records which names the stanza is the first to mention, and checks the
// syntax of its relations on the way.
func (rd *reader) number(p *Package, enhances Relations) error {
	plain, _ := p.mentionKinds()
	own, ok := rd.index[p.Name]
	if !ok {
		own = rd.enter(p.Name)
	}
	rd.named[own].kinds |= 1 << plain
	start := len(rd.mentions)
	if err := p.eachMention(enhances, rd.mention); err != nil {
		return fmt.Errorf("package %s %s: %w", p.Name, p.Version, err)
	}
	if err := scan("Provides", p.Provides, plain, func(string, mentionKind) {}); err != nil {
		return fmt.Errorf("package %s %s: %w", p.Name, p.Version, err)
	}
	p.mentions = rd.mentions[start:len(rd.mentions):len(rd.mentions)]
	p.numbered = true
	if cap(rd.mentions)-len(rd.mentions) < mentionBlock/8 {
		rd.mentions = make([]mention, 0, mentionBlock)
	}
	return nil
}

// mentionKinds are the kinds that p's relations have.
func (p *Package) mentionKinds() (plain, opposed mentionKind) {
	if p.Arch == "all" {
		return namedByAll, opposedByAll
	}
	return namedByArch, opposedByArch
}

// eachMention calls f with every name that p's relations mention, in the order
// in which apt reads the fields. Provides, which apt reads last, are not among
// them: a Universe reads them itself.
func (p *Package) eachMention(enhances Relations, f func(string, mentionKind)) error {
	plain, opposed := p.mentionKinds()
	for _, field := range [...]struct {
		name      string
		relations Relations
		kind      mentionKind
	}{
		{"Pre-Depends", p.PreDepends, plain},
		{"Depends", p.Depends, plain},
		{"Conflicts", p.Conflicts, opposed},
		{"Breaks", p.Breaks, opposed},
		{"Recommends", p.Recommends, plain},
		{"Suggests", p.Suggests, plain},
		{"Replaces", p.Replaces, opposed},
		{"Enhances", enhances, plain},
	} {
		if err := scan(field.name, field.relations, field.kind, f); err != nil {
			return err
		}
	}
	return nil
}

// scan calls f with every name of a field, which may carry an architecture.
func scan(field string, relations Relations, kind mentionKind, f func(string, mentionKind)) error {
	sc := scanner{text: string(relations)}
	for sc.next() {
		f(sc.name, kind)
	}
	if sc.err != nil {
		return fmt.Errorf("field %s is malformed %w", field, sc.err)
	}
	return nil
}

func (rd *reader) mention(name string, kind mentionKind) {
	i, ok := rd.index[name]
	if !ok {
		i = rd.enter(rd.keep(name))
	}
	e := &rd.named[i]
	switch {
	case e.suffixed:
		kind = namedWithSuffix
	case e.kinds != 0 && (kind == opposedByAll || kind == opposedByArch):
		return
	}
	if e.kinds&(1<<kind) == 0 {
		e.kinds |= 1 << kind
		rd.mentions = append(rd.mentions, mention{e.name, kind})
	}
}

// enter adds a name, which must not be part of a stanza, to those that occurred.
func (rd *reader) enter(name string) int32 {
	i := int32(len(rd.named))
	rd.index[name] = i
	rd.named = append(rd.named, occurrence{name: name, suffixed: strings.IndexByte(name, ':') >= 0})
	return i
}

// An occurrence is a name and the ways in which it came up.
type occurrence struct {
	name     string
	kinds    uint8 // bits by mentionKind
	suffixed bool  // the name has an architecture
}
