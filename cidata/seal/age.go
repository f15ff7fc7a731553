package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// The first bytes of age files (age-encryption.org/v1) and of their armour.
const (
	ageIntro = "age-encryption.org/v1\n"
	ageArmor = armor.Header
)

// ErrNoKey says that none of the keys at hand opens an archive.
var ErrNoKey = errors.New("none of the keys given opens it")

// ErrPassphrase says that a key needs a passphrase, or another one.
var ErrPassphrase = errors.New("its key needs another passphrase")

// ParseAgeRecipients reads recipients of age, one a line; empty lines and those that begin with # are skipped.
func ParseAgeRecipients(data []byte) ([]age.Recipient, error) {
	recipients, err := age.ParseRecipients(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: age's recipients begin with age1; age-keygen makes them", err)
	}
	return recipients, nil
}

// ParseAgeIdentities reads the secret keys of age that age-keygen writes, also where the file itself is encrypted with
// a passphrase; ErrPassphrase where that is not the right one.
func ParseAgeIdentities(data, passphrase []byte) ([]age.Identity, error) {
	if FormOf(data) == Age {
		if len(passphrase) == 0 {
			return nil, ErrPassphrase
		}
		identity, err := age.NewScryptIdentity(string(passphrase))
		if err != nil {
			return nil, err
		}
		data, err = DecryptAge(data, []age.Identity{identity})
		if errors.Is(err, ErrNoKey) {
			return nil, ErrPassphrase
		}
		if err != nil {
			return nil, err
		}
	}
	identities, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		// The library's message could quote a line of the file, which holds secrets.
		return nil, errors.New("not a file of age's secret keys: they begin with AGE-SECRET-KEY-; age-keygen makes them")
	}
	return identities, nil
}

// EncryptAge encrypts data so that each of the recipients can read it.
func EncryptAge(data []byte, recipients []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt with age: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("encrypt with age: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt with age: %w", err)
	}
	return out.Bytes(), nil
}

// DecryptAge returns what EncryptAge or age(1) encrypted, at most MaxArchive bytes of it; ErrNoKey where no identity
// opens it. Nothing is returned of a file that was cut short or changed.
func DecryptAge(data []byte, identities []age.Identity) ([]byte, error) {
	var r io.Reader = bytes.NewReader(data)
	if !strings.HasPrefix(string(data[:min(len(data), len(ageIntro))]), ageIntro) {
		r = armor.NewReader(r)
	}
	var none *age.NoIdentityMatchError
	plain, err := age.Decrypt(r, identities...)
	if errors.As(err, &none) {
		return nil, fmt.Errorf("decrypt with age: %w", ErrNoKey)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt with age: %w", err)
	}
	out, err := readAll(plain, MaxArchive)
	if err != nil {
		return nil, fmt.Errorf("decrypt with age: %w", err)
	}
	return out, nil
}
