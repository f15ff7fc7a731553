package xz

import (
	"bytes"
	"io"
	"testing"

	oracle "github.com/therootcompany/xz"
	"github.com/ulikunitz/xz"
)

// BenchmarkReader compares decoders on text and on a program. Run it with
// -cpu 1.
func BenchmarkReader(b *testing.B) {
	for _, c := range []struct {
		name string
		data []byte
	}{{"source", goSource(b, 8<<20)}, {"program", program(b, 8<<20)}} {
		file := compose(b, c.data, xz.WriterConfig{})
		run := func(name string, open func(io.Reader) (io.Reader, error)) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(c.data)))
				for b.Loop() {
					r, err := open(bytes.NewReader(file))
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(c.data)) {
						b.Fatal(n, err)
					}
				}
			})
		}
		z, err := NewReader(bytes.NewReader(file))
		if err != nil {
			b.Fatal(err)
		}
		run("applbuild", func(r io.Reader) (io.Reader, error) { return z, z.Reset(r) })
		o, err := oracle.NewReader(bytes.NewReader(file), DefaultMaxDictionary)
		if err != nil {
			b.Fatal(err)
		}
		run("therootcompany", func(r io.Reader) (io.Reader, error) { return o, o.Reset(r) })
		run("ulikunitz", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) })
	}
}
