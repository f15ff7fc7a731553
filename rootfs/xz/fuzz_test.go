package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	oracle "github.com/therootcompany/xz"
	"github.com/ulikunitz/xz"
	ulzma "github.com/ulikunitz/xz/lzma"
)

var properties = []ulzma.Properties{{LC: 0, LP: 2, PB: 0}, {LC: 1, LP: 3, PB: 4}}

const (
	fuzzDict = 1 << 20 // bytes
	fuzzOut  = 8 << 20 // bytes
)

// FuzzReader compares with another decoder: both succeed with the same bytes,
// or both fail.
func FuzzReader(f *testing.F) {
	for _, c := range []xz.WriterConfig{{DictCap: 4096, NoCheckSum: true}, {DictCap: 4096, CheckSum: xz.CRC32}, {DictCap: 4096, CheckSum: xz.SHA256},
		{DictCap: 4096, NoCheckSum: true, Properties: &properties[0]}} {
		file, data := small(f, c)
		f.Add(file)
		f.Add(compose(f, data, c))
		f.Add(compose(f, nil, c))
		f.Add(compose(f, make([]byte, 10_000), c))
	}
	f.Add([]byte(headerMagic))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := limited(NewReader(bytes.NewReader(file), MaxDictionary(fuzzDict)))
		if errors.Is(err, ErrFilter) || errors.Is(err, errFirstByte) {
			t.Skip("the other decoder knows more filters, or does not look at this byte")
		}
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("an error that cannot be matched: %v", err)
		}
		want, oerr := limited(oracle.NewReader(bytes.NewReader(file), fuzzDict))
		if (err == nil) != (oerr == nil) {
			t.Fatalf("%d bytes, %v; the other decoder: %d bytes, %v", len(got), err, len(want), oerr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, the other decoder: %d, and not the same", len(got), len(want))
		}
	})
}

func limited(r io.Reader, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, fuzzOut))
}

// envelope returns a file of one block without a check around the LZMA2 data.
func envelope(data []byte, unpacked int64) []byte {
	crc := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	flags := []byte{0, checkNone}
	file := join([]byte(headerMagic), flags, crc(flags))
	header := []byte{2, 0, filterLZMA2, 1, 0 /* 4 KiB */, 0, 0, 0}
	header = append(header, crc(header)...)
	file = join(file, header, data, make([]byte, -len(data)&3))
	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(header)+len(data)))
	index = binary.AppendUvarint(index, uint64(unpacked))
	index = append(index, make([]byte, -len(index)&3)...)
	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4))
	footer = append(footer, flags...)
	return join(file, index, crc(index), crc(footer), footer, []byte(footerMagic))
}

// FuzzLZMA2 puts its input where no checksum hinders: a block that is right
// for one decoder is right for the other, with the same content.
func FuzzLZMA2(f *testing.F) {
	for _, p := range properties {
		file, _ := small(f, xz.WriterConfig{DictCap: 4096, NoCheckSum: true, Properties: &p})
		f.Add(file[24:])
		f.Add(compose(f, bytes.Repeat([]byte("0123456789abcd"), 3000), xz.WriterConfig{DictCap: 4096, Properties: &p})[24:])
	}
	f.Add([]byte{1, 0, 3, 'a', 'b', 'c', 'd', 2, 0, 0, 'e', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var in input
		var dec lzma2
		var got []byte
		in.reset(bytes.NewReader(data))
		dec.begin(4096)
		for len(got) < fuzzOut {
			out, err := dec.chunk(&in)
			if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("an error that cannot be matched: %v", err)
			}
			if errors.Is(err, errFirstByte) {
				t.Skip("the other decoder does not look at this byte")
			}
			if err != nil {
				want, err2 := limited(oracle.NewReader(bytes.NewReader(envelope(data, int64(len(got)))), fuzzDict))
				if err2 == nil {
					t.Fatalf("%v, where the other decoder finds no fault in %d bytes", err, len(want))
				}
				return
			}
			if out == nil {
				break
			}
			got = append(got, out...)
		}
		if len(got) >= fuzzOut {
			return
		}
		file := envelope(data[:in.taken], int64(len(got)))
		if again, err := read(file); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%d bytes, then %d: %v", len(got), len(again), err)
		}
		want, err := limited(oracle.NewReader(bytes.NewReader(file), fuzzDict))
		if err != nil || !bytes.Equal(want, got) {
			t.Fatalf("%d bytes; the other decoder: %d, %v", len(got), len(want), err)
		}
	})
}
