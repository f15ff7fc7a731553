package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxKeyFile is the largest key file, in bytes.
	maxKeyFile = 64 << 10
	// RSA keys below are unsafe, above slow to verify with.
	minRSA, maxRSA = 2048, 8192
)

// A key is a public key.
type key struct {
	public crypto.PublicKey
	// fingerprint is the SHA-256 of the key in DER, as "sha256:" and hexadecimal digits:
	// openssl pkey -pubin -in cosign.pub -outform DER | sha256sum.
	fingerprint string
}

// Fingerprint returns what a Signature calls a public key, of a PEM file's
// content: "sha256:" and the SHA-256 of its SubjectPublicKeyInfo in DER.
// Errors match ErrPolicy.
func Fingerprint(pemFile []byte) (string, error) {
	k, err := parseKey(pemFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return k.fingerprint, nil
}

// KeyReader reads the key files that a policy names, up to 64 KiB. Paths in a
// policy are absolute; one that is not is taken from dir, the policy's folder,
// so that policy and keys can lie beside a recipe.
func KeyReader(dir string) func(path string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
		if err == nil && len(data) > maxKeyFile {
			err = fmt.Errorf("%s: more than %d bytes are no public key", path, maxKeyFile)
		}
		return data, err
	}
}

func parseKeys(pems [][]byte) ([]*key, error) {
	var keys []*key
	for i, data := range pems {
		k, err := parseKey(data)
		if err != nil {
			return nil, fmt.Errorf("%w: key %d: %w", ErrPolicy, i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(data []byte) (*key, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block: a public key begins with -----BEGIN PUBLIC KEY-----")
	}
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return nil, errors.New("this is a private key: name the public one, such as cosign.pub")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("more than one PEM block: write each key into a file of its own")
	}
	var public crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a PEM block %q: only public keys are verified with, no certificates", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if err := usable(public); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return &key{public, "sha256:" + hex.EncodeToString(sum[:])}, nil
}

func usable(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("an RSA key of %d bits: %d to %d are taken", bits, minRSA, maxRSA)
		}
		return nil
	}
	return errors.New("a key of this kind is not taken: ECDSA on P-256, P-384 or P-521, Ed25519 and RSA are")
}

// signer returns the first of the keys that made the signature of a message,
// nil where none did.
func signer(keys []*key, message, signature []byte) *key {
	for _, k := range keys {
		if k.verify(message, signature) {
			return k
		}
	}
	return nil
}

// verify checks a signature in the forms that cosign makes: of the message's
// SHA-256 (ECDSA, RSA in PKCS #1 v1.5) or the message (Ed25519). Newer signers
// take the hash that goes with the key.
func (k *key) verify(message, signature []byte) bool {
	hash := sha256.Sum256(message)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(public, hash[:], signature) {
			return true
		}
		switch public.Curve {
		case elliptic.P384():
			long := sha512.Sum384(message)
			return ecdsa.VerifyASN1(public, long[:], signature)
		case elliptic.P521():
			long := sha512.Sum512(message)
			return ecdsa.VerifyASN1(public, long[:], signature)
		}
	case ed25519.PublicKey:
		if ed25519.Verify(public, message, signature) {
			return true
		}
		long := sha512.Sum512(message)
		return ed25519.VerifyWithOptions(public, long[:], signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], signature) == nil
	}
	return false
}
