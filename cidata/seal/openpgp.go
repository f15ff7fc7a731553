package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const pgpArmor = "-----BEGIN PGP MESSAGE-----"

var errNoKeys = errors.New("OpenPGP keys: none in it: export some with gpg --export")

// isPGPMessage reports whether data begins with a packet that messages begin with (RFC 9580, section 5): one of
// session keys, of encrypted data or a marker.
func isPGPMessage(data []byte) bool {
	if len(data) == 0 || data[0]&0x80 == 0 {
		return false
	}
	kind := data[0] >> 2 & 0xf
	if data[0]&0x40 != 0 {
		kind = data[0] & 0x3f
	}
	switch kind {
	case 1, 3, 9, 10, 18, 20:
		return true
	}
	return false
}

// ParseOpenPGPKeys reads OpenPGP keys, public or secret: binary, or any number of armoured blocks one after the other.
func ParseOpenPGPKeys(data []byte) (openpgp.EntityList, error) {
	if !bytes.Contains(data, []byte("-----BEGIN PGP")) {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("OpenPGP keys: %w", err)
		}
		if len(keys) == 0 {
			return nil, errNoKeys
		}
		return keys, nil
	}
	var keys openpgp.EntityList
	for r := bufio.NewReader(bytes.NewReader(data)); ; {
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("OpenPGP keys: %w", err)
		}
		if block.Type != openpgp.PublicKeyType && block.Type != openpgp.PrivateKeyType {
			return nil, fmt.Errorf("OpenPGP keys: a %s is no key", block.Type)
		}
		some, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, fmt.Errorf("OpenPGP keys: %w", err)
		}
		// What is left of the block is its checksum: the next one begins behind it.
		if _, err := io.Copy(io.Discard, block.Body); err != nil {
			return nil, fmt.Errorf("OpenPGP keys: %w", err)
		}
		keys = append(keys, some...)
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}

// EncryptOpenPGP encrypts data so that the owner of each key can read it. now says which keys have expired. Entropy
// for session keys and padding is taken from random.
func EncryptOpenPGP(data []byte, keys openpgp.EntityList, random io.Reader, now time.Time) ([]byte, error) {
	config := &packet.Config{Rand: random, DefaultCipher: packet.CipherAES256, Time: func() time.Time { return now }}
	for _, key := range keys {
		if _, ok := key.EncryptionKey(now); !ok {
			return nil, fmt.Errorf("encrypt with OpenPGP: key %X cannot be encrypted to: it has expired, is revoked or only signs", key.PrimaryKey.Fingerprint)
		}
	}
	var out bytes.Buffer
	w, err := openpgp.Encrypt(&out, keys, nil, &openpgp.FileHints{IsBinary: true}, config)
	if err != nil {
		return nil, fmt.Errorf("encrypt with OpenPGP: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("encrypt with OpenPGP: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt with OpenPGP: %w", err)
	}
	return out.Bytes(), nil
}

// DecryptOpenPGP returns what EncryptOpenPGP or gpg(1) encrypted, at most MaxArchive bytes of it. ErrNoKey where no
// key opens it, ErrPassphrase where one would that stays locked. Nothing is returned of a message that was changed, or
// that has no protection against it.
func DecryptOpenPGP(data []byte, keys openpgp.EntityList, passphrase []byte, now time.Time) ([]byte, error) {
	var r io.Reader = bytes.NewReader(data)
	if FormOf(data) == OpenPGP && !isPGPMessage(data) {
		block, err := armor.Decode(r)
		if err != nil {
			return nil, fmt.Errorf("decrypt with OpenPGP: %w", err)
		}
		r = block.Body
	}
	message, err := openpgp.ReadMessage(r, keys, unlock(passphrase), &packet.Config{Time: func() time.Time { return now }})
	switch {
	case errors.Is(err, pgperrors.ErrKeyIncorrect):
		return nil, fmt.Errorf("decrypt with OpenPGP: %w", ErrNoKey)
	case err != nil:
		return nil, fmt.Errorf("decrypt with OpenPGP: %w", err)
	case !message.IsEncrypted:
		return nil, errors.New("decrypt with OpenPGP: it is not encrypted")
	}
	// The end of the message authenticates all of it.
	out, err := readAll(message.UnverifiedBody, MaxArchive)
	if err != nil {
		return nil, fmt.Errorf("decrypt with OpenPGP: %w", err)
	}
	return out, nil
}

// unlock tries the passphrase on each key, and on the message where that has one itself, once.
func unlock(passphrase []byte) openpgp.PromptFunction {
	asked := false
	return func(keys []openpgp.Key, symmetric bool) ([]byte, error) {
		if asked || len(passphrase) == 0 {
			return nil, ErrPassphrase
		}
		asked = true
		opened := false
		for _, key := range keys {
			if key.PrivateKey != nil && key.PrivateKey.Encrypted && key.PrivateKey.Decrypt(passphrase) == nil {
				opened = true
			}
		}
		if !opened && !symmetric {
			return nil, ErrPassphrase
		}
		return passphrase, nil
	}
}
