package seed

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/uuid"
)

// The vectors were computed with OpenSSL:
//
//	K=$(printf %s "minimal 1.0" | openssl dgst -sha256 -r | cut -d' ' -f1)
//	printf %s disk | openssl dgst -sha256 -mac hmac -macopt hexkey:$K
func TestValuesAreHMACs(t *testing.T) {
	s := New("minimal 1.0")
	const mac = "425731bf0cc59c11976fa2f30eb8ec6977df1f3c134a2246b0c2993ff4dd5c30"
	if got := hex.EncodeToString(s.Bytes("disk", 32)); got != mac {
		t.Errorf("Bytes: got %s, want %s", got, mac)
	}
	if got, want := s.UUID("disk").String(), "425731bf-0cc5-4c11-976f-a2f30eb8ec69"; got != want {
		t.Errorf("UUID: got %s, want %s", got, want)
	}
	if got, want := s.Uint32("disk"), uint32(0x425731bf); got != want {
		t.Errorf("Uint32: got %#x, want %#x", got, want)
	}
}

func TestLongerValuesBeginWithShorterOnes(t *testing.T) {
	s := New("x")
	long := s.Bytes("salt", 1000)
	if len(long) != 1000 {
		t.Fatalf("got %d bytes", len(long))
	}
	for _, n := range []int{0, 1, 31, 32, 33, 64, 999} {
		if got := s.Bytes("salt", n); !bytes.Equal(got, long[:n]) {
			t.Errorf("%d bytes are not the beginning of 1000", n)
		}
	}
	if bytes.Equal(long[:32], long[32:64]) {
		t.Error("the value repeats itself")
	}
}

func TestUUIDHasVersion4Shape(t *testing.T) {
	for _, purpose := range []string{"", "disk", "root", "esp", "data"} {
		u := New("x").UUID(purpose)
		if u.Version() != 4 || u.Variant() != uuid.RFC4122 {
			t.Errorf("%q: %s has version %d and variant %s", purpose, u, u.Version(), u.Variant())
		}
	}
}
