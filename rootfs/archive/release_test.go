package archive

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/applbuild/applbuild/rootfs/archive/archivetest"
)

func TestParseDate(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"Sat, 12 Sep 2026 07:55:41 UTC", "2026-09-12T07:55:41Z"},
		{"Thu, 19 Nov 2026  0:50:08 UTC", "2026-11-19T00:50:08Z"},
		{"Thu,  5 Nov 2026 10:50:08 GMT", "2026-11-05T10:50:08Z"},
		{"Thu, 05 Nov 2026 10:50:08 +0000", "2026-11-05T10:50:08Z"},
		{"Thu, 05 Nov 2026 10:50:08 +0200", "2026-11-05T08:50:08Z"},
		{"Thu, 05 Nov 2026 10:50:08 CET", ""},
		{"2026-11-05", ""},
		{"", ""},
	} {
		got, err := parseDate(test.in)
		if test.want == "" && err != nil {
			continue
		}
		if err != nil || got.Format(time.RFC3339) != test.want {
			t.Errorf("%q: %v, %v, want %s", test.in, got, err, test.want)
		}
	}
}

const goodRelease = "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nArchitectures: all amd64\nComponents: main\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n"

func TestParseReleaseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"no date":           strings.Replace(goodRelease, "Date", "X", 1),
		"no digests":        strings.Replace(goodRelease, "SHA256", "MD5Sum", 1),
		"two paragraphs":    goodRelease + "\nSuite: x\n",
		"short digest":      strings.Replace(goodRelease, "e3b0", "e3", 1),
		"digest not hex":    strings.Replace(goodRelease, "e3b0", "zzzz", 1),
		"negative size":     strings.Replace(goodRelease, " 0 ", " -1 ", 1),
		"size of 20 digits": strings.Replace(goodRelease, " 0 ", " 99999999999999999999 ", 1),
		"four words":        strings.Replace(goodRelease, " 0 ", " 0 0 ", 1),
		"bad Valid-Until":   "Valid-Until: tomorrow\n" + goodRelease,
	} {
		if _, err := parseRelease([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	f, err := parseRelease([]byte(goodRelease))
	if err != nil || !f.allApart || len(f.files) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

// signDetached signs at a time of its own.
func signDetached(t *testing.T, e *openpgp.Entity, at time.Time, text []byte) []byte {
	t.Helper()
	sig := &packet.Signature{Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256, CreationTime: at, IssuerKeyId: &e.PrimaryKey.KeyId}
	d := crypto.SHA256.New()
	d.Write(text)
	if err := sig.Sign(d, e.PrivateKey, nil); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWeakDigestsDoNotSign(t *testing.T) {
	key := archivetest.NewKey(t, "Key")
	at := archivetest.Date
	v, err := newVerifier(Source{Keyring: archivetest.PublicKey(t, key)}, at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(goodRelease)
	strong := signDetached(t, key, at, text)
	if _, err := v.detached("Release", text, strong); err != nil {
		t.Fatalf("SHA-256: %v", err)
	}
	// The library does not sign with SHA-1, so the packet is made to say so: two
	// bytes of header, version, type, algorithm of the key, of the digest.
	weak := bytes.Clone(strong)
	weak[5] = 2
	if _, err := v.detached("Release", text, weak); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("SHA-1: %v", err)
	}
	// A weak one beside a strong one does no harm, nor does rubbish before it.
	if _, err := v.detached("Release", text, append(weak, strong...)); err != nil {
		t.Errorf("SHA-1 and SHA-256: %v", err)
	}
	if _, err := v.detached("Release", append(text, ' '), append(weak, strong...)); err == nil {
		t.Error("a changed text was accepted")
	}
	if _, err := v.detached("Release", text, nil); err == nil {
		t.Error("no signature was accepted")
	}
}

func TestClearSignedTextIsWhatWasSigned(t *testing.T) {
	key := archivetest.NewKey(t, "Key")
	v, err := newVerifier(Source{Keyring: archivetest.PublicKey(t, key)}, archivetest.Date)
	if err != nil {
		t.Fatal(err)
	}
	text := goodRelease + "Dashes: -\n - dash\nEnd: x\n"
	signed := archivetest.ClearSign(t, []byte(text), key)
	got, signer, err := v.clearSigned("InRelease", signed)
	if err != nil || strings.TrimRight(string(got), "\n") != strings.TrimRight(text, "\n") || len(signer) != 40 {
		t.Errorf("got %q by %s, %v", got, signer, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"cut":             func(b []byte) []byte { return b[:len(b)*2/3] },
		"two blocks":      func(b []byte) []byte { return append(bytes.Clone(b), b...) },
		"line before":     func(b []byte) []byte { return append([]byte("\n"), b...) },
		"HTML":            func([]byte) []byte { return []byte("<html>log in first</html>") },
		"other header":    func(b []byte) []byte { return bytes.Replace(b, []byte("Hash:"), []byte("Hush:"), 1) },
		"text in headers": func(b []byte) []byte { return bytes.Replace(b, []byte("\n\n"), []byte("\nSuite: x\n\n"), 1) },
	} {
		if _, _, err := v.clearSigned("InRelease", change(signed)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestJoinKeyringsReadsArmor(t *testing.T) {
	one, two := archivetest.NewKey(t, "One"), archivetest.NewKey(t, "Two")
	block := armored(t, archivetest.PublicKey(t, one))
	joined, err := JoinKeyrings(append(block, armored(t, archivetest.PublicKey(t, two))...), archivetest.PublicKey(t, one))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(joined))
	if err != nil || len(keys) != 3 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := JoinKeyrings([]byte(beginKey + "\n\nno base64!\n")); err == nil {
		t.Error("a block without keys was accepted")
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(goodRelease))
	f.Add([]byte("Date: \nSHA256:\n a b c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRelease(data)
		if err != nil {
			return
		}
		for name, d := range r.files {
			if d.size < 0 || !isDigest(d.sha256) || name == "" {
				t.Errorf("%q: %+v", name, d)
			}
		}
		if _, err := r.indexes("x", Source{Components: []string{"main"}, Arch: "amd64"}); err == nil && len(r.files) == 0 {
			t.Error("an index out of nothing")
		}
	})
}

func FuzzClearSigned(f *testing.F) {
	var tb testing.TB = f
	key := archivetest.NewKey(tb, "Key")
	v, err := newVerifier(Source{Keyring: archivetest.PublicKey(tb, key)}, archivetest.Date)
	if err != nil {
		f.Fatal(err)
	}
	signed := archivetest.ClearSign(tb, []byte(goodRelease), key)
	f.Add(signed)
	f.Add([]byte(beginMessage + "\nHash: SHA256\n\n\n-----BEGIN PGP SIGNATURE-----\n\n=twTO\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, _, err := v.clearSigned("InRelease", data)
		if err == nil && string(text) != goodRelease && string(text) != goodRelease+"\n" {
			t.Errorf("accepted %q", text)
		}
	})
}

func armored(t *testing.T, key []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pgparmor.Encode(&b, "PGP PUBLIC KEY BLOCK", nil)
	if err == nil {
		_, err = w.Write(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}
