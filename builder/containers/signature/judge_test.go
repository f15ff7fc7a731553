package signature_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/signature"
)

// TestSkopeoJudgesAlike asks skopeo and the package about the same policies
// and images. Any skopeo is asked with signatures of OpenPGP, whose policies
// are the same but for the kind of key; one with sigstore is asked with these
// too.
func TestSkopeoJudgesAlike(t *testing.T) {
	k, other := ec(t, elliptic.P256()), ec(t, elliptic.P384())
	ask := func(t *testing.T, theirKey, theirOther string, sign func(lookaside string, marks []mark)) {
		s := serve(t)
		m := newMemory()
		digest := m.realImage(t, "", "1.4")
		name := s.host + "/team/web"
		ours, theirs := judgements(s.host, sigstoreFields(k), sigstoreFields(other)), judgements(s.host, theirKey, theirOther)
		verdicts := map[bool]int{}
		images := markings(name, digest)
		if testing.Short() {
			images = images[:6]
		}
		for _, image := range images {
			repository := newMemory()
			repository.realImage(t, "", "1.4")
			var signatures []signed
			for _, mark := range image.marks {
				signer := k
				if mark.other {
					signer = other
				}
				signatures = append(signatures, signer.simple(t, mark.digest, mark.name))
			}
			repository.tagSignatures("", digest, signatures...)
			s.push(t, repository, "team/web")
			sign(s.lookaside, image.marks)
			for i, policy := range ours {
				references := []string{name + ":1.4"}
				switch {
				case policy.byDigest:
					references = append(references, name+"@"+string(digest))
				case policy.simple && image.name != "with-tag" || testing.Short() && i%3 != 0:
					continue
				}
				for _, reference := range references {
					answer := s.skopeo(t, theirs[i].text, "docker://"+reference, "dir:"+filepath.Join(t.TempDir(), "out"))
					if disabled(answer) {
						t.Skip("SKIPPED: needs a skopeo with sigstore, as Debian 13's (package skopeo); Debian 12's is built without")
					}
					v, err := signature.NewPolicy([]byte(policy.text), noKeys)
					if err == nil {
						_, err = v.Verify(t.Context(), s, signature.Image{Reference: reference, Digest: digest})
					}
					verdicts[err == nil]++
					if (err == nil) != (answer == nil) {
						t.Errorf("%s of %s under %s:\nhere: %v\n%v", reference, image.name, theirs[i].text, err, answer)
					}
				}
			}
		}
		t.Logf("skopeo was asked as well: %d accepted, %d refused", verdicts[true], verdicts[false])
	}
	t.Run("sigstore", func(t *testing.T) {
		ask(t, sigstoreFields(k), sigstoreFields(other), func(string, []mark) {})
	})
	t.Run("OpenPGP", func(t *testing.T) {
		p := newOpenPGP(t)
		ask(t, p.fields("key"), p.fields("other"), p.sign)
	})
}

// A mark is one signature of an image.
type mark struct {
	other  bool // by the other key
	digest containers.Digest
	name   string
}

// A marking is an image with signatures.
type marking struct {
	name  string
	marks []mark
}

func markings(name string, digest containers.Digest) []marking {
	const vendor = "vendor.example.com/product/web:1.4"
	return []marking{
		{"with-tag", []mark{{false, digest, name + ":1.4"}}},
		{"unsigned", nil},
		{"as-cosign", []mark{{false, digest, name}}},
		{"other-tag", []mark{{false, digest, name + ":1.5"}}},
		{"by-digest", []mark{{false, digest, name + "@" + string(digest)}}},
		{"elsewhere", []mark{{false, digest, vendor}}},
		{"other-key", []mark{{true, digest, name + ":1.4"}}},
		{"other-digest", []mark{{false, containers.DigestOf([]byte("x")), name + ":1.4"}}},
		{"several", []mark{{true, digest, name}, {false, digest, vendor}, {false, digest, name + ":1.4"}}},
		{"bad-name", []mark{{false, digest, "no name"}}},
		{"at-port", []mark{{false, digest, "vendor.example.com:5000/web:1.4"}}},
	}
}

// A judgement is a policy to judge images by.
type judgement struct {
	text     string
	byDigest bool // the image is asked for by its digest too
	simple   bool // one image tells as much as all
}

// judgements are policies with two keys, each given as the fields of a
// requirement.
func judgements(host, k, other string) []judgement {
	name := host + "/team/web"
	address, _, _ := strings.Cut(host, ":")
	requirement := func(fields, more string) string { return "{" + fields + more + "}" }
	var list []judgement
	add := func(j judgement, form string, values ...any) {
		j.text = fmt.Sprintf(form, values...)
		list = append(list, j)
	}
	const accept, reject = `{"type":"insecureAcceptAnything"}`, `{"type":"reject"}`
	for _, requirements := range []string{
		requirement(k, ""), requirement(k, "") + "," + accept, requirement(k, "") + "," + reject,
		requirement(k, "") + "," + requirement(other, `,"signedIdentity":{"type":"matchRepository"}`),
	} {
		add(judgement{}, `{"default":[%s]}`, requirements)
	}
	for _, identity := range []string{`"matchExact"`, `"matchRepoDigestOrExact"`, `"matchRepository"`,
		`"remapIdentity","prefix":"` + host + `/team","signedPrefix":"vendor.example.com/product"`} {
		add(judgement{byDigest: true}, `{"default":[%s]}`, requirement(k, `,"signedIdentity":{"type":`+identity+`}`))
	}
	for _, identity := range []string{
		`"exactReference","dockerReference":"` + name + `:1.4"`,
		`"exactRepository","dockerRepository":"vendor.example.com/product/web"`,
		`"remapIdentity","prefix":"` + name + `","signedPrefix":"vendor.example.com:5000/web"`,
	} {
		add(judgement{}, `{"default":[%s]}`, requirement(k, `,"signedIdentity":{"type":`+identity+`}`))
	}
	for _, identity := range []string{
		`"exactReference","dockerReference":"` + name + `"`, `"exactRepository","dockerRepository":"vendor.example.com/product"`,
		`"remapIdentity","prefix":"` + host + `/tea","signedPrefix":"vendor.example.com/product"`,
		`"remapIdentity","prefix":"` + address + `","signedPrefix":"vendor.example.com/product"`,
		`"remapIdentity","prefix":"team/","signedPrefix":"vendor.example.com/product"`,
		`"remapIdentity","prefix":"` + host + `/team","signedPrefix":"vendor"`,
	} {
		add(judgement{simple: true}, `{"default":[%s]}`, requirement(k, `,"signedIdentity":{"type":`+identity+`}`))
	}
	for _, scopes := range []string{
		`"` + name + `:1.4":[` + accept + `]`, `"` + name + `":[` + requirement(k, "") + `]`,
		`"` + host + `/team":[` + requirement(k, "") + `],"":[` + accept + `]`, `"` + host + `":[` + accept + `],"` + name + `":[` + reject + `]`,
		`"` + address + `":[` + accept + `]`, `"*.0.1":[` + accept + `]`, `"*.0.0.1":[` + reject + `],"":[` + accept + `]`,
		`"":[` + reject + `],"":[` + accept + `]`,
	} {
		add(judgement{simple: true}, `{"default":[%s],"transports":{"docker":{%s}}}`, reject, scopes)
	}
	for _, policy := range []string{
		`{"default":[]}`, `{"default":[{"type":"insecureAcceptAnything","x":1}]}`, `{"default":[` + accept + `],"Default":[]}`,
		`{"default":[` + requirement(k, `,"keyPath":"/x"`) + `]}`, `{"default":[` + requirement(k, `,"signedIdentity":null`) + `]}`,
	} {
		list = append(list, judgement{text: policy, simple: true})
	}
	return list
}

func sigstoreFields(k pair) string {
	return fmt.Sprintf(`"type":"sigstoreSigned","keyData":%q`, base64.StdEncoding.EncodeToString(k.public))
}

// An openPGP makes signatures of simple signing with GnuPG.
type openPGP struct {
	t    *testing.T
	home string
}

func newOpenPGP(t *testing.T) *openPGP {
	t.Helper()
	for _, tool := range []string{"gpg", "gpgconf"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIPPED: needs " + tool + " (Debian package gnupg)")
		}
	}
	// A socket's path is short, and a test's folder may not be.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	p := &openPGP{t, home}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	for _, user := range []string{"key", "other"} {
		p.gpg(nil, "--quick-generate-key", user+"@example.com", "ed25519", "sign", "never")
	}
	return p
}

func (p *openPGP) gpg(input []byte, arguments ...string) []byte {
	p.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", p.home, "--batch", "--pinentry-mode", "loopback", "--passphrase", ""}, arguments...)...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("gpg %q: %v", arguments, err)
	}
	return out
}

func (p *openPGP) fields(user string) string {
	return fmt.Sprintf(`"type":"signedBy","keyType":"GPGKeys","keyData":%q`, base64.StdEncoding.EncodeToString(p.gpg(nil, "--export", user+"@example.com")))
}

// sign puts signatures where skopeo looks for those of the image.
func (p *openPGP) sign(lookaside string, marks []mark) {
	p.t.Helper()
	m := newMemory()
	folder := filepath.Join(lookaside, "team", "web@"+strings.Replace(string(m.realImage(p.t, "", "")), ":", "=", 1))
	if err := os.RemoveAll(folder); err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		p.t.Fatal(err)
	}
	for i, mark := range marks {
		user := "key@example.com"
		if mark.other {
			user = "other@example.com"
		}
		payload := bytes.Replace(payloadOf(mark.digest, mark.name), []byte("cosign container image signature"), []byte("atomic container signature"), 1)
		payload = bytes.Replace(payload, []byte(`"optional":null`), []byte(`"optional":{}`), 1)
		data := p.gpg(payload, "--local-user", user, "--sign", "--output", "-")
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("signature-%d", i+1)), data, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
}
