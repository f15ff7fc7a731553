package rootfs

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/rootfs/resolve"
)

func TestBaseSystem(t *testing.T) {
	const stanzas = `
Package: shell
Essential: yes
Pre-Depends: libc (>= 2)
Depends: editor | pager, virtual

Package: libc
Depends: gcc-base, missing | alsomissing

Package: gcc-base

Package: pager

Package: provider
Provides: other, virtual (= 1)
Depends: shell

Package: service
Depends: shell

Package: editor-extra
Recommends: shell
`
	var text strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(stanzas, "\n")) {
		text.WriteString(line)
		if strings.HasPrefix(line, "Package:") {
			text.WriteString("Version: 1\nArchitecture: amd64\nFilename: x.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n")
		}
	}
	packages, err := resolve.ReadPackages(strings.NewReader(text.String()), &resolve.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	system, err := baseSystem(packages)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(slices.Sorted(maps.Keys(system)), " ")
	if want := "gcc-base libc pager provider shell"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
