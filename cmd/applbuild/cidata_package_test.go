package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/applbuild/applbuild/cidata/paper"
	"github.com/applbuild/applbuild/cidata/seal"
)

// seedFile writes a seed file whose packed files have about size bytes, and returns its name.
func seedFile(t *testing.T, size int) string {
	t.Helper()
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(noise)
	name := filepath.Join(t.TempDir(), "machine.yml")
	text := fmt.Sprintf("hostname: web1\nfiles:\n  - path: /etc/motd\n    content: grüß 中\n  - path: /srv/noise\n    encoding: base64\n    content: %s\n", base64.StdEncoding.EncodeToString(noise))
	writeTestFile(t, name, text)
	return name
}

func writeTestFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readTestFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ageKey returns a recipient and the name of a file with the secret key.
func ageKey(t *testing.T) (recipient, file string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key.txt")
	writeTestFile(t, file, "# a key for a test\n"+id.String()+"\n")
	return id.Recipient().String(), file
}

// openpgpKey returns the names of files with a public and a secret key, the latter locked by a passphrase.
func openpgpKey(t *testing.T, passphrase string) (public, secret string) {
	t.Helper()
	e, err := openpgp.NewEntity("web", "", "web@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var pub, sec bytes.Buffer
	if err := errors.Join(e.Serialize(&pub), e.EncryptPrivateKeys([]byte(passphrase), nil), e.SerializePrivateWithoutSigning(&sec, nil)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	public, secret = filepath.Join(dir, "public.pgp"), filepath.Join(dir, "secret.pgp")
	writeTestFile(t, public, pub.String())
	writeTestFile(t, secret, sec.String())
	return public, secret
}

// decryptedByAge returns the archive as age(1) decrypts it.
func decryptedByAge(t *testing.T, sealed, identity string) string {
	t.Helper()
	if _, err := exec.LookPath("age"); err != nil {
		t.Skip("SKIPPED: age is missing, which decrypts archives: install age")
	}
	name := filepath.Join(t.TempDir(), "seed.tar.gz")
	if out, err := exec.Command("age", "-d", "-i", identity, "-o", name, sealed).CombinedOutput(); err != nil {
		t.Fatalf("age: %v: %s", err, out)
	}
	return name
}

// scanPaper renders a PDF and reads its codes.
func scanPaper(t *testing.T, pdf string) string {
	t.Helper()
	for name, pkg := range map[string]string{"pdftoppm": "poppler-utils", "zbarimg": "zbar-tools"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED: %s is missing, which reads codes from paper: install %s", name, pkg)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("pdftoppm", "-r", "300", "-gray", pdf, filepath.Join(dir, "page")).CombinedOutput(); err != nil {
		t.Fatalf("pdftoppm: %v: %s", err, out)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "*.pgm"))
	if err != nil {
		t.Fatal(err)
	}
	// Its exit code is 4 where a page has no code.
	out, err := exec.Command("zbarimg", append([]string{"--nodbus", "-q", "--raw", "-Sdisable", "-Sqrcode.enable"}, pictures...)...).Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("zbarimg: %v", err)
	}
	codes := filepath.Join(dir, "codes.txt")
	writeTestFile(t, codes, string(out))
	return codes
}

func TestASeedComesBackFromPaperAndArchivesBitForBit(t *testing.T) {
	sizes := []int{100, 5000}
	if !testing.Short() {
		sizes = append(sizes, 16<<10, 60<<10)
	}
	recipient, identity := ageKey(t)
	public, secret := openpgpKey(t, "sesame")
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	writeTestFile(t, passphrase, "sesame\n")
	for i, size := range sizes {
		if i == 1 {
			t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
		}
		seed, dir := seedFile(t, size), filepath.Join(t.TempDir(), "out")
		applbuild(t, "cidata", "package", seed, "--output", dir, "--recipient", recipient, "--openpgp-key", public).succeeds(t)
		want := readTestFile(t, filepath.Join(dir, "web1.iso"))
		iso := filepath.Join(t.TempDir(), "seed.iso")
		applbuild(t, "cidata", seed, "-o", iso).succeeds(t)
		if !bytes.Equal(readTestFile(t, iso), want) {
			t.Errorf("%d bytes: the package's ISO is not that of `applbuild cidata`", size)
		}
		for _, args := range [][]string{
			{filepath.Join(dir, "web1.tar.gz.age"), "--identity", identity},
			{filepath.Join(dir, "web1.tar.gz.gpg"), "--openpgp-secret-key", secret, "--passphrase-file", passphrase},
			{decryptedByAge(t, filepath.Join(dir, "web1.tar.gz.age"), identity)},
			{scanPaper(t, filepath.Join(dir, "web1.pdf"))},
		} {
			back := filepath.Join(t.TempDir(), "seed.iso")
			r := applbuild(t, append([]string{"cidata", "restore", "-o", back}, args...)...).succeeds(t)
			if !bytes.Equal(readTestFile(t, back), want) || strings.Contains(r.stderr, "warning") {
				t.Errorf("%d bytes: %v gives another ISO: %s", size, args, r.stderr)
			}
		}
	}
}

func TestAnISOAFolderAndASeedFileMakeTheSamePackage(t *testing.T) {
	seed, dir := seedFile(t, 100), t.TempDir()
	iso, folder := filepath.Join(dir, "web.iso"), filepath.Join(dir, "web")
	applbuild(t, "cidata", seed, "-o", iso, "--dir", folder).succeeds(t)
	var first [2][]byte
	for i, source := range []string{seed, iso, folder} {
		out := filepath.Join(t.TempDir(), "out")
		r := applbuild(t, "cidata", "package", source, "-o", out).succeeds(t)
		if !strings.Contains(r.stderr, "no archive was written") {
			t.Errorf("nothing is said about the archive: %q", r.stderr)
		}
		got := [2][]byte{readTestFile(t, filepath.Join(out, "web1.iso")), readTestFile(t, filepath.Join(out, "web1.pdf"))}
		if i == 0 {
			first = got
		}
		if !bytes.Equal(got[0], first[0]) || !bytes.Equal(got[1], first[1]) {
			t.Errorf("%s makes another package", source)
		}
	}
}

func TestEncryptedPaperNeedsTheKey(t *testing.T) {
	recipient, identity := ageKey(t)
	_, other := ageKey(t)
	public, secret := openpgpKey(t, "sesame")
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	writeTestFile(t, passphrase, "sesame")
	for _, keys := range []struct{ encrypt, decrypt, wrong []string }{
		{[]string{"--recipient", recipient}, []string{"--identity", identity}, []string{"--identity", other}},
		{[]string{"--openpgp-key", public}, []string{"--openpgp-secret-key", secret, "--passphrase-file", passphrase}, []string{"--openpgp-secret-key", secret}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		applbuild(t, append([]string{"cidata", "package", seedFile(t, 100), "-o", out, "--encrypted-paper"}, keys.encrypt...)...).succeeds(t)
		codes := scanPaper(t, filepath.Join(out, "web1.pdf"))
		iso := filepath.Join(t.TempDir(), "seed.iso")
		for _, args := range [][]string{nil, keys.wrong} {
			r := applbuild(t, append([]string{"cidata", "restore", codes, "-o", iso}, args...)...)
			r.fails(t)
			if _, err := os.Stat(iso); err == nil {
				t.Error("an ISO is written without the key")
			}
		}
		applbuild(t, append([]string{"cidata", "restore", codes, "-o", iso}, keys.decrypt...)...).succeeds(t)
		if !bytes.Equal(readTestFile(t, iso), readTestFile(t, filepath.Join(out, "web1.iso"))) {
			t.Error("another ISO is restored")
		}
	}
}

// codesOf packs a file and returns its codes' texts.
func codesOf(t *testing.T, size int) []string {
	t.Helper()
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{1, byte(size)}).Read(noise)
	archive, err := seal.Bundle{Files: []seal.File{{Path: "meta-data", Data: []byte("instance-id: i\n")}, {Path: "user-data", Data: noise}}}.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return codesOfArchive(t, archive)
}

func codesOfArchive(t *testing.T, archive []byte) []string {
	t.Helper()
	codes, err := paper.Split(archive)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, c := range codes {
		texts = append(texts, c.Text)
	}
	return texts
}

func TestRestoreNamesWhatIsWrong(t *testing.T) {
	codes, others := codesOf(t, 8800), codesOf(t, 3000)
	dir := t.TempDir()
	file := func(name string, texts ...string) string {
		name = filepath.Join(dir, name)
		writeTestFile(t, name, strings.Join(texts, "\n"))
		return name
	}
	whole := slices.Concat(codes[:2], codes[3:6], codes[7:12])
	recipient, _ := ageKey(t)
	sealed := filepath.Join(dir, "out", "web1.tar.gz.age")
	applbuild(t, "cidata", "package", seedFile(t, 100), "-o", filepath.Dir(sealed), "--no-paper", "--recipient", recipient).succeeds(t)
	evil, err := seal.Bundle{Files: []seal.File{{Path: "x"}}}.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args  []string
		words []string
	}{
		{[]string{file("a", whole...)}, []string{"codes 3 and 7 of 12 are missing"}},
		{[]string{file("b", slices.Concat(whole, []string{codes[2][:200]})...)}, []string{"code 7 of 12 is missing; code 3 of 12 is damaged", "b:11: its text is not whole"}},
		{[]string{file("c", codes...), file("d", others...)}, []string{"different seeds", "c:1", "d:1"}},
		{[]string{file("e", "what?")}, []string{"no codes"}},
		{[]string{filepath.Join(dir, "none")}, []string{"no such file"}},
		{[]string{sealed, file("f", codes...)}, []string{"is an archive", "alone"}},
		{[]string{sealed}, []string{"--identity"}},
		{[]string{sealed, "--identity", file("g", "what?")}, []string{"AGE-SECRET-KEY"}},
		{[]string{file("h", string(evil[:20]))}, []string{"archive of the seed"}},
		{[]string{file("i", codesOfArchive(t, []byte("no archive"))...)}, []string{"no archive of a seed"}},
	} {
		iso := filepath.Join(dir, "seed.iso")
		applbuild(t, append([]string{"cidata", "restore", "-o", iso}, test.args...)...).fails(t, test.words...)
		if _, err := os.Stat(iso); err == nil {
			t.Fatalf("%v: an ISO is written", test.args)
		}
	}
	applbuild(t, "cidata", "restore", file("j", codes...)).fails(t, "-o FILE or --dir")
}

func TestRestoreOverwritesByForceOnly(t *testing.T) {
	dir := t.TempDir()
	codes, iso, folder := filepath.Join(dir, "codes.txt"), filepath.Join(dir, "seed.iso"), filepath.Join(dir, "folder")
	writeTestFile(t, codes, strings.Join(codesOf(t, 100), "\n"))
	applbuild(t, "cidata", "restore", codes, "-o", iso, "--dir", folder).succeeds(t)
	if got := readTestFile(t, filepath.Join(folder, "meta-data")); string(got) != "instance-id: i\n" {
		t.Errorf("meta-data is %q", got)
	}
	writeTestFile(t, iso, "mine")
	applbuild(t, "cidata", "restore", codes, "-o", iso).fails(t, iso, "--force")
	if got := readTestFile(t, iso); string(got) != "mine" {
		t.Error("the file that was there is gone")
	}
	applbuild(t, "cidata", "restore", codes, "-o", iso, "--force").succeeds(t)
}

func TestPackageShowsNoSecretKeyAndTakesNoPathAsName(t *testing.T) {
	t.Chdir(t.TempDir())
	const key = "AGE-SECRET-KEY-1QQQQQQQQ"
	r := applbuild(t, "cidata", "package", "s", "--output", "out", "--recipient", key)
	r.fails(t, "--recipient, number 1: ")
	if strings.Contains(r.stderr+r.stdout, key) {
		t.Errorf("it shows the key: %s", r.stderr)
	}
	writeFile(t, "s", "user-data", "#!/bin/sh\n")
	writeFile(t, "s", "meta-data", "instance-id: a\n")
	applbuild(t, "cidata", "package", "s", "--output", "out", "--no-paper", "--name", "../x").fails(t, "../x.iso", "--name")
	writeFile(t, "s", "user-data", "#cloud-config\npassword: topsecret\n")
	applbuild(t, "cidata", "package", "s", "--output", "out", "--no-paper").fails(t, "user-data:2:11: password is a plain password", "--allow-secrets")
}

func TestPackageRefusesAndLeavesNothing(t *testing.T) {
	recipient, _ := ageKey(t)
	public, _ := openpgpKey(t, "x")
	seed := seedFile(t, 100)
	large := seedFile(t, paper.MaxSize+5000)
	secret := filepath.Join(t.TempDir(), "secret.yml")
	writeTestFile(t, secret, "hostname: x\nfiles:\n  - path: /k\n    content: |\n      -----BEGIN OPENSSH PRIVATE KEY-----\n      AAAA\n      -----END OPENSSH PRIVATE KEY-----\n")
	for _, test := range []struct {
		args  []string
		words []string
	}{
		{[]string{seed, "--recipient", "ssh-ed25519 AAAA"}, []string{"--recipient", "age1"}},
		{[]string{seed, "--recipient-file", seed}, []string{seed, "age1"}},
		{[]string{seed, "--openpgp-key", seed}, []string{seed, "OpenPGP"}},
		{[]string{seed, "--encrypted-paper"}, []string{"nobody"}},
		{[]string{seed, "--encrypted-paper", "--recipient", recipient, "--openpgp-key", public}, []string{"not both"}},
		{[]string{seed, "--encrypted-paper", "--no-paper"}, []string{"contradict"}},
		{[]string{seed, "--name", "../x"}, []string{"not a name"}},
		{[]string{large}, []string{"paper holds at most", "--no-paper"}},
		{[]string{secret}, []string{"private key", "--allow-secrets"}},
		{[]string{filepath.Join(t.TempDir(), "none.iso")}, []string{"is not there"}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		applbuild(t, append([]string{"cidata", "package", "-o", out}, test.args...)...).fails(t, test.words...)
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v: something is written", test.args)
		}
	}
	applbuild(t, "cidata", "package", seed).fails(t, "--output")
	out := filepath.Join(t.TempDir(), "out")
	applbuild(t, "cidata", "package", large, "-o", out, "--no-paper", "--recipient", recipient).succeeds(t)
	applbuild(t, "cidata", "package", large, "-o", out, "--no-paper", "--recipient", recipient).fails(t, "web1.iso", "--force")
	applbuild(t, "cidata", "package", large, "-o", out, "--no-paper", "--recipient", recipient, "--force").succeeds(t)
	out = filepath.Join(t.TempDir(), "out")
	applbuild(t, "cidata", "package", secret, "-o", out, "--allow-secrets").succeeds(t)
	for _, name := range []string{"x.iso", "x.pdf"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
