package cidata

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// keyTypes are the public key types that sshd takes in authorized_keys (sshd(8), PubkeyAcceptedAlgorithms).
var keyTypes = []string{
	"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
}

// checkKey says what is wrong with one line of authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"), "" where
// nothing is.
func checkKey(line string) string {
	words := keyWords(line)
	i := slices.IndexFunc(words, func(word string) bool {
		return slices.Contains(keyTypes, word) || strings.HasSuffix(word, "-cert-v01@openssh.com")
	})
	switch {
	case strings.Contains(line, "PRIVATE KEY"):
		return "is a private key"
	case i < 0 || i > 1:
		return "is no SSH public key"
	case i+1 >= len(words):
		return "is an SSH public key that ends after its type"
	}
	blob, err := base64.StdEncoding.DecodeString(words[i+1])
	if err != nil {
		blob, err = base64.RawStdEncoding.DecodeString(words[i+1])
	}
	if err != nil || len(blob) < 4 {
		return "is an SSH public key that is cut off or damaged"
	}
	if !wholeKey(blob, words[i]) {
		return "is an SSH public key that is cut off or damaged"
	}
	return ""
}

// wholeKey reports whether a key's blob is one of its type: RFC 4253, section 6.6, the type's name and further fields,
// each with its length before it. A certificate has other fields.
func wholeKey(blob []byte, keyType string) bool {
	fields := 0
	for rest := blob; len(rest) > 0; fields++ {
		if len(rest) < 4 {
			return false
		}
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-4) {
			return false
		}
		field := rest[4 : 4+length]
		rest = rest[4+length:]
		if fields == 0 && string(field) != keyType || fields == 1 && keyType == "ssh-ed25519" && len(field) != 32 {
			return false
		}
		if fields == 0 && strings.Contains(keyType, "-cert-") {
			return len(rest) > 0
		}
	}
	return fields > 1
}

// keyWords splits a line at spaces outside of double quotes, which options may have.
func keyWords(line string) []string {
	quoted, escaped := false, false
	return strings.FieldsFunc(line, func(r rune) bool {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t')
	})
}
