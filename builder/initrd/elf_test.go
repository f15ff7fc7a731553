package initrd

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// libraryName finds the names in the output of readelf --dynamic.
var libraryName = regexp.MustCompile(`\(NEEDED\).*\[(.*)\]`)

func TestNeededIsWhatReadelfSays(t *testing.T) {
	tool, err := exec.LookPath("readelf")
	if err != nil {
		t.Skip("readelf (binutils) is not installed: what is read of ELF files is not compared with it")
	}
	compared := 0
	for _, name := range []string{"/bin/sh", "/usr/bin/mount", "/usr/bin/dpkg", "/usr/bin/tar"} {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		x, err := readExecutable(content)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := exec.Command(tool, "--dynamic", "--wide", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, m := range libraryName.FindAllStringSubmatch(string(out), -1) {
			want = append(want, m[1])
		}
		if !slices.Equal(x.needed, want) {
			t.Errorf("%s needs %v, readelf says %v", name, x.needed, want)
		}
		if !strings.HasPrefix(x.interpreter, "/lib") {
			t.Errorf("%s: interpreter %q", name, x.interpreter)
		}
		compared++
	}
	if compared == 0 {
		t.Error("no program was found to compare")
	}
}

func TestDlopenNotesAreRead(t *testing.T) {
	x, err := readExecutable(elfFile(elfSpec{
		needed: []string{"libc.so.6"}, runpath: "/usr/lib/private:$ORIGIN/x",
		dlopen: `[{"feature":"kmod","priority":"recommended","soname":["libkmod.so.2"]}]`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.dlopens) != 1 || x.dlopens[0].Feature != "kmod" || x.dlopens[0].Sonames[0] != "libkmod.so.2" {
		t.Errorf("notes: %+v", x.dlopens)
	}
	if !slices.Equal(x.runpath, []string{"/usr/lib/private", "$ORIGIN/x"}) {
		t.Errorf("runpath: %q", x.runpath)
	}
}

func FuzzReadExecutable(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Add(elfFile(elfSpec{needed: []string{"libc.so.6"}, dlopen: `[]`}))
	f.Add(elfFile(elfSpec{interpreter: "/lib64/ld-linux-x86-64.so.2"}))
	f.Fuzz(func(t *testing.T, content []byte) {
		x, err := readExecutable(content)
		if err == nil && len(x.interpreter) > maxInterpreter {
			t.Error("an interpreter's name beyond its bound")
		}
	})
}

func FuzzReadModinfo(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Add(elfFile(elfSpec{modinfo: "depends=a,b\x00softdep=pre: c post: d\x00alias=pci:v*\x00"}))
	f.Fuzz(func(t *testing.T, content []byte) {
		info, err := readModinfo(content)
		if err != nil {
			return
		}
		for _, name := range slices.Concat(info.depends, info.pre, info.post) {
			if name == "" || strings.ContainsAny(name, "\x00-") {
				t.Errorf("a module named %q", name)
			}
		}
	})
}
