package archive

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Bounds on what is verified, in bytes and signatures.
const (
	maxRelease    = 16 << 20
	maxSignature  = 1 << 20
	maxKeyring    = 16 << 20
	maxSignatures = 32
)

// strongHashes are the digests a signature may use. SHA-1 and MD5 are not among
// them: collisions of both are made in practice.
var strongHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}

const (
	beginMessage = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginKey     = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
)

// JoinKeyrings puts keyrings, each binary or armored (one block or several),
// together as one binary keyring.
func JoinKeyrings(keyrings ...[]byte) ([]byte, error) {
	var joined bytes.Buffer
	for _, k := range keyrings {
		if len(k) > maxKeyring {
			return nil, fmt.Errorf("keyring of %d bytes: more than %d are not read", len(k), maxKeyring)
		}
		if !bytes.Contains(k, []byte(beginKey)) {
			joined.Write(k)
			continue
		}
		for rest := k; ; {
			i := bytes.Index(rest, []byte(beginKey))
			if i < 0 {
				break
			}
			rest = rest[i:]
			end := len(rest)
			if j := bytes.Index(rest[1:], []byte(beginKey)); j >= 0 {
				end = j + 1
			}
			block, err := armor.Decode(bytes.NewReader(rest[:end]))
			if err != nil {
				return nil, fmt.Errorf("armored keyring: %w", err)
			}
			if _, err := io.Copy(&joined, block.Body); err != nil {
				return nil, fmt.Errorf("armored keyring: %w", err)
			}
			rest = rest[end:]
		}
	}
	return joined.Bytes(), nil
}

// A verifier checks signatures against one keyring at one time.
type verifier struct {
	keys openpgp.EntityList
	from string // where the keys come from, for errors
	now  time.Time
}

func newVerifier(s Source, now time.Time) (*verifier, error) {
	v := &verifier{from: s.KeyringName, now: now}
	if v.from == "" {
		v.from = "the keyring that was given"
	}
	fail := func(err error) error {
		return &Error{URL: s.String(), Kind: ErrUnknownKey, Detail: "keys of " + v.from + " cannot be read", Err: err, Do: "give a keyring with the archive's public keys"}
	}
	joined, err := JoinKeyrings(s.Keyring)
	if err != nil {
		return nil, fail(err)
	}
	if v.keys, err = openpgp.ReadKeyRing(bytes.NewReader(joined)); err != nil {
		return nil, fail(err)
	}
	if len(v.keys) == 0 {
		return nil, fail(errors.New("it holds no key"))
	}
	return v, nil
}

// clearSigned returns the text of an InRelease file that a known key has signed,
// and that key's fingerprint. The text is made of exactly the bytes the
// signature covers; a file with anything outside its signed block is refused.
func (v *verifier) clearSigned(url string, file []byte) (text []byte, signer string, err error) {
	if !bytes.HasPrefix(file, []byte(beginMessage)) {
		return nil, "", &Error{URL: url, Kind: ErrSignature, Detail: "the file does not begin with " + beginMessage, Do: "check that this is an archive and that no portal or proxy answers in its place"}
	}
	block, rest := clearsign.Decode(file)
	if block == nil {
		return nil, "", &Error{URL: url, Kind: ErrSignature, Detail: "the clear-signed text is not complete", Do: "try again, or use another mirror"}
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", &Error{URL: url, Kind: ErrSignature, Detail: "there is text after the signature", Do: "use another mirror"}
	}
	sigs, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, maxSignature))
	if err != nil {
		return nil, "", &Error{URL: url, Kind: ErrSignature, Detail: "the armored signature cannot be read", Err: err, Do: "try again, or use another mirror"}
	}
	if signer, err = v.check(url, block.Bytes, sigs); err != nil {
		return nil, "", err
	}
	return append(bytes.ReplaceAll(block.Bytes, []byte("\r\n"), []byte("\n")), '\n'), signer, nil
}

// detached checks Release.gpg, armored or binary, against Release.
func (v *verifier) detached(url string, text, signature []byte) (signer string, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(signature), []byte("-----BEGIN PGP")) {
		block, err := armor.Decode(bytes.NewReader(signature))
		if err != nil {
			return "", &Error{URL: url, Kind: ErrSignature, Detail: "the armored signature cannot be read", Err: err, Do: "try again, or use another mirror"}
		}
		if signature, err = io.ReadAll(io.LimitReader(block.Body, maxSignature)); err != nil {
			return "", &Error{URL: url, Kind: ErrSignature, Detail: "the armored signature cannot be read", Err: err, Do: "try again, or use another mirror"}
		}
	}
	return v.check(url, text, signature)
}

// check looks for one good signature by a known key among the packets of sigs
// and returns the key's fingerprint.
func (v *verifier) check(url string, signed, sigs []byte) (string, error) {
	var bad, unknown []string
	packets := packet.NewOpaqueReader(bytes.NewReader(sigs))
	for n := 0; n < maxSignatures; n++ {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			bad = append(bad, "signature "+err.Error())
			break
		}
		signer, id, err := v.one(signed, p)
		switch {
		case err == nil:
			return signer, nil
		case errors.Is(err, pgperrors.ErrUnknownIssuer):
			unknown = append(unknown, id)
		default:
			bad = append(bad, id+" "+err.Error())
		}
	}
	if len(bad) > 0 {
		return "", &Error{URL: url, Kind: ErrSignature, Detail: strings.Join(bad, ", ") + " (keys are from " + v.from + ")", Do: "try again or use another mirror; where the key has expired, give a newer keyring"}
	}
	if len(unknown) > 0 {
		return "", &Error{URL: url, Kind: ErrUnknownKey, Detail: strings.Join(unknown, ", ") + " is not among the " + fmt.Sprint(len(v.keys)) + " keys of " + v.from, Do: "install the distribution's newer keyring package on this host, or give the keyring"}
	}
	return "", &Error{URL: url, Kind: ErrSignature, Detail: "there is no signature", Do: "use an archive that signs its Release files"}
}

// one checks one packet. The id it returns is fit for an error.
func (v *verifier) one(signed []byte, p *packet.OpaquePacket) (signer, id string, err error) {
	id = "a signature"
	var raw bytes.Buffer
	if err := p.Serialize(&raw); err != nil {
		return "", id, err
	}
	parsed, err := packet.Read(bytes.NewReader(raw.Bytes()))
	if err != nil {
		// A signature by an algorithm of tomorrow beside one of today.
		return "", id, err
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok {
		return "", id, errors.New("is another kind of packet")
	}
	if sig.IssuerKeyId == nil {
		return "", id, errors.New("does not name its key")
	}
	id = fmt.Sprintf("key %016X", *sig.IssuerKeyId)
	if len(v.keys.KeysById(*sig.IssuerKeyId)) == 0 {
		return "", id, pgperrors.ErrUnknownIssuer
	}
	if !slices.Contains(strongHashes, sig.Hash) {
		return "", id, fmt.Errorf("signed with %v, which is too weak", sig.Hash)
	}
	config := &packet.Config{Time: func() time.Time { return v.now }}
	_, entity, err := openpgp.VerifyDetachedSignature(v.keys, bytes.NewReader(signed), bytes.NewReader(raw.Bytes()), config)
	switch {
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", id, errors.New("has expired")
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", id, errors.New("may not sign")
	case err != nil:
		return "", id, err
	}
	return fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint), id, nil
}
