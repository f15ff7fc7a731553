package uki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxCmdline is COMMAND_LINE_SIZE of x86 and arm64, in bytes with the final NUL:
// the kernel cuts what is longer without a word.
const maxCmdline = 2048

// A UKI says what goes into a unified kernel image. Stub and Linux must be
// given; a section whose field is empty is left out.
type UKI struct {
	Stub   Content   // systemd's linux*.efi.stub, unsigned
	Linux  Content   // a kernel with an EFI entry; one compressed by gzip or zstd is decompressed
	Initrd []Content // cpio archives, compressed or not, in the kernel's order

	OSRelease string // the os-release file
	Cmdline   string // at most 2047 bytes
	Uname     string // the kernel's version; "" takes it from Linux (see KernelVersion)
	SBAT      string // revocation lines without a header; "" is systemd's line for UKIs

	Microcode  Content // an uncompressed cpio archive
	Splash     Content // a BMP picture
	DeviceTree Content
	PCRPKey    []byte // PEM: the public key that PCRSig is signed with
	PCRSig     []byte // JSON, of systemd-measure's form
	Profile    string // ID= and TITLE= lines
}

type section struct {
	name    string
	content Content
}

// Build writes the image to w.
func (u *UKI) Build(w io.Writer) error {
	img, err := u.Layout()
	if err != nil {
		return err
	}
	_, err = img.WriteTo(w)
	return err
}

// Layout lays the image out without reading more than headers (and a compressed
// kernel). The same input gives the same bytes: the time stamp is the stub's.
// The error for a stub or a kernel that is no PE32+ image wraps [ErrFormat].
func (u *UKI) Layout() (*Image, error) {
	if u.Stub == nil || u.Linux == nil {
		return nil, errors.New("uki: a stub and a kernel are needed")
	}
	stub, err := parseHeader(u.Stub, u.Stub.Size())
	if err != nil {
		return nil, fmt.Errorf("uki: stub: %w", err)
	}
	linux, err := openKernel(u.Linux)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	kernel, err := parseHeader(linux, linux.Size())
	if err != nil {
		return nil, fmt.Errorf("uki: kernel: %w", err)
	}
	if stub.file.Machine != kernel.file.Machine {
		return nil, fmt.Errorf("uki: the stub is for machine %#x, the kernel for %#x: take both of one architecture",
			stub.file.Machine, kernel.file.Machine)
	}
	sections, err := u.sections(linux)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	sbat, err := u.sbat(stub, linux, kernel)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	img, err := assemble(u.Stub, stub, kernel, sections, sbat)
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
	}
	return img, nil
}

// sections lists what is added to the stub but .sbat, in ukify's order.
func (u *UKI) sections(linux Content) ([]section, error) {
	if len(u.Cmdline) >= maxCmdline {
		return nil, fmt.Errorf("the command line has %d bytes; the kernel takes %d", len(u.Cmdline), maxCmdline-1)
	}
	if strings.ContainsAny(u.Cmdline, "\x00\n") {
		return nil, errors.New("the command line has a NUL or a line break in it")
	}
	uname := u.Uname
	if uname == "" {
		var err error
		if uname, err = KernelVersion(linux); err != nil {
			return nil, err
		}
	}
	all := []section{
		{".osrel", strings.NewReader(u.OSRelease)},
		{".cmdline", strings.NewReader(u.Cmdline)},
		{".dtb", u.DeviceTree},
		{".uname", strings.NewReader(uname)},
		{".splash", u.Splash},
		{".pcrpkey", bytes.NewReader(u.PCRPKey)},
		{".linux", linux},
		{".initrd", joinInitrds(u.Initrd)},
		{".ucode", u.Microcode},
		// The profile is the last that is measured, so that what precedes it
		// is shared by all profiles; its signature is not.
		{".profile", strings.NewReader(u.Profile)},
		{".pcrsig", bytes.NewReader(u.PCRSig)},
	}
	var sections []section
	for _, s := range all {
		if s.content != nil && s.content.Size() > 0 {
			sections = append(sections, s)
		}
	}
	return sections, nil
}

// joinInitrds puts archives behind each other, each padded to 4 bytes: the
// kernel looks for the next one there.
func joinInitrds(initrds []Content) Content {
	if len(initrds) == 1 {
		return initrds[0]
	}
	img := &Image{}
	for _, c := range initrds {
		img.append(c, c.Size(), 4)
	}
	return img
}

// sbat merges the .sbat sections of the stub and the kernel with the image's.
func (u *UKI) sbat(stub *header, linux Content, kernel *header) (string, error) {
	own, err := sbatOf(u.Stub, stub)
	if err != nil {
		return "", fmt.Errorf("stub: %w", err)
	}
	kernels, err := sbatOf(linux, kernel)
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	return mergeSBAT(own, kernels, u.SBAT)
}

func sbatOf(r io.ReaderAt, h *header) (string, error) {
	for _, raw := range h.sections {
		if s := newSection(r, raw); s.Name == ".sbat" {
			return s.text()
		}
	}
	return "", nil
}
