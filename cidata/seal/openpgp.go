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

// isPGPMessage reports whether data begins with a packet that messages to the owners of keys begin with (RFC 9580,
// section 5): their encrypted session key, or a marker. Text in UTF-8 begins with neither.
func isPGPMessage(data []byte) bool {
	const sessionKey, marker = 1, 10
	if len(data) < 2 || data[0]&0x80 == 0 {
		return false
	}
	if data[0]&0x40 == 0 { // the older format of packets
		kind := data[0] >> 2 & 0xf
		return kind == sessionKey || kind == marker
	}
	kind := data[0] & 0x3f
	return kind == sessionKey || kind == marker && data[1] == 3
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

// unlock tries the passphrase on each key once. Messages encrypted with a passphrase itself are not read: a hostile one
// can ask for as much memory as it likes to derive its key (RFC 9580, section 3.7.1.4).
func unlock(passphrase []byte) openpgp.PromptFunction {
	asked := false
	return func(keys []openpgp.Key, _ bool) ([]byte, error) {
		if len(keys) == 0 {
			return nil, ErrNoKey
		}
		if asked || len(passphrase) == 0 {
			return nil, ErrPassphrase
		}
		asked = true
		for _, key := range keys {
			if key.PrivateKey.Decrypt(passphrase) == nil {
				return nil, nil
			}
		}
		return nil, ErrPassphrase
	}
}
