package xz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"
)

// contents are data of several kinds, each reaching other parts of the decoder.
func contents(tb testing.TB) map[string][]byte {
	period := func(n, size int) []byte { return bytes.Repeat(random(n), size/n+1)[:size] }
	m := map[string][]byte{
		"nothing": nil,
		"a byte":  []byte("a"),
		"zeros":   make([]byte, 5<<19),
		"random":  random(150_000),
		"source":  goSource(tb, 200_000),
		"program": program(tb, 300_000),
		"mixed":   join(random(70_000), goSource(tb, 50_000), make([]byte, 70_000), random(10)),
	}
	for n := 2; n < 10; n++ {
		m[fmt.Sprintf("period %d", n)] = period(n, 5000)
	}
	m["period 70000"] = period(70_000, 400_000)
	return m
}

func TestReadsWhatWritersWrite(t *testing.T) {
	configs := map[string]xz.WriterConfig{
		"default":    {},
		"no check":   {NoCheckSum: true},
		"CRC32":      {CheckSum: xz.CRC32},
		"SHA-256":    {CheckSum: xz.SHA256},
		"blocks":     {BlockSize: 100_000},
		"lc0 lp2 pb": {Properties: &properties[0]},
		"lc1 lp3 pb": {Properties: &properties[1]},
		"small dict": {DictCap: 1 << 17},
	}
	for content, data := range contents(t) {
		for name, c := range configs {
			if len(data) > 100_000 && name != "default" {
				continue // the writer is slow
			}
			got, err := read(compose(t, data, c))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: %d bytes of %d: %v", content, name, len(got), len(data), err)
			}
		}
	}
}

func TestReadsWhatXZUtilsWrites(t *testing.T) {
	rows := [][]string{{"--check=none"}, {"--check=crc32"}, {"--check=crc64"}, {"--check=sha256"},
		{"--block-size=65536"}, {"-T2", "--block-size=100000"}, {"--block-list=1000,70000,0"},
		{"--lzma2=preset=1,dict=4KiB"}, {"--lzma2=lc=0,lp=4,pb=4"}, {"--lzma2=lc=4,lp=0,pb=0"}, {"--lzma2=lc=2,lp=2,pb=1,mode=fast,mf=hc3"}}
	for level := range 10 {
		rows = append(rows, []string{fmt.Sprintf("-%d", level)})
	}
	rows = append(rows, []string{"-0e"}, []string{"-6e"}, []string{"-9e"})
	data := contents(t)
	for _, args := range rows {
		for _, content := range []string{"nothing", "mixed", "period 3", "source"} {
			if content == "source" && testing.Short() && args[0] != "-6" {
				continue
			}
			got, err := read(command(t, data[content], args...))
			if err != nil || !bytes.Equal(got, data[content]) {
				t.Errorf("xz %s of %s: %d bytes of %d: %v", args, content, len(got), len(data[content]), err)
			}
		}
	}
}

func TestReadsFlushedStream(t *testing.T) {
	// A block of several sync flushes has chunks that reset nothing; one
	// that is composed of a slow pipe by --flush-timeout is the same.
	data := goSource(t, 200_000)
	file := command(t, data, "--flush-timeout=1")
	if got, err := read(file); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
}

func TestReadsSeveralStreamsWithPadding(t *testing.T) {
	a, b := compose(t, []byte("one "), xz.WriterConfig{}), compose(t, []byte("two"), xz.WriterConfig{CheckSum: xz.SHA256})
	rows := []struct {
		name string
		file []byte
		want string
		ok   bool
	}{
		{"two", join(a, b), "one two", true},
		{"padding of four between", join(a, make([]byte, 4), b), "one two", true},
		{"padding of eight at the end", join(a, b, make([]byte, 8)), "one two", true},
		{"padding of three", join(a, make([]byte, 3)), "one ", false},
		{"padding of five between", join(a, make([]byte, 5), b), "one ", false},
		{"padding in front", join(make([]byte, 4), a), "", false},
		{"letters behind", join(a, []byte("Hello, what is this?")), "one ", false},
		{"one letter behind", join(a, []byte("H")), "one ", false},
	}
	for _, r := range rows {
		got, err := read(r.file)
		if string(got) != r.want || (err == nil) != r.ok {
			t.Errorf("%s: %q, %v", r.name, got, err)
		}
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: not matched: %v", r.name, err)
		}
	}
}

func TestReadsThroughAnyReader(t *testing.T) {
	data := join(goSource(t, 100_000), random(70_000))
	file := compose(t, data, xz.WriterConfig{BlockSize: 60_000})
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with error": iotest.DataErrReader} {
		z, err := NewReader(wrap(bytes.NewReader(file)))
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(z))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("the wire was cut")
	z, err := NewReader(io.MultiReader(bytes.NewReader(file[:1000]), iotest.ErrReader(broken)))
	if err == nil {
		_, err = io.ReadAll(z)
	}
	if !errors.Is(err, broken) {
		t.Errorf("an error of the reader below became %v", err)
	}
}

func TestWindowSlides(t *testing.T) {
	// Much more than the dictionary, with matches as far back as it goes.
	part := random(4096 + 1024)
	var data []byte
	for i := range 1200 {
		data = append(data, part[i%64:]...)
	}
	for _, size := range []int{4096, 6144, 1 << 20} {
		file := command(t, data, fmt.Sprintf("--lzma2=preset=0,dict=%d", size))
		got, err := read(file)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("dictionary of %d: %d bytes of %d: %v", size, len(got), len(data), err)
		}
	}
}

func TestBigDictionary(t *testing.T) {
	data := []byte("little content, large claim")
	file := command(t, data, "--lzma2=preset=0,dict=192MiB")
	if _, err := read(file); !errors.Is(err, ErrDictionary) || !errors.Is(err, ErrFormat) {
		t.Errorf("192 MiB by default: %v", err)
	}
	z, err := NewReader(bytes.NewReader(file), MaxDictionary(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("192 MiB allowed: %v", err)
	}
	if len(z.dec.window) > firstWindow {
		t.Errorf("%d bytes were allocated for %d", len(z.dec.window), len(data))
	}
}

func TestNamesOtherFilters(t *testing.T) {
	for option, name := range map[string]string{"--x86": "x86 BCJ", "--delta=dist=2": "delta", "--arm": "ARM BCJ"} {
		_, err := read(command(t, []byte("content"), option, "--lzma2"))
		if !errors.Is(err, ErrFilter) || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// small is a file in which every part of the format is.
func small(tb testing.TB, c xz.WriterConfig) (file, data []byte) {
	data = join([]byte("abcabcabcabcabcabc, and abcabc"), random(40), bytes.Repeat([]byte("xyz"), 30))
	c.BlockSize = 100
	return join(compose(tb, data, c), make([]byte, 4), compose(tb, data, c)), join(data, data)
}

func TestTruncationIsFound(t *testing.T) {
	file, data := small(t, xz.WriterConfig{})
	first := compose(t, data[:len(data)/2], xz.WriterConfig{BlockSize: 100})
	for n := range file {
		got, err := read(file[:n])
		whole := n == len(first) || n == len(first)+4
		switch {
		case whole && (err != nil || !bytes.Equal(got, data[:len(data)/2])):
			t.Errorf("the first stream alone: %v", err)
		case !whole && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Errorf("%d bytes of %d: %v", n, len(file), err)
		case !bytes.HasPrefix(data, got):
			t.Errorf("%d bytes of %d: other content", n, len(file))
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, c := range []xz.WriterConfig{{CheckSum: xz.CRC32}, {CheckSum: xz.CRC64}, {CheckSum: xz.SHA256}} {
		file, data := small(t, c)
		z, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		harmless := 0
		for i := range file {
			for b := range 8 {
				file[i] ^= 1 << b
				err := z.Reset(bytes.NewReader(file))
				if err == nil {
					_, err = io.Copy(io.Discard, z)
				}
				if err == nil {
					// The lowest bit of lc is such a one in the last block, which has one literal.
					if got, err := read(file); err != nil || !bytes.Equal(got, data) {
						t.Errorf("bit %d of byte %d (%#x) changes the content: %v", b, i, file[i], err)
					}
					harmless++
				} else if !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("bit %d of byte %d: %v", b, i, err)
				} else if _, again := z.Read(make([]byte, 1)); again != err {
					t.Errorf("the error did not stay: %v, then %v", err, again)
				}
				file[i] ^= 1 << b
			}
		}
		if harmless > 2 {
			t.Errorf("%d flipped bits went unseen", harmless)
		}
		// And the same Reader reads on.
		if err := z.Reset(bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, data) {
			t.Errorf("after errors: %v", err)
		}
	}
}

func TestResetKeepsMemory(t *testing.T) {
	file := compose(t, goSource(t, 1<<20), xz.WriterConfig{})
	r := bytes.NewReader(file)
	z, err := NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(3, func() {
		r.Reset(file)
		if err := z.Reset(r); err != nil {
			t.Fatal(err)
		}
		if _, err := z.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
	if n > 10 {
		t.Errorf("%v allocations a file", n)
	}
}
