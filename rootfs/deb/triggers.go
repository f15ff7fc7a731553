package deb

import (
	"bytes"
	"slices"
	"strings"
)

// interests are the packages that want to hear of triggers: dpkg keeps those
// in paths in triggers/File, and one file below triggers for each named one.
type interests struct {
	files []interest // in the order of unpacking
	named map[string][]interest
}

type interest struct {
	trigger string
	pkg     string // qualified name
	noAwait bool
}

func newInterests() *interests {
	return &interests{named: map[string][]interest{}}
}

// add registers what a package is interested in. The same trigger twice
// counts once, with the later option.
func (s *interests) add(c *Control) error {
	for _, t := range c.Triggers {
		if !t.Interest {
			continue
		}
		i := interest{trigger: t.Name, pkg: c.Qualified(), noAwait: t.NoAwait}
		if strings.HasPrefix(t.Name, "/") {
			s.files = replaceInterest(s.files, i, true)
		} else {
			s.named[t.Name] = replaceInterest(s.named[t.Name], i, false)
		}
	}
	return nil
}

func replaceInterest(list []interest, i interest, keepPlace bool) []interest {
	at := slices.IndexFunc(list, func(o interest) bool { return o.trigger == i.trigger && o.pkg == i.pkg })
	if at < 0 {
		return append(list, i)
	}
	if keepPlace {
		list[at] = i
		return list
	}
	return append(slices.Delete(list, at, at+1), i)
}

func (s *interests) write(d *Database) error {
	const dir = adminDir + "/triggers"
	var b bytes.Buffer
	for _, i := range s.files {
		b.WriteString(i.trigger + " " + i.pkg + i.option() + "\n")
	}
	if b.Len() > 0 {
		if err := d.write(dir+"/File", b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(s.named))
	for name := range s.named {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.Reset()
		for _, i := range s.named[name] {
			b.WriteString(i.pkg + i.option() + "\n")
		}
		if err := d.write(dir+"/"+name, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (i interest) option() string {
	if i.noAwait {
		return "/noawait"
	}
	return ""
}
