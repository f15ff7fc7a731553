package resolve

import (
	"reflect"
	"strings"
	"testing"
)

const stanzas = `Package: vim
Source: vim-source (2:9.1-1)
Version: 2:9.1-1+b1
Installed-Size: 3
Architecture: amd64
Depends: vim-common (= 2:9.1-1),
 libc6 (>= 2.36) | libc6.1
Provides: editor
Description: Vi IMproved - enhanced vi editor
 longer text
Homepage: https://www.vim.org/
Section: editors
Priority: optional
Filename: pool/main/v/vim/vim_9.1-1+b1_amd64.deb
Size: 1234
SHA256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef

Package: vim-common
Version: 2:9.1-1
Architecture: all
Multi-Arch: foreign
Essential: yes
Important: yes
Breaks: vim-runtime (<< 2:9)
`

func TestReadPackages(t *testing.T) {
	origin := &Origin{Suite: "trixie", Component: "main"}
	got, err := ReadPackages(strings.NewReader(stanzas), origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range got {
		p.mentions, p.numbered = nil, false
	}
	want := []*Package{{
		Name: "vim", Version: "2:9.1-1+b1", Arch: "amd64", Source: "vim-source", SourceVersion: "2:9.1-1",
		Filename: "pool/main/v/vim/vim_9.1-1+b1_amd64.deb", Size: 1234, InstalledSize: 3 * 1024,
		SHA256:   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Priority: "optional", Section: "editors", Description: "Vi IMproved - enhanced vi editor", Homepage: "https://www.vim.org/",
		Depends: "vim-common (= 2:9.1-1),\nlibc6 (>= 2.36) | libc6.1", Provides: "editor", Origin: origin,
	}, {
		Name: "vim-common", Version: "2:9.1-1", Arch: "all", Source: "vim-common", SourceVersion: "2:9.1-1",
		MultiArch: "foreign", Essential: true, Protected: true, Breaks: "vim-runtime (<< 2:9)", Origin: origin,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReadPackagesRefuses(t *testing.T) {
	for _, test := range []struct{ text, complaint string }{
		{"Version: 1\nArchitecture: all\n", "no field Package"},
		{"Package: a\nArchitecture: all\n", "package a has no field Version"},
		{"Package: ../a\nVersion: 1\nArchitecture: all\n", "package name"},
		{"Package: a\nVersion: 1/2\nArchitecture: all\n", "version"},
		{"Package: a\nVersion: 1\nArchitecture: ../x\n", "no architecture"},
		{"Package: a\nVersion: 1\nArchitecture: all\nSize: -1\n", "no size"},
		{"Package: a\nVersion: 1\nArchitecture: all\nInstalled-Size: 9223372036854775807\n", "no size"},
		{"Package: a\nVersion: 1\nArchitecture: all\nSHA256: 12\n", "no SHA-256"},
		{"Package: a\nVersion: 1\nArchitecture: all\nDepends: b (\n", "field Depends is malformed"},
		{"Package: a\nVersion: 1\nArchitecture: all\nProvides: b c\n", "field Provides is malformed"},
		{"Package: a\nnonsense\n", "line 2"},
	} {
		_, err := ReadPackages(strings.NewReader(test.text), &Origin{Suite: "trixie", Component: "main"})
		if err == nil || !strings.Contains(err.Error(), test.complaint) || !strings.Contains(err.Error(), "trixie/main") {
			t.Errorf("ReadPackages(%q): %v, want a complaint of trixie/main with %q", test.text, err, test.complaint)
		}
	}
}

func FuzzReadPackages(f *testing.F) {
	f.Add(stanzas)
	f.Add("Package: a\nVersion: 1\nArchitecture: all\nDepends: a:any, b:armhf | c\nProvides: d (= 1), e:any\nMulti-Arch: allowed\n\nPackage: b\nArchitecture: armhf\nVersion: 1\nMulti-Arch: same\nConflicts: a:native\n")
	f.Fuzz(func(t *testing.T, text string) {
		pkgs, err := ReadPackages(strings.NewReader(text), nil)
		if err != nil {
			return
		}
		u := NewUniverse("amd64", pkgs)
		for _, p := range pkgs {
			got, err := u.Resolve(Request{Names: []string{p.Name}, Recommends: true})
			if err == nil && len(got) == 0 {
				t.Errorf("%s: neither packages nor an error", p.Name)
			}
		}
	})
}
