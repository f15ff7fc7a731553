package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// sizes are numbers of data blocks around which the shape of a tree changes.
var sizes = []int64{1, 2, 127, 128, 129, 255, 256, 257, 1000, 128 * 128, 128*128 + 1, 128*128 + 129}

var (
	salt   = bytes.Repeat([]byte{0xa5, 0x01}, 16)
	params = Params{Salt: salt, UUID: uuid.MustParse("6b1f2a4c-0d3e-4f5a-8b7c-9d0e1f2a3b4c")}
)

// image is data of a number of blocks, a third of them zeros.
func image(blocks int64) []byte {
	b := make([]byte, blocks*BlockSize)
	r := rand.NewChaCha8([32]byte{1, byte(blocks)})
	for i := int64(0); i < blocks; i++ {
		if i%3 != 1 {
			r.Read(b[i*BlockSize : (i+1)*BlockSize])
		}
	}
	return b
}

// device is a hash device in memory.
type device struct{ b []byte }

func (d *device) WriteAt(p []byte, off int64) (int, error) { return copy(d.b[off:], p), nil }

func format(t testing.TB, data []byte, p Params) ([]byte, Result) {
	t.Helper()
	d := &device{make([]byte, HashSize(int64(len(data))))}
	r, err := Format(t.Context(), bytes.NewReader(data), int64(len(data)), d, p)
	if err != nil {
		t.Fatal(err)
	}
	if r.HashSize != int64(len(d.b)) || r.DataBlocks != int64(len(data)/BlockSize) {
		t.Errorf("result says %d bytes and %d blocks, want %d and %d", r.HashSize, r.DataBlocks, len(d.b), len(data)/BlockSize)
	}
	return d.b, r
}

func verify(ctx context.Context, data, hash, root []byte) error {
	return Verify(ctx, bytes.NewReader(data), int64(len(data)), bytes.NewReader(hash), int64(len(hash)), root)
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needVeritysetup(t testing.TB) string {
	t.Helper()
	for _, p := range []string{"/usr/sbin/veritysetup", "/sbin/veritysetup"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Skip("SKIPPED: veritysetup is not installed on this machine (Debian package cryptsetup-bin)")
	return ""
}

func TestTreeIsVeritysetups(t *testing.T) {
	veritysetup := needVeritysetup(t)
	for _, blocks := range sizes {
		salts := [][]byte{salt, nil, salt[:1], bytes.Repeat([]byte{7}, 256)}
		if blocks > 200 {
			salts = salts[:1]
		}
		for _, salt := range salts {
			t.Run(fmt.Sprintf("%d blocks, %d bytes of salt", blocks, len(salt)), func(t *testing.T) {
				p := Params{Salt: salt, UUID: params.UUID}
				data := image(blocks)
				hash, r := format(t, data, p)

				saltText := hex.EncodeToString(salt)
				if saltText == "" {
					saltText = "-"
				}
				dataFile, theirs := write(t, "data", data), filepath.Join(t.TempDir(), "hash")
				out, err := exec.Command(veritysetup, "format", dataFile, theirs, "--salt", saltText, "--uuid", uuid.UUID(p.UUID).String()).CombinedOutput()
				if err != nil {
					t.Fatalf("veritysetup format: %v\n%s", err, out)
				}
				if want := field(string(out), "Root hash:"); hex.EncodeToString(r.RootHash) != want {
					t.Errorf("root hash %x, veritysetup's is %s", r.RootHash, want)
				}
				want, err := os.ReadFile(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(hash, want) {
					t.Errorf("the hash device has other bytes than veritysetup's (%d and %d)", len(hash), len(want))
				}
				if err := verify(t.Context(), data, want, r.RootHash); err != nil {
					t.Errorf("Verify of veritysetup's device: %v", err)
				}
				if out, err := exec.Command(veritysetup, "verify", dataFile, write(t, "ours", hash), hex.EncodeToString(r.RootHash)).CombinedOutput(); err != nil {
					t.Errorf("veritysetup verify: %v\n%s", err, out)
				}
			})
		}
	}
}

// field returns what stands behind a name in a tool's output.
func field(out, name string) string {
	_, rest, _ := strings.Cut(out, name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

type failing struct{ err error }

func (f failing) WriteAt([]byte, int64) (int, error) { return 0, f.err }
func (f failing) ReadAt([]byte, int64) (int, error)  { return 0, f.err }

func TestFormatRefusesWhatHasNoTree(t *testing.T) {
	d := &device{make([]byte, 1<<20)}
	for _, size := range []int64{0, -4096, 1, 4095, 4097} {
		if _, err := Format(t.Context(), bytes.NewReader(make([]byte, 8192)), size, d, params); !errors.Is(err, ErrDataSize) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	if _, err := Format(t.Context(), bytes.NewReader(make([]byte, 8192)), 8192, d, Params{Salt: make([]byte, 257)}); err == nil {
		t.Error("a salt of 257 bytes is taken")
	}
	if _, err := Format(t.Context(), bytes.NewReader(make([]byte, 8192)), 12288, d, params); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("data shorter than its size: got %v", err)
	}
	broken := errors.New("broken")
	if _, err := Format(t.Context(), failing{broken}, 8192, d, params); !errors.Is(err, broken) {
		t.Errorf("data that cannot be read: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Format(ctx, bytes.NewReader(image(300)), 300*BlockSize, d, params); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}

func TestVerifyNamesEveryFlippedBit(t *testing.T) {
	const blocks = 128*128 + 129
	data := image(blocks)
	hash, r := format(t, data, params)
	if err := verify(t.Context(), data, hash, r.RootHash); err != nil {
		t.Fatalf("nothing is wrong: %v", err)
	}
	ls, _ := levels(blocks)
	for _, c := range []struct {
		name   string
		inHash bool
		offset int64
		want   CorruptError
	}{
		{"first data block", false, 17, CorruptError{Blocks: []Block{{DataLevel, 0, 0}}, Count: 1}},
		{"a zero block", false, 4 * BlockSize, CorruptError{Blocks: []Block{{DataLevel, 4, 4 * BlockSize}}, Count: 1}},
		{"last data block", false, blocks*BlockSize - 1, CorruptError{Blocks: []Block{{DataLevel, blocks - 1, (blocks - 1) * BlockSize}}, Count: 1}},
		{"level 0", true, ls[0].offset + BlockSize, CorruptError{Blocks: []Block{{0, 1, ls[0].offset + BlockSize}}, Count: 1, Unchecked: 128}},
		{"end of level 0", true, ls[0].offset + ls[0].blocks*BlockSize - 1, CorruptError{Blocks: []Block{{0, ls[0].blocks - 1, ls[0].offset + (ls[0].blocks-1)*BlockSize}}, Count: 1, Unchecked: 1}},
		{"level 1", true, ls[1].offset, CorruptError{Blocks: []Block{{1, 0, ls[1].offset}}, Count: 1, Unchecked: 128 * 128}},
		{"padding of the top", true, ls[2].offset + BlockSize - 1, CorruptError{Root: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := data
			if c.inHash {
				b = hash
			}
			b[c.offset] ^= 1
			defer func() { b[c.offset] ^= 1 }()
			var got *CorruptError
			err := verify(t.Context(), data, hash, r.RootHash)
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			if fmt.Sprint(*got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}

func TestVerifyBoundsItsList(t *testing.T) {
	data := image(1000)
	hash, r := format(t, data, params)
	for i := range int64(1000) {
		data[i*BlockSize+5] ^= 4
	}
	var e *CorruptError
	if err := verify(t.Context(), data, hash, r.RootHash); !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if e.Count != 1000 || len(e.Blocks) != maxListed {
		t.Errorf("count %d, listed %d", e.Count, len(e.Blocks))
	}
	for i, b := range e.Blocks {
		if b.Index != int64(i) {
			t.Errorf("listed at %d: %v", i, b)
		}
	}
	if !strings.Contains(e.Error(), "and 984 more") {
		t.Errorf("message: %v", e)
	}
}

func TestVerifyTellsAnotherRootHashFromCorruption(t *testing.T) {
	data := image(300)
	hash, r := format(t, data, params)
	other := bytes.Clone(r.RootHash)
	other[0] ^= 1
	err := verify(t.Context(), data, hash, other)
	if err == nil || !strings.Contains(err.Error(), "another tree's") {
		t.Errorf("got %v", err)
	}
	one := image(1)
	hash, r = format(t, one, params)
	one[9] ^= 1
	if err := verify(t.Context(), one, hash, r.RootHash); err == nil {
		t.Error("a flipped bit in the only block is not seen")
	}
}

func TestVerifyTakesPartitionsLargerThanContents(t *testing.T) {
	data := image(300)
	hash, r := format(t, data, params)
	if err := verify(t.Context(), append(data, make([]byte, 1<<20)...), append(hash, make([]byte, 1<<20)...), r.RootHash); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefusesSuperblocks(t *testing.T) {
	data := image(300)
	hash, r := format(t, data, params)
	for name, change := range map[string]func(b []byte){
		"no magic":        func(b []byte) { b[0] = 'V' },
		"version":         func(b []byte) { b[offVersion] = 2 },
		"hash type":       func(b []byte) { b[offHashType] = 0 },
		"algorithm":       func(b []byte) { copy(b[offAlgorithm:], "sha512") },
		"data block size": func(b []byte) { b[offDataBlockSize+1] = 0x04 },
		"no blocks":       func(b []byte) { copy(b[offDataBlocks:], make([]byte, 8)) },
		"more blocks":     func(b []byte) { b[offDataBlocks+1]++ },
		"huge":            func(b []byte) { copy(b[offDataBlocks:], bytes.Repeat([]byte{0xff}, 8)) },
		"salt size":       func(b []byte) { b[offSaltSize+1] = 2 },
	} {
		b := bytes.Clone(hash)
		change(b)
		if err := verify(t.Context(), data, b, r.RootHash); !errors.Is(err, ErrSuperblock) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := verify(t.Context(), data, hash[:len(hash)-BlockSize], r.RootHash); !errors.Is(err, ErrSuperblock) {
		t.Errorf("hash device cut: got %v", err)
	}
	if err := verify(t.Context(), data, nil, r.RootHash); !errors.Is(err, ErrSuperblock) {
		t.Errorf("empty hash device: got %v", err)
	}
}

func TestRootUUIDsAreHalvesOfTheRootHash(t *testing.T) {
	root, _ := hex.DecodeString("00112233445566778899aabbccddeeff0102030405060708090a0b0c0d0e0f10")
	a, b, err := RootUUIDs(root)
	if err != nil {
		t.Fatal(err)
	}
	if a.String() != "00112233-4455-6677-8899-aabbccddeeff" || b.String() != "01020304-0506-0708-090a-0b0c0d0e0f10" {
		t.Errorf("got %s and %s", a, b)
	}
	if _, _, err := RootUUIDs(root[1:]); err == nil {
		t.Error("31 bytes are taken")
	}
}

func FuzzParseSuperblock(f *testing.F) {
	sb := Superblock{DataBlocks: 300, Salt: salt}
	f.Add(sb.marshal())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err != nil {
			return
		}
		again, err := ParseSuperblock(s.marshal())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Errorf("%+v comes back as %+v, %v", s, again, err)
		}
	})
}

// FuzzVerify changes hash devices and expects an answer, whatever they say.
func FuzzVerify(f *testing.F) {
	data := image(130)
	hash, r := format(f, data, params)
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(offDataBlocks), []byte{0xff, 0xff})
	f.Add(uint16(4096), []byte{9})
	f.Fuzz(func(t *testing.T, at uint16, change []byte) {
		b := bytes.Clone(hash)
		copy(b[min(int(at), len(b)):], change)
		err := verify(t.Context(), data, b, r.RootHash)
		if err == nil && !bytes.Equal(b[BlockSize:], hash[BlockSize:]) {
			t.Error("a changed tree is taken")
		}
	})
}

// BenchmarkFormat and BenchmarkVeritysetup hash the same 500 MB file.
func BenchmarkFormat(b *testing.B) {
	f, size := benchFile(b)
	out, err := os.Create(filepath.Join(b.TempDir(), "hash"))
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Format(b.Context(), f, size, out, params); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f, size := benchFile(b)
	d := &device{make([]byte, HashSize(size))}
	r, err := Format(b.Context(), f, size, d, params)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if err := Verify(b.Context(), f, size, bytes.NewReader(d.b), int64(len(d.b)), r.RootHash); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVeritysetup(b *testing.B) {
	veritysetup := needVeritysetup(b)
	f, size := benchFile(b)
	hash := filepath.Join(b.TempDir(), "hash")
	b.SetBytes(size)
	for b.Loop() {
		if out, err := exec.Command(veritysetup, "format", f.Name(), hash, "--salt", hex.EncodeToString(salt)).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
}

func benchFile(b *testing.B) (*os.File, int64) {
	b.Helper()
	const size = 500 << 20 / BlockSize * BlockSize
	f, err := os.Create(filepath.Join(b.TempDir(), "data"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), size); err != nil {
		b.Fatal(err)
	}
	return f, size
}
