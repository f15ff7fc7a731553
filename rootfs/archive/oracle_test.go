package archive

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

// TestRealUbuntuRelease verifies Ubuntu's own signatures in both forms.
func TestRealUbuntuRelease(t *testing.T) {
	dir := os.Getenv("APPLBUILD_UBUNTU_NOBLE")
	if dir == "" {
		t.Skip("SKIPPED: APPLBUILD_UBUNTU_NOBLE does not name a folder with Ubuntu's packages")
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	s := Source{Suite: "noble", Components: []string{"main", "universe"}, Arch: "amd64", Keyring: read("ubuntu-archive-keyring.gpg")}
	v, err := newVerifier(s, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	text, signer, err := v.clearSigned("InRelease", read("InRelease"))
	if err != nil || !strings.HasSuffix(signer, "871920D1991BC93C") {
		t.Fatalf("signed by %s, %v", signer, err)
	}
	if strings.TrimSpace(string(text)) != strings.TrimSpace(string(read("Release"))) {
		t.Error("the text of InRelease is not Release")
	}
	if _, err := v.detached("Release", read("Release"), read("Release.gpg")); err != nil {
		t.Error(err)
	}
	f, err := parseRelease(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.checkSource("noble", s); err != nil {
		t.Error(err)
	}
	if list, err := f.indexes("noble", s); err != nil || len(list) != 2 || f.byHash != true || f.allApart {
		t.Errorf("%v, %v", list, err)
	}

	// And what a composed archive says of the real packages is what Ubuntu's
	// index says.
	a := archivetest.New(t, "noble", archivetest.Pockets("noble-updates", "noble-security"))
	a.AddPool(filepath.Join(dir, "debs"))
	a.Publish()
	index := string(read("Packages"))
	for _, p := range a.Packages() {
		if !strings.Contains(index, "\nSize: "+p.Get("Size")+"\n") || !strings.Contains(index, "\nSHA256: "+p.Get("SHA256")+"\n") {
			t.Errorf("%s is not in Ubuntu's index", p.Get("Package"))
		}
	}
	c := &Client{Dir: t.TempDir(), Now: archivetest.Date}
	if _, err := c.Update(t.Context(), []Source{
		{URI: a.URL, Suite: "noble", Components: []string{"main"}, Arch: "amd64", Keyring: a.Keyring},
		{URI: a.URL, Suite: "noble-security", Components: []string{"main"}, Arch: "amd64", Keyring: a.Keyring},
	}); err != nil {
		t.Error(err)
	}
}

// TestAptAgrees asks apt-get about composed archives: it takes and refuses what
// this package takes and refuses.
func TestAptAgrees(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: apt-get takes seconds, and -short is set")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("SKIPPED: apt-get is missing (Debian package apt)")
	}
	if _, err := exec.LookPath("gpgv"); err != nil {
		t.Skip("SKIPPED: gpgv is missing (Debian package gpgv)")
	}
	for _, test := range []struct {
		name   string
		change func(*archivetest.Archive)
		good   bool
	}{
		{"good", func(*archivetest.Archive) {}, true},
		{"detached", func(a *archivetest.Archive) { a.Detached = true }, true},
		{"one known key of two", func(a *archivetest.Archive) { a.Signature = archivetest.BothKeys }, true},
		{"architecture all apart", func(a *archivetest.Archive) { a.AllApart = true }, true},
		{"unknown key", func(a *archivetest.Archive) { a.Signature = archivetest.UnknownKey }, false},
		{"tampered", func(a *archivetest.Archive) { a.Signature = archivetest.Tampered }, false},
		{"unsigned", func(a *archivetest.Archive) { a.Signature = archivetest.Unsigned }, false},
		{"text after", func(a *archivetest.Archive) { a.Signature = archivetest.TextAfter }, false},
		{"expired", func(a *archivetest.Archive) { a.ValidUntil = archivetest.Date.Add(time.Hour) }, false},
		{"damaged index", func(a *archivetest.Archive) {
			a.ByHash = false
			a.Fail("Packages*", archivetest.Damaged, -1)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := archivetest.New(t, "trixie")
			a.AddDeb("main", archivetest.Deb(t, "Package: hello\nVersion: 1.0\nArchitecture: amd64\n"))
			test.change(a)
			a.Publish()
			out, err := aptUpdate(t, a)
			if (err == nil) != test.good {
				t.Errorf("apt-get: %v\n%s", err, out)
			}
			c := &Client{Dir: t.TempDir(), Now: time.Now(), Backoff: time.Millisecond}
			_, err = c.Update(t.Context(), []Source{{URI: a.URL, Suite: "trixie", Components: []string{"main"}, Arch: "amd64", Keyring: a.Keyring}})
			if (err == nil) != test.good {
				t.Errorf("Update: %v", err)
			}
		})
	}
}

// aptUpdate runs apt-get update on one archive, apart from the host's own.
func aptUpdate(t *testing.T, a *archivetest.Archive) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(dir, "key.gpg")
	conf := fmt.Sprintf(`Dir "%s"; Dir::Etc "%s/etc"; Dir::State "%s/state"; Dir::Cache "%s/cache"; Dir::State::status "%s/status"; APT::Architecture "amd64"; APT::Architectures { "amd64"; }; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::Retries "0"; APT::Update::Error-Mode "any";`, dir, dir, dir, dir, dir)
	for name, data := range map[string][]byte{
		"key.gpg":          a.Keyring,
		"status":           nil,
		"apt.conf":         []byte(conf),
		"etc/sources.list": fmt.Appendf(nil, "deb [signed-by=%s] %s trixie main\n", key, a.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("apt-get", "update")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
