package userdata

import (
	"bytes"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/document"
)

// sources are parts of each kind that a message holds in its own way.
func sources() []document.Source {
	var list []document.Source
	for _, s := range []struct{ name, data string }{
		{"plain.sh", "#!/bin/sh\necho hello\n"},
		{"no line end.sh", "#!/bin/sh"},
		{"latin.sh", "#!/bin/sh\necho \"grüß\"\n"},
		{"long.yml", "#cloud-config\nfinal_message: " + strings.Repeat("long", 300) + "\n"},
		{"mail.sh", "#!/bin/sh\ncat <<END\nFrom nobody\nEND\n"},
		{"windows.sh", "#!/bin/sh\r\n"},
		{"late.jinja", "## template: jinja\n#cloud-config\nhostname: {{ x }}\n"},
		{"nested.eml", "Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho nested\n--X--\n"},
		{"../\"odd;\nname", "#cloud-config-archive\n- '#!/bin/sh'\n"},
	} {
		list = append(list, document.Source{Name: s.name, Data: []byte(s.data), At: document.InFile(s.name)})
	}
	return list
}

func joined(t testing.TB) []byte {
	t.Helper()
	s, _, problems := Join(sources())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s.Data
}

func TestJoinedPartsComeApartUnchangedAndLeadBack(t *testing.T) {
	list := sources()
	packed, err := Gzip(list[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	plain := list[0].Data
	list[0].Data = packed // is unpacked again
	s, _, problems := Join(list)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	list[0].Data = plain
	var got []Part
	if problems := Walk(s.Data, s.At, func(p Part) { got = append(got, p) }); len(problems) > 0 {
		t.Fatal(problems)
	}
	list[7].Data = []byte("#!/bin/sh\necho nested") // a message in the message comes apart too
	if len(got) != len(list)+1 {                    // and so does the archive
		t.Fatalf("%d parts", len(got))
	}
	for i, want := range list {
		if !bytes.Equal(got[i].Data, want.Data) {
			t.Errorf("%s: %q became %q", want.Name, want.Data, got[i].Data)
		}
		if at := got[i].At(1, 1); !strings.HasPrefix(at.File, want.Name) {
			t.Errorf("%s: its place is %s", want.Name, at)
		}
	}
	if at := got[1].At(1, 1).String(); at != "no line end.sh:1:1" {
		t.Errorf("the second part is at %s", at)
	}
	if at := got[7].At(2, 1).String(); at != "nested.eml:8:1" {
		t.Errorf("the second line of the nested script is at %s", at)
	}
	if at := got[2].At(1, 1).String(); at != "latin.sh, 03-latin.sh:1:1" {
		t.Errorf("the part in base64 is at %s", at)
	}
}

func TestJoinSaysWhatIsWrongWithEachPart(t *testing.T) {
	list := []document.Source{
		{Name: "a", Data: []byte("hello\n"), At: document.InFile("a")},
		{Name: "b", Data: []byte("\x1f\x8b\x08garbage"), At: document.InFile("b")},
		{Name: "c", Data: []byte("#!/bin/sh\n"), At: document.InFile("c")},
		{Name: "d", Data: []byte("#cloudconfig\n"), At: document.InFile("d")},
	}
	_, _, problems := Join(list)
	want := "a:1:1: first line \"hello\" is none that cloud-init knows: begin with " + Beginnings + "\n" +
		"b: gzip is damaged: unexpected EOF: make it again\n" +
		"d:1:1: first line \"#cloudconfig\" is none that cloud-init knows: write #cloud-config, and nothing else in that line"
	if got := problems.Error(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestJoinWarnsOfKeysThatALaterPartReplaces(t *testing.T) {
	of := func(name, data string) document.Source {
		return document.Source{Name: name, Data: []byte("#cloud-config\n" + data), At: document.InFile(name)}
	}
	_, warnings, problems := Join([]document.Source{of("a", "packages: [x]\nhostname: a\n"), of("b", "packages: [y]\n"), of("c", "merge_how: []\nhostname: c\n")})
	if len(problems) > 0 || len(warnings) != 1 || warnings[0].Error() != "b:2:1: packages replaces that of an earlier part (a:2:1): put the two into one file, or add merge_how to this one" {
		t.Errorf("%v %v", warnings, problems)
	}
}
