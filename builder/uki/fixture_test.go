package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"strings"
	"testing"
)

// A fixture is a small PE32+ image. What is zero is as in systemd's stubs.
type fixture struct {
	machine     uint16
	headers     uint32 // SizeOfHeaders
	directories uint32
	align       uint32 // SectionAlignment
	image       uint32 // SizeOfImage
	dll         uint16 // DllCharacteristics
	sections    []fixtureSection
}

type fixtureSection struct {
	name    string
	address uint32
	data    string
}

// bytes encodes the image, each section's data at the next 512 bytes.
func (f fixture) bytes(t testing.TB) []byte {
	t.Helper()
	const peOffset = 128
	orDefault := func(v, d uint32) uint32 {
		if v == 0 {
			return d
		}
		return v
	}
	if f.machine == 0 {
		f.machine = pe.IMAGE_FILE_MACHINE_AMD64
	}
	headers := orDefault(f.headers, 1024)
	optional := pe.OptionalHeader64{
		Magic: optionalMagic64, ImageBase: 0x140000000, SectionAlignment: orDefault(f.align, 4096), FileAlignment: 512,
		SizeOfHeaders: headers, SizeOfImage: orDefault(f.image, 0x8000), Subsystem: 10, DllCharacteristics: f.dll,
		NumberOfRvaAndSizes: orDefault(f.directories, 16), CheckSum: 0x12345678,
	}
	header := pe.FileHeader{
		Machine: f.machine, NumberOfSections: uint16(len(f.sections)), TimeDateStamp: 1234567890,
		SizeOfOptionalHeader: optionalHeaderSize, Characteristics: 0x22e,
	}
	var table []pe.SectionHeader32
	data := make([]byte, headers)
	for _, s := range f.sections {
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.data)), VirtualAddress: s.address,
			SizeOfRawData:    uint32(roundUp(uint64(len(s.data)), 512)),
			PointerToRawData: uint32(len(data)), Characteristics: sectionMemoryRead | sectionInitialized,
		}
		copy(h.Name[:], s.name)
		table = append(table, h)
		data = append(data, s.data...)
		data = append(data, make([]byte, int(h.SizeOfRawData)-len(s.data))...)
	}
	copy(data, "MZ")
	binary.LittleEndian.PutUint32(data[dosPEOffset:], peOffset)
	copy(data[peOffset:], "PE\x00\x00")
	at := peOffset + 4
	for _, v := range []any{&header, &optional, table} {
		n, err := binary.Encode(data[at:], binary.LittleEndian, v)
		if err != nil {
			t.Fatal(err)
		}
		at += n
	}
	return data
}

const fixtureSBAT = sbatHeader + "\nsystemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n"

func stubFixture() fixture {
	return fixture{dll: dllNXCompat | 0x60, sections: []fixtureSection{
		{".text", 0x1000, strings.Repeat("code", 300)},
		{".sbat", 0x2000, fixtureSBAT},
		{".sdmagic", 0x3000, "#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####"},
	}}
}

// kernelFixture is a bzImage as far as its headers go.
func kernelFixture(t testing.TB) []byte {
	f := fixture{dll: dllNXCompat, headers: 4096, image: 0x9000, sections: []fixtureSection{
		{".text", 0x1000, strings.Repeat("kernel", 1000)},
		{".sbat", 0x5000, sbatHeader + "\nlinux,1,Debian,linux,6.12,https://kernel.org\n"},
	}}
	b := f.bytes(t)
	copy(b[bootHeaderMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[bootKernelVersion:], 0x400)
	copy(b[0x600:], "6.12.1-test (builder@host) #1 SMP\x00")
	return b
}

func ukiFixture(t testing.TB) *UKI {
	return &UKI{
		Stub:  bytes.NewReader(stubFixture().bytes(t)),
		Linux: bytes.NewReader(kernelFixture(t)),
		Initrd: []Content{
			strings.NewReader("first"), strings.NewReader("second, which is longer than a block: " + strings.Repeat("x", 600)),
		},
		OSRelease: "ID=test\n", Cmdline: "roothash=00 quiet",
		PCRPKey: []byte("key"), PCRSig: []byte("{}"), Profile: "ID=main\n",
		Microcode: strings.NewReader("microcode"), Splash: strings.NewReader("BM"), DeviceTree: strings.NewReader("dtb"),
	}
}
