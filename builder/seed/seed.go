// Package seed derives every number of an image that other tools would draw at
// random: GUIDs of disks and partitions, salts, hash seeds, FAT serial numbers.
//
// Each value is HMAC-SHA256(seed, purpose), so that the same seed gives the
// same image and two values of one image tell nothing of each other. It is not
// for secrets: the seed is as public as the recipe it comes from.
package seed

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Seed is what all values of one image are derived from.
type Seed [32]byte

// New makes a seed from a text, such as a recipe's name and version.
func New(text string) Seed { return sha256.Sum256([]byte(text)) }

// Bytes derives n bytes for a purpose. The bytes for a smaller n are the
// beginning of those for a larger one.
func (s Seed) Bytes(purpose string, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for counter := uint32(0); len(out) < n; counter++ {
		mac := hmac.New(sha256.New, s[:])
		mac.Write([]byte(purpose))
		if counter > 0 {
			mac.Write(binary.BigEndian.AppendUint32([]byte{0}, counter))
		}
		out = mac.Sum(out)
	}
	return out[:n]
}

// UUID derives a UUID for a purpose. Its version and variant fields say 4 and
// RFC 4122 (section 4.4), as a random UUID's do.
func (s Seed) UUID(purpose string) uuid.UUID {
	var u uuid.UUID
	copy(u[:], s.Bytes(purpose, len(u)))
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// Uint32 derives a 32-bit number for a purpose, such as a FAT volume serial.
func (s Seed) Uint32(purpose string) uint32 {
	return binary.BigEndian.Uint32(s.Bytes(purpose, 4))
}
