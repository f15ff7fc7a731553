package distro_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/applbuild/applbuild/rootfs/archive"
	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
	"github.com/applbuild/applbuild/rootfs/deb822"
	"github.com/applbuild/applbuild/rootfs/distro"
)

func lookup(t *testing.T, distribution, release string) *distro.Release {
	t.Helper()
	r, err := distro.Lookup(distribution, release)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// where writes sources as one line each: URI suite components.
func where(list []archive.Source) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintln(&b, s.URI, s.Suite, strings.Join(s.Components, ","))
	}
	return b.String()
}

func TestTableIsWhole(t *testing.T) {
	for _, r := range distro.Releases() {
		for _, arch := range distro.ArchNames() {
			if r.Kernel(arch) == "" || len(r.StubPackages(arch)) == 0 || len(r.InitrdPackages(arch)) == 0 || len(r.ToolPackages(arch)) == 0 || len(r.BootPackages(arch)) == 0 || r.DefaultMirror(arch) == "" || r.SecurityMirror(arch) == "" {
				t.Errorf("%s %s %s: an empty column", r.Distribution, r.Name, arch)
			}
			list, err := r.Sources(distro.SourceOptions{Arch: arch})
			if err != nil || len(list) != len(r.Pockets) {
				t.Errorf("%s %s %s: %v, %v", r.Distribution, r.Name, arch, list, err)
			}
		}
		for _, kind := range []string{"ext4", "xfs", "btrfs", "vfat", "swap"} {
			if len(r.FilesystemPackages(kind)) == 0 {
				t.Errorf("%s %s: no packages for %s", r.Distribution, r.Name, kind)
			}
		}
		if r.MergedUsr == "" || len(r.Components) == 0 || r.Pockets[0].Suite != r.Name {
			t.Errorf("%+v", r)
		}
		keyring, _, err := r.Keyring(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(keyring))
		if err != nil || len(keys) < 3 {
			t.Errorf("%s: %d keys, %v", r.KeyringFile(), len(keys), err)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, name := range []string{"noble", "24.04"} {
		if r := lookup(t, "ubuntu", name); r.Name != "noble" {
			t.Errorf("%s is %s", name, r.Name)
		}
	}
	for _, x := range [][2]string{{"debian", "noble"}, {"debian", ""}, {"fedora", "42"}} {
		if _, err := distro.Lookup(x[0], x[1]); err == nil || !strings.Contains(err.Error(), "debian trixie") || !strings.Contains(err.Error(), "ubuntu resolute") {
			t.Errorf("%v: %v", x, err)
		}
	}
	if _, err := distro.LookupArch("riscv64"); err == nil || !strings.Contains(err.Error(), "amd64 or arm64") {
		t.Errorf("riscv64: %v", err)
	}
}

func TestPublicArchives(t *testing.T) {
	snapshot := time.Date(2026, 4, 5, 6, 7, 8, 0, time.FixedZone("", 3600))
	for _, test := range []struct {
		distribution, release, arch string
		o                           distro.SourceOptions
		want                        string
	}{
		{"debian", "trixie", "amd64", distro.SourceOptions{}, `http://ftp.debian.org/debian trixie main
http://ftp.debian.org/debian trixie-updates main
http://security.debian.org/debian-security trixie-security main
`},
		{"debian", "sid", "arm64", distro.SourceOptions{}, "http://ftp.debian.org/debian sid main\n"},
		{"ubuntu", "noble", "amd64", distro.SourceOptions{}, `http://archive.ubuntu.com/ubuntu noble main,universe
http://archive.ubuntu.com/ubuntu noble-updates main,universe
http://security.ubuntu.com/ubuntu noble-security main,universe
`},
		{"ubuntu", "noble", "arm64", distro.SourceOptions{}, `http://ports.ubuntu.com/ubuntu-ports noble main,universe
http://ports.ubuntu.com/ubuntu-ports noble-updates main,universe
http://ports.ubuntu.com/ubuntu-ports noble-security main,universe
`},
		{"ubuntu", "resolute", "arm64", distro.SourceOptions{Components: []string{"main"}}, `http://archive.ubuntu.com/ubuntu resolute main
http://archive.ubuntu.com/ubuntu resolute-updates main
http://security.ubuntu.com/ubuntu resolute-security main
`},
		{"debian", "bookworm", "amd64", distro.SourceOptions{Snapshot: snapshot}, `http://snapshot.debian.org/archive/debian/20260405T050708Z bookworm main
http://snapshot.debian.org/archive/debian/20260405T050708Z bookworm-updates main
http://snapshot.debian.org/archive/debian-security/20260405T050708Z bookworm-security main
`},
		{"ubuntu", "jammy", "arm64", distro.SourceOptions{Snapshot: snapshot}, `http://snapshot.ubuntu.com/ubuntu/20260405T050708Z jammy main,universe
http://snapshot.ubuntu.com/ubuntu/20260405T050708Z jammy-updates main,universe
http://snapshot.ubuntu.com/ubuntu/20260405T050708Z jammy-security main,universe
`},
		{"debian", "trixie", "amd64", distro.SourceOptions{Mirrors: []string{"https://mirror.example.org/debian/"}}, `https://mirror.example.org/debian trixie main
https://mirror.example.org/debian trixie-updates main
http://security.debian.org/debian-security trixie-security main
`},
		{"debian", "trixie", "amd64", distro.SourceOptions{Mirrors: []string{"file:///srv/debian", "file:///srv/debian-security"}}, `file:///srv/debian trixie main
file:///srv/debian trixie-updates main
file:///srv/debian-security trixie-security main
`},
		{"ubuntu", "noble", "amd64", distro.SourceOptions{Mirrors: []string{"http://mirror.example.org/ubuntu"}}, `http://mirror.example.org/ubuntu noble main,universe
http://mirror.example.org/ubuntu noble-updates main,universe
http://mirror.example.org/ubuntu noble-security main,universe
`},
		{"ubuntu", "noble", "amd64", distro.SourceOptions{Snapshot: snapshot, Mirrors: []string{"http://mirror.example.org/snap/@SNAPSHOTID@/ubuntu"}}, `http://mirror.example.org/snap/20260405T050708Z/ubuntu noble main,universe
http://mirror.example.org/snap/20260405T050708Z/ubuntu noble-updates main,universe
http://mirror.example.org/snap/20260405T050708Z/ubuntu noble-security main,universe
`},
	} {
		test.o.Arch = test.arch
		list, err := lookup(t, test.distribution, test.release).Sources(test.o)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := where(list); got != test.want {
			t.Errorf("%s %s %s %+v:\n%swant\n%s", test.distribution, test.release, test.arch, test.o, got, test.want)
		}
		for _, s := range list {
			if s.IgnoreValidUntil == test.o.Snapshot.IsZero() {
				t.Errorf("%s: Valid-Until ignored: %v", s, s.IgnoreValidUntil)
			}
		}
	}
}

func TestSourcesRefuses(t *testing.T) {
	r := lookup(t, "debian", "trixie")
	for _, o := range []distro.SourceOptions{
		{Arch: "mips"},
		{Arch: "amd64", Mirrors: []string{"mirror.example.org/debian"}},
		{Arch: "amd64", Mirrors: []string{"http://"}},
		{Arch: "amd64", Mirrors: []string{"rsync://mirror.example.org/debian"}},
		{Arch: "amd64", Mirrors: []string{"http://mirror.example.org/debian"}, Snapshot: time.Unix(1e9, 0)},
		{Arch: "amd64", HostKeyrings: fstest.MapFS{r.KeyringFile(): {Data: []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nrubbish!\n")}}},
	} {
		if list, err := r.Sources(o); err == nil {
			t.Errorf("%+v: %v", o, where(list))
		}
	}
}

// apt is an /etc/apt made of a name and a text each.
func apt(files ...string) fs.FS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

const debianSources = `# the host's
Types: deb deb-src
URIs: http://proxy.example.org/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://proxy.example.org/debian-security
Suites: bookworm-security
Components: main
`

func TestHostMirrors(t *testing.T) {
	const publicMain = "http://ftp.debian.org/debian"
	for _, test := range []struct {
		name              string
		host              fs.FS
		release           [2]string
		arch              string
		main, security    string
		noValid, noDate   bool
		reason, alternate string
	}{
		{name: "deb822, another release of the distribution", host: apt("sources.list.d/debian.sources", debianSources), release: [2]string{"debian", "trixie"},
			main: "http://proxy.example.org/debian", security: "http://proxy.example.org/debian-security"},
		{name: "the other distribution", host: apt("sources.list.d/debian.sources", debianSources), release: [2]string{"ubuntu", "noble"},
			main: "http://archive.ubuntu.com/ubuntu", security: "http://security.ubuntu.com/ubuntu"},
		{name: "disabled", host: apt("sources.list.d/debian.sources", "Enabled: no\n"+debianSources[len("# the host's\n"):]), release: [2]string{"debian", "trixie"},
			main: publicMain, security: "http://proxy.example.org/debian-security"},
		{name: "name that apt does not read", host: apt("sources.list.d/debian.sources.bak", debianSources), release: [2]string{"debian", "trixie"},
			main: publicMain, security: "http://security.debian.org/debian-security"},
		{name: "one line, options, no security archive", host: apt("sources.list", "# x\n#deb http://commented.example.org/debian bookworm main\ndeb-src http://src.example.org/debian bookworm main\ndeb [arch=amd64,i386 signed-by=/x.gpg check-valid-until=no] http://corp.example.org/debian stable main # mine\n"),
			release: [2]string{"debian", "trixie"}, main: "http://corp.example.org/debian", security: "http://security.debian.org/debian-security", noValid: true, reason: "Check-Valid-Until in /etc/apt/sources.list"},
		{name: "a mirror under another path", host: apt("sources.list", "deb http://nexus.example.org/repository/deb12 bookworm main\ndeb http://nexus.example.org/repository/deb12 bookworm-updates main\n"),
			release: [2]string{"debian", "sid"}, main: "http://nexus.example.org/repository/deb12"},
		{name: "third parties", host: apt("sources.list", `deb https://download.docker.example.org/linux/debian bookworm stable
deb https://packages.example.com/debian/12/prod bookworm main
deb http://apt.postgresql.example.org/pub/repos/apt bookworm-pgdg main
deb cdrom:[Debian]/ bookworm main
deb http://flat.example.org/debian ./
`), release: [2]string{"debian", "trixie"}, main: publicMain, security: "http://security.debian.org/debian-security"},
		{name: "a PPA", host: apt("sources.list.d/ppa.list", "deb http://ppa.example.org/someone/tool/ubuntu noble main\n"), release: [2]string{"ubuntu", "noble"},
			main: "http://archive.ubuntu.com/ubuntu", security: "http://security.ubuntu.com/ubuntu"},
		{name: "Ubuntu's archive has security too", host: apt("sources.list", "deb http://corp.example.org/ubuntu noble main universe\ndeb http://corp.example.org/ubuntu noble-updates main\n"), release: [2]string{"ubuntu", "jammy"},
			main: "http://corp.example.org/ubuntu", security: "http://corp.example.org/ubuntu"},
		{name: "Ubuntu's archive does not have the ports", host: apt("sources.list", "deb http://corp.example.org/ubuntu noble main\n"), release: [2]string{"ubuntu", "noble"}, arch: "arm64",
			main: "http://ports.ubuntu.com/ubuntu-ports", security: "http://ports.ubuntu.com/ubuntu-ports"},
		{name: "but has arm64 from 25.10 on", host: apt("sources.list", "deb http://corp.example.org/ubuntu noble main\n"), release: [2]string{"ubuntu", "resolute"}, arch: "arm64",
			main: "http://corp.example.org/ubuntu", security: "http://corp.example.org/ubuntu"},
		{name: "two mirrors", host: apt("sources.list", "deb http://one.example.org/debian trixie main\ndeb [arch=arm64] http://two.example.org/debian trixie main\n"), release: [2]string{"debian", "trixie"},
			main: "http://one.example.org/debian", security: "http://security.debian.org/debian-security", alternate: "http://two.example.org/debian"},
		{name: "apt.conf", host: apt("sources.list.d/debian.sources", debianSources, "apt.conf.d/99x", "// c\nAcquire { /* y */ Check-Valid-Until \"false\"; Languages { \"none\"; }; };\n"), release: [2]string{"debian", "trixie"},
			main: "http://proxy.example.org/debian", security: "http://proxy.example.org/debian-security", noValid: true, reason: "Acquire::Check-Valid-Until in /etc/apt/apt.conf.d/99x"},
		{name: "apt.conf, date", host: apt("sources.list.d/debian.sources", debianSources, "apt.conf", "Acquire::Check-Date \"no\";\n"), release: [2]string{"debian", "trixie"},
			main: "http://proxy.example.org/debian", security: "http://proxy.example.org/debian-security", noValid: true, noDate: true, reason: "Acquire::Check-Date in /etc/apt/apt.conf"},
		{name: "broken file beside a good one", host: apt("sources.list.d/a.sources", "rubbish\n", "sources.list.d/b.sources", "X-Y: \n \n"+debianSources), release: [2]string{"debian", "trixie"},
			main: "http://proxy.example.org/debian", security: "http://proxy.example.org/debian-security"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.arch == "" {
				test.arch = "amd64"
			}
			r := lookup(t, test.release[0], test.release[1])
			list, err := r.Sources(distro.SourceOptions{Arch: test.arch, HostApt: test.host})
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range r.Pockets {
				want := test.main
				if p.Security {
					want = test.security
				}
				if list[i].URI != want || list[i].Suite != p.Suite {
					t.Errorf("%s: from %s, want %s", p.Suite, list[i].URI, want)
				}
			}
			s := list[0]
			if s.IgnoreValidUntil != test.noValid || s.IgnoreDate != test.noDate || s.IgnoreReason != test.reason {
				t.Errorf("dates: %v %v %q", s.IgnoreValidUntil, s.IgnoreDate, s.IgnoreReason)
			}
			if strings.Join(s.Alternates, " ") != test.alternate {
				t.Errorf("alternates %q", s.Alternates)
			}
		})
	}
}

func TestHostKeys(t *testing.T) {
	corp := archivetest.NewKey(t, "Corporation")
	newer := archivetest.NewKey(t, "Newer archive key")
	host := fstest.MapFS{
		"sources.list":      {Data: []byte("deb [signed-by=/etc/apt/keyrings/corp.gpg] http://corp.example.org/debian trixie main\n")},
		"keyrings/corp.gpg": {Data: archivetest.PublicKey(t, corp)},
	}
	keyrings := fstest.MapFS{"debian-archive-keyring.gpg": {Data: archivetest.PublicKey(t, newer)}}
	list, err := lookup(t, "debian", "trixie").Sources(distro.SourceOptions{Arch: "amd64", HostApt: host, HostKeyrings: keyrings})
	if err != nil {
		t.Fatal(err)
	}
	has := func(keyring []byte, id uint64) bool {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(keyring))
		return err == nil && len(keys.KeysById(id)) > 0
	}
	for i, want := range []bool{true, true, false} {
		if !has(list[i].Keyring, newer.PrimaryKey.KeyId) || has(list[i].Keyring, corp.PrimaryKey.KeyId) != want {
			t.Errorf("%s: the wrong keys (%s)", list[i], list[i].KeyringName)
		}
	}
	if n := list[0].KeyringName; !strings.Contains(n, "built-in") || !strings.Contains(n, "host's") || !strings.Contains(n, "/etc/apt/sources.list") {
		t.Errorf("keyring's name %q", n)
	}
}

func TestProxies(t *testing.T) {
	for _, test := range []struct{ conf, http, https string }{
		{"", "", ""},
		{`Acquire::http::Proxy "http://p:3128";`, "http://p:3128", "http://p:3128"},
		{`Acquire { HTTP { proxy "http://p:3128"; }; https::proxy "DIRECT"; };`, "http://p:3128", ""},
		{`Acquire::http { Proxy::example.org "http://q"; };`, "", ""},
	} {
		if h, s := distro.Proxies(apt("apt.conf.d/proxy", test.conf)); h != test.http || s != test.https {
			t.Errorf("%s: %q, %q", test.conf, h, s)
		}
	}
	if h, s := distro.Proxies(nil); h != "" || s != "" {
		t.Error("without an /etc/apt")
	}
}

func TestAptSources(t *testing.T) {
	name, text := lookup(t, "debian", "trixie").AptSources("amd64", nil)
	want := `Types: deb
URIs: http://ftp.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
	if name != "debian.sources" || text != want {
		t.Errorf("%s:\n%s", name, text)
	}
	// What it writes, it reads as the host's.
	for _, r := range distro.Releases() {
		_, text := r.AptSources("arm64", []string{"main", "x"})
		host, err := r.Sources(distro.SourceOptions{Arch: "arm64", HostApt: apt("sources.list.d/x.sources", text)})
		public, err2 := r.Sources(distro.SourceOptions{Arch: "arm64"})
		if err != nil || err2 != nil || where(host) != where(public) {
			t.Errorf("%s %s: %s, %v", r.Distribution, r.Name, where(host), err)
		}
		if _, err := deb822.NewReader(strings.NewReader(text)).Next(); err != nil {
			t.Error(err)
		}
	}
}

// TestRealArchive asks the archive that the host's apt is set up with: what
// comes second is InRelease alone.
func TestRealArchive(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: this test fetches trixie's indexes from the network, which -short forbids")
	}
	if _, err := os.Stat("/etc/apt"); err != nil {
		t.Skip("SKIPPED: there is no /etc/apt on this host that says where Debian's archive is")
	}
	sources, err := lookup(t, "debian", "trixie").Sources(distro.SourceOptions{Arch: "amd64", HostApt: os.DirFS("/etc/apt"), HostKeyrings: os.DirFS("/usr/share/keyrings")})
	if err != nil {
		t.Fatal(err)
	}
	c := &archive.Client{Dir: t.TempDir(), Now: time.Now()}
	var transferred []string
	c.Progress = func(e archive.Event) {
		if e.Done && !e.Cached {
			transferred = append(transferred, e.Name)
		}
	}
	first, err := c.Update(t.Context(), sources)
	if err != nil {
		t.Fatal(err)
	}
	transferred = nil
	start := time.Now()
	second, err := c.Update(t.Context(), sources)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the second update took %v and transferred %q", time.Since(start), transferred)
	for _, name := range transferred {
		if !strings.HasSuffix(name, "/InRelease") {
			t.Errorf("the second update transferred %s", name)
		}
	}
	if !slices.EqualFunc(first, second, func(a, b archive.Index) bool { return a.SHA256 == b.SHA256 }) {
		t.Error("the archive changed in between")
	}
	r, err := second[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for d := deb822.NewReader(r); ; n++ {
		if _, err := d.Next(); err != nil {
			break
		}
	}
	if n < 50_000 {
		t.Errorf("trixie has %d packages", n)
	}
}
