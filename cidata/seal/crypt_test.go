package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/applbuild/applbuild/cidata/seal"
)

func TestAgeArchivesAreOpenedByTheirRecipientsOnly(t *testing.T) {
	one, two, other := identity(t), identity(t), identity(t)
	recipients, err := seal.ParseAgeRecipients([]byte("# all of us\n" + one.Recipient().String() + "\n\n" + two.Recipient().String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := seal.EncryptAge(pack(t), recipients)
	if err != nil {
		t.Fatal(err)
	}
	if seal.FormOf(data) != seal.Age {
		t.Error("the form of an archive in age is not seen")
	}
	for _, id := range []age.Identity{one, two} {
		if got, err := seal.DecryptAge(data, []age.Identity{other, id}); err != nil || !bytes.Equal(got, pack(t)) {
			t.Errorf("decrypted: %v", err)
		}
	}
	if _, err := seal.DecryptAge(data, []age.Identity{other}); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("another key: %v", err)
	}
	data[len(data)-1] ^= 1
	if got, err := seal.DecryptAge(data, []age.Identity{one}); err == nil || got != nil {
		t.Errorf("a changed archive: %d bytes, %v", len(got), err)
	}
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAgeIdentitiesMayBeLockedByAPassphrase(t *testing.T) {
	id := identity(t)
	recipient, err := age.NewScryptRecipient("sesame")
	if err != nil {
		t.Fatal(err)
	}
	recipient.SetWorkFactor(10)
	var locked bytes.Buffer
	a := armor.NewWriter(&locked)
	w, err := age.Encrypt(a, recipient)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, id)
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if ids, err := seal.ParseAgeIdentities(locked.Bytes(), []byte("sesame")); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
	for _, wrong := range []string{"", "open"} {
		if _, err := seal.ParseAgeIdentities(locked.Bytes(), []byte(wrong)); !errors.Is(err, seal.ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	_, err = seal.ParseAgeIdentities([]byte(id.String()[:40]), nil)
	if err == nil || strings.Contains(err.Error(), id.String()[20:40]) {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestAgeDecryptsArchives(t *testing.T) {
	tool(t, "age", "age")
	id := identity(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "key.txt")
	if err := os.WriteFile(key, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := seal.EncryptAge(pack(t), []age.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("age", "-d", "-i", key)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.Output(); err != nil || !bytes.Equal(out, pack(t)) {
		t.Errorf("age -d: %v", err)
	}
	cmd = exec.Command("age", "-a", "-r", id.Recipient().String())
	cmd.Stdin = bytes.NewReader(pack(t))
	armoured, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if seal.FormOf(armoured) != seal.Age {
		t.Error("the form of an archive in age's armour is not seen")
	}
	if got, err := seal.DecryptAge(armoured, []age.Identity{id}); err != nil || !bytes.Equal(got, pack(t)) {
		t.Errorf("what age encrypted: %v", err)
	}
}

func entity(t *testing.T) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("web", "", "web@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.Add(-time.Hour) }, KeyLifetimeSecs: 86400,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func serialize(t *testing.T, e *openpgp.Entity, secret bool) []byte {
	t.Helper()
	var out bytes.Buffer
	var err error
	if secret {
		err = e.SerializePrivate(&out, nil)
	} else {
		err = e.Serialize(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOpenPGPArchivesAreOpenedByTheirRecipientsOnly(t *testing.T) {
	one, other := entity(t), entity(t)
	public, err := seal.ParseOpenPGPKeys(serialize(t, one, false))
	if err != nil {
		t.Fatal(err)
	}
	data, err := seal.EncryptOpenPGP(pack(t), public, rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	if seal.FormOf(data) != seal.OpenPGP {
		t.Error("the form of an archive in OpenPGP is not seen")
	}
	if got, err := seal.DecryptOpenPGP(data, openpgp.EntityList{other, one}, nil, now); err != nil || !bytes.Equal(got, pack(t)) {
		t.Errorf("decrypted: %v", err)
	}
	if _, err := seal.DecryptOpenPGP(data, openpgp.EntityList{other}, nil, now); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := seal.DecryptOpenPGP(data, public, nil, now); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("a public key: %v", err)
	}
	data[len(data)-1] ^= 1
	if got, err := seal.DecryptOpenPGP(data, openpgp.EntityList{one}, nil, now); err == nil || got != nil {
		t.Errorf("a changed archive: %d bytes, %v", len(got), err)
	}
	if _, err := seal.EncryptOpenPGP(pack(t), public, rand.Reader, now.AddDate(1, 0, 0)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired key: %v", err)
	}
	if _, err := seal.DecryptOpenPGP([]byte("\xcb\x06b\x00\x00\x00\x00\x00"), openpgp.EntityList{one}, nil, now); err == nil {
		t.Error("a message in clear is decrypted")
	}
}

func TestMessagesForAPassphraseAreNotRead(t *testing.T) {
	var out bytes.Buffer
	w, err := openpgp.SymmetricallyEncrypt(&out, []byte("sesame"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.DecryptOpenPGP(out.Bytes(), openpgp.EntityList{entity(t)}, []byte("sesame"), now); !errors.Is(err, seal.ErrNoKey) {
		t.Error(err)
	}
}

func TestTextIsNoArchive(t *testing.T) {
	for _, text := range []string{"", "APPLSEED1:", "Übersicht", "\u0280", "Ҁ", "\ufeffA", "\xff\xfeA\x00"} {
		if form := seal.FormOf([]byte(text)); form != seal.Unknown {
			t.Errorf("%q: %v", text, form)
		}
	}
}

func TestGnuPGDecryptsArchives(t *testing.T) {
	tool(t, "gpg", "gnupg")
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	gpg := func(in []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "sesame", "--trust-model", "always"}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v: %s", args, err, stderr.String())
		}
		return out
	}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	algorithm, usage := "future-default", "default"
	if !testing.Short() {
		algorithm, usage = "rsa2048", "encrypt,sign"
	}
	gpg(nil, "--quick-generate-key", "one@example.org", algorithm, usage, "never")
	gpg(nil, "--quick-generate-key", "two@example.org", "future-default", "default", "never")
	var public []byte
	for _, who := range []string{"one@example.org", "two@example.org"} {
		public = append(public, gpg(nil, "--armor", "--export", who)...)
	}
	keys, err := seal.ParseOpenPGPKeys(public)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	data, err := seal.EncryptOpenPGP(pack(t), keys, rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := gpg(data, "--decrypt"); !bytes.Equal(got, pack(t)) {
		t.Error("gpg decrypts something else")
	}
	secret, err := seal.ParseOpenPGPKeys(gpg(nil, "--armor", "--export-secret-keys", "two@example.org"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "open"} {
		if _, err := seal.DecryptOpenPGP(data, secret, []byte(wrong), time.Now()); !errors.Is(err, seal.ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	encrypted := gpg(pack(t), "--armor", "--encrypt", "-r", "two@example.org")
	if seal.FormOf(encrypted) != seal.OpenPGP {
		t.Error("the form of an archive in OpenPGP's armour is not seen")
	}
	for name, data := range map[string][]byte{"ours": data, "gpg's": encrypted} {
		if got, err := seal.DecryptOpenPGP(data, secret, []byte("sesame"), time.Now()); err != nil || !bytes.Equal(got, pack(t)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	for _, text := range []string{"", "what?", "-----BEGIN PGP MESSAGE-----\n\nAA==\n-----END PGP MESSAGE-----\n", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"} {
		if keys, err := seal.ParseOpenPGPKeys([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, keys)
		}
	}
	for _, text := range []string{"", "# nobody\n", "ssh-ed25519 AAAA", "age1qqqq"} {
		if keys, err := seal.ParseAgeRecipients([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, keys)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	f.Add([]byte("age-encryption.org/v1\n-> X25519 x\n"))
	f.Add([]byte("\x84\x5e\x03"))
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\n\nhF4D\n"))
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	e, err := openpgp.NewEntity("web", "", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := seal.DecryptAge(data, []age.Identity{id}); err == nil {
			t.Errorf("age: %q", out)
		}
		if out, err := seal.DecryptOpenPGP(data, openpgp.EntityList{e}, []byte("x"), now); err == nil {
			t.Logf("OpenPGP: %q", out)
		}
		if keys, err := seal.ParseOpenPGPKeys(data); err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
	})
}
