package cidata

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/cidata/document"
	"github.com/applbuild/applbuild/cidata/schema"
	"github.com/applbuild/applbuild/cidata/userdata"
)

// An Inspection is what a seed says, without any secret in it.
type Inspection struct {
	Format     string          `json:"format"`          // iso9660, vfat, folder or tar
	Label      string          `json:"label,omitempty"` // of the file system
	InstanceID string          `json:"instance_id"`
	Hostname   string          `json:"hostname,omitempty"`
	Size       int64           `json:"size"` // bytes of all files
	Files      []InspectedFile `json:"files"`
	Parts      []InspectedPart `json:"parts"` // of user-data and vendor-data
	Users      []InspectedUser `json:"users"`
	Secrets    []Finding       `json:"secrets"`  // private keys and plain passwords: where, never what
	Problems   []Finding       `json:"problems"` // what cloud-init refuses or passes over
	Warnings   []Finding       `json:"warnings"`
}

// An InspectedFile is one file of a seed.
type InspectedFile struct {
	Path   string `json:"path"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

// An InspectedPart is one thing that cloud-init handles.
type InspectedPart struct {
	File string `json:"file"` // user-data or vendor-data
	Name string `json:"name,omitempty"`
	Type string `json:"type"` // content type; empty where cloud-init knows none
	Size int    `json:"size"`
}

// An InspectedUser is a user that a cloud-config makes or changes. The image's own first user is "default".
type InspectedUser struct {
	Name     string   `json:"name"`
	Groups   []string `json:"groups,omitempty"`
	Sudo     bool     `json:"sudo"`
	Keys     []string `json:"keys,omitempty"`     // type, fingerprint and comment
	Password string   `json:"password,omitempty"` // hash or plain, empty where there is none
}

// A Finding is an [Error] for machines.
type Finding struct {
	Position
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
}

// String returns the finding as one line.
func (f Finding) String() string {
	return (&Error{Position: f.Position, What: f.What, Do: f.Do}).Error()
}

// Inspect judges a seed that was read.
func (s *Seed) Inspect() *Inspection {
	in := &Inspection{Format: s.format, Label: s.label, Size: s.Size(), Parts: []InspectedPart{}, Users: []InspectedUser{}, Secrets: []Finding{}, Problems: []Finding{}, Warnings: []Finding{}}
	sources := map[string]document.Source{}
	for _, f := range s.files {
		sum := sha256.Sum256(f.Data)
		in.Files = append(in.Files, InspectedFile{f.Path, len(f.Data), hex.EncodeToString(sum[:])})
		sources[f.Path] = document.Source{Name: f.Path, Data: f.Data, At: document.InFile(f.Path)}
	}
	l := &loader{judge: schema.New()}
	for _, name := range []string{MetaData, UserData} {
		if _, ok := sources[name]; !ok {
			l.problem(Position{File: name}, "is missing, so that cloud-init passes over the seed", "add it; it may be empty")
		}
	}
	if s.label != "" && s.label != Label && s.label != LabelVFAT {
		l.problem(Position{File: "label"}, document.Quote(s.label)+" is not the label that cloud-init looks for", "label the file system "+Label)
	}
	in.InstanceID = s.InstanceID()
	if meta, _ := document.ParseMerged(sources[MetaData].Data, document.InFile(MetaData)); meta != nil {
		if host := meta.Get("local-hostname"); host != nil {
			in.Hostname = host.Value
		}
	}
	for _, name := range []string{UserData, VendorData} {
		if src, ok := sources[name]; ok && len(src.Data) > 0 {
			userdata.Walk(src.Data, src.At, func(p userdata.Part) { in.part(name, p) }) // what is wrong is said by check
		}
	}
	l.check(s, sources)
	for _, e := range l.problems.Once() {
		if errors.Is(e, ErrSecret) {
			in.Secrets = append(in.Secrets, Finding{e.Position, e.What, ""})
		} else {
			in.Problems = append(in.Problems, Finding{e.Position, e.What, e.Do})
		}
	}
	for _, e := range l.warnings.Once() {
		in.Warnings = append(in.Warnings, Finding{e.Position, e.What, e.Do})
	}
	return in
}

func (in *Inspection) part(file string, p userdata.Part) {
	in.Parts = append(in.Parts, InspectedPart{file, p.Name, p.Type, len(p.Data)})
	if p.Type != userdata.CloudConfig {
		return
	}
	n, _ := document.ParseMerged(p.Data, p.At) // what is wrong is said by check
	if n == nil {
		return
	}
	if host := n.Get("hostname"); host != nil && in.Hostname == "" {
		in.Hostname = host.Value
	}
	byDefault := InspectedUser{Name: "default"}
	byDefault.add(n)
	if byDefault.Keys != nil || byDefault.Password != "" {
		in.Users = append(in.Users, byDefault)
	}
	users := n.Get("users")
	if users == nil {
		return
	}
	for _, item := range users.Items {
		u := InspectedUser{Name: item.Value}
		if item.Kind == document.Mapping {
			u.add(item)
		}
		if u.Name != "" && u.Name != "default" {
			in.Users = append(in.Users, u)
		}
	}
}

// add takes over what a mapping says of a user.
func (u *InspectedUser) add(n *document.Node) {
	for _, e := range n.Entries {
		switch e.Key {
		case "name":
			u.Name = e.Value.Value
		case "groups":
			for _, item := range e.Value.Items {
				u.Groups = append(u.Groups, item.Value)
			}
			for _, e := range e.Value.Entries {
				u.Groups = append(u.Groups, e.Key)
			}
			for name := range strings.SplitSeq(e.Value.Value, ",") {
				if name = strings.TrimSpace(name); name != "" {
					u.Groups = append(u.Groups, name)
				}
			}
		case "sudo":
			u.Sudo = e.Value.Kind != document.Scalar || e.Value.Value != "" && e.Value.Value != "false" && e.Value.Tag != "!!null"
		case "ssh_authorized_keys", "ssh-authorized-keys":
			for _, item := range e.Value.Items {
				u.Keys = append(u.Keys, fingerprint(item.Value))
			}
		case "password", "passwd", "plain_text_passwd", "hashed_passwd":
			if e.Value.Value != "" && e.Value.Tag != "!!null" {
				u.Password = "hash"
				if plainPassword(e.Value.Value) {
					u.Password = "plain"
				}
			}
		}
	}
}

// fingerprint shortens a public key to its type, fingerprint and comment, as ssh-keygen -l shows them.
func fingerprint(line string) string {
	words := keyWords(line)
	i := slices.IndexFunc(words, func(word string) bool { return slices.Contains(keyTypes, word) })
	if i < 0 || i+1 >= len(words) {
		return "no SSH public key"
	}
	blob, err := base64.StdEncoding.DecodeString(words[i+1])
	if err != nil {
		return words[i] + " damaged"
	}
	sum := sha256.Sum256(blob)
	shown := []string{words[i], "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])}
	return strings.Join(append(shown, words[i+2:]...), " ")
}

// InstanceID is what meta-data names, "" where it names none.
func (s *Seed) InstanceID() string {
	data, _ := s.File(MetaData)
	if n, _ := document.ParseMerged(data, document.InFile(MetaData)); n != nil {
		if id := n.Get("instance-id"); id != nil {
			return id.Value
		}
	}
	return ""
}
