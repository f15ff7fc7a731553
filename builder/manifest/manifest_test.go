package manifest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/applbuild/applbuild/builder/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

const status = `Package: zlib1g
Status: install ok installed
Priority: required
Section: libs
Installed-Size: 168
Maintainer: Mark Brown <broonie@debian.org>
Architecture: amd64
Multi-Arch: same
Source: zlib
Version: 1:1.3.dfsg+really1.3.1-1+b1
Description: compression library - runtime
 zlib is a library.
Homepage: http://zlib.net/

Package: libstdc++6
Status: install ok installed
Section: libs
Installed-Size: 2800
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Architecture: amd64
Source: gcc-14 (14.2.0-19)
Version: 14.2.0-19
Description: GNU Standard C++ Library v3

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`

func packages(t *testing.T) []manifest.Package {
	t.Helper()
	list, err := manifest.Installed(strings.NewReader(status))
	if err != nil || len(list) != 2 {
		t.Fatalf("installed packages: %v, %v", list, err)
	}
	return list
}

func sample(t *testing.T) *manifest.Manifest {
	t.Helper()
	list := packages(t)
	list[0].URL, list[0].SHA256, list[0].Size = "http://ftp.debian.org/debian/pool/main/g/gcc-14/libstdc++6_14.2.0-19_amd64.deb", strings.Repeat("ab", 32), 714532
	elsewhere := time.FixedZone("elsewhere", 3*3600)
	return &manifest.Manifest{
		Name: "kiosk", Version: "1.0", Distribution: "debian", Release: "trixie", Architecture: "amd64",
		Clock:    time.Date(2026, 3, 1, 15, 0, 0, 0, elsewhere),
		Sources:  []manifest.Source{{URI: "http://ftp.debian.org/debian", Suite: "trixie", Components: []string{"main"}, Codename: "trixie", Date: time.Date(2026, 2, 28, 9, 0, 0, 0, elsewhere), SHA256: strings.Repeat("cd", 32)}},
		Packages: []manifest.Package{list[1], list[0]},
		Kernel:   &manifest.Kernel{Package: "linux-image-cloud-amd64", Version: "6.12.48-1", Release: "6.12.48+deb13-cloud-amd64", CommandLine: "console=ttyS0 <quiet>"},
		Root:     &manifest.Root{Filesystem: "squashfs", Size: 4096, RootHash: strings.Repeat("01", 32)},
		Partitions: []manifest.Partition{
			{Number: 2, Label: "root-1.0", Type: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", UUID: "01010101-0101-0101-0101-010101010101", Offset: 2 << 20, Size: 4096},
			{Number: 1, Label: "ESP", Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", UUID: "11111111-2222-3333-4444-555555555555", Offset: 1 << 20, Size: 1 << 20},
		},
		Outputs: []manifest.Output{{Name: "kiosk_1.0_amd64.raw", Size: 5 << 20, SHA256: strings.Repeat("ef", 32)}, {Name: "kiosk_1.0_amd64.efi", Size: 10, SHA256: strings.Repeat("12", 32)}},
	}
}

var copyrights = map[string]string{
	"zlib1g": "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: x\nLicense: Zlib\n text of zlib\n\nFiles: contrib/*\nCopyright: y\nLicense: public-domain\n Nobody owns this.\n",
}

func options() manifest.SPDXOptions {
	return manifest.SPDXOptions{Creator: "applbuild-1.0", Seed: []byte("kiosk_1.0"), Copyright: func(name string) []byte { return []byte(copyrights[name]) }}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

func TestManifest(t *testing.T) {
	data, err := sample(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kiosk.manifest.json", data)
	m, err := manifest.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Marshal()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("read and written again it differs: %v\n%s", err, again)
	}
	for _, bad := range []string{"", "{}", `{"schema": 2}`, `{"schema": "1"}`} {
		if _, err := manifest.Read(strings.NewReader(bad)); err == nil {
			t.Errorf("Read accepts %q", bad)
		}
	}
}

func TestInstalled(t *testing.T) {
	list := packages(t)
	if p := list[0]; p.Name != "libstdc++6" || p.Source != "gcc-14" || p.SourceVersion != "14.2.0-19" || p.InstalledSize != 2800*1024 {
		t.Errorf("first package: %+v", p)
	}
	if p := list[1]; p.Source != "zlib" || p.SourceVersion != "1:1.3.dfsg+really1.3.1-1+b1" || p.Description != "compression library - runtime" {
		t.Errorf("second package: %+v", p)
	}
}

func TestSPDX(t *testing.T) {
	data, err := sample(t).SPDX(options())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kiosk.spdx.json", data)
	other := sample(t)
	other.Version = "1.1"
	changed, err := other.SPDX(options())
	if err != nil {
		t.Fatal(err)
	}
	namespace := regexp.MustCompile(`"documentNamespace": "(.*)"`)
	if a, b := namespace.FindString(string(data)), namespace.FindString(string(changed)); a == b || a == "" {
		t.Errorf("namespaces %s and %s", a, b)
	}
	check(t, data, 3)
}

// check reads a document with SPDX's own library and looks at what the library does not.
func check(t *testing.T, data []byte, packages int) {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("SPDX's reader: %v", err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Errorf("SPDX's check: %v", err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || len(doc.Packages) != packages {
		t.Errorf("version %s, %d packages, want %d", doc.SPDXVersion, len(doc.Packages), packages)
	}
	contains := 0
	for _, r := range doc.Relationships {
		if r.Relationship == common.TypeRelationshipContains {
			contains++
		}
	}
	if contains != packages-1 {
		t.Errorf("the image contains %d of %d packages", contains, packages-1)
	}
	known := map[string]bool{}
	for _, l := range doc.OtherLicenses {
		if known[l.LicenseIdentifier] || l.ExtractedText == "" || !strings.HasPrefix(l.LicenseIdentifier, "LicenseRef-") || !licenceName.MatchString(l.LicenseIdentifier) {
			t.Errorf("licence %q", l.LicenseIdentifier)
		}
		known[l.LicenseIdentifier] = true
	}
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		id := string(p.PackageSPDXIdentifier)
		if ids[id] || !licenceName.MatchString(id) {
			t.Errorf("identifier %q", id)
		}
		ids[id] = true
		expression(t, p.PackageName, p.PackageLicenseDeclared, known)
	}
}

var licenceName = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)

// expression checks the form of a licence expression (SPDX specification 2.3, annex D) and that what it refers to is
// there.
func expression(t *testing.T, name, text string, known map[string]bool) {
	t.Helper()
	tokens := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
	depth, operand := 0, false
	for _, token := range tokens {
		switch token {
		case "(":
			depth++
		case ")":
			depth--
		case "AND", "OR", "WITH":
			if !operand {
				t.Errorf("%s: licence %q: %s without a left side", name, text, token)
			}
			operand = false
		default:
			if !licenceName.MatchString(token) {
				t.Errorf("%s: licence %q holds %q", name, text, token)
			}
			if operand {
				t.Errorf("%s: licence %q: %s follows a licence", name, text, token)
			}
			operand = true
			if strings.HasPrefix(token, "LicenseRef-") && !known[token] {
				t.Errorf("%s: licence %q refers to nothing", name, text)
			}
		}
	}
	if depth != 0 || !operand {
		t.Errorf("%s: licence %q is not complete", name, text)
	}
}

// TestSPDXOfThisMachine describes every package of the machine the test runs on, if dpkg is there.
func TestSPDXOfThisMachine(t *testing.T) {
	f, err := os.Open("/var/lib/dpkg/status")
	if err != nil {
		t.Skip("SKIPPED: this machine has no dpkg database: run the test on Debian or Ubuntu")
	}
	defer f.Close()
	m := sample(t)
	if m.Packages, err = manifest.Installed(f); err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		m.Packages = m.Packages[:min(len(m.Packages), 150)]
	}
	o := options()
	o.Copyright = func(name string) []byte {
		data, err := os.ReadFile("/usr/share/doc/" + name + "/copyright")
		if err != nil {
			return nil
		}
		return data
	}
	data, err := m.SPDX(o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, data, len(m.Packages)+1)
	var doc struct {
		Packages []struct{ LicenseDeclared, Supplier string }
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, p := range doc.Packages {
		if p.LicenseDeclared != "NOASSERTION" {
			known++
		}
	}
	t.Logf("licences of %d of %d packages are known; the document has %d bytes", known, len(doc.Packages), len(data))
}

func TestPURL(t *testing.T) {
	for _, test := range []struct{ name, version, arch, want string }{
		{"attr", "1:2.4.47-2+b1", "amd64", "pkg:deb/debian/attr@1:2.4.47-2%2Bb1?arch=amd64&distro=trixie"},
		{"libstdc++6", "14.2.0-19", "amd64", "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie"},
		{"dpkg", "1.19.0.4~deb12u1", "all", "pkg:deb/debian/dpkg@1.19.0.4~deb12u1?arch=all&distro=trixie"},
		{"x", "1 2", "", "pkg:deb/debian/x@1%202?distro=trixie"},
	} {
		if got := manifest.PURL("debian", "trixie", manifest.Package{Name: test.name, Version: test.version, Architecture: test.arch}); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}
