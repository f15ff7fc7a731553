package initrd

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// files is a composed package: lines of the kind of a listing, with the
// contents of the regular ones.
type files []testFile

type testFile struct {
	name    string
	link    string
	content []byte
	kind    byte
}

func (f files) Walk(ctx context.Context, fn func(*tar.Header, io.Reader) error) error {
	for _, file := range f {
		h := &tar.Header{Name: "./" + file.name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(file.content))}
		if file.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, file.link, 0
		}
		if file.kind != 0 {
			h.Typeflag = file.kind
		}
		if err := fn(h, bytes.NewReader(file.content)); err != nil {
			return err
		}
	}
	return nil
}

// distribution composes the packages of a release as far as an initrd wants
// them. rename moves every path, as releases differ in them.
func distribution(rename func(string) string) []Package {
	program := func(libs ...string) []byte {
		return elfFile(elfSpec{interpreter: "/lib64/ld-linux-x86-64.so.2", needed: libs, runpath: "/usr/lib/x86_64-linux-gnu/systemd"})
	}
	var systemd, libs, conf files
	for _, p := range slices.Concat(programs, statePrograms, verityPrograms) {
		content := program("libsystemd-shared.so", "libc.so.6")
		if strings.HasSuffix(p.paths[0], ".rules") || strings.HasSuffix(p.paths[0], ".conf") {
			content = []byte("# " + p.paths[0] + "\n")
		}
		systemd = append(systemd, testFile{name: p.paths[0], content: content})
	}
	const units = "usr/lib/systemd/system/"
	systemd = append(systemd,
		testFile{name: units + "initrd.target", content: []byte("[Unit]\n")},
		testFile{name: units + "systemd-udevd.service", content: []byte("[Unit]\n")},
		testFile{name: units + "bluetooth.service", content: []byte("[Unit]\n")},
		testFile{name: units + "sysinit.target.wants/systemd-udevd.service", link: "../systemd-udevd.service"},
		testFile{name: units + "sysinit.target.wants/bluetooth.service", link: "../bluetooth.service"},
	)
	const lib = "usr/lib/x86_64-linux-gnu/"
	libs = files{
		{name: "usr/lib64/ld-linux-x86-64.so.2", link: "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"},
		{name: lib + "ld-linux-x86-64.so.2", content: elfFile(elfSpec{})},
		{name: lib + "libc.so.6", content: elfFile(elfSpec{needed: []string{"ld-linux-x86-64.so.2"}})},
		{name: lib + "systemd/libsystemd-shared.so", content: elfFile(elfSpec{
			needed: []string{"libc.so.6"},
			dlopen: `[{"feature":"kmod","priority":"recommended","soname":["libkmod.so.3","libkmod.so.2"]},{"feature":"tpm","soname":["libtss2.so.0"]}]`,
		})},
		{name: lib + "libkmod.so.2", link: "libkmod.so.2.5.1"},
		{name: lib + "libkmod.so.2.5.1", content: elfFile(elfSpec{needed: []string{"libc.so.6"}})},
		{name: lib + "libtss2.so.0", content: elfFile(elfSpec{})},
		{name: lib + "libunused.so.1", content: elfFile(elfSpec{})},
	}
	conf = files{
		{name: "usr/lib/os-release", content: []byte("ID=debian\n")},
		{name: "etc/os-release", link: "../usr/lib/os-release"},
		{name: "usr/share/base-passwd/passwd.master", content: []byte("root:*:0:0:root:/root:/bin/bash\n")},
		{name: "usr/share/base-passwd/group.master", content: []byte("root:*:0:\ndisk:*:6:\n")},
		{name: "usr/lib/sysusers.d/udev.conf", content: []byte("# made for udev\ng disk 6 -\ng render - -\nu! systemd-network 998 \"Network\"\n")},
		{name: "usr/share/doc/large", content: make([]byte, 1<<16)},
	}
	list := []Package{{"systemd", systemd}, {"libc6", libs}, {"base-files", conf}}
	for i, pkg := range list {
		moved := slices.Clone(pkg.Files.(files))
		for j := range moved {
			moved[j].name = rename(moved[j].name)
		}
		list[i].Files = moved
	}
	return list
}

func unmoved(name string) string { return name }

// aliased is where packages from before the merge of /usr have their files.
func aliased(name string) string {
	for _, dir := range []string{"usr/lib/systemd/", "usr/lib/udev/", "usr/lib/x86_64-linux-gnu/libc", "usr/lib64/", "usr/sbin/", "usr/bin/kmod", "usr/lib/modules/"} {
		if strings.HasPrefix(name, dir) {
			return strings.TrimPrefix(name, "usr/")
		}
	}
	return name
}

func params(t *testing.T, rename func(string) string) Params {
	var kernel files
	for name, e := range composed(t).files {
		kernel = append(kernel, testFile{name: rename(name), content: e.content})
	}
	slices.SortFunc(kernel, func(a, b testFile) int { return strings.Compare(a.name, b.name) })
	return Params{
		Packages: distribution(rename), Kernel: []Package{{"linux-image", kernel}}, KernelVersion: testKernel,
		Architecture: "amd64", RootFilesystem: "squashfs", Verity: true,
		Files: []File{{Path: "usr/lib/systemd/system/state.service", Mode: 0o644, Content: []byte("[Service]\n")}},
		Clock: time.Unix(1700000000, 0),
	}
}

func TestBuildTakesWhatABootNeedsAndNoMore(t *testing.T) {
	var b bytes.Buffer
	s, err := Build(t.Context(), params(t, unmoved), &b)
	if err != nil {
		t.Fatal(err)
	}
	got := list(t, b.Bytes())
	for name, want := range map[string]string{
		"init":                                 "link usr/lib/systemd/systemd",
		"lib64":                                "link usr/lib64",
		"usr/lib64/ld-linux-x86-64.so.2":       "link ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"etc/initrd-release":                   "link ../usr/lib/initrd-release",
		"usr/lib/initrd-release":               "file 644 ID=debian\n",
		"etc/group":                            "file 644 root:*:0:\ndisk:*:6:\nkvm:*:995:\nsgx:*:996:\ninput:*:997:\nsystemd-network:*:998:\nrender:*:999:\n",
		"etc/passwd":                           "file 644 root:*:0:0:root:/root:/bin/bash\nsystemd-network:*:998:998::/:/usr/sbin/nologin\n",
		"etc/machine-id":                       "file 644 ",
		"usr/lib/modules-load.d/root.conf":     "file 644 squashfs\noverlay\ndm_mod\ndm_bufio\nreed_solomon\ndm_verity\n",
		"usr/lib/modprobe.d/verity.conf":       "file 644 softdep dm_verity pre: sha256_ssse3\n",
		"usr/lib/systemd/system/state.service": "file 644 [Service]\n",
		"usr/lib/systemd/system-preset/00-initrd.preset":                    "file 644 disable *\n",
		"usr/lib/systemd/system/sysinit.target.wants/systemd-udevd.service": "link ../systemd-udevd.service",
		"usr/lib/x86_64-linux-gnu/libkmod.so.2":                             "link libkmod.so.2.5.1",
		"sysroot":                                                           "dir 755",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{
		"usr/share/doc/large", "usr/lib/x86_64-linux-gnu/libunused.so.1", "usr/lib/x86_64-linux-gnu/libtss2.so.0",
		"usr/lib/systemd/system/bluetooth.service", "usr/lib/modules/" + testKernel + "/kernel/fs/ext4/ext4.ko",
	} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is of no use in the initrd", name)
		}
	}
	if want := []string{"dm_bufio", "dm_mod", "dm_verity", "overlay", "reed_solomon", "sha256_ssse3", "squashfs", "virtio", "virtio_blk"}; !slices.Equal(s.Modules, want) {
		t.Errorf("modules %v, want %v", s.Modules, want)
	}
	if s.Compressed != int64(b.Len()) || s.Files != len(got) || len(s.Paths) != len(got) {
		t.Errorf("summary %d bytes, %d files; written were %d and %d", s.Compressed, s.Files, b.Len(), len(got))
	}
}

func TestBuildIsTheSameForBothLayoutsAndEveryTime(t *testing.T) {
	var first bytes.Buffer
	if _, err := Build(t.Context(), params(t, unmoved), &first); err != nil {
		t.Fatal(err)
	}
	for name, rename := range map[string]func(string) string{"again": unmoved, "aliased": aliased} {
		var b bytes.Buffer
		if _, err := Build(t.Context(), params(t, rename), &b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(b.Bytes(), first.Bytes()) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

func TestBuildNamesWhatIsMissing(t *testing.T) {
	without := func(part string) func(string) string {
		return func(name string) string {
			if strings.Contains(name, part) {
				return "opt/" + strings.ReplaceAll(name, "/", "_")
			}
			return name
		}
	}
	for _, c := range []struct{ part, want string }{
		{"95-dm-notify.rules", "usr/lib/udev/rules.d/95-dm-notify.rules: not in the packages"},
		{"libsystemd-shared.so", "library libsystemd-shared.so, which usr/"},
		{"usr/lib64/ld-linux", "usr/lib64/ld-linux-x86-64.so.2, which runs usr/"},
		{"dm-verity.ko", "kernel module dm_verity for 6.12.0-test: not in the packages"},
		{"dm-bufio.ko", "needs the module dm_bufio: not in the packages"},
		{"usr/lib/modules", "usr/lib/modules/6.12.0-test: not in the packages"},
		{"os-release", "usr/lib/os-release: not in the packages"},
	} {
		_, err := Build(t.Context(), params(t, without(c.part)), io.Discard)
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("without %s: %v, want %s", c.part, err, c.want)
		}
	}
}

func TestBuildRefusesHostilePackages(t *testing.T) {
	for want, f := range map[string]testFile{
		"leaves the tree":           {name: "usr/../../etc/passwd", content: []byte("x")},
		"a symbolic link of 5000":   {name: "usr/lib/x", link: strings.Repeat("x", 5000)},
		"x.ko: ELF":                 {name: "usr/lib/modules/" + testKernel + "/x.ko", content: []byte("\x7fELFxxxx")},
		"libkmod.so.2.5.1: ELF":     {name: "usr/lib/x86_64-linux-gnu/libkmod.so.2.5.1", content: []byte("\x7fELFxxxx")},
		"the number \"x\" can't be": {name: "usr/lib/sysusers.d/x.conf", content: []byte("g x x\n")},
		"is not a directory":        {name: "usr/lib/x86_64-linux-gnu/libc.so.6/x", content: elfFile(elfSpec{})},
	} {
		p := params(t, unmoved)
		p.Packages = append(p.Packages, Package{"hostile", files{f}})
		p.Modules = nil
		if strings.HasPrefix(want, "x.ko") {
			p.Modules = []string{"x"}
		}
		if want == "is not a directory" {
			p.Programs = []string{f.name}
			p.Packages[len(p.Packages)-1].Files = files{f, {name: "usr/lib/x86_64-linux-gnu/libc.so.6", content: elfFile(elfSpec{})}}
		}
		if _, err := Build(t.Context(), p, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", f.name, err, want)
		}
	}
}

func TestBuildChecksParams(t *testing.T) {
	for want, change := range map[string]func(*Params){
		`architecture "sparc"`:        func(p *Params) { p.Architecture = "sparc" },
		`root file system "ntfs"`:     func(p *Params) { p.RootFilesystem = "ntfs" },
		`kernel version "../etc"`:     func(p *Params) { p.KernelVersion = "../etc" },
		"kernel module nothing for":   func(p *Params) { p.Modules = []string{"nothing"} },
		"usr/bin/nothing: not in the": func(p *Params) { p.Programs = []string{"/bin/nothing"} },
		"modification time -":         func(p *Params) { p.Clock = time.Time{} },
		"leaves the tree":             func(p *Params) { p.Files = []File{{Path: "../x"}} },
	} {
		p := params(t, unmoved)
		change(&p)
		if _, err := Build(t.Context(), p, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestBuildStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, params(t, unmoved), io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

// list reads an initrd back: path to "file 644 contents", "link target" or
// "dir 755".
func list(t *testing.T, compressed []byte) map[string]string {
	t.Helper()
	d, err := zstd.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	data, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(data[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		mode, size, length := field(1), field(6), field(11)
		name := string(data[110 : 110+length-1])
		data = data[(110+length+3)&^3:]
		content := string(data[:size])
		data = data[(size+3)&^3:]
		switch {
		case name == cpioTrailer:
			return got
		case mode&0o170000 == cpioSymlink:
			got[name] = "link " + content
		case mode&0o170000 == cpioDirectory:
			got[name] = fmt.Sprintf("dir %o", mode&0o7777)
		default:
			got[name] = fmt.Sprintf("file %o %s", mode&0o7777, content)
		}
		if fs.FileMode(mode)&0o022 != 0 && mode&0o170000 != cpioSymlink {
			t.Errorf("%s: writable by others", name)
		}
	}
}
