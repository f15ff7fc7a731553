package seedfile

import (
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/document"
)

func parse(t *testing.T, text string) *document.Node {
	t.Helper()
	n, problems := document.Parse([]byte(text), document.InFile("s.yml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return n
}

func TestValuesKnowTheirPlace(t *testing.T) {
	c, problems := Decode(parse(t, `hostname: web1
grow_root: false
ssh_keys: one
users:
  - default
  - {name: web, sudo: true, uid: 0100}
files:
  - {path: /a, content: "", mode: 0644}
units:
  - {name: a.service, start: true}
extra_files:
  - {path: b, source: c}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, v := range []struct {
		text  Text
		value string
		place string
	}{
		{c.Hostname, "web1", "s.yml:1:11"},
		{c.SSHKeys[0], "one", "s.yml:3:11"},
		{c.Users[0].Name, "default", "s.yml:5:5"},
		{c.Users[1].UID, "0100", "s.yml:6:34"},
		{c.Files[0].Mode, "0644", "s.yml:8:35"},
		{c.Units[0].Name, "a.service", "s.yml:10:12"},
		{c.Extra[0].Source, "c", "s.yml:12:23"},
	} {
		if v.text.Value != v.value || v.text.Pos.String() != v.place {
			t.Errorf("%q at %s, want %q at %s", v.text.Value, v.text.Pos, v.value, v.place)
		}
	}
	if c.GrowRoot.Value || !c.GrowRoot.Given || !c.Units[0].Start.Value || c.Units[0].Enable.Given || c.InstanceID.Given() {
		t.Errorf("grow_root %+v, unit %+v, instance_id %+v", c.GrowRoot, c.Units[0], c.InstanceID)
	}
}

func TestWhatDoesNotFitIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"hostnam: a\n":                          "s.yml:1:1: unknown key \"hostnam\": did you mean hostname?",
		"users: [{gecos: a}]\n":                 "s.yml:1:9: users[0]: name is missing",
		"files: [{path: a, content: b}]\n":      "s.yml:1:16: files[0].path: \"a\" is not valid",
		"units: [{name: a.service}]\n":          "s.yml:1:9: units[0]: says nothing about the unit",
		"network: {}\nnetwork_config: a\n":      "s.yml:2:17: network_config: network is given too",
		"ssh_keys: a\nusers: [ops]\n":           "s.yml:1:11: the keys are for the image's default user",
		"users: [{name: a, password_hash: b}]":  "s.yml:1:34: users[0].password_hash: is no hash of crypt(5)",
		"grow_root: \"yes\"\n":                  "s.yml:1:12: grow_root: is neither true nor false",
		"users: [a, {name: a, groups: [sudo]}]": "s.yml:1:19: users: user a is there twice",
	} {
		_, problems := Decode(parse(t, text))
		if len(problems) == 0 || !strings.HasPrefix(problems[0].Error(), want) {
			t.Errorf("%q: %v, want %s", text, problems, want)
		}
	}
}

func TestSettingsAreLaidOverTheFile(t *testing.T) {
	root := parse(t, "hostname: file\nusers: [ops]\nnetwork: {version: 2}\nuser_data: one\n")
	problems := Settings{
		Hostname: "flag", User: "ops", SSHKeyFiles: []string{"key.pub"}, NetworkConfig: "net", UserData: []string{"two"}, GrowRoot: true,
	}.Lay(root)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, problems := Decode(root)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(c.Users) != 1 || len(c.Users[0].SSHKeyFiles) != 1 || c.Users[0].Sudo != nil {
		t.Errorf("a user that is there gets the key and nothing else: %+v", c.Users)
	}
	if c.Hostname.Value != "flag" || !FromFlag(c.Hostname.Pos) || c.Network != nil || !c.GrowRoot.Value || len(c.UserData) != 2 || FromFlag(c.UserData[0].Pos) {
		t.Errorf("%+v", c)
	}
	if problems := (Settings{PasswordHash: "x"}).Lay(document.Map(document.Position{})); len(problems) != 1 || problems[0].Position != Flagged("password-hash") {
		t.Errorf("a password for nobody: %v", problems)
	}
}
