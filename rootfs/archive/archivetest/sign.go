package archivetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Signature is how Publish signs.
type Signature int

const (
	// Good: by the key of Archive.Keyring.
	Good Signature = iota
	// Unsigned: there is a Release file and no signature.
	Unsigned
	// UnknownKey: by a key that is not in Archive.Keyring.
	UnknownKey
	// Tampered: the text was changed after signing.
	Tampered
	// BothKeys: by an unknown key first and by the good one second.
	BothKeys
	// TextBefore and TextAfter: unsigned fields stand outside the block.
	TextBefore
	TextAfter
)

// keyTime is when keys are made: before any archive's date.
var keyTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// NewKey makes a signing key (Ed25519), valid from 2020 for ever.
func NewKey(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	return newKey(t, name, 0)
}

// NewExpiringKey makes a key that is valid for that time from 2020-01-01.
func NewExpiringKey(t testing.TB, name string, valid time.Duration) *openpgp.Entity {
	t.Helper()
	return newKey(t, name, uint32(valid/time.Second))
}

func newKey(t testing.TB, name string, seconds uint32) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", "archive@example.org", &packet.Config{
		Algorithm:       packet.PubKeyAlgoEdDSA,
		Time:            func() time.Time { return keyTime },
		KeyLifetimeSecs: seconds,
	})
	if err != nil {
		t.Fatalf("archivetest: %v", err)
	}
	return e
}

// PublicKey returns a key's public part, binary.
func PublicKey(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatalf("archivetest: %v", err)
	}
	return b.Bytes()
}

// SignWith makes e the archive's key; Keyring follows.
func (a *Archive) SignWith(e *openpgp.Entity) {
	a.t.Helper()
	a.entity, a.Keyring = e, PublicKey(a.t, e)
}

// sign puts the Release file and its signature below base.
func (a *Archive) sign(base string, text []byte) {
	a.t.Helper()
	keys := []*openpgp.Entity{a.entity}
	switch a.Signature {
	case Unsigned:
		a.put(base+"Release", file{data: text})
		return
	case UnknownKey:
		keys = []*openpgp.Entity{NewKey(a.t, "Stranger")}
	case BothKeys:
		keys = []*openpgp.Entity{NewKey(a.t, "Stranger"), a.entity}
	}
	config := &packet.Config{Time: func() time.Time { return keyTime.Add(time.Hour) }}
	if a.Detached {
		var sig bytes.Buffer
		if err := openpgp.ArmoredDetachSign(&sig, keys[len(keys)-1], bytes.NewReader(text), config); err != nil {
			a.t.Fatalf("archivetest: %v", err)
		}
		a.put(base+"Release", file{data: a.tamper(text)})
		a.put(base+"Release.gpg", file{data: sig.Bytes()})
		return
	}
	a.put(base+"InRelease", file{data: a.tamper(ClearSign(a.t, text, keys...))})
}

// ClearSign signs a text with keys made by NewKey.
func ClearSign(t testing.TB, text []byte, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	config := &packet.Config{Time: func() time.Time { return keyTime.Add(time.Hour) }}
	w, err := clearsign.EncodeMulti(&b, private, config)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatalf("archivetest: %v", err)
	}
	return append(b.Bytes(), '\n')
}

// tamper does to a signed file what Signature says.
func (a *Archive) tamper(signed []byte) []byte {
	extra := fmt.Sprintf("Description: %v\n", a.Signature)
	switch a.Signature {
	case Tampered:
		return bytes.Replace(signed, []byte("Origin: Test"), []byte("Origin: Tost"), 1)
	case TextBefore:
		return append([]byte(extra), signed...)
	case TextAfter:
		return append(signed, extra...)
	}
	return signed
}
