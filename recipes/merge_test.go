package recipes_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/recipes"
)

// part returns one field of a recipe's canonical form.
func part(t *testing.T, r *recipes.Recipe, key string) string {
	t.Helper()
	data, err := r.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	return string(fields[key])
}

func TestIncludesAreMerged(t *testing.T) {
	base := "packages: [vim, nano, ed]\nmirrors: [http://a.example]\n" +
		"root: {filesystem: erofs, compression: {algorithm: zstd, level: 9}}\n" +
		"boot: {loader: systemd-boot, cmdline: [quiet]}\n" +
		"users: [{name: a, groups: [adm], shell: /bin/sh}, {name: b}]\n" +
		"files: [{path: /etc/a, content: base, mode: 0600}, {path: /etc/b, content: base}]\n" +
		"units: {enable: [a.service, b.service], mask: [c.service]}\n"
	for _, test := range []struct{ name, over, key, want string }{
		{"packages are taken by name", "packages: [vim=2, nano-, mg]", "packages", `["vim=2","nano-","ed","mg"]`},
		{"mirrors are replaced", "mirrors: http://b.example", "mirrors", `[{"uri":"http://b.example"}]`},
		{"mappings are merged", "root: {verity: false}", "root", `{"filesystem":"erofs","compression":{"algorithm":"zstd","level":9},"size":0,"verity":false,"corruption":"error"}`},
		{"a short form stands for the whole", "root: {compression: lz4}", "root", `{"filesystem":"erofs","compression":{"algorithm":"lz4","level":0},"size":0,"verity":true,"corruption":"error"}`},
		{"boot: none leaves nothing of what was included", "boot: none", "boot", `{"loader":"none","esp_size":0}`},
		{"command lines are joined", "boot: {cmdline: console=ttyS0}", "boot", `{"loader":"systemd-boot","cmdline":["quiet","console=ttyS0"],"esp_size":0}`},
		{"users are merged by name", "users: [{name: c}, {name: a, groups: [adm, dialout], sudo: nopasswd}]", "users",
			`[{"name":"a","groups":["adm","dialout"],"shell":"/bin/sh","home":"/home/a","sudo":"nopasswd","system":false},{"name":"b","shell":"/bin/bash","home":"/home/b","sudo":"","system":false},{"name":"c","shell":"/bin/bash","home":"/home/c","sudo":"","system":false}]`},
		{"files are replaced by path", "files: [{path: /etc/a, link: b}]", "files", `[{"path":"/etc/a","link":"b","owner":"root:root"},{"path":"/etc/b","content":"base","mode":"0644","owner":"root:root"}]`},
		{"the later word on a unit counts", "units: {disable: [a.service, c.service]}", "units", `{"enable":["b.service"],"disable":["a.service","c.service"]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := load(t, files{"r.yml": "include: sub/base.yml\n" + head + test.over + "\n", "sub/base.yml": base})
			if got := part(t, r, test.key); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestIncludesComeInOrder(t *testing.T) {
	r := load(t, files{
		"r.yml":       "include: [sub/a.yml, sub/b.yml]\n" + head,
		"sub/a.yml":   "hostname: a\ntimezone: Europe/Paris\nlocale: C\npackages: [one]\n",
		"sub/b.yml":   "include: ../c.yml\nhostname: b\npackages: [three]\nfiles: [{path: /etc/f, source: f}]\nmirrors: [{uri: http://x.example, keyring: ../k.asc}]\noutput: {dir: o}\n",
		"c.yml":       "hostname: c\ntimezone: Asia/Tokyo\npackages: [two]\n",
		"sub/sub.yml": "",
	})
	if got := strings.Join([]string{r.Hostname, r.Timezone, r.Locale, strings.Join(r.Packages, " ")}, ", "); got != "b, Asia/Tokyo, C, one two three" {
		t.Errorf("merged: %s", got)
	}
	if got := r.Position("packages[1]").String(); got != "c.yml:3:12" {
		t.Errorf("position of an included package is %s", got)
	}
	if r.Files[0].SourceFile != "sub/f" || r.Files[0].Source != "f" || r.Mirrors[0].KeyringFile != "k.asc" || r.Output.Path != "sub/o" {
		t.Errorf("paths are not relative to the file that names them: %+v %+v %+v", r.Files, r.Mirrors, r.Output)
	}
}

func TestSameFileIncludedTwiceIsNoCircle(t *testing.T) {
	load(t, files{"r.yml": "include: [a.yml, b.yml]\n" + head, "a.yml": "include: c.yml", "b.yml": "include: c.yml", "c.yml": "packages: [vim]"})
}

func TestManyIncludesAreRefused(t *testing.T) {
	f := files{"r.yml": "include: [" + strings.Repeat("a.yml, ", 200) + "]\n" + head, "a.yml": ""}
	if _, err := recipes.Load("r.yml", recipes.Options{ReadFile: f.ReadFile}); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Errorf("200 includes: %v", err)
	}
	// Each file includes the next one ten times: what is bounded is the number of files read, not those that differ.
	f = files{"r.yml": "include: [" + strings.Repeat("1.yml, ", 10) + "]\n" + head}
	for i := 1; i < 9; i++ {
		f[string(rune('0'+i))+".yml"] = "include: [" + strings.Repeat(string(rune('1'+i))+".yml, ", 10) + "]\n"
	}
	f["9.yml"] = ""
	if _, err := recipes.Load("r.yml", recipes.Options{ReadFile: f.ReadFile}); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Errorf("includes by powers of ten: %v", err)
	}
}

func TestSet(t *testing.T) {
	text := head + "packages: [vim, nano]\nusers: [{name: admin, groups: [adm]}]\nfiles: [{path: /etc/a.conf, content: x}]\nmirrors: [http://a.example]\nboot: {cmdline: quiet}\nunits: {enable: [a.service, b.service]}\n"
	for _, test := range []struct {
		set       []string
		key, want string
	}{
		{[]string{"root.filesystem=erofs"}, "root", `{"filesystem":"erofs","compression":{"algorithm":"lz4hc","level":0},"size":0,"verity":true,"corruption":"error"}`},
		{[]string{"root={filesystem: ext4, size: 2G}"}, "root", `{"filesystem":"ext4","compression":{"algorithm":"none","level":0},"size":2147483648,"verity":true,"corruption":"error"}`},
		{[]string{"packages+=ed"}, "packages", `["vim","nano","ed"]`},
		{[]string{"packages+=[ed, vim=2:9.1-1]"}, "packages", `["vim=2:9.1-1","nano","ed"]`},
		{[]string{"packages=[ed]"}, "packages", `["ed"]`},
		{[]string{"packages[1]=ed"}, "packages", `["vim","ed"]`},
		{[]string{"packages[nano]=ed", "packages+=x11"}, "packages", `["vim","ed","x11"]`},
		{[]string{"users[admin].sudo=nopasswd", "users[0].groups+=dialout", "users[admin].uid=1234"}, "users",
			`[{"name":"admin","uid":1234,"groups":["adm","dialout"],"shell":"/bin/bash","home":"/home/admin","sudo":"nopasswd","system":false}]`},
		{[]string{"files[/etc/a.conf].mode=0600"}, "files", `[{"path":"/etc/a.conf","content":"x","mode":"0600","owner":"root:root"}]`},
		{[]string{"mirrors+=http://b.example"}, "mirrors", `[{"uri":"http://a.example"},{"uri":"http://b.example"}]`},
		{[]string{"boot=none"}, "boot", `{"loader":"none","esp_size":0}`},
		{[]string{"boot.cmdline=console=ttyS0 debug"}, "boot", `{"loader":"uki","cmdline":["console=ttyS0 debug"],"esp_size":0}`},
		{[]string{"boot.cmdline+=debug"}, "boot", `{"loader":"uki","cmdline":["quiet","debug"],"esp_size":0}`},
		{[]string{"kernel=linux-image-amd64", "kernel.modules+=loop"}, "kernel", `{"package":"linux-image-amd64","modules":["loop"]}`},
		{[]string{"files[0].content="}, "files", `[{"path":"/etc/a.conf","content":"","mode":"0644","owner":"root:root"}]`},
		{[]string{"units.mask+=[a.service, c.service]"}, "units", `{"enable":["b.service"],"mask":["a.service","c.service"]}`},
		{[]string{"units.disable=[b.service]", "units.enable[0]=d.service"}, "units", `{"enable":["d.service"],"disable":["b.service"]}`},
		{[]string{"version=1.10"}, "version", `"1.10"`},
	} {
		r := load(t, files{"r.yml": text}, test.set...)
		if got := part(t, r, test.key); got != test.want {
			t.Errorf("--set %q:\n got %s\nwant %s", test.set, got, test.want)
		}
	}
	r := load(t, files{"r.yml": text}, "files+={path: /etc/b, source: here/b}")
	if r.Files[1].SourceFile != "here/b" || r.Position("files[1].path").String() != "--set files" {
		t.Errorf("a file that is set: %+v at %s", r.Files[1], r.Position("files[1].path"))
	}
}

func TestCanonicalFormIgnoresHowARecipeIsWritten(t *testing.T) {
	one := load(t, files{"r.yml": "packages: [vim]\n" + head + "kernel: linux-image-amd64\nroot: {compression: zstd}\noutput: {dir: a}\n"})
	two := load(t, files{"r.yml": "include: a.yml\nname: kiosk\nversion: 0\n", "a.yml": "release: trixie\ndistribution: debian\nkernel: {package: linux-image-amd64}\npackages:\n- vim\noutput: {dir: b}\n"})
	a, err := one.Digest()
	if err != nil {
		t.Fatal(err)
	}
	b, err := two.Digest()
	if err != nil || a != b || len(a) != 64 {
		x, _ := one.Canonical()
		y, _ := two.Canonical()
		t.Errorf("digests %s and %s, %v\n%s\n%s", a, b, err, x, y)
	}
}

func TestUnreadableRecipeKeepsItsCause(t *testing.T) {
	_, err := recipes.Load("none.yml", recipes.Options{ReadFile: files{}.ReadFile})
	var problem *recipes.Error
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &problem) {
		t.Errorf("a recipe that is not there: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		text string
		want recipes.Size
		back string
	}{
		{"0", 0, "0"}, {"512M", 512 << 20, "512M"}, {"2G", 2 << 30, "2G"}, {"1024", 1024, "1K"}, {"1000", 1000, "1000"},
		{"1T", 1 << 40, "1T"}, {"2048K", 2 << 20, "2M"}, {"8388607T", 8388607 << 40, "8388607T"},
	} {
		got, err := recipes.ParseSize(test.text)
		if err != nil || got != test.want || got.String() != test.back {
			t.Errorf("ParseSize(%q) = %d (%s), %v", test.text, got, got, err)
		}
	}
	for _, text := range []string{"", "M", "-1", "+1", "1.5G", "1X", "1MB", "1MiB", "8388608T", "99999999999999999999", " 1", "1 M", "0x10"} {
		if got, err := recipes.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestRemoveMatches(t *testing.T) {
	r := recipes.Remove{Paths: []string{"/usr/share/locale/*", "/etc/a", "/var/[ab]?"}}
	for path, want := range map[string]bool{
		"/usr/share/locale/de": true, "/usr/share/locale/de/x": true, "/usr/share/locale": false, "/etc/a": true,
		"/etc/ab": false, "/etc/a/b": true, "/var/ax": true, "/var/cx": false, "/var/a": false,
	} {
		if got := r.Match(path); got != want {
			t.Errorf("Match(%s) = %t", path, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(head, "")
	f.Add(head+"packages: [a, b=1]\nroot: &a {filesystem: erofs}\nboot: none\n", "packages+=vim")
	f.Add("include: r.yml\n", "users[0].name=a")
	f.Add(head+"users: &a [{name: x, uid: 1}]\nfiles: [{path: /a, content: *a}]\n", "files[/a].mode=0644")
	f.Add("a: &a [*a]\n? [x]\n: y\n--- \n", "root={verity: no}")
	f.Fuzz(func(t *testing.T, text, set string) {
		opts := recipes.Options{Architecture: "amd64", ReadFile: files{"r.yml": text}.ReadFile}
		if set != "" {
			opts.Set = []string{set}
		}
		one, err := recipes.Load("r.yml", opts)
		if err != nil {
			var all recipes.Errors
			if errors.As(err, &all) && len(all) != strings.Count(err.Error(), "\n")+1 {
				t.Errorf("%d problems are not as many lines: %q", len(all), err)
			}
			return
		}
		two, err := recipes.Load("r.yml", opts)
		if err != nil || !reflect.DeepEqual(one, two) {
			t.Errorf("the second reading differs: %v", err)
		}
		for _, file := range one.Files {
			if !strings.HasPrefix(file.Path, "/") || strings.Contains(file.Path+"/", "/../") {
				t.Errorf("file path %q", file.Path)
			}
		}
		if _, err := one.Canonical(); err != nil {
			t.Error(err)
		}
	})
}
