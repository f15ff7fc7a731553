package uki

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func build(t testing.TB, u *UKI) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := u.Build(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The layout of an image with every section, as the standard library sees it.
func TestLayout(t *testing.T) {
	image := build(t, ukiFixture(t))
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, s := range f.Sections {
		fmt.Fprintf(&got, "%s %#x+%#x %#x+%#x %#x\n", s.Name, s.VirtualAddress, s.VirtualSize, s.Offset, s.Size, s.Characteristics)
	}
	want := `.text 0x1000+0x4b0 0x400+0x600 0x40000040
.sbat 0x2000+0x112 0xa00+0x200 0x40000040
.sdmagic 0x3000+0x33 0xc00+0x200 0x40000040
.osrel 0x4000+0x8 0xe00+0x200 0x40000040
.cmdline 0x5000+0x11 0x1000+0x200 0x40000040
.dtb 0x6000+0x3 0x1200+0x200 0x40000040
.uname 0x7000+0xb 0x1400+0x200 0x40000040
.splash 0x8000+0x2 0x1600+0x200 0x40000040
.pcrpkey 0x9000+0x3 0x1800+0x200 0x40000040
.linux 0xa000+0x2a00 0x1a00+0x2a00 0x40000020
.initrd 0xd000+0x288 0x4400+0x400 0x40000040
.ucode 0xe000+0x9 0x4800+0x200 0x40000040
.profile 0xf000+0x8 0x4a00+0x200 0x40000040
.pcrsig 0x10000+0x2 0x4c00+0x200 0x40000040
`
	if got.String() != want {
		t.Errorf("sections:\n%s\nwant:\n%s", got.String(), want)
	}
	o := f.OptionalHeader.(*pe.OptionalHeader64)
	if o.SizeOfImage != 0x11000 || o.SizeOfHeaders != 1024 || o.CheckSum != 0 || o.DllCharacteristics != dllNXCompat|0x60 {
		t.Errorf("optional header: %+v", o)
	}
	if f.TimeDateStamp != 1234567890 {
		t.Errorf("time stamp %d is not the stub's", f.TimeDateStamp)
	}
	if !bytes.Equal(image, build(t, ukiFixture(t))) {
		t.Error("the same input gave other bytes")
	}
}

func TestContents(t *testing.T) {
	u := ukiFixture(t)
	f := read(t, build(t, u))
	for name, want := range map[string]string{
		".osrel": u.OSRelease, ".cmdline": u.Cmdline, ".uname": "6.12.1-test", ".profile": u.Profile,
		".sbat": fixtureSBAT + "linux,1,Debian,linux,6.12,https://kernel.org\n" + sbatDefault + "\n",
	} {
		if got, err := f.Text(name); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	initrd, err := f.Section(".initrd")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(initrd.Open())
	if err != nil || !bytes.HasPrefix(got, []byte("first\x00\x00\x00second,")) {
		t.Errorf("initrds are joined as %.20q, %v", got, err)
	}
	if sum, err := initrd.SHA256(); err != nil || sum != sha256.Sum256(got) {
		t.Errorf("digest %x, %v", sum, err)
	}
	if f.Arch != "amd64" || f.Signed {
		t.Errorf("architecture %q, signed %v", f.Arch, f.Signed)
	}
	if _, err := f.Section(".hwids"); !errors.Is(err, ErrNoSection) {
		t.Errorf("error %v for a section that isn't there", err)
	}
}

// An image reads the same by ReadAt, in any pieces, as WriteTo writes it.
func TestImageReadAt(t *testing.T) {
	u := ukiFixture(t)
	want := build(t, u)
	image, err := u.Layout()
	if err != nil {
		t.Fatal(err)
	}
	if image.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", image.Size(), len(want))
	}
	random := rand.New(rand.NewSource(1))
	for range 2000 {
		offset := random.Intn(len(want) + 10)
		b := bytes.Repeat([]byte{0xff}, random.Intn(3000))
		n, err := image.ReadAt(b, int64(offset))
		rest := want[min(offset, len(want)):]
		if n != min(len(b), len(rest)) || !bytes.Equal(b[:n], rest[:n]) || (n < len(b)) != (err == io.EOF) {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), offset, n, err)
		}
	}
}

// Content that ends early is an error, not zeros.
func TestShortContent(t *testing.T) {
	u := ukiFixture(t)
	u.Initrd = []Content{io.NewSectionReader(strings.NewReader("short"), 0, 100)}
	if err := u.Build(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	image, err := u.Layout()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(image, 0, image.Size())); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v from ReadAt", err)
	}
}

func TestStubs(t *testing.T) {
	t.Run("no room in .sbat", func(t *testing.T) {
		stub := stubFixture()
		stub.sections[2].address = stub.sections[1].address + 0x100
		stub.align = 512
		u := ukiFixture(t)
		u.Stub = bytes.NewReader(stub.bytes(t))
		f := read(t, build(t, u))
		if last := f.Sections[len(f.Sections)-1]; last.Name != ".sbat" || len(f.Sections) != 14 {
			t.Errorf("%d sections, the last is %s; want .sbat moved behind 13 others", len(f.Sections), last.Name)
		}
	})
	t.Run("no room for headers", func(t *testing.T) {
		stub := stubFixture()
		stub.headers = 512
		u := ukiFixture(t)
		u.Stub = bytes.NewReader(stub.bytes(t))
		f := read(t, build(t, u))
		if first := f.Sections[0]; first.Offset != 1536 && first.Offset != 1024 {
			t.Errorf("first section's data at %d", first.Offset)
		}
		got, err := io.ReadAll(f.Sections[0].Open())
		if want := stub.sections[0].data; err != nil || string(got) != want {
			t.Errorf("the stub's code is %.20q…, %v", got, err)
		}
		stub.sections[0].address = 0x200
		u.Stub = bytes.NewReader(stub.bytes(t))
		if err := u.Build(io.Discard); err == nil || !strings.Contains(err.Error(), "no room for") {
			t.Errorf("error %v with code right behind the headers", err)
		}
	})
	t.Run("kernel run in place", func(t *testing.T) {
		for version, want := range map[string]uint32{"249.11": 0x9000, "252.1": 0x3000, "": 0x9000} {
			stub := stubFixture()
			stub.sections[2].data = "#### LoaderInfo: systemd-stub " + version + " ####"
			if version == "" {
				stub.sections = stub.sections[:2]
			}
			u := ukiFixture(t)
			u.Stub = bytes.NewReader(stub.bytes(t))
			f := read(t, build(t, u))
			linux, _ := f.Section(".linux")
			initrd, _ := f.Section(".initrd")
			if got := initrd.VirtualAddress - linux.VirtualAddress; got != want {
				t.Errorf("stub %q: %#x bytes of memory from the kernel to the initrd, want %#x", version, got, want)
			}
		}
	})
	t.Run("kernel without memory protection", func(t *testing.T) {
		u := ukiFixture(t)
		b := kernelFixture(t)
		binary.LittleEndian.PutUint16(b[128+4+coffHeaderSize+70:], 0)
		u.Linux = bytes.NewReader(b)
		f, err := pe.NewFile(bytes.NewReader(build(t, u)))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.OptionalHeader.(*pe.OptionalHeader64).DllCharacteristics; got != 0x60 {
			t.Errorf("DllCharacteristics %#x", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*UKI){
		"a stub and a kernel are needed": func(u *UKI) { u.Linux = nil },
		"the kernel takes 2047":          func(u *UKI) { u.Cmdline = strings.Repeat("x", 2048) },
		"a NUL or a line break":          func(u *UKI) { u.Cmdline = "a\nb" },
		"SBAT line":                      func(u *UKI) { u.SBAT = "nonsense" },
		"no EFI entry":                   func(u *UKI) { u.Linux = strings.NewReader("\x7fELF") },
		"no version found":               func(u *UKI) { u.Linux = bytes.NewReader(stubFixture().bytes(t)) },
		"stub: not a valid PE32+ image":  func(u *UKI) { u.Stub = strings.NewReader("MZ") },
		"the stub is for machine": func(u *UKI) {
			u.Stub = bytes.NewReader(fixture{machine: pe.IMAGE_FILE_MACHINE_ARM64}.bytes(t))
		},
		"the stub is signed": func(u *UKI) {
			b := stubFixture().bytes(t)
			binary.LittleEndian.PutUint32(b[128+4+coffHeaderSize+directoryOffset+32:], uint32(len(b)))
			binary.LittleEndian.PutUint32(b[128+4+coffHeaderSize+directoryOffset+36:], 8)
			u.Stub = bytes.NewReader(append(b, make([]byte, 8)...))
		},
	} {
		u := ukiFixture(t)
		change(u)
		if err := u.Build(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestKernelVersion(t *testing.T) {
	banner := func(at int) []byte {
		b := bytes.Repeat([]byte{0xee}, at)
		copy(b, "MZ")
		copy(b[100:], "Linux version %s (")
		return append(b, "Linux version 6.8.0-31-generic (buildd@bos03) (gcc)\x00"...)
	}
	pack := func(b []byte, zip func(io.Writer) io.WriteCloser) []byte {
		var packed bytes.Buffer
		z := zip(&packed)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return packed.Bytes()
	}
	zstdWriter := func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z }
	gzipWriter := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	zboot := func(kind string, payload []byte) []byte {
		b := make([]byte, 4096)
		copy(b, "MZ\x00\x00zimg")
		binary.LittleEndian.PutUint32(b[zbootPayload:], 4096)
		binary.LittleEndian.PutUint32(b[zbootPayload+4:], uint32(len(payload)))
		copy(b[zbootCompression:], kind)
		return append(b, payload...)
	}
	for name, test := range map[string]struct {
		kernel []byte
		want   string
	}{
		"bzImage":                {kernelFixture(t), "6.12.1-test"},
		"plain":                  {banner(5000), "6.8.0-31-generic"},
		"at a block's end":       {banner(1<<20 - 5), "6.8.0-31-generic"},
		"version at a block":     {banner(1<<20 - 20), "6.8.0-31-generic"},
		"before a block's end":   {banner(1<<20 - 150), "6.8.0-31-generic"},
		"gzip":                   {pack(banner(3<<20), gzipWriter), "6.8.0-31-generic"},
		"zstd":                   {pack(banner(3<<20), zstdWriter), "6.8.0-31-generic"},
		"zboot gzip":             {zboot("gzip", pack(banner(5000), gzipWriter)), "6.8.0-31-generic"},
		"zboot zstd":             {zboot("zstd22", pack(banner(5000), zstdWriter)), "6.8.0-31-generic"},
		"zboot lzma":             {zboot("lzma", nil), ""},
		"empty":                  {nil, ""},
		"none":                   {make([]byte, 3<<20), ""},
		"version without an end": {append(banner(1000)[:1000], "Linux version 6"+strings.Repeat("6", 200)...), ""},
	} {
		got, err := KernelVersion(bytes.NewReader(test.kernel))
		if got != test.want || (err != nil) != (test.want == "") || err != nil && !errors.Is(err, ErrNoVersion) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
}

// A kernel that is compressed as a whole is decompressed into the image.
func TestCompressedKernel(t *testing.T) {
	kernel := kernelFixture(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(kernel); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	u := ukiFixture(t)
	want := build(t, u)
	u.Linux = bytes.NewReader(packed.Bytes())
	if !bytes.Equal(build(t, u), want) {
		t.Error("the image differs from that of the plain kernel")
	}
}

func TestProfiles(t *testing.T) {
	stub := stubFixture()
	for i, s := range []struct{ name, data string }{
		{".linux", "k"}, {".cmdline", "base"}, {".profile", "ID=main"},
		{".profile", "ID=debug"}, {".cmdline", "debug"},
	} {
		stub.sections = append(stub.sections, fixtureSection{s.name, 0x4000 + uint32(i)*0x1000, s.data})
	}
	f := read(t, stub.bytes(t))
	for n, want := range []string{"ID=main base", "ID=debug debug"} {
		sections, err := f.Profile(n)
		if err != nil {
			t.Fatal(err)
		}
		p := &File{Sections: sections}
		profile, _ := p.Text(".profile")
		cmdline, _ := p.Cmdline()
		if got := profile + " " + cmdline; got != want {
			t.Errorf("profile %d: %q, want %q", n, got, want)
		}
	}
	for _, n := range []int{-1, 2} {
		if _, err := f.Profile(n); err == nil {
			t.Errorf("profile %d is there", n)
		}
	}
}

func FuzzRead(f *testing.F) {
	image := build(f, ukiFixture(f))
	f.Add(image)
	f.Add(image[:600])
	f.Add(stubFixture().bytes(f))
	f.Add(kernelFixture(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		file, err := Read(r, r.Size())
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is no ErrFormat", err)
			}
			return
		}
		var total int64
		for _, s := range file.Sections {
			total += s.RawSize
			if _, err := s.SHA256(); err != nil {
				t.Fatal(err)
			}
			file.Text(s.Name)
		}
		if total > r.Size() {
			t.Fatalf("sections of %d bytes in a file of %d", total, r.Size())
		}
		file.Profile(1)
		PCR11(file.Sections, Phases())
		Authenticode(r, r.Size())
		u := &UKI{Stub: r, Linux: bytes.NewReader(kernelFixture(t)), OSRelease: "ID=x"}
		if err := u.Build(io.Discard); err == nil {
			read(t, build(t, u))
		}
		u = &UKI{Stub: bytes.NewReader(stubFixture().bytes(t)), Linux: r, Uname: "x"}
		u.Build(io.Discard)
	})
}

func FuzzKernelVersion(f *testing.F) {
	f.Add(kernelFixture(f)[:2048])
	f.Add([]byte("MZ..Linux version 6.1 (x)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := KernelVersion(bytes.NewReader(b))
		if err == nil && (v == "" || strings.ContainsAny(v, "\x00\n /")) {
			t.Fatalf("version %q", v)
		}
	})
}
