package uki

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The values are what systemd-measure of systemd 257 calculates for the sections
// of the fixture's image; that before any phase is this package's own.
func TestPCR11(t *testing.T) {
	want := []string{
		"5ee7e5594ce60f93a931945613627c86989e6f0b8026825c31dd2b5a790e5b5e",
		"1b4fb18d505e917a53de90f8dc47087cc0ffa498336bbbd361bf64934b62a04f",
		"c64d1ae1c5f5e2544856762bb2fc2235cae95f917a615086090e62b0e2df945f",
		"081b763c6ecccab3ab87230ef2c1fa167fc07ec9feb33e9db64c6639444c7f93",
		"69b6b56c7099c4edf53796eb842242ab8653f1a93b3deee503447b06a525ebc2",
	}
	f := read(t, build(t, ukiFixture(t)))
	values, err := PCR11(f.Sections, append([]string{""}, Phases()...))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if got := hex.EncodeToString(v.SHA256[:]); got != want[i] {
			t.Errorf("phase %q: %s, want %s", v.Phase, got, want[i])
		}
	}
	// A signature is made from the values and so changes none.
	u := ukiFixture(t)
	u.PCRSig = []byte("another")
	again, err := PCR11(read(t, build(t, u)).Sections, []string{""})
	if err != nil || again[0].SHA256 != values[0].SHA256 {
		t.Errorf("%x, %v with another signature", again[0].SHA256, err)
	}
}

// The digest is what pesign of Debian 13 calculates for the fixture's image.
func TestAuthenticode(t *testing.T) {
	const want = "407faf662dccc88855f22586a01a3c331fc7e09a0d5c605d56cfa6f865d1fce6"
	b := build(t, ukiFixture(t))
	for _, checksum := range []byte{0, 1} {
		// The checksum is not digested.
		b[128+4+coffHeaderSize+optionalCheckSum] = checksum
		got, err := Authenticode(bytes.NewReader(b), int64(len(b)))
		if err != nil || hex.EncodeToString(got[:]) != want {
			t.Errorf("%x, %v; want %s", got, err, want)
		}
	}
	b[len(b)-1]++
	if got, _ := Authenticode(bytes.NewReader(b), int64(len(b))); hex.EncodeToString(got[:]) == want {
		t.Error("a changed section has the same digest")
	}
}
